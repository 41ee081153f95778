"""The report style: the same decision as a desk analyst's short note, in one of several wordings.

Belongs here: the figures and the words that depend on them. Every word such as "up" or "below" follows the figure as it
is printed, so the text never contradicts itself. The wordings are in `report_phrases`, their drawing in `phrasing`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trader_pipeline.corpora import report_phrases as phrases
from trader_pipeline.corpora.phrasing import decision_hashes, with_instruments, worded
from trader_pipeline.corpora.plain_style import days, minute, monthly_volatility, moved_pct, price
from trader_pipeline.corpora.presentation import Presentation
from trader_pipeline.corpora.prompt_rows import PromptTable
from trader_pipeline.corpora.render_params import RenderParams
from trader_pipeline.corpora.text_columns import (
    TEXT,
    fixed,
    join,
    labelled,
    percent,
    significant,
    told,
    units,
)

_RETURNS = ("return_1d_pct", *(f"return_24h_lag_{lag}_pct" for lag in range(1, 7)))
_PICKING_UP_PCT, _CALMING_PCT = 115, 87
"""Realised volatility of the week in percent of that of the month."""
_HOURS_A_DAY = 24


def market_note(
    rows: PromptTable, params: RenderParams, *, shown: tuple[PromptTable, Presentation] | None = None
) -> list[str | pa.Array]:
    """Opening, policy and what the market did, with the last line's end, as the parts of a text.

    For picks, with their candidates and order, also what the chain offers.
    """
    hashes = decision_hashes(rows, seed=params.seed)
    figures = _market_figures(rows, params.context_bars)
    parts = {"opening": phrases.OPENING, "trend": phrases.TREND, "level": phrases.LEVEL}
    parts["volatility"] = phrases.VOLATILITY
    if params.context_bars:
        parts["path"] = phrases.PATH if params.context_bars > 1 else phrases.PATH_OF_ONE
    opening, *sentences = (worded(part, choices, hashes, figures) for part, choices in parts.items())
    sentences += [_term_structure(rows, hashes)]
    if shown is not None:
        sentences += [_chain(*shown, hashes)]
    policy = "Teacher policy" if params.labels == "teacher" else "Exit style"
    body = pc.binary_join_element_wise(*sentences, pa.scalar(" ", TEXT), null_handling="skip")
    return [opening, f"\n{policy}: ", rows.texts("exit_style"), "\n", body, "\n"]


def option_note(rows: PromptTable, params: RenderParams) -> list[str | pa.Array]:
    """Name of the call, what it pays and what it risks, as the parts of a text."""
    hashes = with_instruments(decision_hashes(rows, seed=params.seed), rows)
    figures = _option_figures(rows)
    pays = worded("pays", phrases.PAYS, hashes, figures)
    risks = worded("risks", phrases.RISKS, hashes, figures)
    scored = params.show_score or "score" in params.candidate_columns
    score: list[str | pa.Array] = [" Score: ", fixed(rows.numbers("score"), 2), "."] if scored else []
    return [rows.texts("instrument"), ". ", pays, " ", risks, *score]


def _market_figures(rows: PromptTable, bars: int) -> dict[str, pa.Array]:
    moved = {span: units(moved_pct(rows, f"return_{span}_pct"), 1) for span in ("1d", "7d", "30d")}
    averages = {span: units(rows.numbers(f"distance_to_ma_{span}_pct"), 1) for span in ("7d", "30d")}
    volatility = {span: units(rows.numbers(f"realised_volatility_{span}"), 2) for span in ("1d", "7d")}
    volatility["30d"] = units(monthly_volatility(rows), 2)
    return {
        "underlying": rows.texts("underlying"),
        "time": minute(rows.moments()),
        "spot": price(rows.numbers("spot")),
        **{f"up_{span}": _by_sign(v, "up {}%", "unchanged", "down {}%") for span, v in moved.items()},
        **{f"ma_{span}": _by_sign(v, "{}% above", "level with", "{}% below") for span, v in averages.items()},
        "but": _chosen(np.sign(moved["30d"]) * np.sign(moved["7d"]) < 0, "but", "and"),
        "trend": _trend(moved["30d"], averages["30d"]),
        **_level(rows),
        **{f"rv_{span}": told(v, 0) for span, v in volatility.items()},
        "state": _state(volatility["7d"], volatility["30d"]),
        "atr": fixed(rows.numbers("atr_14d_pct"), 1),
        **_path_figures(rows, bars),
    }


def _level(rows: PromptTable) -> dict[str, pa.Array]:
    """The place under the high and in the range; in a range so narrow that the two clash, neither end is named."""
    third = _third(rows.numbers("range_position_30d"))
    below = _by_sign(
        -units(rows.numbers("drawdown_from_high_30d_pct"), 1),
        "{}% above its 30-day high",
        "at its 30-day high",
        "{}% below its 30-day high",
    )
    narrow = pc.and_(pc.equal(below, "at its 30-day high"), pc.not_equal(third, "upper"))
    near = pa.scalar("within 0.1% of its 30-day high", TEXT)
    return {"below_high": pc.if_else(narrow, near, below), "third": third}


def _path_figures(rows: PromptTable, bars: int) -> dict[str, pa.Array]:
    """The last so many 24-hour moves, newest first, and what can be counted from them as they are printed."""
    if not bars:
        return {}
    moves = np.stack([units(moved_pct(rows, name), 1) for name in _RETURNS[:bars]])
    texts = [_move(column) for column in moves]
    return {
        "moves": pc.binary_join_element_wise(*texts, pa.scalar(", ", TEXT)),
        "rises": fixed((moves > 0).sum(axis=0).astype(float), 0),
        "bars": fixed(np.full(rows.count, float(bars)), 0),
    }


def _term_structure(rows: PromptTable, hashes: np.ndarray) -> pa.Array:
    """Null where no slope is recorded."""
    slope = rows.optional_numbers("term_structure_slope")
    known = np.isfinite(slope)
    if not known.any():
        return pa.nulls(rows.count, TEXT)
    points = units(rows.printable(np.where(known, slope, 0.0), "term_structure_slope"), 3)
    text = _by_sign(points, "{} points above", "level with", "{} points below")
    sentence = worded("term structure", phrases.TERM_STRUCTURE, hashes, {"slope": text})
    return pc.if_else(pa.array(known), sentence, pa.scalar(None, TEXT))


def _chain(offers: PromptTable, shown: Presentation, hashes: np.ndarray) -> pa.Array:
    """What all calls of a step pay and how far they reach."""

    def spread(name: str, figure: Callable[[np.ndarray], pa.Array], unit: str = "") -> pa.Array:
        values = offers.numbers(name)
        low, high = (figure(shown.per_step(pick, values)) for pick in (np.minimum, np.maximum))
        both = join(low, f"{unit} to ", high, unit, rows=shown.steps)
        return pc.if_else(pc.equal(low, high), join(low, unit, rows=shown.steps), both)

    dtes = offers.numbers("dte")
    figures = {
        "calls": labelled(
            pa.array(shown.sizes), lambda keys: [_counted(n, "call") for n in keys.to_pylist()]
        ),
        "dtes": _spread_of_days(shown.per_step(np.minimum, dtes), shown.per_step(np.maximum, dtes)),
        "deltas": spread("delta", lambda v: fixed(v, 2)),
        "yields": spread("premium_yield_pct", lambda v: fixed(v, 2), "%"),
        "ratios": spread("ivrv_ratio", lambda v: fixed(v, 2)),
    }
    return worded("chain", phrases.CHAIN, hashes, figures)


def _spread_of_days(low: np.ndarray, high: np.ndarray) -> pa.Array:
    """`1 day`, `7 to 26.3 days`, `12 hours to 7 days`."""
    shortest_run, longest_run = days_text(low), days_text(high)
    first = pc.if_else(pa.array(units(low, 1) < 10), shortest_run, days(low))
    both = join(first, " to ", longest_run, rows=len(low))
    return pc.if_else(pc.equal(shortest_run, longest_run), longest_run, both)


def _option_figures(rows: PromptTable) -> dict[str, pa.Array]:
    strike, premium = rows.numbers("strike"), rows.numbers("premium_yield_pct")
    rows.refuse(premium >= 100, "premium_yield_pct is 100 or more: no price would break even")
    rows.refuse(rows.numbers("dte") <= 0, "dte is not above 0")
    capped = significant(strike, 10)
    # Sold for a share of the coin, payoff in coin: 1 - K/D is lost at a delivery price of D.
    even = price(rows.printable(strike / (1 - premium / 100), "the break-even price"))
    return {
        "strike": capped,
        "dte": days_text(rows.numbers("dte")),
        "yield": fixed(premium, 2),
        "iv": percent(rows.numbers("iv")),
        "ratio": fixed(rows.numbers("ivrv_ratio"), 2),
        "delta": fixed(rows.numbers("delta"), 2),
        "away": away_text(rows),
        # Prices are rounded more than strikes: a break-even below the strike would be untrue.
        "break_even": pc.if_else(pc.less(even.cast(pa.float64()), capped.cast(pa.float64())), capped, even),
    }


def days_text(dte: np.ndarray) -> pa.Array:
    """`7 days`, `26.3 days`, `1 day`; below one day `12 hours`, `1 hour`, `under an hour`."""
    text = labelled(
        days(dte), lambda keys: [f"{k} day" if k == "1" else f"{k} days" for k in keys.to_pylist()]
    )
    short = units(dte, 1) < 10
    if not short.any():
        return text
    hours = labelled(
        pa.array(units(dte[short] * _HOURS_A_DAY, 0)), lambda keys: [_hours(k) for k in keys.to_pylist()]
    )
    return pc.replace_with_mask(text, pa.array(short), hours)


def away_text(rows: PromptTable) -> pa.Array:
    """`7.8% above spot (1.9 daily ranges)`: in percent, and in mean daily true ranges."""
    share = above_spot(rows)
    ranges = fixed(np.abs(rows.numbers("distance_to_strike_atr")), 1)
    side = _by_sign(units(share, 3), "{}% above spot", "at spot", "{}% below spot")
    hardly = _chosen(share > 0, "less than 0.1% above spot", "less than 0.1% below spot")
    side = pc.if_else(pa.array((units(share, 3) == 0) & (share != 0)), hardly, side)
    return join(side, " (", ranges, " daily ranges)", rows=rows.count)


def above_spot(rows: PromptTable) -> np.ndarray:
    """How far the strike lies above spot as both are printed, as a share of spot; 0 where they read the same."""
    spot = price(rows.numbers("spot")).cast(pa.float64()).to_numpy()
    rows.refuse(spot <= 0, "spot is not above 0")
    strike = significant(rows.numbers("strike"), 10).cast(pa.float64()).to_numpy()
    return rows.printable(strike / spot - 1, "strike over spot")


def _hours(count: int) -> str:
    return "under an hour" if count < 1 else _counted(count, "hour")


def _move(tenths: np.ndarray) -> pa.Array:
    return _by_sign(tenths, "+{}%", "0.0%", "-{}%")


def _by_sign(tenths: np.ndarray, above: str, zero: str, below: str) -> pa.Array:
    """One of three texts, by the sign of the figure as printed, which stands in the place `{}` without its sign."""

    def text(key: int) -> str:
        return zero if key == 0 else (above if key > 0 else below).format(f"{abs(key) // 10}.{abs(key) % 10}")

    return labelled(pa.array(tenths), lambda keys: [text(k) for k in keys.to_pylist()])


def _chosen(condition: np.ndarray, yes: str, no: str) -> pa.Array:
    return pc.if_else(pa.array(condition), pa.scalar(yes, TEXT), pa.scalar(no, TEXT))


def _trend(moved_30d: np.ndarray, over_average: np.ndarray) -> pa.Array:
    down = _chosen((moved_30d < 0) & (over_average < 0), "points down", "is mixed")
    return pc.if_else(pa.array((moved_30d > 0) & (over_average > 0)), pa.scalar("points up", TEXT), down)


def _third(position: np.ndarray) -> pa.Array:
    upper = _chosen(position > 2 / 3, "upper", "middle")
    return pc.if_else(pa.array(position < 1 / 3), pa.scalar("lower", TEXT), upper)


def _state(week: np.ndarray, month: np.ndarray) -> pa.Array:
    calming = _chosen((week < month) & (100 * week <= _CALMING_PCT * month), "is calming down", "is steady")
    rising = (week > month) & (100 * week >= _PICKING_UP_PCT * month)
    return pc.if_else(pa.array(rising), pa.scalar("is picking up", TEXT), calming)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
