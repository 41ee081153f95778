"""The plain style: labelled figures, one a line. Also the figures of a candidate, which every style lists alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

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
    whole_signed,
)

_LARGE_PRICE = 1000
_MICROSECONDS_A_MINUTE = 60_000_000
_FIGURES: dict[str, tuple[str, Callable[[np.ndarray], pa.Array], str]] = {
    "strike": ("Strike: ", lambda v: significant(v, 10), ""),
    "dte": ("DTE: ", lambda v: days(v), ""),
    "delta": ("Delta: ", lambda v: fixed(v, 2), ""),
    "iv": ("IV: ", percent, "%"),
    "ivrv_ratio": ("IV/RV: ", lambda v: fixed(v, 2), ""),
    "premium_yield_pct": ("Yield: ", lambda v: fixed(v, 2), "%"),
    "distance_to_strike_atr": ("Distance: ", lambda v: fixed(v, 1), " ATR"),
    "score": ("Score: ", lambda v: fixed(v, 2), ""),
}


def market_lines(rows: PromptTable, params: RenderParams, *, spot_name: str) -> list[str | pa.Array]:
    """What is known of the market in seven lines, the last with its end: the parts of a text, to be joined."""
    policy = "Teacher policy" if params.labels == "teacher" else "Exit style"
    return [
        "Decision time: ",
        minute(rows.moments()),
        " UTC\nUnderlying: ",
        rows.texts("underlying"),
        f"\n{spot_name}: ",
        price(rows.numbers("spot")),
        f"\n{policy}: ",
        rows.texts("exit_style"),
        "\n",
        *course_lines(rows),
    ]


def course_lines(rows: PromptTable) -> list[str | pa.Array]:
    """Trend, volatility and drawdown in three lines, the last with its end: the parts of a text, to be joined."""
    return [
        "Trend: 1d ",
        whole_signed(moved_pct(rows, "return_1d_pct")),
        "%, 7d ",
        whole_signed(moved_pct(rows, "return_7d_pct")),
        "%, 30d ",
        whole_signed(moved_pct(rows, "return_30d_pct")),
        "%\nVolatility 30d: ",
        percent(monthly_volatility(rows)),
        "%\nDrawdown: ",
        fixed(rows.numbers("drawdown_from_high_30d_pct"), 0),
        "%\n",
    ]


def candidate_text(rows: PromptTable, columns: Sequence[str], params: RenderParams) -> list[str | pa.Array]:
    """`BTC-... — DTE: 7, Delta: 0.23`: the instrument and those figures of it, as the parts of a text."""
    shown = [*columns, *(["score"] if params.show_score and "score" not in columns else [])]
    parts: list[str | pa.Array] = [rows.texts("instrument"), " — "]
    for place, column in enumerate(shown):
        label, figure, unit = _FIGURES[column]
        parts += [f", {label}" if place else label, figure(rows.numbers(column)), unit]
    return parts


def moved_pct(rows: PromptTable, name: str) -> np.ndarray:
    """Simple returns in percent of a column of log returns in percent, as a reader understands "up 3.2%".

    Raises:
        ValueError: names the first row whose return no market has.
    """
    with np.errstate(over="ignore"):
        return rows.printable(np.expm1(rows.numbers(name) / 100) * 100, name)


def monthly_volatility(rows: PromptTable) -> np.ndarray:
    """Realised over 30 days, as a share; of zero no implied volatility is any number of times."""
    values = rows.numbers("realised_volatility_30d")
    rows.refuse(values <= 0, "realised_volatility_30d is not above 0: implied over realised is no figure")
    return values


def minute(moments: pa.Array) -> pa.Array:
    """`2024-09-01 08:00`."""

    def label(keys: pa.Array) -> list[str]:
        minutes = keys.cast(pa.int64()).to_numpy() // _MICROSECONDS_A_MINUTE
        texts: list[str] = np.datetime_as_string(minutes.astype("datetime64[m]")).tolist()
        return [text.replace("T", " ") for text in texts]

    return labelled(moments, label)


def price(values: np.ndarray) -> pa.Array:
    """Whole dollars from 1,000 up, else six significant digits."""
    large = values >= _LARGE_PRICE
    text = fixed(values, 0)
    if large.all():
        return text
    return pc.replace_with_mask(text, pa.array(~large), significant(values[~large], 6))


def shortest(values: np.ndarray, decimals: int) -> pa.Array:
    """At most so many decimals, without trailing zeros: `7`, `26.3`."""
    return labelled(pa.array(units(values, decimals)), lambda keys: _trimmed(told(keys.to_numpy(), decimals)))


def days(dte: np.ndarray) -> pa.Array:
    """Days to one decimal, or to two digits below one day: `7`, `26.3`, `0.04`."""
    text = shortest(dte, 1)
    short = units(dte, 1) < 10
    return pc.replace_with_mask(text, pa.array(short), significant(dte[short], 2)) if short.any() else text


def _trimmed(figures: pa.Array) -> list[str]:
    return [text.rstrip("0").rstrip(".") if "." in text else text for text in figures.to_pylist()]


def numbered_lines(candidates: pa.Array, shown: Presentation) -> pa.Array:
    """The lines `  [n] ...` of each step, from a text a candidate."""
    numbers = labelled(pa.array(shown.positions), lambda keys: [f"  [{n}] " for n in keys.to_pylist()])
    lines = join(numbers, candidates, rows=len(candidates))
    return pc.binary_join(shown.lists(lines), pa.scalar("\n", TEXT))


def reply(choices: str, params: RenderParams) -> str:
    """The last line: what may be answered, and in what form."""
    if params.rationale:
        reasons = "First give one to three short sentences of reasons."
        return f"{reasons} Reply on the last line with exactly one token: {choices}."
    return f"Reply with exactly one token: {choices}."
