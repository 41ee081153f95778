"""Brief reasons before an answer, each sentence computed from the features it names.

Belongs here: the sentences about one call, for selling or against it, and about a step where nothing is sold. Words
that compare follow the figures as they are printed. What came later has no place here: the sentences know prompt rows
alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trader_pipeline.corpora.plain_style import shortest
from trader_pipeline.corpora.presentation import Presentation
from trader_pipeline.corpora.prompt_rows import PromptTable
from trader_pipeline.corpora.report_style import away_text, days_text, percent_moved
from trader_pipeline.corpora.text_columns import TEXT, fixed, join

FAR_STRIKE_RANGES, LARGE_WEEKLY_MOVE_PCT, LARGE_WEEKLY_YIELD_PCT = 2.0, 5.0, 1.0
_REASONS = 2
_NOTHING = pa.scalar("", TEXT)


@dataclass(frozen=True)
class _Statement:
    """A sentence a row, and whether it speaks for selling (1), against it (-1) or neither (0)."""

    text: pa.Array
    side: np.ndarray


def sell_rationale(rows: PromptTable) -> pa.Array:
    """What the call pays, and the first two statements that speak for selling it, where there are any."""
    return _argued(rows, side=1)


def skip_rationale(rows: PromptTable) -> pa.Array:
    """What the call pays, and the first two statements that speak against selling it, where there are any."""
    return _argued(rows, side=-1)


def no_trade_rationale(steps: PromptTable, offers: PromptTable, shown: Presentation) -> pa.Array:
    """What the best paid call pays, how the chain is priced, and what the market did over the week."""
    most = shown.per_step(np.maximum, offers.numbers("premium_yield_pct"))
    ratio = shown.per_step(np.maximum, offers.numbers("ivrv_ratio"))
    return join(
        "The calls on offer pay at most ",
        fixed(most, 2),
        "% of the coin, at no more than ",
        fixed(ratio, 2),
        " times realised volatility. ",
        _week(steps).text,
        rows=steps.count,
    )


def _argued(rows: PromptTable, *, side: int) -> pa.Array:
    said = np.zeros(rows.count, dtype=np.int64)
    parts: list[str | pa.Array] = [_premium(rows)]
    for statement in (_volatility(rows), _room(rows), _yield(rows), _week(rows)):
        wanted = (statement.side == side) & (said < _REASONS)
        said += wanted
        parts.append(pc.if_else(pa.array(wanted), join(" ", statement.text, rows=rows.count), _NOTHING))
    return join(*parts, rows=rows.count)


def _premium(rows: PromptTable) -> pa.Array:
    return join(
        rows.texts("instrument"),
        " pays ",
        fixed(rows.numbers("premium_yield_pct"), 2),
        "% of the coin for ",
        days_text(rows.numbers("dte")),
        ".",
        rows=rows.count,
    )


def _volatility(rows: PromptTable) -> _Statement:
    implied = np.rint(rows.numbers("iv") * 100)
    realised = np.rint(rows.numbers("realised_volatility_30d") * 100)
    side = np.sign(implied - realised)
    text = join(
        "Implied volatility of ",
        fixed(implied, 0),
        "% is ",
        _by_side(side, "above", "equal to", "below"),
        " the ",
        fixed(realised, 0),
        "% realised over 30 days.",
        rows=rows.count,
    )
    return _Statement(text, side)


def _room(rows: PromptTable) -> _Statement:
    """A strike leaves room from `FAR_STRIKE_RANGES` average daily ranges on."""
    ranges = np.rint(rows.numbers("distance_to_strike_atr") * 10) / 10
    far = ranges >= FAR_STRIKE_RANGES
    text = join(
        "The strike is ",
        away_text(rows),
        ", which leaves ",
        _by_side(np.where(far, 1, -1), "room", "", "little room"),
        ".",
        rows=rows.count,
    )
    return _Statement(text, np.where(far, 1, -1))


def _yield(rows: PromptTable) -> _Statement:
    """The premium by the week, from its figures as printed before."""
    days = np.rint(rows.numbers("dte") * 10) / 10
    premium = np.rint(rows.numbers("premium_yield_pct") * 100) / 100
    weekly = np.rint(np.divide(premium * 7, days, out=np.zeros_like(days), where=days > 0) * 100) / 100
    side = np.where(days > 0, np.sign(weekly - LARGE_WEEKLY_YIELD_PCT), 0)
    text = join(
        "The premium comes to ",
        fixed(weekly, 2),
        "% a week, ",
        _by_side(side, "above", "equal to", "below"),
        f" {LARGE_WEEKLY_YIELD_PCT:g}%.",
        rows=rows.count,
    )
    return _Statement(text, side)


def _week(rows: PromptTable) -> _Statement:
    tenths = np.rint(percent_moved(rows.numbers("return_7d_pct")) * 10)
    large = tenths > LARGE_WEEKLY_MOVE_PCT * 10
    moved = join(
        _by_side(np.sign(tenths), "rose ", "moved ", "fell "),
        shortest(np.abs(tenths) / 10, 1),
        "%",
        rows=rows.count,
    )
    text = join(
        rows.texts("underlying"),
        " ",
        moved,
        " over the last 7 days",
        _by_side(np.where(large, 1, -1), f", more than {LARGE_WEEKLY_MOVE_PCT:g}%", "", ""),
        ".",
        rows=rows.count,
    )
    return _Statement(text, np.where(large, -1, 1))


def _by_side(side: np.ndarray, positive: str, zero: str, negative: str) -> pa.Array:
    return pa.array([negative, zero, positive], TEXT).take(pa.array((side + 1).astype(np.int64)))
