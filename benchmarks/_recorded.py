"""Where the real data lie that a benchmark measures against: a folder with `klines/`, `options/` and `dvol/`."""

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
FOLDER = Path(os.environ.get("TRADER_PIPELINE_REFERENCE_DATA", REPOSITORY.parent / "shared" / "data"))


def recorded(name: str) -> str | None:
    """The path of a part of the folder; None where it is not there."""
    path = FOLDER / name
    return str(path) if path.exists() else None
