-- Run once, when the PostgreSQL volume is empty. Dagster uses the database named by POSTGRES_DB; MLflow has its own.
CREATE DATABASE mlflow;
