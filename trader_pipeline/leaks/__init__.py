"""The proof that nothing looks ahead: other futures for random decisions, and planted leaks that must be caught.

Belongs here: the prover over the stages from candles to corpora. Does not belong here: a corpus' text by itself, whose
shortcuts `corpora.audit` looks for. Importing this package loads neither pandas nor numba: names load on first use.

    world, simulated, loading      what is held, and the cut around one decision
    mutations                      everything later changed, dealt anew or cut off
    pipeline, outputs              the functions under test, and the bytes that may not move
    cases, prover                  one decision with several futures
    paper_trading, paper_proof     both desks, their trades and reviews, around one decision
    study, rules, fitted           splits, folds, corpora and what is fitted
    calibrating                    fits of the option model
    plants, *_plants               leaks that must be caught
    prove, report                  all of it, and what it says
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_LAZY = {
    "LeakReport": "report",
    "PLANTS": "prove",
    "Settings": "world",
    "World": "world",
    "load_worlds": "loading",
    "prove_no_leaks": "prove",
    "simulated_worlds": "simulated",
}
__all__ = sorted(_LAZY)


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
