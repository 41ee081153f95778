"""Market: candles with regimes and gaps, and what volatility was, what the market asked for it.

Belongs here: the page. Bars are joined on the server to at most 1,000 a view; a zoom asks again.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from trader_pipeline.dashboard import parts
from trader_pipeline.dashboard.damage import DamagedTableError
from trader_pipeline.dashboard.damage_views import damage_told
from trader_pipeline.dashboard.figures import (
    BARS,
    add_gaps,
    add_volume,
    add_windows,
    bar_step,
    candles_figure,
    lines_figure,
)
from trader_pipeline.dashboard.hints import run_command
from trader_pipeline.dashboard.market_views import View, implied, last_close, missing_bars, realised
from trader_pipeline.dashboard.page import BadChoiceError, Context, Page, State, chosen, moment
from trader_pipeline.dashboard.sections import guarded, guarded_parts
from trader_pipeline.dashboard.tables import Where
from trader_pipeline.schema import Market
from trader_pipeline.schema.tables import KLINE_GAPS, KLINES, REGIME_WINDOWS

_MOST_ROWS = 2_000
"""Of gaps and of windows, in a span."""


def layout(state: State, context: Context) -> list[Any]:
    """Choices, figures of the span, candles, volatility, and the tables of gaps and windows."""
    tables = context.tables
    markets = [p[0] for p in tables.partitions(KLINES)]
    damage = damage_told(context, KLINES)
    if not markets:
        command = run_command(context)
        return damage or [parts.empty("There are no candles yet.", command)]
    view = read_view(state, chosen(state, "market", markets), context)
    manifest = tables.manifest(KLINES, (view.market.key,))
    head = [
        parts.simulated_badge(manifest is not None and manifest.simulated),
        *damage,
        _choices(state, view, markets),
    ]
    return [*head, *guarded_parts("candles", lambda: _span(view, context), context)]


def _span(view: View, context: Context) -> list[Any]:
    """What the span holds. Damaged gaps, windows or volatility are told in their section, and the candles stand."""
    candles = context.tables.candles(
        KLINES, (view.market.key,), step=view.step, start=view.start, end=view.end
    )
    if candles.empty:
        words = f"{view.market} has no candles from {view.start:%Y-%m-%d} to {view.end:%Y-%m-%d}."
        return [parts.empty(words)]
    gaps, windows = _unless_damaged(_gaps, view, context), _unless_damaged(_windows, view, context)
    return [
        _figures_of_the_span(candles, gaps, view, context),
        guarded("Prices", lambda: [_candles(candles, gaps, windows, view)], context),
        guarded("Volatility", lambda: _volatility(windows, view, context), context),
        guarded("Regime windows", lambda: _windows_table(_windows(view, context)), context),
        guarded("Gaps", lambda: _gaps_table(_gaps(view, context), view), context),
    ]


def _unless_damaged(
    read: Callable[[View, Context], pd.DataFrame | None], view: View, context: Context
) -> pd.DataFrame | None:
    with suppress(DamagedTableError):
        return read(view, context)
    return None


def read_view(state: State, market: str, context: Context) -> View:
    """The span and the bars' width: as asked, as fine as the screen can hold."""
    own = Market.parse(market)
    first, last = _whole_span(own, context)
    start, end, complaint = first, last, ""
    try:
        start, end = moment(state, "from") or first, moment(state, "to") or last
        if start >= end and {"from", "to"} <= set(state):
            raise BadChoiceError(f"from ({start:%Y-%m-%d}) has to lie before to ({end:%Y-%m-%d})")
        start, end = max(start, first), min(end, last)
        if start >= end:
            raise BadChoiceError(f"candles reach from {first:%Y-%m-%d} to {last:%Y-%m-%d}")
    except BadChoiceError as error:
        start, end, complaint = first, last, f"{error}; all candles are shown"
    finest = bar_step(end - start, own.step)
    asked = chosen(state, "bar", ["auto", *BARS], "auto")
    wanted = finest if asked == "auto" else max(pd.Timedelta(asked), own.step)
    return View(own, start, end, max(wanted, finest), complaint, coarsened=wanted < finest)


def _whole_span(market: Market, context: Context) -> tuple[pd.Timestamp, pd.Timestamp]:
    figures = {"first": ("min", "open_time"), "last": ("max", "close_time")}
    row = context.tables.groups(KLINES, (), figures, partitions=[(market.key,)]).iloc[0]
    return row["first"], row["last"]


def _choices(state: State, view: View, markets: list[str]) -> Any:
    finer = [b for b in BARS if pd.Timedelta(b) >= view.market.step]
    bars = [("auto", "as fine as fits"), *((b, b) for b in finer)]
    return parts.controls(
        parts.choice("market", "Market", markets, view.market.key, resets=("from", "to", "page")),
        parts.choice("bar", "Bar", bars, state.get("bar", "auto")),
        parts.text_field("from", "From (UTC)", state.get("from", ""), placeholder=f"{view.start:%Y-%m-%d}"),
        parts.text_field(
            "to", "To (UTC)", state.get("to", ""), placeholder=f"{view.end:%Y-%m-%d}", error=view.complaint
        ),
    )


def _gaps(view: View, context: Context) -> pd.DataFrame | None:
    """Gaps of the span; None where nobody has looked for them."""
    key = (view.market.key,)
    if context.tables.manifest(KLINE_GAPS, key) is None:
        return None
    where = [Where("to", ">", view.start), Where("from", "<", view.end)]
    return context.tables.page(KLINE_GAPS, where=where, order=["from"], limit=_MOST_ROWS, partitions=[key])


