"""Chain-level and candidate-level training data: features known at the decision, outcomes, checks, files and exports.

Belongs here: what is computed from backtest rows and candles into training tables, and written for other readers.
Does not belong here: prompts and splits (`corpora`), the engine's outcomes themselves (`backtest`).
"""

from trader_pipeline.datasets.backtest_exports import (
    export_candidate_level_training_data,
    export_chain_level_training_data,
)
from trader_pipeline.datasets.candidate_level import build_candidate_dataset
from trader_pipeline.datasets.chain_level import build_chain_dataset
from trader_pipeline.datasets.checks import dataset_findings
from trader_pipeline.datasets.exports import ExportPaths, ExportSettings, export_training_data
from trader_pipeline.datasets.features import market_features, option_features
from trader_pipeline.datasets.loading import load_dataset_file, read_dataset_rows
from trader_pipeline.datasets.row_files import write_dataset_file
from trader_pipeline.datasets.term_structure import term_structure_slope

__all__ = [
    "ExportPaths",
    "ExportSettings",
    "build_candidate_dataset",
    "build_chain_dataset",
    "dataset_findings",
    "export_candidate_level_training_data",
    "export_chain_level_training_data",
    "export_training_data",
    "load_dataset_file",
    "market_features",
    "option_features",
    "read_dataset_rows",
    "term_structure_slope",
    "write_dataset_file",
]
