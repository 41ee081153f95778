"""Fixtures shared by all stages."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def reference_data() -> Path:
    """Folder with real candles and quotes (not part of the project). Tests that need it are skipped without it."""
    folder = Path(os.environ.get("TRADER_PIPELINE_REFERENCE_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"reference data not found at {folder}; set TRADER_PIPELINE_REFERENCE_DATA")
    return folder
