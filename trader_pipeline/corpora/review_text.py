"""The text of a trade review: what was seen and done (the instruction), and the answer that goes with a verdict.

Belongs here: reading a trade's `decision_context` strictly, and the turns made of it. The instruction is made of the
context, symbol, direction and (of calls) size alone; entry price, exit and result have no way in. Does not belong here:
which trades enter a corpus (`trade_reviews`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from trader_pipeline.corpora.plain_style import course_lines, minute, price
from trader_pipeline.corpora.prompt_rows import LARGEST_FIGURE, PROMPT_COLUMNS, PromptTable, prompt_rows
from trader_pipeline.corpora.render import render_trade_facts
from trader_pipeline.corpora.render_params import RenderParams
from trader_pipeline.corpora.text_columns import join, significant
from trader_pipeline.paper.records import TradeRecord
from trader_pipeline.schema import TIMEFRAMES, UNDERLYINGS
from trader_pipeline.schema.columns import EXIT_STYLES, FEATURES, VERDICTS

REVIEW_SYSTEM = (
    "You review paper trades. Say what would have been better, then write GOOD, OK or BAD on the last line."
)
_REPLY = f"Reply on the last line with exactly one token: {', '.join(VERDICTS[:-1])} or {VERDICTS[-1]}."
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:-]{0,63}")
_SIDES = {"LONG": "BUY", "SHORT": "SELL"}
_POSITIONS = {"LONG": ("FLAT", "SHORT"), "SHORT": ("FLAT", "LONG")}
_OPTION_FIGURES = (
    "strike", "dte", "delta", "iv", "premium_yield_pct", "ivrv_ratio", "distance_to_strike_atr", "score",
)  # fmt: skip
_SMALLEST_SIZE = 1e-8
_FIGURES_OF_SIZE = 6


class UnseenError(ValueError):
    """A trade whose record says too little of what was seen at its decision, or contradicts itself about it."""


@dataclass(frozen=True)
class Seen:
    """What a trade's decision saw and did; there is no field an outcome could go into.

    `row` holds `PROMPT_COLUMNS`; of a spot trade `instrument` is its symbol, and the figures of an option are null.
    `size` is in coins, None where it was not known at the decision: a size in USD becomes one in coins by the fill, so
    that the record's size tells the fill. Of a spot trade it is what the context says.
    """

    direction: str
    symbol: str
    size: float | None
    row: Mapping[str, Any]
    timeframe: str = ""
    position: str = ""

    @property
    def decision_time(self) -> pd.Timestamp:
        """UTC."""
        return self.row["decision_time"]

    @property
    def is_option(self) -> bool:
        """Whether a call was sold, not coins bought or sold."""
        return self.direction == "SHORT_CALL"


def render_trade_instruction(trade: TradeRecord, params: RenderParams | None = None) -> str:
    """The user turn of a trade's review, from its decision context, symbol, direction and size alone.

    Raises:
        UnseenError: the context lacks something that is shown, or contradicts the trade; names it.
    """
    return render_instructions([seen_of(trade)], params or RenderParams())[0]


def render_answer(improvement: str, verdict: str) -> str:
    """The assistant turn: what would have been better, then the bare verdict on the last line."""
    return f"{' '.join(improvement.split())}\n{verdict}"


def seen_of(trade: TradeRecord) -> Seen:
    """What the trade's decision saw, checked.

    Raises:
        UnseenError: as `render_trade_instruction`; figures that a prompt does not show may be missing.
    """
    context = trade.decision_context
    if not isinstance(context, Mapping) or not context:
        raise UnseenError("its record does not say what was seen at the decision (decision_context)")
    moment = _moment(context)
    if moment > trade.entry_ts:
        raise UnseenError(f"decision_context is of {moment}, after the trade's entry at {trade.entry_ts}")
    if trade.exit_ts is not None and trade.exit_ts < trade.entry_ts:
        raise UnseenError(f"it ends at {trade.exit_ts}, before its entry at {trade.entry_ts}")
    symbol, underlying = _name(trade.symbol), context.get("underlying")
    if underlying not in UNDERLYINGS:
        raise UnseenError(
            f"decision_context.underlying is {underlying!r:.60}; known: {', '.join(UNDERLYINGS)}"
        )
    market = {"decision_time": moment, "underlying": underlying}
    features = context.get("features")
    if not isinstance(features, Mapping):
        raise UnseenError("decision_context lacks features")
    figures = {"spot": _figure(context, "spot")} | {name: _figure(features, name) for name in FEATURES}
    row = dict.fromkeys(PROMPT_COLUMNS) | market | figures
    if trade.direction == "SHORT_CALL":
        slope = {"term_structure_slope": _figure(features, "term_structure_slope")}
        return Seen(trade.direction, symbol, _size(trade.size), row | slope | _option_of(context, symbol))
    return _spot_seen(trade, context, row | {"instrument": symbol, "exit_style": ""})


def render_instructions(seen: Sequence[Seen], params: RenderParams) -> list[str]:
    """The user turn of each, in order.

    Raises:
        UnseenError: a figure that is shown is not known, or none that a market has; names it.
    """
    texts: dict[int, str] = {}
    for is_option, render in ((True, _option_texts), (False, _spot_texts)):
        places = [i for i, one in enumerate(seen) if one.is_option == is_option]
        if not places:
            continue
        try:
            made = render([seen[i] for i in places], params)
        except ValueError as error:
            raise UnseenError(f"{error}") from error
        texts |= dict(zip(places, made.to_pylist(), strict=True))
    return [texts[i] for i in range(len(seen))]


def _option_texts(seen: Sequence[Seen], params: RenderParams) -> pa.Array:
    facts = render_trade_facts(_rows(seen), params, asked="Trade made: sold ")
    return join(facts, "\n", _sizes(seen), _REPLY, rows=len(seen))


def _spot_texts(seen: Sequence[Seen], params: RenderParams) -> pa.Array:
    """Always plain: the report style tells of calls."""
    rows = PromptTable(_rows(seen))
    return join(
        "Decision time: ",
        minute(rows.moments()),
        " UTC\nUnderlying: ",
        rows.texts("underlying"),
        "\nSpot price: ",
        price(rows.numbers("spot")),
        "\nCandles: ",
        pa.array([one.timeframe for one in seen], pa.large_string()),
        "\nPosition before: ",
        pa.array([one.position for one in seen], pa.large_string()),
        "\n",
        *course_lines(rows),
        "Trade made: ",
        pa.array([_SIDES[one.direction] for one in seen], pa.large_string()),
        " ",
        rows.texts("instrument"),
        ", which opened a ",
        pa.array([one.direction for one in seen], pa.large_string()),
        "\n",
        _sizes(seen),
        _REPLY,
        rows=len(seen),
    )


def _rows(seen: Sequence[Seen]) -> pa.Table:
    columns = {name: [one.row[name] for one in seen] for name in PROMPT_COLUMNS}
    texts = ("underlying", "exit_style", "instrument")
    types = {name: pa.large_string() if name in texts else pa.float64() for name in columns}
    types["decision_time"] = pa.timestamp("us", tz="UTC")
    return prompt_rows(pa.table({name: pa.array(values, types[name]) for name, values in columns.items()}))


def _sizes(seen: Sequence[Seen]) -> pa.Array:
    """A line each, or nothing where the size was not known."""
    figures = significant(np.array([one.size or 0.0 for one in seen]), _FIGURES_OF_SIZE).to_pylist()
    lines = [f"Size in coins: {figure}\n" for figure in figures]
    return pa.array(
        [line if one.size else "" for line, one in zip(lines, seen, strict=True)], pa.large_string()
    )


def _option_of(context: Mapping[str, Any], symbol: str) -> dict[str, Any]:
    if context.get("instrument") != symbol:
        raise UnseenError(f"decision_context is of {context.get('instrument')!r:.60}, the trade of {symbol}")
    style = context.get("exit_style")
    if style not in EXIT_STYLES:
        raise UnseenError(f"decision_context.exit_style is {style!r:.60}; known: {', '.join(EXIT_STYLES)}")
    figures = {name: _figure(context, name) for name in _OPTION_FIGURES}
    return {"instrument": symbol, "exit_style": style, **figures}


def _spot_seen(trade: TradeRecord, context: Mapping[str, Any], row: Mapping[str, Any]) -> Seen:
    wanted = {
        "symbol": (trade.symbol,),
        "action": (_SIDES[trade.direction],),
        "position": _POSITIONS[trade.direction],
        "timeframe": tuple(TIMEFRAMES),
    }
    for name, allowed in wanted.items():
        if context.get(name) not in allowed:
            raise UnseenError(
                f"decision_context.{name} is {context.get(name)!r:.60}; of this {trade.direction} it is"
                f" {' or '.join(allowed)}"
            )
    size = _size(_figure(context, "size"))
    return Seen(trade.direction, trade.symbol, size, row, context["timeframe"], context["position"])


def _moment(context: Mapping[str, Any]) -> pd.Timestamp:
    given = context.get("decision_time")
    try:
        moment = pd.Timestamp(given) if isinstance(given, str | pd.Timestamp) else pd.NaT
    except ValueError:
        moment = pd.NaT
    if not isinstance(moment, pd.Timestamp) or moment.tzinfo is None:
        raise UnseenError(f"decision_context.decision_time is {given!r:.60}, no time with a zone")
    return moment.tz_convert("UTC")


def _name(symbol: Any) -> str:
    """A symbol: no blank, no line end, nothing that a model could take for more than a name."""
    if not isinstance(symbol, str) or not _NAME.fullmatch(symbol):
        raise UnseenError(f"symbol is {symbol!r:.60}, no name of letters, digits and . _ / : -")
    return symbol


def _size(size: float | None) -> float | None:
    if size is not None and not _SMALLEST_SIZE <= size < LARGEST_FIGURE:
        raise UnseenError(f"size {size:g} is none that can be told")
    return size


def _figure(fields: Mapping[str, Any], name: str) -> float | None:
    """A figure, or None where it is not known.

    Raises:
        UnseenError: something else than a number, or one that no market has.
    """
    value = fields.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise UnseenError(f"{name} is {value!r:.60}, no number")
    try:
        figure = float(value)
    except OverflowError:
        figure = math.inf
    if not abs(figure) < LARGEST_FIGURE:
        raise UnseenError(f"{name} is {figure:g}: no market has that")
    return figure
