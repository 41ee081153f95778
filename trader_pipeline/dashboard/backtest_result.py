"""A finished backtest as parts of the page: figures, book, trades, steps with their candidates, chains.

Belongs here: what is shown, in which words and digits. Does not belong here: reading the result (`backtest_views`), the
form, running one and the training files (`pages.backtests`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from dash import html

from trader_pipeline.dashboard import backtest_form as forms
from trader_pipeline.dashboard import backtest_views as views
from trader_pipeline.dashboard import parts
from trader_pipeline.dashboard.page import Context, State, chosen, href, moment, number
from trader_pipeline.dashboard.sections import guarded
from trader_pipeline.dashboard.tables import Tables, Where
from trader_pipeline.schema.tables import BACKTEST_STEPS, KLINES, REGIME_WINDOWS
from trader_pipeline.store import reference

PATH = "/backtests"
_RECENT = 20
_KEPT = 64
_TILES = (
    ("pnl_vs_hodl_pct", "against HODL, % of start", "+.2f", " %"), ("return_pct", "return of the book", "+.2f", " %"),
    ("hodl_return_pct", "return of HODL", "+.2f", " %"), ("max_drawdown_pct", "drawdown of the book", ".2f", " %"),
    ("hodl_max_drawdown_pct", "drawdown of HODL", ".2f", " %"), ("sharpe_ratio", "Sharpe ratio", ".2f", ""),
    ("trades", "chains sold", ",.0f", ""), ("hit_rate", "chains ahead of HODL", ".0%", ""),
    ("without_quotes", "decisions without quotes", ",.0f", ""),
)  # fmt: skip
_UNITS = {
    "spot": "spot, USD", "dte": "days to expiry", "pnl_vs_hodl": "P&L minus HODL, USD", "reward": "P&L, USD",
    "max_drawdown_pct": "drawdown, %", "premium_coin": "premium, coin", "pnl_coin": "P&L, coin",
    "fees_coin": "fees, coin",
    "bid_price": "bid, coin", "premium_yield_pct": "premium, %", "ivrv_ratio": "IV/RV",
    "iv": "IV, %",
    "pnl_vs_hodl_if_sold": "P&L minus HODL if sold, USD", "reward_if_sold": "P&L if sold, USD",
    "max_drawdown_pct_if_sold": "drawdown if sold, %", "strike": "strike, USD",
}  # fmt: skip
_FORMATS = {
    **dict.fromkeys(("pnl_vs_hodl", "reward", "pnl_vs_hodl_if_sold", "reward_if_sold"), "+,.2f"),
    **dict.fromkeys(("delta", "score", "best_score", "ivrv_ratio", "max_drawdown_pct"), ".2f"),
    **dict.fromkeys(("premium_coin", "pnl_coin", "fees_coin", "bid_price"), ".4f"),
    **dict.fromkeys(("premium_yield_pct", "max_drawdown_pct_if_sold"), ".2f"),
    **dict.fromkeys(("spot", "strike"), ",.0f"),
    "dte": ".1f", "iv": ".1f",
}  # fmt: skip


def show_result(state: State, context: Context, result: views.Result) -> Iterator[Any]:
    """The sections of a finished backtest; `style`, `mode`, `step` and the pages of both tables are in the address."""
    style = chosen(state, "style", list(result.job.exit_styles))
    mode = chosen(state, "mode", list(views.MODES))
    inner = ("step", "steps-page", "chains-page")
    yield parts.section("Result", parts.text(f"{result.job.description}."), *_tiles(result))
    yield parts.section("Book against HODL", _equity(result.folder))
    yield parts.controls(
        parts.choice("style", "Show exit style", list(result.job.exit_styles), style, resets=inner),
        parts.choice("mode", "Show", [(m, words) for m, words in views.MODES.items()], mode, resets=inner),
    )
    yield guarded("Trades on the candles", lambda: _trades(context, result, mode, style), context)
    yield parts.section("Recent Steps", *_steps(state, result, style))
    if "step" in state:
        yield parts.section("One step", *_step(state, result, style))
    yield parts.section("Recent Chains", *_chains(state, result, mode, style))


def _tiles(result: views.Result) -> Iterator[Any]:
    for style, figures in result.metrics.items():
        known = {n: value for n, value in figures.items() if value or n != "without_quotes"}
        if {"return_pct", "hodl_return_pct"} <= figures.keys():  # the same figure as on the page Policies
            known["pnl_vs_hodl_pct"] = figures["return_pct"] - figures["hodl_return_pct"]
        yield parts.heading(style, 3)
        yield parts.tiles(
            [(label, f"{known[n]:{spec}}{unit}", "") for n, label, spec, unit in _TILES if n in known]
        )


@lru_cache(maxsize=_KEPT)
def _equity(folder: Path) -> Any:
    """The chart of the book; kept, as a finished result never changes."""
    result = views.open_result(folder)
    ends = "; ".join(f"{s} {m['return_vs_hodl_pct']:+.2f} %" for s, m in result.metrics.items())
    return parts.figure(
        views.book_figure(result),
        title="Ahead of HODL, under its peak, and value",
        described=f"Value of the book over the value of the coins at the end: {ends}. Marked at every finest candle; a"
        " chain still open at the end is in the book at its mark.",
        height=620,
    )


def _trades(context: Context, result: views.Result, mode: str, style: str) -> list[Any]:
    candles = context.tables.manifest(KLINES, (result.job.finest,))
    if candles is None:
        return [parts.empty(f"The candles of {result.job.finest} are not in this data folder any more.")]
    if candles.simulated != result.job.simulated:
        then, now = ("simulated", "real") if result.job.simulated else ("real", "simulated")
        words = (
            f"The run was made on {then} candles, and those of {result.job.finest} in this data folder are {now} now:"
            " its trades are not drawn on them."
        )
        return [parts.empty(words)]
    dated = context.tables.manifests(REGIME_WINDOWS).get(())  # of a damaged file nothing is shaded
    version = (candles.content_hash, dated.content_hash if dated else "")
    chart = _trades_chart(context.tables, result.folder, mode, style, version)
    if candles.content_hash == result.job.parents.get(reference(KLINES, (result.job.finest,))):
        return [chart]
    words = (
        f" The candles of {result.job.finest} changed since this run: the chart shows those of today, the trades those"
        " of then. Run it again for both from the same candles."
    )
    return [html.Div([html.Strong("OTHER CANDLES"), words], className="banner", role="note"), chart]


@lru_cache(maxsize=_KEPT)
def _trades_chart(tables: Tables, folder: Path, mode: str, style: str, version: tuple[str, str]) -> Any:
    """The chart of the calls sold; kept until the candles or the windows have another `version`."""
    result, windows = views.open_result(folder), forms.closed_windows(tables)
    legs = result.legs[mode]
    number_of = int((legs["exit_style"] == style).sum())
    sold = parts.counted(number_of, "call")
    few = f"; {views.MOST_CALLS:,} of them are drawn, evenly taken" if number_of > views.MOST_CALLS else ""
    return parts.figure(
        views.trades_on_candles(result, tables, windows, mode=mode, exit_style=style),
        title=f"Calls sold, {style}",
        described=f"{sold} sold, {views.MODES[mode]}{few}. A triangle marks the sale, a line the"
        " strike until the exit; a cross expired, a circle was bought back. Shading is the regime, dated in hindsight.",
        id="chart-calls-sold",
        height=460,
    )


def _steps(state: State, result: views.Result, style: str) -> Iterator[Any]:
    where = [Where("exit_style", "=", style)]
    total = result.each.count(BACKTEST_STEPS, where)
    pages = parts.page_count(total, _RECENT)
    page = min(number(state, "steps-page", 1), pages)
    frame = result.each.page(
        BACKTEST_STEPS, views.STEP_COLUMNS, where=where, order=["-decision_time"], limit=_RECENT,
        offset=_RECENT * (page - 1),
    )  # fmt: skip

    def candidates(row: Mapping[str, Any]) -> str:
        return href(PATH, state, step=f"{row['decision_time']:%Y-%m-%dT%H:%M}") + "#one-step"

    many = parts.counted(total, "decision")
    yield parts.data_table(
        frame, caption=f"{many}, each by itself, the latest first; a time leads to its candidates",
        state=state, path=PATH, page=page, pages=pages, prefix="steps-", titles=_UNITS, formats=_FORMATS,
        links={"decision_time": candidates},
    )  # fmt: skip


def _step(state: State, result: views.Result, style: str) -> Iterator[Any]:
    time = moment(state, "step")
    assert time is not None, "only shown where the address names a step"
    where = [Where("decision_time", "=", time), Where("exit_style", "=", style)]
    steps = result.each.page(BACKTEST_STEPS, where=where)
    if steps.empty:
        yield parts.empty(
            f"There was no decision at {time:%Y-%m-%d %H:%M} UTC: choose one under Recent Steps."
        )
        return
    candidates = views.candidates_of(result, time, style)
    yield parts.text(views.step_words(steps.iloc[0], candidates))
    if candidates.empty:
        yield parts.note("No candidate was offered.")
        return
    many = parts.counted(len(candidates), "candidate")
    yield parts.data_table(
        candidates.assign(iv=100 * candidates["iv"]), titles=_UNITS, formats=_FORMATS,
        caption=f"{many} under {style}, the best outcome in hindsight first",
    )  # fmt: skip
    yield parts.note(
        "chosen is 1 on the call that the teacher sold. What is “if sold” nobody knew at the decision."
    )
    yield html.P(parts.link("Close this step", href(PATH, state, step=None) + "#recent-steps"))


def _chains(state: State, result: views.Result, mode: str, style: str) -> Iterator[Any]:
    chains = result.chains[mode]
    own = chains[chains["exit_style"] == style].drop(columns=["underlying", "exit_style"])
    if own.empty:
        yield parts.empty("No call was sold: lower the score to sell from, or widen the window.")
        return
    pages = parts.page_count(len(own), _RECENT)
    page = min(number(state, "chains-page", 1), pages)
    own = own[[*views.CHAIN_COLUMNS, *(name for name in own if name not in views.CHAIN_COLUMNS)]]
    yield parts.data_table(
        own.iloc[_RECENT * (page - 1) : _RECENT * page],
        caption=f"{parts.counted(len(own), 'chain')}, {views.MODES[mode]}, the latest first",
        state=state, path=PATH, page=page, pages=pages, prefix="chains-", titles=_UNITS, formats=_FORMATS,
    )  # fmt: skip
