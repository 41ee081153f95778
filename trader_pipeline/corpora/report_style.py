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
from trader_pipeline.corpora.plain_style import minute, price, shortest
from trader_pipeline.corpora.presentation import Presentation
from trader_pipeline.corpora.prompt_rows import PromptTable
from trader_pipeline.corpora.render_params import RenderParams
from trader_pipeline.corpora.text_columns import TEXT, fixed, join, labelled, significant

_RETURNS = ("return_1d_pct", *(f"return_24h_lag_{lag}_pct" for lag in range(1, 7)))
_PICKING_UP, _CALMING = 1.15, 0.87


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


def percent_moved(log_return_pct: np.ndarray) -> np.ndarray:
    """Simple return in percent of a log return in percent, as a reader understands "up 3.2%"."""
    return np.expm1(log_return_pct / 100) * 100


def _market_figures(rows: PromptTable, bars: int) -> dict[str, pa.Array]:
    moved = {days: _tenths(percent_moved(rows.numbers(f"return_{days}_pct"))) for days in ("1d", "7d", "30d")}
    averages = {days: _tenths(rows.numbers(f"distance_to_ma_{days}_pct")) for days in ("7d", "30d")}
    volatility = {
        days: np.rint(rows.numbers(f"realised_volatility_{days}") * 100) for days in ("1d", "7d", "30d")
    }
    return {
        "underlying": rows.texts("underlying"),
        "time": minute(rows.moments()),
        "spot": price(rows.numbers("spot")),
        **{f"up_{days}": _by_sign(v, "up {}%", "unchanged", "down {}%") for days, v in moved.items()},
        **{f"ma_{days}": _by_sign(v, "{}% above", "level with", "{}% below") for days, v in averages.items()},
        "but": _chosen(moved["30d"] * moved["7d"] < 0, "but", "and"),
        "trend": _trend(moved["30d"], averages["30d"]),
        "below_high": _by_sign(
            -_tenths(rows.numbers("drawdown_from_high_30d_pct")),
            "{}% above its 30-day high",
            "at its 30-day high",
            "{}% below its 30-day high",
        ),
        "third": _third(rows.numbers("range_position_30d")),
        **{f"rv_{days}": fixed(v, 0) for days, v in volatility.items()},
        "state": _state(volatility["7d"], volatility["30d"]),
        "atr": fixed(rows.numbers("atr_14d_pct"), 1),
        **_path_figures(rows, bars),
    }


def _path_figures(rows: PromptTable, bars: int) -> dict[str, pa.Array]:
    """The last so many 24-hour moves, newest first, and what can be counted from them as they are printed."""
    if not bars:
        return {}
    moves = np.stack([_tenths(percent_moved(rows.numbers(name))) for name in _RETURNS[:bars]])
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
    points = _tenths(np.where(known, slope, 0.0) * 100)
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

    dtes = join(spread("dte", lambda v: shortest(v, 1)), " days", rows=shown.steps)
    figures = {
        "calls": labelled(
            pa.array(shown.sizes), lambda keys: [_counted(n, "call") for n in keys.to_pylist()]
        ),
        "dtes": pc.if_else(pc.equal(dtes, "1 days"), pa.scalar("1 day", TEXT), dtes),
        "deltas": spread("delta", lambda v: fixed(v, 2)),
        "yields": spread("premium_yield_pct", lambda v: fixed(v, 2), "%"),
        "ratios": spread("ivrv_ratio", lambda v: fixed(v, 2)),
    }
    return worded("chain", phrases.CHAIN, hashes, figures)


def _option_figures(rows: PromptTable) -> dict[str, pa.Array]:
    strike, premium = rows.numbers("strike"), rows.numbers("premium_yield_pct")
    rows.refuse(premium >= 100, "premium_yield_pct is 100 or more: no price would break even")
    return {
        "strike": significant(strike, 10),
        "dte": days_text(rows.numbers("dte")),
        "yield": fixed(premium, 2),
        "iv": fixed(rows.numbers("iv") * 100, 0),
        "ratio": fixed(rows.numbers("ivrv_ratio"), 2),
        "delta": fixed(rows.numbers("delta"), 2),
        "away": away_text(rows),
        # Sold for a share of the coin, payoff in coin: 1 - K/D is lost at a delivery price of D.
        "break_even": price(strike / (1 - premium / 100)),
    }


def days_text(dte: np.ndarray) -> pa.Array:
    """`7 days`, `26.3 days`, `1 day`."""
    return labelled(
        shortest(dte, 1), lambda keys: [f"{k} day" if k == "1" else f"{k} days" for k in keys.to_pylist()]
    )


def away_text(rows: PromptTable) -> pa.Array:
    """`7.8% above spot (1.9 daily ranges)`: in percent, and in mean daily true ranges."""
    percent = _tenths((rows.numbers("strike") / rows.numbers("spot") - 1) * 100)
    ranges = fixed(np.abs(rows.numbers("distance_to_strike_atr")), 1)
    side = _by_sign(percent, "{}% above spot", "at spot", "{}% below spot")
    return join(side, " (", ranges, " daily ranges)", rows=rows.count)


def _tenths(values: np.ndarray) -> np.ndarray:
    """Values in whole tenths, as they are printed with one decimal."""
    return np.rint(values * 10)


def _move(tenths: np.ndarray) -> pa.Array:
    return _by_sign(tenths, "+{}%", "0.0%", "-{}%")


def _by_sign(tenths: np.ndarray, above: str, zero: str, below: str) -> pa.Array:
    """One of three texts, by the sign of the figure as printed, which stands in the place `{}` without its sign."""

    def text(key: float) -> str:
        return zero if key == 0 else (above if key > 0 else below).format(f"{abs(key) / 10:.1f}")

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
    calming = _chosen(week <= month * _CALMING, "is calming down", "is steady")
    return pc.if_else(pa.array(week >= month * _PICKING_UP), pa.scalar("is picking up", TEXT), calming)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
