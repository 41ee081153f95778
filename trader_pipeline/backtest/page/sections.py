"""What each section of the page shows and says.

Belongs here: choosing columns and words. Does not belong here: drawing (`plots`), markup, figures (`summary`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from trader_pipeline.backtest.page.markup import (
    Field,
    chart,
    details,
    paragraph,
    preformatted,
    side_by_side,
    subheading,
    table,
)
from trader_pipeline.backtest.page.plots import equity_figure, figure_json, pnl_figure
from trader_pipeline.backtest.page.trades_plot import coarse_candles, trades_figure
from trader_pipeline.backtest.regimes import summarise_by_regime
from trader_pipeline.backtest.result import BacktestResult
from trader_pipeline.backtest.summary import summarise

BOOK_TITLE, EACH_TITLE = "One book in sequence", "Every decision by itself"
_MARGIN = pd.Timedelta(days=2)
_SUMMARY = {
    "decisions": Field("decisions", ",d"),
    "trades": Field("trades", ",d"),
    "failed": Field("failed trades", ",d"),
    "without_quotes": Field("decisions without quotes", ",d"),
    "hit_rate": Field("hit rate (ahead of HODL), %", ".1f"),
    "mean_pnl_vs_hodl": Field("against HODL, mean of a trade, USD", "+,.2f"),
    "total_pnl_vs_hodl": Field("against HODL, total, USD", "+,.0f"),
    "total_fees_coin": Field("fees, coin", ",.4f"),
    "mean_legs": Field("legs a chain", ".2f"),
}
_BOOK = {
    "return_pct": Field("return of the book, %", "+,.2f"),
    "hodl_return_pct": Field("return of HODL, %", "+,.2f"),
    "return_vs_hodl_pct": Field("book over HODL, %", "+,.2f"),
    "max_drawdown_pct": Field("drawdown of the book, %", ",.2f"),
    "hodl_max_drawdown_pct": Field("drawdown of HODL, %", ",.2f"),
    "sharpe_ratio": Field("Sharpe ratio of the book", ".2f"),
    "hodl_sharpe_ratio": Field("Sharpe ratio of HODL", ".2f"),
}
_CHAIN = {
    "total_reward": Field("P&L of the covered positions, USD", "+,.0f"),
    "max_drawdown_pct": Field("deepest drawdown of a chain, %", ",.2f"),
}
_REGIMES = {
    "exit_style": Field("exit style"),
    "trades": Field("trades", ",d"),
    "hit_rate": Field("hit rate, %", ".1f"),
    "total_pnl_vs_hodl": Field("total against HODL, USD", "+,.0f"),
    "return_vs_hodl_pct": Field("book over HODL, %", "+,.2f"),
    "hodl_return_pct": Field("HODL's return, %", "+,.1f"),
    "mean_pnl_vs_hodl": Field("mean against HODL, USD", "+,.2f"),
    "decisions": Field("decisions", ",d"),
    "total_fees_coin": Field("fees, coin", ",.4f"),
}


@dataclass(frozen=True)
class Shown:
    """What the page is about: the run in which every decision is by itself, the one with one book, or both."""

    each: BacktestResult | None
    book: BacktestResult | None
    klines: pd.DataFrame
    windows: pd.DataFrame
    settings: str

    @property
    def runs(self) -> list[tuple[str, BacktestResult]]:
        """The runs there are, under their titles."""
        pairs = ((BOOK_TITLE, self.book), (EACH_TITLE, self.each))
        return [(title, run) for title, run in pairs if run is not None]

    @property
    def main(self) -> BacktestResult:
        """The book where there is one."""
        return self.runs[0][1]


def summary_section(shown: Shown) -> str:
    notes = {
        BOOK_TITLE: "No new chain while one is open: what the rule would have made of the coins. A chain still"
        " open at the end is in the book at its mark. Trades are counted at full size; a book that has lost coins"
        " sells fewer calls, which only its curve knows.",
        EACH_TITLE: "A chain from every decision, on fresh coins. Chains overlap, so their sum is no book's result and"
        " the trades are not independent.",
    }
    parts = [
        subheading(title) + paragraph(notes[title], "note") + _figures_table(run) for title, run in shown.runs
    ]
    return side_by_side(*parts)


def _figures_table(run: BacktestResult) -> str:
    """A row a figure and a column an exit style: it fits a phone."""
    figures = _without_trades(summarise(run)).set_index("exit_style")
    wanted = _SUMMARY | (_BOOK if run.mode == "sequential" else _CHAIN)
    shown = {name: field for name, field in wanted.items() if name in figures}
    if not figures["without_quotes"].any():
        shown.pop("without_quotes")
    rows = pd.DataFrame({"figure": [field.title for field in shown.values()]})
    for style, own in figures.iterrows():
        rows[str(style)] = [
            "–"
            if pd.isna(own[name])
            else format(int(own[name]) if field.spec == ",d" else own[name], field.spec)
            for name, field in shown.items()
        ]
    styles = {str(style): Field(str(style), figures=True) for style in figures.index}
    return table(rows, {"figure": Field("figure"), **styles})


def _without_trades(figures: pd.DataFrame) -> pd.DataFrame:
    """Hit rate in percent, and no rate or mean where nothing was sold."""
    none = figures["trades"] == 0
    return figures.assign(
        hit_rate=(100 * figures["hit_rate"]).mask(none),
        mean_pnl_vs_hodl=figures["mean_pnl_vs_hodl"].mask(none),
    )


def equity_section(shown: Shown) -> str:
    if shown.book is None:
        return paragraph("There is no book: this run let every decision stand by itself.")
    caption = (
        "The book's value over that of the coins alone, how far each is under its highest value so far, and both in"
        " USD. Marked at every finest candle; where there are many, a day's last value and its deepest fall are drawn."
    )
    return chart("equity", figure_json(equity_figure(shown.book.equity)), height=680, caption=caption)


def trades_section(shown: Shown) -> str:
    run = shown.main
    note = (
        "A triangle marks the price at which a call was sold, a line its strike until the exit; the exit is a cross"
        " where it expired and a circle where it was bought back."
    )
    if len(shown.windows):
        note += " Shading is the regime, dated in hindsight."
    if run.mode == "independent":
        note += " Every decision is by itself, so calls overlap."
    parts = [paragraph(note, "note")]
    outcomes = run.steps[["decision_time", "exit_style", "pnl_vs_hodl"]]
    legs = run.legs.merge(outcomes, on=["decision_time", "exit_style"])
    legs["ahead"] = legs["pnl_vs_hodl"] > 0
    candles = coarse_candles(_around(shown.klines, run.steps["decision_time"], legs["exit_time"]))
    for style in sorted(set(run.steps["exit_style"])):
        own = legs[legs["exit_style"] == style]
        sold = f"{_counted(len(own), 'call')} sold in {_counted(own['decision_time'].nunique(), 'chain')}"
        figure = figure_json(trades_figure(candles, own, shown.windows))
        parts.append(chart(f"trades {style}", figure, height=460, caption=f"{run.market}, {style}: {sold}."))
    return "".join(parts)


def _around(klines: pd.DataFrame, decisions: pd.Series, exits: pd.Series) -> pd.DataFrame:
    first = decisions.min() - _MARGIN
    last = max([decisions.max(), *exits.tolist()]) + _MARGIN
    return klines[(klines["close_time"] > first) & (klines["open_time"] < last)]


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def pnl_section(shown: Shown) -> str:
    run = shown.each or shown.main
    sold = run.steps[run.steps["action"] == "SELL_CALL"]
    if sold.empty:
        return paragraph("No call was sold, so there is no P&L to show.")
    percent = 100 * sold["pnl_vs_hodl"] / sold["spot"] / run.size
    pnl = {str(style): own.to_numpy(dtype=float) for style, own in percent.groupby(sold["exit_style"])}
    kind = EACH_TITLE if run.mode == "independent" else BOOK_TITLE
    caption = (
        f"{kind}: each chain against holding the coin. The outer 1 % on each side stands in the edge bins."
    )
    rows = pd.DataFrame(
        [
            (style, len(own), own.mean(), np.median(own), np.quantile(own, 0.05), 100 * np.mean(own > 0))
            for style, own in pnl.items()
        ],
        columns=["style", "trades", "mean", "median", "worst", "ahead"],
    )
    fields = {
        "style": Field("exit style"),
        "trades": Field("trades", ",d"),
        "mean": Field("mean, % of coin", "+.3f"),
        "median": Field("median", "+.3f"),
        "worst": Field("5th percentile", "+.2f"),
        "ahead": Field("ahead of HODL, %", ".1f"),
    }
    return chart("pnl", figure_json(pnl_figure(pnl)), height=360, caption=caption) + table(rows, fields)


def regimes_section(shown: Shown) -> str:
    if shown.windows.empty:
        return paragraph("No regime windows were given.")
    dated = ", ".join(sorted(set(shown.windows["underlying"])))
    note = (
        f"Windows dated on {dated} candles, in hindsight: nobody knew them at the time, and no decision saw them. A"
        " chain counts where it was decided."
    )
    parts = [paragraph(note, "note")]
    for title, run in shown.runs:
        parts += [subheading(title), _regime_table(run, shown.windows, "label")]
    every = _regime_table(shown.main, shown.windows, "regime")
    return "".join([*parts, details(f"Every window ({shown.runs[0][0].lower()})", every)])


def _regime_table(run: BacktestResult, windows: pd.DataFrame, by: str) -> str:
    figures = _without_trades(summarise_by_regime(run, windows, by="regime" if by == "regime" else "label"))
    fields = {by: Field("regime"), **{name: field for name, field in _REGIMES.items() if name in figures}}
    return table(figures, fields)


def settings_section(shown: Shown) -> str:
    if not shown.settings:
        return paragraph("The settings were not given to this page.")
    return preformatted(shown.settings)
