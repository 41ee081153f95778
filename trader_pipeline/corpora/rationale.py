"""Brief reasons before an answer, each sentence computed from the features it names.

Belongs here: the sentences about one call, for selling or against it, and about a step where nothing is sold. Words
that compare follow the figures as the sentence and the prompt print them. What came later has no place here: the
sentences know prompt rows alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trader_pipeline.corpora.plain_style import moved_pct
from trader_pipeline.corpora.presentation import Presentation
from trader_pipeline.corpora.prompt_rows import PromptTable
from trader_pipeline.corpora.render_params import RenderParams
from trader_pipeline.corpora.report_style import above_spot, away_text, days_text
from trader_pipeline.corpora.text_columns import TEXT, fixed, join, told, units

FAR_STRIKE_RANGES, LARGE_WEEKLY_MOVE_PCT, LARGE_WEEKLY_YIELD_PCT = 2, 5, 1
_REASONS = 2
_NOTHING = pa.scalar("", TEXT)
_NO_REASON = {
    1: " Nothing in these figures speaks for selling it.",
    -1: " Nothing in these figures speaks against selling it.",
}


@dataclass(frozen=True)
class _Statement:
    """A sentence a row, and whether it speaks for selling (1), against it (-1) or neither (0)."""

    text: pa.Array
    side: np.ndarray


def sell_rationale(rows: PromptTable, params: RenderParams) -> pa.Array:
    """What the call pays, and the first two statements that speak for selling it, or that none does."""
    return _argued(rows, params, side=1)


def skip_rationale(rows: PromptTable, params: RenderParams) -> pa.Array:
    """What the call pays, and the first two statements that speak against selling it, or that none does."""
    return _argued(rows, params, side=-1)


def no_trade_rationale(
    steps: PromptTable, offers: PromptTable, shown: Presentation, params: RenderParams
) -> pa.Array:
    """What the best paid call pays, and the first two statements against selling, or that there is none."""
    most = shown.per_step(np.maximum, offers.numbers("premium_yield_pct"))
    pays = join("The calls on offer pay at most ", fixed(most, 2), "% of the coin.", rows=steps.count)
    statements = (*_about_most(offers, shown), _week(steps, params))
    return _with_reasons(
        pays, statements, side=-1, none=" Nothing in these figures speaks against selling one."
    )


def _argued(rows: PromptTable, params: RenderParams, *, side: int) -> pa.Array:
    statements = (_volatility(rows), _room(rows), _yield(rows), _week(rows, params))
    return _with_reasons(_premium(rows), statements, side=side, none=_NO_REASON[side])


def _with_reasons(first: pa.Array, statements: Sequence[_Statement], *, side: int, none: str) -> pa.Array:
    said = np.zeros(len(first), dtype=np.int64)
    parts: list[str | pa.Array] = [first]
    for statement in statements:
        wanted = (statement.side == side) & (said < _REASONS)
        said += wanted
        parts.append(pc.if_else(pa.array(wanted), join(" ", statement.text, rows=len(first)), _NOTHING))
    parts.append(pc.if_else(pa.array(said == 0), pa.scalar(none, TEXT), _NOTHING))
    return join(*parts, rows=len(first))


def _about_most(offers: PromptTable, shown: Presentation) -> tuple[_Statement, ...]:
    """Statements against selling, with the number of calls they hold for; they speak where that is half or more."""
    claims = {
        "Implied volatility is below realised for ": _ratio(offers) < 100,
        f"The strike is less than {FAR_STRIKE_RANGES} daily ranges above spot for ": ~_far(offers),
        f"The premium is below {LARGE_WEEKLY_YIELD_PCT}% a week for ": _weekly_side(offers) < 0,
    }
    return tuple(_counted(text, holds, shown) for text, holds in claims.items())


def _counted(text: str, holds: np.ndarray, shown: Presentation) -> _Statement:
    number = shown.per_step(np.add, holds.astype(np.int64))
    some = join(told(number, 0), " of ", told(shown.sizes, 0), " calls", rows=shown.steps)
    calls = pc.if_else(pa.array(number == shown.sizes), pa.scalar("every call", TEXT), some)
    side = np.where(2 * number >= shown.sizes, -1, 0)
    return _Statement(join(text, calls, ".", rows=shown.steps), side)


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


def _ratio(rows: PromptTable) -> np.ndarray:
    """Implied over realised volatility in hundredths, as prompts print it."""
    return units(rows.numbers("ivrv_ratio"), 2)


def _volatility(rows: PromptTable) -> _Statement:
    ratio = _ratio(rows)
    side = np.sign(ratio - 100)
    text = join(
        "Implied volatility is ",
        _by_side(side, "above", "at", "below"),
        " realised, ",
        told(ratio, 2),
        " times it.",
        rows=rows.count,
    )
    return _Statement(text, side)


def _far(rows: PromptTable) -> np.ndarray:
    return (units(rows.numbers("distance_to_strike_atr"), 1) >= FAR_STRIKE_RANGES * 10) & (
        above_spot(rows) > 0
    )


def _room(rows: PromptTable) -> _Statement:
    """A strike leaves room from `FAR_STRIKE_RANGES` average daily ranges above spot on."""
    side = np.where(_far(rows), 1, np.where(above_spot(rows) > 0, -1, 0))
    room = _by_side(side, "room", "no room", "little room")
    text = join("The strike is ", away_text(rows), ", which leaves ", room, ".", rows=rows.count)
    return _Statement(text, np.where(side == 1, 1, -1))


def _weekly(rows: PromptTable) -> np.ndarray:
    """The premium by the week in hundredths of a percent, from its figures as printed; 0 below one day."""
    tenths = units(rows.numbers("dte"), 1)
    premium = units(rows.numbers("premium_yield_pct"), 2)
    return units(np.divide(premium * 70, tenths, out=np.zeros(rows.count), where=tenths >= 10), 0)


def _weekly_side(rows: PromptTable) -> np.ndarray:
    """A call of less than a day is no matter of weeks: 0."""
    lasting = units(rows.numbers("dte"), 1) >= 10
    return np.where(lasting, np.sign(_weekly(rows) - LARGE_WEEKLY_YIELD_PCT * 100), 0)


def _yield(rows: PromptTable) -> _Statement:
    side = _weekly_side(rows)
    text = join(
        "The premium comes to ",
        told(_weekly(rows), 2),
        "% a week, ",
        _by_side(side, "above", "at", "below"),
        f" {LARGE_WEEKLY_YIELD_PCT}%.",
        rows=rows.count,
    )
    return _Statement(text, side)


def _week(rows: PromptTable, params: RenderParams) -> _Statement:
    """What the coin did over the week, to as many decimals as the prompt has."""
    decimals = 1 if params.style == "report" else 0
    moved = units(moved_pct(rows, "return_7d_pct"), decimals)
    large = moved > LARGE_WEEKLY_MOVE_PCT * 10**decimals
    size = join(told(np.abs(moved), decimals), "%", rows=rows.count)
    how_far = pc.if_else(pa.array(moved == 0), _NOTHING, size)
    text = join(
        rows.texts("underlying"),
        _by_side(np.sign(moved), " rose ", " is unchanged", " fell "),
        how_far,
        " over the last 7 days",
        _by_side(np.where(large, 1, -1), f", more than {LARGE_WEEKLY_MOVE_PCT}%", "", ""),
        ".",
        rows=rows.count,
    )
    return _Statement(text, np.where(large, -1, 1))


def _by_side(side: np.ndarray, positive: str, zero: str, negative: str) -> pa.Array:
    return pa.array([negative, zero, positive], TEXT).take(pa.array((side + 1).astype(np.int64)))