def _windows(view: View, context: Context) -> pd.DataFrame:
    if not context.tables.exists(REGIME_WINDOWS):
        return REGIME_WINDOWS.empty()
    where = [Where("end", ">", view.start), Where("start", "<", view.end)]
    return context.tables.page(REGIME_WINDOWS, where=where, order=["start"], limit=_MOST_ROWS)


def _figures_of_the_span(
    candles: pd.DataFrame, gaps: pd.DataFrame | None, view: View, context: Context
) -> Any:
    change = 100 * (candles["close"].iloc[-1] / candles["open"].iloc[0] - 1)
    fall = 100 * (1 - candles["close"] / candles["close"].cummax()).max()
    bars = int(candles["bars"].sum())
    return parts.tiles(
        [
            (
                "Last close",
                f"${candles['close'].iloc[-1]:,.0f}",
                f"{last_close(view, context):%Y-%m-%d %H:%M}",
            ),
            ("Change", f"{change:+.1f} %", "over the span shown"),
            ("Largest fall", f"{fall:.1f} %", "between closes shown"),
            ("Candles", f"{bars:,}", f"drawn as {len(candles):,} bars of {_words(view.step)}"),
            _missing(gaps, view),
        ]
    )


def _missing(gaps: pd.DataFrame | None, view: View) -> tuple[str, str, str]:
    if gaps is None:
        return "Missing", "not known", "there is no table of gaps to read"
    return "Missing", f"{missing_bars(gaps, view):,}", f"{parts.counted(len(gaps), 'gap')} in the span"


def _candles(
    candles: pd.DataFrame, gaps: pd.DataFrame | None, windows: pd.DataFrame | None, view: View
) -> Any:
    figure = candles_figure(candles)
    add_volume(figure, candles)
    if windows is not None:
        add_windows(figure, windows, start=view.start, end=view.end)
    if gaps is not None:
        add_gaps(figure, gaps, float(candles["low"].min()))
    _fix_span(figure, view)
    coarser = (
        "The bars asked for would be more than 1,000, so wider ones are drawn. " if view.coarsened else ""
    )
    described = (
        f"{view.market.underlying} from {view.start:%Y-%m-%d} to {view.end:%Y-%m-%d} in bars of {_words(view.step)},"
        f" between ${candles['low'].min():,.0f} and ${candles['high'].max():,.0f}. {coarser}"
        "Hollow blue bars rose, filled red ones fell; below stands the volume. Shades are regime windows, named in"
        " hindsight; crosses are gaps."
        " Drag along the time to zoom, double-click for all."
    )
    return parts.figure(
        figure, title="Candles", described=described, id="market-candles", height=500, zooms=True
    )


def _volatility(windows: pd.DataFrame | None, view: View, context: Context) -> list[Any]:
    lines = {"realised, last 30 days": realised(view, context), **implied(view, context)}
    lines = {name: frame for name, frame in lines.items() if len(frame)}
    if not lines:
        return [parts.empty("The span is too short: realised volatility needs 30 days of candles before it.")]
    figure = lines_figure(
        {name: (frame["time"], 100 * frame["value"]) for name, frame in lines.items()},
        y_title="% a year",
        spec=".3~f",
    )
    if windows is not None:
        add_windows(figure, windows, start=view.start, end=view.end)
    _fix_span(figure, view)
    last = "; ".join(
        f"{name}: {100 * frame['value'].iloc[-1]:.0f} % on {frame['time'].iloc[-1]:%Y-%m-%d}"
        for name, frame in lines.items()
    )
    described = f"Volatility in percent a year. Last values: {last}."
    missing = (
        []
        if len(lines) > 1
        else [parts.note("No volatility index and no option chain exist for this market.")]
    )
    return [
        parts.figure(
            figure,
            title="Realised and implied",
            described=described,
            id="market-volatility",
            height=300,
            zooms=True,
        ),
        *missing,
    ]


def _fix_span(figure: go.Figure, view: View) -> None:
    figure.update_xaxes(range=[f"{view.start:%Y-%m-%d %H:%M}", f"{view.end:%Y-%m-%d %H:%M}"])
    figure.update_yaxes(fixedrange=True)


def _windows_table(windows: pd.DataFrame) -> list[Any]:
    if windows.empty:
        return [parts.empty("No regime window is dated in this span.")]
    frame = windows[["regime", "label", "start", "end", "days", "return_pct", "provisional"]]
    return [
        parts.data_table(frame.head(60), caption="Windows in the span; end is exclusive, return in percent")
    ]


def _gaps_table(gaps: pd.DataFrame | None, view: View) -> list[Any]:
    if gaps is None:
        return [
            parts.note(f"Whether candles are missing is not known: there is no kline_gaps of {view.market}.")
        ]
    if gaps.empty:
        return [parts.note("No candle is missing in this span.")]
    longest = gaps.sort_values("bars", ascending=False, kind="stable").head(20)
    caption = f"Gaps, the longest first; {len(longest)} of {len(gaps):,}, in bars of {view.market.timeframe}"
    return [parts.data_table(longest, caption=caption)]


def _words(step: pd.Timedelta) -> str:
    hours = step / pd.Timedelta(hours=1)
    if hours < 1:
        return f"{round(60 * hours)} minutes"
    return f"{hours:g} h" if hours < 24 else f"{hours / 24:g} d"


PAGE = Page("/market", "Market", layout, summary="candles, regimes, gaps, volatility")
