"""The page Policies: who makes what on held-out steps, with intervals, by regime, calibrated or not, and as a book."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import pandas as pd
from dash import html

from trader_pipeline.dashboard import parts
from trader_pipeline.dashboard import policy_views as views
from trader_pipeline.dashboard.hints import run_command
from trader_pipeline.dashboard.page import Context, Page, State, chosen
from trader_pipeline.dashboard.sections import guarded
from trader_pipeline.dashboard.tables import Tables, Where
from trader_pipeline.evaluation.held_out import ORACLE
from trader_pipeline.evaluation.overview import FEW_DECISIONS, book_table, verdicts
from trader_pipeline.evaluation.report.findings import build_findings, findings_in_brief
from trader_pipeline.evaluation.report.plots import equity_figure
from trader_pipeline.schema import Table
from trader_pipeline.schema.tables import (
    BACKTEST_STEPS,
    POLICY_DECISIONS,
    POLICY_EQUITY,
    POLICY_METRICS,
    REGIME_WINDOWS,
)

PATH = "/policies"
_EVERY = 10**9
_BOARD = {
    "policy": "policy", "mean_pnl_vs_hodl_pct": "mean, % of coin", "interval": "interval", "tied": "with HODL",
    "standing": "sign", "accuracy_pct": "teacher's answer, %", "sold_pct": "sold, %", "steps": "steps",
}  # fmt: skip
_PAIRS = {
    "policy": "compared with", "difference": "mean difference, % of coin", "low": "interval from", "high": "to",
    "compared": "verdict",
}  # fmt: skip
_BOARD_FORMATS = {
    "mean_pnl_vs_hodl_pct": "+.3f", "accuracy_pct": ".1f", "sold_pct": ".1f", "steps": ",.0f", "difference": "+.3f",
    "low": "+.3f", "high": "+.3f",
}  # fmt: skip
_BOOKS = {
    "policy": "policy", "pnl_vs_hodl_pct": "against HODL, % of start", "return_pct": "return, %",
    "hodl_return_pct": "HODL's return, %", "max_drawdown_pct": "largest drawdown, %",
    "hodl_max_drawdown_pct": "HODL's drawdown, %", "trades": "trades",
}  # fmt: skip

_NO_INTERVALS = (
    "This policy_metrics was made before the means had intervals, so a mean here may be chance. To have them, delete"
    " evaluation/policy_metrics in the data folder and run the profile again."
)
_NO_SCORE = (
    "No Brier score and no ECE is given: both would need the probability among the answers that were allowed, and"
    " policy_decisions holds that of the one answer given, among all texts the model could write. A model that gives"
    " next to nothing to each answer and is always wrong would score 0.000, which reads as perfect."
)


def layout(state: State, context: Context) -> list[Any]:
    """Verdict, leaderboard, figures by regime, calibration, books."""
    if not context.tables.exists(POLICY_METRICS):
        command = run_command(context)
        return [parts.empty("No policy has been evaluated yet: policy_metrics is not there.", command)]
    metrics = _all(context, POLICY_METRICS)
    style = chosen(state, "exit_style", sorted(set(metrics["exit_style"])))
    segments = sorted(set(metrics["segment"]), key=lambda name: (name != "all", name))
    segment = chosen(state, "segment", segments)
    pick = parts.controls(
        parts.choice("exit_style", "Exit style", sorted(set(metrics["exit_style"])), style),
        parts.choice("segment", "Underlying", segments, segment),
    )
    manifests = context.tables.manifests(POLICY_METRICS).values()
    return [
        parts.simulated_badge(any(m.simulated for m in manifests)),
        parts.section("Verdict", *_verdict(metrics)),
        pick,
        parts.section("Leaderboard", *_leaderboard(metrics, style, segment)),
        guarded("By regime", lambda: _regimes(context, style, segment), context),
        guarded("Calibration", lambda: _calibration(context, style, segment), context),
        guarded("Books", lambda: _books(context, metrics, style), context),
    ]


def _all(context: Context, table: Table, where: list[Where] | None = None) -> pd.DataFrame:
    """All rows of a table that is small by its nature."""
    return context.tables.page(table, where=where or [], order=table.key, limit=_EVERY)


def _verdict(metrics: pd.DataFrame) -> Iterator[Any]:
    findings = build_findings(metrics)
    if not findings:
        yield parts.text("No adapter has been evaluated: policy_metrics holds no figures of one.")
        return
    yield parts.text(findings_in_brief(findings))
    yield html.Ul(
        [
            html.Li(
                [
                    html.Strong(
                        "Ahead. " if f.ahead else "Not ahead. ", className="good" if f.ahead else "bad"
                    ),
                    f.text,
                ]
            )
            for f in findings
        ]
    )
    if sentences := verdicts(metrics):
        lines = [html.Li(sentence) for sentence in sentences]
        yield html.Details([html.Summary("Every comparison in words"), html.Ul(lines)])


def _leaderboard(metrics: pd.DataFrame, style: str, segment: str) -> Iterator[Any]:
    board = views.leaderboard(metrics, exit_style=style, segment=segment)
    if board.empty:
        yield parts.empty(f"There are no held-out figures for {segment} under {style}: choose another.")
        return
    behind = int((board["mean_pnl_vs_hodl_pct"] < 0).sum())
    losing = (
        "None loses to holding the coins."
        if not behind
        else f"{behind} lose to holding the coins: striped bars."
    )
    best = board[board["policy"] != ORACLE].iloc[0]
    yield parts.figure(
        views.leaderboard_figure(board),
        title="Mean P&L against HODL on held-out steps",
        described=f"{len(board)} policies on the same {best['steps']:,.0f} steps; the best that does not know the"
        f" future is {best['policy']} with {best['mean_pnl_vs_hodl_pct']:+.3f} % of the coin per decision"
        f"{_ties(board, best)} {losing}",
        height=110 + 30 * len(board),
    )
    shown = board[[name for name in _BOARD if name in board]]
    yield parts.data_table(
        shown, caption=f"Mean P&L minus HODL per decision, {segment}, {style}, the best first", titles=_BOARD,
        formats=_BOARD_FORMATS,
    )  # fmt: skip
    if "interval" not in board:
        yield parts.note(_NO_INTERVALS)
    words = "The teacher's answer is the label, so the teacher is right by definition; the oracle knows the future. "
    if "compared" in board:
        pairs = board.loc[board["compared"].notna(), list(_PAIRS)]
        caption = "The evaluated policy minus others, decision by decision"
        yield parts.data_table(pairs, caption=caption, titles=_PAIRS, formats=_BOARD_FORMATS)
    else:
        words += "Pairs are compared over all underlyings together (Underlying: all)."
    words += (
        f" Intervals are of the stationary bootstrap over decision times. Fewer than {FEW_DECISIONS} sales, or"
        " decisions that differ, are a tie whatever the interval. No correction for several comparisons."
    )
    yield parts.note(words)


def _ties(board: pd.DataFrame, best: pd.Series) -> str:
    """The interval of the best, and how many cannot be told from holding the coins; a full stop where none is known."""
    if "tied" not in board:
        return "."
    tied = int(board["tied"].str.startswith("tied").sum())
    own = f", interval {best['interval']}, {best['tied'].partition(':')[0]} with HODL."
    return f"{own} The thin lines are intervals: {tied} of {len(board)} are tied with holding."


def _decisions(context: Context, style: str, segment: str) -> pd.DataFrame:
    if not context.tables.exists(POLICY_DECISIONS):
        return POLICY_DECISIONS.empty()
    own = [] if segment == "all" else [Where("underlying", "=", segment)]
    return _all(context, POLICY_DECISIONS, [Where("exit_style", "=", style), *own])


def _regimes(context: Context, style: str, segment: str) -> Iterator[Any]:
    decisions = _decisions(context, style, segment)
    if decisions.empty or not context.tables.exists(BACKTEST_STEPS):
        yield parts.empty("There are no single decisions to divide by regime: policy_decisions is not there.")
        return
    window = [
        Where("decision_time", ">=", decisions["decision_time"].min()),
        Where("decision_time", "<=", decisions["decision_time"].max()),
    ]
    spots = context.tables.page(
        BACKTEST_STEPS,
        ["decision_time", "underlying", "spot"],
        where=window,
        order=["decision_time"],
        limit=_EVERY,
    )
    dated = context.tables.exists(REGIME_WINDOWS)
    windows = _all(context, REGIME_WINDOWS) if dated else REGIME_WINDOWS.empty()
    table = views.regime_table(decisions, spots, windows)
    means = [c for c in map(str, table) if c != "policy" and not c.endswith(" steps")]
    yield parts.data_table(
        table,
        caption="Mean P&L minus HODL per decision, % of the coin, by regime",
        formats=dict.fromkeys(means, "+.3f"),
    )
    yield parts.note(
        "Regimes are dated in hindsight: no policy saw them. A decision counts in the window it lies in."
    )


def _calibration(context: Context, style: str, segment: str) -> Iterator[Any]:
    decisions = _decisions(context, style, segment)
    bins = views.calibration(decisions)
    if bins.empty:
        yield parts.text(
            "No policy here gives a probability, so there is nothing to calibrate. Rules answer without one; an"
            " adapter that was evaluated by scoring its answers has one."
        )
        return
    policies = decisions.dropna(subset=["answer_log_probability"]).groupby("policy")["correct"]
    words = "; ".join(f"{name}: {own.mean():.1%} of {len(own):,} answers right" for name, own in policies)
    yield parts.figure(
        views.calibration_figure(bins),
        title="Probability against frequency",
        described=f"{words}. {_NO_SCORE} On the dashed line an answer is right as often as its probability says; bars"
        " are 95 % intervals of the share.",
        height=380,
    )
    yield parts.data_table(
        bins, caption="Answers by their probability",
        titles={
            "probability": "mean probability, not scaled", "frequency": "share right", "low": "interval from",
            "high": "to",
        },
        formats={"probability": ".3g", "frequency": ".1%", "low": ".1%", "high": ".1%"},
    )  # fmt: skip
    yield parts.note(
        "The probability is that of the whole answer, its end of turn included, as the model gives it."
    )


def _books(context: Context, metrics: pd.DataFrame, style: str) -> Iterator[Any]:
    own = metrics[metrics["exit_style"] == style]
    if not own["metric"].str.startswith("book_").any() or not context.tables.exists(POLICY_EQUITY):
        yield parts.text(
            "No sequential backtest was run under this exit style, so there are no books to show."
        )
        return
    version = tuple(m.content_hash for m in context.tables.manifests(POLICY_EQUITY).values())
    for underlying, rows in book_table(own).groupby("underlying"):
        best, worst = rows.iloc[0], rows.iloc[-1]
        words = (
            f"Each policy's book over the coins alone (above 1 is ahead of HODL), and in USD. Best:"
            f" {best['policy']} {best['pnl_vs_hodl_pct']:+.2f} % of the start against HODL; worst: {worst['policy']}"
            f" {worst['pnl_vs_hodl_pct']:+.2f} %. One path carries no interval."
        )
        yield _book_chart(context.tables, str(underlying), style, words, version)
        yield parts.data_table(
            rows[list(_BOOKS)], caption=f"Books on {underlying}, {style}", titles=_BOOKS,
            formats={name: _book_format(name) for name in list(_BOOKS)[1:]},
        )  # fmt: skip


def _book_format(name: str) -> str:
    """A drawdown is a size and has no sign."""
    return ".2f" if "drawdown" in name else "+.2f" if name.endswith("_pct") else ",.0f"


@lru_cache(maxsize=32)
def _book_chart(tables: Tables, underlying: str, style: str, described: str, version: tuple[str, ...]) -> Any:
    """The chart of the books; kept until the table has another `version`."""
    where = [Where("underlying", "=", underlying), Where("exit_style", "=", style)]
    equity = tables.page(POLICY_EQUITY, where=where, order=POLICY_EQUITY.key, limit=_EVERY)
    return parts.figure(
        equity_figure(equity), title=f"Books on {underlying}", described=described, height=520
    )


PAGE = Page(PATH, "Policies", layout, summary="the leaderboard, and who is ahead of holding")
