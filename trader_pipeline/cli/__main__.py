"""`python -m trader_pipeline.cli` is `trader-pipeline`."""

from trader_pipeline.cli import main

main(prog_name="trader-pipeline")
