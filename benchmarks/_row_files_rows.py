"""Candidate rows for `datasets.py`: 20 columns of the candidate dataset, made up, shaped like real ones.

What decides about speed and size is kept: times and text that repeat over a decision's candidates, strikes and prices
on their grids, quantities that both exit styles share, outcomes that are 0 off the chosen row, and full-precision
floats that never repeat. Every partition is made from its own seed, so any cut gives the same kind of rows.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from trader_pipeline.schema import Table
from trader_pipeline.schema.columns import EXIT_STYLES
from trader_pipeline.schema.tables import CANDIDATE_DATASET

NAMES = (
    "decision_time", "underlying", "spot", "instrument", "strike", "dte", "delta", "score", "exit_style",
    "trade_executed", "chosen", "action", "reward", "pnl_vs_hodl", "max_drawdown_pct", "iv", "premium_yield_pct",
    "sellable", "pnl_vs_hodl_if_sold", "label_end_time",
)  # fmt: skip
ROWS = Table(
    "candidate_rows", "datasets", "20 columns of the candidate dataset.", CANDIDATE_DATASET.key,
    tuple(CANDIDATE_DATASET.column(name) for name in NAMES),
)  # fmt: skip
CANDIDATES = 10
A_DECISION = CANDIDATES * len(EXIT_STYLES)
_FIRST_HOUR = 438_300  # hours since 1970: the start of 2020
_SPELLED = np.array(
    [f"{d}{m}{y}" for y in (20, 21, 22, 23) for m in ("JAN", "APR", "JUL") for d in range(10, 28)]
)


def partition(first_row: int, rows: int) -> pa.Table:
    """Rows `[first_row, first_row + rows)` of an endless hourly dataset; both are multiples of 20."""
    decisions = rows // A_DECISION
    hour = _FIRST_HOUR + first_row // A_DECISION + np.arange(decisions)
    rng = np.random.default_rng(first_row)
    walk = np.sin(
        np.cumsum(rng.normal(0, 0.005, decisions))
    )  # bounded, so that strikes keep five digits and their order
    spot = np.round(60_000 * np.exp(0.35 * walk), 2)
    place = np.tile(np.arange(CANDIDATES), decisions * 2)
    columns = _options(rng, _each(hour), _each(spot), place) | _outcomes(rng, decisions, place)
    columns |= {
        "decision_time": _times(_each(hour) * 3600),
        "underlying": _text(np.zeros(rows, dtype=int), ["BTC"]),
        "spot": _each(spot),
        "exit_style": _text(np.tile(np.repeat([0, 1], CANDIDATES), decisions), list(EXIT_STYLES)),
    }
    return pa.table({name: columns[name] for name in NAMES}, schema=ROWS.arrow_schema)


def _options(
    rng: np.random.Generator,
    hour: npt.NDArray[np.int64],
    spot: npt.NDArray[np.float64],
    place: npt.NDArray[np.int64],
) -> dict[str, object]:
    """Two strikes for each of five weekly expiries, in the order of instrument names."""
    expiry = (hour // 168 + 1 + place // 2) * 168 + 8
    strike = np.round(spot * (1.04 + 0.06 * (place % 2)) / 1000) * 1000
    first, length = place // 2, len(place) // A_DECISION
    name = np.char.add(_SPELLED[(hour // 168 + first) % 50], "-")
    name = np.char.add(
        np.char.add(np.char.add(first.astype(str), name), strike.astype(int).astype(str)), "-C"
    )
    bid = np.round(rng.uniform(0.001, 0.05, len(place)) / 0.0005) * 0.0005
    delta, iv = (
        _both_styles(rng.uniform(low, high, (length, 1, CANDIDATES)))
        for low, high in ((0.1, 0.5), (0.4, 0.9))
    )
    return {
        "instrument": pa.array(np.char.add("BTC-", name).astype(object), pa.string()),
        "strike": strike,
        "dte": (expiry - hour) / 24,
        "delta": delta,
        "iv": iv,
        "score": 10 * delta * iv,
        "premium_yield_pct": 100 * bid,
        "label_end_time": _times(expiry * 3600),
    }


def _outcomes(rng: np.random.Generator, decisions: int, place: npt.NDArray[np.int64]) -> dict[str, object]:
    sold = rng.random(decisions) < 0.7
    chosen = ((place == _each(rng.integers(0, CANDIDATES, decisions))) & _each(sold)).astype(np.int64)
    pnl = rng.normal(50, 800, len(place))
    return {
        "trade_executed": _each(sold.astype(np.int64)),
        "chosen": chosen,
        "action": _text(chosen, ["SKIP", "SELL_CALL"]),
        "reward": chosen * (pnl + rng.normal(0, 2000, len(place))),
        "pnl_vs_hodl": chosen * pnl,
        "max_drawdown_pct": chosen * rng.uniform(0, 30, len(place)),
        "sellable": np.ones(len(place), dtype=np.int64),
        "pnl_vs_hodl_if_sold": pnl,
    }


def _each(of_decision: npt.NDArray) -> npt.NDArray:
    return np.repeat(of_decision, A_DECISION)


def _both_styles(of_candidate: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.repeat(of_candidate, len(EXIT_STYLES), axis=1).ravel()


def _times(seconds: npt.NDArray[np.int64]) -> pa.Array:
    return pa.array(seconds * 1_000_000).cast(pa.timestamp("us", tz="UTC"))


def _text(codes: npt.NDArray[np.int64], words: list[str]) -> pa.Array:
    return pa.array(words).take(pa.array(codes))
