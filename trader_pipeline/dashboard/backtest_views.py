"""What the page Backtests shows of a finished run: tables and figures over its folder.

Belongs here: reading a result for people; plots are those of `backtest.page`. Does
not belong here: running one (`backtest_jobs`, `backtest_work`), or the form (`backtest_form`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go

from trader_pipeline.backtest.chains import chains_frame
from trader_pipeline.backtest.page.plots import equity_figure
from trader_pipeline.backtest.page.trades_plot import trades_figure
from trader_pipeline.dashboard.backtest_jobs import BOOK, EACH, FIGURES_FILE, BacktestJob, read_job
from trader_pipeline.dashboard.figures import CANDLES, bar_step, thinned
from trader_pipeline.dashboard.tables import Tables, Where
from trader_pipeline.dashboard.theme import PINK, RED, SHADE
from trader_pipeline.schema import Market
from trader_pipeline.schema.tables import (
    BACKTEST_LEGS,
    BACKTEST_STEPS,
    CANDIDATE_OUTCOMES,
    KLINES,
    POLICY_EQUITY,
)
from trader_pipeline.store import TableStore

MODES = {BOOK: "one book in sequence", EACH: "every decision by itself"}
STEP_COLUMNS = (
    "decision_time", "action", "pnl_vs_hodl", "max_drawdown_pct", "score", "best_score", "instrument", "delta", "dte",
    "spot", "candidates", "legs", "reason",
)  # fmt: skip
_CANDIDATE_COLUMNS = (
    "instrument", "chosen", "pnl_vs_hodl_if_sold", "reward_if_sold", "max_drawdown_pct_if_sold", "score", "sellable",
    "strike", "dte", "delta", "iv", "bid_price", "premium_yield_pct", "ivrv_ratio",
)  # fmt: skip
CHAIN_COLUMNS = ("decision_time", "instrument", "pnl_vs_hodl", "reward", "max_drawdown_pct", "exit_reason")
"""The first ones of Recent Chains."""
MOST_CALLS = 1_000
"""More calls than this cannot be told apart on the candles."""
_MARGIN = pd.Timedelta(days=2)


@dataclass(frozen=True)
class Result:
    """A finished backtest. Its files never change, so what was read once is kept."""

    folder: Path
    job: BacktestJob

    @cached_property
    def each(self) -> Tables:
        """Every decision by itself: steps, legs, candidates."""
        return Tables(TableStore(str(self.folder / EACH)))

    @cached_property
    def book(self) -> Tables:
        """One book in sequence: steps, legs, equity."""
        return Tables(TableStore(str(self.folder / BOOK)))

    def tables(self, mode: str) -> Tables:
        return self.each if mode == EACH else self.book

    @cached_property
    def equity(self) -> pd.DataFrame:
        """`close_time, exit_style, equity_usd, hodl_usd` of the book."""
        return self.book.store.read(POLICY_EQUITY, (self.job.market,))

    @cached_property
    def metrics(self) -> dict[str, dict[str, float]]:
        """The book's figures by exit style and name (`backtest.summary`)."""
        figures: dict[str, dict[str, float]] = json.loads((self.folder / FIGURES_FILE).read_text())
        return figures

    @cached_property
    def legs(self) -> dict[str, pd.DataFrame]:
        """Table BACKTEST_LEGS by mode, each leg with `pnl_vs_hodl` of its chain and whether that is `ahead`."""
        return {mode: self._legs(mode) for mode in MODES}

    def _legs(self, mode: str) -> pd.DataFrame:
        store, own = self.tables(mode).store, (self.job.market,)
        steps = store.read(BACKTEST_STEPS, own, columns=["decision_time", "exit_style", "pnl_vs_hodl"])
        legs = store.read(BACKTEST_LEGS, own).merge(steps, on=["decision_time", "exit_style"])
        return legs.assign(ahead=legs["pnl_vs_hodl"] > 0)

    @cached_property
    def chains(self) -> dict[str, pd.DataFrame]:
        """Every chain sold by mode, the latest first."""
        own = (self.job.market,)
        frames = {
            mode: chains_frame(
                *(self.tables(mode).store.read(t, own) for t in (BACKTEST_STEPS, BACKTEST_LEGS))
            )
            for mode in MODES
        }
        return {
            mode: f.sort_values("decision_time", ascending=False, kind="stable") for mode, f in frames.items()
        }

    @property
    def exports(self) -> list[Path]:
        """The training files that were written, without their manifests."""
        found = sorted((self.folder / "exports").glob("training_*"))
        return [path for path in found if not path.name.endswith(".manifest.json")]


@lru_cache(maxsize=8)
def open_result(folder: Path) -> Result:
    """The result in a finished folder."""
    return Result(folder, read_job(folder))


def candidates_of(result: Result, moment: pd.Timestamp, exit_style: str) -> pd.DataFrame:
    """Every candidate of a decision, the best outcome in hindsight first; empty where there was no such decision."""
    where = [Where("decision_time", "=", moment), Where("exit_style", "=", exit_style)]
    return result.each.page(
        CANDIDATE_OUTCOMES,
        _CANDIDATE_COLUMNS,
        where=where,
        order=["-pnl_vs_hodl_if_sold", "instrument"],
        limit=1000,
    )


def step_words(step: pd.Series, candidates: pd.DataFrame) -> str:
    """A decision and what the best choice in hindsight would have made, in sentences."""
    best = candidates["pnl_vs_hodl_if_sold"].max()
    made = (
        f"sold {step['instrument']}" if step["action"] == "SELL_CALL" else f"sold nothing ({step['reason']})"
    )
    known = "" if pd.isna(best) else f" The best candidate in hindsight made {best:+,.2f} USD against HODL."
    return (
        f"At {step['decision_time']:%Y-%m-%d %H:%M} UTC, with the coin at {step['spot']:,.0f} USD, the teacher {made}:"
        f" {step['pnl_vs_hodl']:+,.2f} USD against HODL.{known}"
    )


def book_figure(result: Result) -> go.Figure:
    """The book over HODL, how far under its peak, and its value."""
    return equity_figure(result.equity)


def trades_on_candles(
    result: Result, candles: Tables, windows: pd.DataFrame, *, mode: str, exit_style: str
) -> go.Figure:
    """Calls sold on the candles around the run, at most `MOST_CALLS` of them, evenly taken.

    Raises:
        MissingTableError: the candles are not on disk any more.
    """
    own = result.legs[mode]
    legs = own[own["exit_style"] == exit_style]
    finest = Market.parse(result.job.finest)
    start = pd.Timestamp(result.job.start) - _MARGIN
    end = _end(result, legs)
    step = bar_step(end - start, Market.parse(result.job.market).step)
    bars = candles.candles(KLINES, (finest.key,), step=step, start=start, end=end)
    figure = trades_figure(bars, thinned(legs, MOST_CALLS), windows)
    figure.update_traces(CANDLES, selector={"type": "candlestick"}, showlegend=False)
    ticks = [f"{value / 1000:,.10g}k" for value in figure.layout.yaxis.tickvals]
    figure.update_yaxes(
        hoverformat="$,.2f", ticktext=ticks
    )  # else Plotly writes the ticks as it writes a hover
    figure.update_shapes({"opacity": SHADE})
    for line in ("line", "marker"):  # red is what fell, here
        figure.update_traces({line: {"color": PINK}}, selector={line: {"color": RED}, "type": "scatter"})
    return figure


def _end(result: Result, legs: pd.DataFrame) -> pd.Timestamp:
    ends = [pd.Timestamp(result.job.end), *([legs["exit_time"].max()] if len(legs) else [])]
    return max(ends) + _MARGIN
