"""Covered calls over time: decision steps, both exit styles, chains of legs, the policy protocol and the teacher.

Belongs here: what happens to the book. Option prices are in `options`, training data in `datasets`. Importing this
package loads no numba: the names below are loaded on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from trader_pipeline.backtest.params import BacktestParams

_LAZY = {
    "AlwaysPolicy": "policy",
    "BacktestResult": "result",
    "DecisionStep": "policy",
    "NeverPolicy": "policy",
    "Policy": "policy",
    "PreparedMarket": "world",
    "RandomPolicy": "policy",
    "TeacherPolicy": "policy",
    "prepare_market": "world",
    "run_backtest": "engine",
    "run_prepared": "engine",
    "summarise": "summary",
    "sweep_backtests": "sweep",
    "sweep_prepared": "sweep",
}
__all__ = ["BacktestParams", *sorted(_LAZY)]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
