"""Sections about the data: candles and trades, labels, P&L of the teacher, regimes, lineage, settings.

Belongs here: what these sections show and say. Does not belong here: drawing (`plots`) or markup (`page`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

import pandas as pd

from trader_pipeline.backtest.page.markup import (
    Field,
    chart,
    details,
    paragraph,
    preformatted,
    subheading,
    table,
)
from trader_pipeline.backtest.page.plots import figure_json, pnl_figure
from trader_pipeline.evaluation.overview import label_balance
from trader_pipeline.evaluation.report.candles_plot import Span, candles_figure
from trader_pipeline.evaluation.report.page import bars, link_list
from trader_pipeline.evaluation.report.source import Source
from trader_pipeline.klines import resample_klines
from trader_pipeline.schema import Market
from trader_pipeline.schema.markets import TIMEFRAMES, parse_regime
from trader_pipeline.schema.tables import (
    CANDIDATE_DATASET,
    KLINES,
    PAPER_REPLAY,
    POLICY_DECISIONS,
    REGIME_WINDOWS,
    REPLAY_EVALUATIONS,
)
from trader_pipeline.store import Manifest


def candles_section(source: Source) -> str:
    windows = source.read(REGIME_WINDOWS)
    held_out = _held_out_span(source)
    parts = [
        paragraph(
            "A line stands at the strike of the call that was sold, from entry to exit; rolls of the same trade are not"
            " drawn apart. Shading is the regime window. Regime labels are hindsight: they name windows and enter no"
            " feature, no prompt and no decision.",
            "note",
        )
    ]
    for market in source.markets:
        klines = source.read(KLINES, (market,))
        daily = resample_klines(klines, step_from=Market.parse(market).step, step_to=TIMEFRAMES["1d"])
        if daily.empty:
            parts.append(paragraph(f"{market}: no candles of a whole day."))
            continue
        trades = _paper_trades(source, market)
        counted = f"{len(trades)} paper trades of the teacher" if len(trades) else "no paper trades"
        marks = (
            "The held-out test steps lie between the dashed lines."
            if held_out
            else "No held-out steps to mark."
        )
        caption = f"{market}, daily candles from {daily['open_time'].iloc[0]:%Y-%m-%d}, {counted}. {marks}"
        figure = candles_figure(daily, trades, windows, held_out)
        parts.append(chart(f"candles {market}", figure_json(figure), height=500, caption=caption))
    return "".join(parts)


def _held_out_span(source: Source) -> Span | None:
    times = source.read(POLICY_DECISIONS, columns=["decision_time"])["decision_time"]
    return (times.min(), times.max()) if len(times) else None


def _paper_trades(source: Source, market: str) -> pd.DataFrame:
    columns = [
        "trade_id",
        "symbol",
        "entry_price",
        "entry_ts",
        "exit_ts",
        "pnl_pct",
        "decision_context",
        "exit_style",
    ]
    frames = [source.read(PAPER_REPLAY, p, columns) for p in source.windows_of(PAPER_REPLAY, market)]
    judged = [
        source.read(REPLAY_EVALUATIONS, p, ["trade_id", "verdict"])
        for p in source.windows_of(REPLAY_EVALUATIONS, market)
    ]
    trades = pd.concat(frames or [PAPER_REPLAY.empty()[columns]], ignore_index=True)
    verdicts_ = pd.concat(judged or [REPLAY_EVALUATIONS.empty()[["trade_id", "verdict"]]], ignore_index=True)
    strike = [float(json.loads(text)["strike"]) for text in trades["decision_context"]]
    trades = trades.assign(strike=pd.Series(strike, dtype=float)).rename(columns={"entry_price": "premium"})
    return trades.merge(verdicts_, on="trade_id", how="left").sort_values("entry_ts", ignore_index=True)


def labels_section(source: Source) -> str:
    balance = label_balance(source.store, source.markets)
    if balance.empty:
        return paragraph("No labelled tables yet.")
    return bars(balance)


def pnl_section(source: Source) -> str:
    sales = _teacher_sales(source)
    if sales.empty:
        return paragraph("The teacher sold nothing, so there is no P&L to show.")
    caption = (
        "What each call the teacher sold made against holding the coin. Every decision is simulated by itself, so"
        " chains overlap and sales are not independent. The outer 1 % on each side stands in the edge bins."
    )
    pnl = {str(style): own["pnl_pct"].to_numpy() for style, own in sales.groupby("exit_style")}
    return (
        chart("pnl", figure_json(pnl_figure(pnl)), height=360, caption=caption)
        + _sales_table(sales, ["market", "exit_style"])
        + subheading("By regime label (hindsight)")
        + _sales_table(sales, ["label", "market", "exit_style"])
    )


def _teacher_sales(source: Source) -> pd.DataFrame:
    """P&L against HODL of every sale of the teacher, percent of the coin, with market and regime label."""
    columns = ["exit_style", "chosen", "spot", "pnl_vs_hodl"]
    parts = []
    for market in source.markets:
        for partition in source.windows_of(CANDIDATE_DATASET, market):
            rows = source.read(CANDIDATE_DATASET, partition, columns)
            sold = rows[rows["chosen"] == 1]
            pnl = 100 * sold["pnl_vs_hodl"] / sold["spot"]
            label = parse_regime(partition[1])[0]
            parts.append(
                pd.DataFrame(
                    {"market": market, "label": label, "exit_style": sold["exit_style"], "pnl_pct": pnl}
                )
            )
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["exit_style", "pnl_pct"])


def _sales_table(sales: pd.DataFrame, by: list[str]) -> str:
    pnl = sales.groupby(by)["pnl_pct"]
    figures = pnl.agg(sales="size", mean="mean", median="median")
    figures["worst"] = pnl.quantile(0.05)
    figures["ahead"] = 100 * pnl.agg(lambda values: (values > 0).mean())
    names = {"market": "market", "label": "regime", "exit_style": "exit style"}
    fields = {name: Field(names[name]) for name in by} | {
        "sales": Field("sales", ",d"),
        "mean": Field("mean, % of coin", "+.3f"),
        "median": Field("median", "+.3f"),
        "worst": Field("5th percentile", "+.2f"),
        "ahead": Field("ahead of HODL, %", ".1f"),
    }
    return table(figures.reset_index(), fields)


def regimes_section(source: Source) -> str:
    windows = source.read(REGIME_WINDOWS).sort_values("start")
    if windows.empty:
        return paragraph("No regime windows have been dated.")
    last = (windows["end"] - pd.Timedelta(days=1)).rename("last")
    fields = {
        "label": Field("regime"),
        "start": Field("first day"),
        "last": Field("last day"),
        "days": Field("days", ",d"),
        "return_pct": Field("return, %", "+.1f"),
        "provisional": Field("still open"),
    }
    dated = ", ".join(sorted(set(windows["underlying"])))
    note = (
        f"Dated on {dated}, with hindsight, and used for every market. A window still open gets no partition."
    )
    return paragraph(note, "note") + table(windows.assign(last=last), fields)


def lineage_section(manifests: Sequence[Manifest]) -> str:
    if not manifests:
        return paragraph("No tables have been built.")
    frame = pd.DataFrame(
        [
            ("/".join((m.table, *m.partition)), m.table, m.rows, m.simulated, m.content_hash)
            for m in manifests
        ],
        columns=["reference", "table", "rows", "simulated", "hash"],
    )
    grouped = frame.groupby("table", sort=False)
    tables = pd.DataFrame(
        {
            "partitions": grouped.size(),
            "rows": grouped["rows"].sum(),
            "simulated": grouped["simulated"].any(),
            "hash": grouped["hash"].agg(_joint_hash).str[:16],
        }
    ).reset_index()
    shared = {"rows": Field("rows", ",d"), "simulated": Field("simulated"), "hash": Field("content hash")}
    note = "SHA-256 of the values; over several partitions, of their hashes in order (first 16 digits)."
    return (
        table(tables, {"table": Field("table"), "partitions": Field("partitions", ",d"), **shared})
        + paragraph(note, "note")
        + details(
            f"All {len(frame)} partitions", table(frame, {"reference": Field("table / partition"), **shared})
        )
    )


def settings_section(profile_text: str, links: Mapping[str, str]) -> str:
    text = (
        preformatted(profile_text)
        if profile_text
        else paragraph("The settings were not given to this report.")
    )
    return link_list(links) + text


def _joint_hash(hashes: pd.Series) -> str:
    own = list(hashes)
    return str(own[0]) if len(own) == 1 else hashlib.sha256("\n".join(own).encode()).hexdigest()
