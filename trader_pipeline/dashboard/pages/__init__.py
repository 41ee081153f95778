"""The dashboard's pages, a module each with its `PAGE`, in the order of the navigation."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from trader_pipeline.dashboard.page import Page

NAMES = (
    "home",
    "market",
    "backtests",
    "datasets",
    "corpora",
    "training",
    "policies",
    "paper",
    "agents",
    "lineage",
)
PAGES: tuple[Page, ...] = tuple(
    import_module(f"{__name__}.{name}").PAGE for name in NAMES if find_spec(f"{__name__}.{name}")
)
