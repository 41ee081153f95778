"""What the verdicts of many trades add up to.

Belongs here: counts and shares over judged trades, in total and by group. A figure that has nothing under it is None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from math import isfinite
from typing import Any

import pandas as pd

from trader_pipeline.paper.records import TradeRecord
from trader_pipeline.paper.verdicts.figures import days_between
from trader_pipeline.schema.columns import VERDICTS

NOT_DATED = "not dated"
NOT_NAMED = "not named"
_GROUPS: dict[str, Callable[[TradeRecord], str]] = {
    "by_direction": lambda trade: trade.direction,
    "by_model": lambda trade: trade.model_id or NOT_NAMED,
    "by_regime": lambda trade: trade.regime or NOT_DATED,
}


@dataclass(frozen=True)
class Judged:
    """A closed trade and its label."""

    trade: TradeRecord
    label: str


def summarise(judged: Sequence[Judged], open_trades: Sequence[TradeRecord]) -> dict[str, Any]:
    """The figures of all trades, then the same figures per group in `by_direction`, `by_model` and `by_regime`.

    Call it within `decimal.localcontext(figures.EXACT)`, with the trades in their final order.
    """
    groups = {name: _by(key, judged, open_trades) for name, key in _GROUPS.items()}
    return {**figures_of(judged, len(open_trades)), **groups}


def figures_of(judged: Sequence[Judged], open_trades: int) -> dict[str, Any]:
    """`trades, good, ok, bad, open`, and over the judged trades shares and sizes.

    `hit_rate` is the share not BAD, `profit_factor` gains over losses of `pnl_pct` (None without a loss); then
    `mean_pnl_pct, median_pnl_pct, best_pnl_pct, worst_pnl_pct, mean_days`.
    """
    pnl = sorted(j.trade.pnl_pct for j in judged if j.trade.pnl_pct is not None)
    counts = {name.lower(): sum(j.label == name for j in judged) for name in VERDICTS}
    hits = Decimal(counts["good"] + counts["ok"])
    losses = -sum((p for p in pnl if p < 0), Decimal(0))
    gains = sum((p for p in pnl if p > 0), Decimal(0))
    return {
        "trades": len(judged),
        **counts,
        "open": open_trades,
        "hit_rate": number(hits / len(judged)) if judged else None,
        "profit_factor": number(gains / losses) if losses else None,
        "mean_pnl_pct": _mean(pnl),
        "median_pnl_pct": _mean(pnl[(len(pnl) - 1) // 2 : len(pnl) // 2 + 1]),
        "best_pnl_pct": number(pnl[-1]) if pnl else None,
        "worst_pnl_pct": number(pnl[0]) if pnl else None,
        "mean_days": _mean([d for j in judged if (d := _days(j.trade)) is not None]),
    }


def summary_table(summary: Mapping[str, Any]) -> pd.DataFrame:
    """The summary as rows: all trades first, then each direction, model and regime (`group`, `name`, figures)."""
    total = {name: value for name, value in summary.items() if name not in _GROUPS}
    rows = [{"group": "all", "name": "", **total}]
    for group in _GROUPS:
        rows += [{"group": group, "name": name, **row} for name, row in summary[group].items()]
    return pd.DataFrame(rows)


def number(value: Decimal) -> float | str:
    """The nearest float, without negative zero; its text where no float is large enough."""
    nearest = float(value)
    return (nearest or 0.0) if isfinite(nearest) else str(value)


def _by(
    key: Callable[[TradeRecord], str], judged: Iterable[Judged], open_trades: Iterable[TradeRecord]
) -> dict[str, dict[str, Any]]:
    groups: dict[str, tuple[list[Judged], list[TradeRecord]]] = {}
    for one in judged:
        groups.setdefault(key(one.trade), ([], []))[0].append(one)
    for trade in open_trades:
        groups.setdefault(key(trade), ([], []))[1].append(trade)
    return {name: figures_of(closed, len(still)) for name, (closed, still) in sorted(groups.items())}


def _mean(values: Sequence[Decimal]) -> float | str | None:
    return number(sum(values, Decimal(0)) / len(values)) if values else None


def _days(trade: TradeRecord) -> Decimal | None:
    return days_between(trade.entry_ts, trade.exit_ts) if trade.exit_ts is not None else None
