"""A data folder written once, and copies of it to change."""

import shutil
from pathlib import Path

import pytest

from trader_pipeline.store import TableStore
from trader_pipeline_tests.lineage.store_factory import write_folder


@pytest.fixture(scope="session")
def written(tmp_path_factory) -> Path:
    base = tmp_path_factory.mktemp("lineage")
    (base / "candles").mkdir()
    (base / "candles" / "BTCUSDT_1h.csv").write_text("the candle file\n")
    write_folder(base / "data", base / "candles" / "BTCUSDT_1h.csv")
    return base


@pytest.fixture
def base(written, tmp_path) -> Path:
    """A folder of its own with `data` and `candles` in it."""
    return Path(shutil.copytree(written, tmp_path / "base"))


@pytest.fixture
def store(base) -> TableStore:
    return TableStore(str(base / "data"))
