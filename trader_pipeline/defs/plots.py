"""Small static plots for asset metadata: PNG in markdown, so that the Dagster page shows them without a server."""

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import dagster as dg
import numpy as np
import numpy.typing as npt
import pandas as pd

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LABEL_COLOURS = {"bull": "#2a9d5c", "chop": "#b8b8b8", "dump": "#c8443c"}
_GAIN, _LOSS = "#2a9d5c", "#c8443c"
_EXIT_MARKERS = {"expired": "o", "take_profit": "^"}
_MOST_POINTS = 400
_MOST_NAMED_STRIKES = 25


def candles_plot(klines: pd.DataFrame, title: str, *, simulated: bool = False) -> dg.MarkdownMetadataValue:
    """Close over time, log scale."""
    figure, axes = _figure(f"{title}{' - SIMULATED' if simulated else ''}")
    daily = klines.iloc[:: max(1, len(klines) // 2000)]
    axes.plot(daily["open_time"], daily["close"], linewidth=0.8)
    axes.set_yscale("log")
    axes.set_ylabel("USD per coin")
    return _markdown(figure)


def regimes_plot(windows: pd.DataFrame, klines: pd.DataFrame) -> dg.MarkdownMetadataValue:
    """The reference underlying with its windows shaded."""
    figure, axes = _figure("regime windows (hindsight): bull green, chop grey, dump red")
    daily = klines.iloc[:: max(1, len(klines) // 2000)]
    axes.plot(daily["open_time"], daily["close"], linewidth=0.8, color="black")
    axes.set_yscale("log")
    for start, end, label in zip(windows["start"], windows["end"], windows["label"], strict=True):
        axes.axvspan(start, end, alpha=0.35, color=_LABEL_COLOURS[label], linewidth=0)
    return _markdown(figure)


def bars_plot(counts: pd.Series, title: str) -> dg.MarkdownMetadataValue:
    """Counts per label as bars."""
    figure, axes = _figure(title)
    axes.bar([str(i) for i in counts.index], counts.to_numpy())
    _note(axes, "" if len(counts) else "there are none")
    return _markdown(figure)


def histogram_plot(values: pd.Series, title: str, unit: str) -> dg.MarkdownMetadataValue:
    figure, axes = _figure(title)
    axes.hist(values.dropna(), bins=50)
    axes.set_xlabel(unit)
    _note(axes, "" if values.notna().any() else "there are none")
    return _markdown(figure)


def gains_plot(trades: pd.DataFrame, title: str) -> dg.MarkdownMetadataValue:
    """P&L of closed trades added up over their exits, a line per direction; columns of PAPER_REPLAY."""
    figure, axes = _figure(title)
    closed = trades[trades["status"] == "CLOSED"].sort_values("exit_ts", kind="stable")
    for direction, own in closed.groupby("direction"):
        axes.step(
            own["exit_ts"], own["pnl_pct"].cumsum(), where="post", marker="o", markersize=3, label=direction
        )
    axes.axhline(0, color="black", linewidth=0.5)
    axes.set_ylabel("% of the entries' values")
    if len(closed):
        axes.legend(fontsize=7)
    _note(axes, "" if len(closed) else "no trade is closed yet")
    return _markdown(figure)


def lengths_plot(lengths: npt.NDArray[np.int64], limit: int) -> dg.MarkdownMetadataValue:
    """Histogram of record lengths in tokens, and the length above which training refuses a record."""
    figure, axes = _figure("length of the records")
    axes.hist(lengths, bins=50)
    axes.axvline(limit, color="black", linewidth=0.8, linestyle="--", label=f"limit {limit}")
    axes.set_xlabel("tokens, template and answer included")
    axes.legend()
    return _markdown(figure)


def losses_plot(log: pd.DataFrame, *, objective: str = "sft") -> dg.MarkdownMetadataValue:
    """Training and validation loss by step; dpo: beside log 2, the loss where nothing is preferred yet."""
    from trader_pipeline.training.loss_curve import LOSS_LABELS, mark_pair_start

    figure, axes = _figure("loss by step")
    for split, own in log.groupby("split"):
        axes.plot(own["step"], own["loss"], marker="o" if split == "val" else None, markersize=3, label=split)
    axes.set_xlabel("optimiser step")
    axes.locator_params(axis="x", integer=True)
    axes.set_ylabel(LOSS_LABELS[objective], fontsize=8)
    if objective == "dpo":
        mark_pair_start(axes)
    axes.legend()
    return _markdown(figure)


def forgetting_plot(table: pd.DataFrame) -> dg.MarkdownMetadataValue:
    """Change of the loss on held-out stable instructions with its interval, and the budget; columns of FORGETTING."""
    figure, axes = _figure("loss on held-out stable instructions, against the base model")
    adapters = table.dropna(subset="loss_change_pct")
    change = adapters["loss_change_pct"].to_numpy(dtype=float)
    ends = adapters[["change_low_pct", "change_high_pct"]].to_numpy(dtype=float).T
    axes.errorbar(change, adapters["model"], xerr=np.abs(ends - change), fmt="o", capsize=4)
    axes.axvline(0, color="black", linewidth=0.5)
    budget = float(table["budget_pct"].iloc[0])
    axes.axvline(budget, color=_LOSS, linewidth=0.8, linestyle="--", label=f"budget {budget:+g} %")
    axes.set_xlabel("%")
    axes.margins(y=0.4)
    axes.legend(fontsize=7)
    return _markdown(figure)


def equity_plot(equity: pd.DataFrame, title: str) -> dg.MarkdownMetadataValue:
    """Book value over the coins alone, per policy; 1 is HODL."""
    figure, axes = _figure(title)
    for (policy, underlying), own in equity.groupby(["policy", "underlying"]):
        axes.plot(
            own["close_time"],
            own["equity_usd"] / own["hodl_usd"],
            linewidth=0.8,
            label=f"{policy} {underlying}",
        )
    axes.axhline(1, color="black", linewidth=0.5)
    axes.legend(fontsize=7)
    return _markdown(figure)


def book_plot(equity: pd.DataFrame, title: str) -> dg.MarkdownMetadataValue:
    """The book of each exit style (sequential mode) beside the coins alone: in USD, and below counted in coins."""
    figure, (dollars, coins) = _panels(title, heights=(2, 1))
    for style, own in equity.groupby("exit_style"):
        shown = _thinned(own)
        dollars.plot(shown["close_time"], shown["equity_usd"], linewidth=0.9, label=style)
        coins.plot(shown["close_time"], shown["equity_usd"] / shown["hodl_usd"], linewidth=0.9)
    hodl = _thinned(equity.drop_duplicates("close_time").sort_values("close_time"))
    dollars.plot(hodl["close_time"], hodl["hodl_usd"], linewidth=0.7, color="black", label="HODL")
    dollars.set_ylabel("USD", fontsize=8)
    dollars.legend(fontsize=7)
    coins.axhline(1, color="black", linewidth=0.5)
    coins.set_ylabel("book / HODL", fontsize=8)
    _note(dollars, "" if len(equity) else "no candle to mark the book with")
    return _markdown(figure)


def trades_plot(
    klines: pd.DataFrame, legs: pd.DataFrame, title: str, *, exit_styles: Sequence[str]
) -> dg.MarkdownMetadataValue:
    """Calls sold, on the closes, a panel per exit style; `legs` are those of a book in sequential mode.

    Each call is a line at its strike from entry to exit, green where it gained coins and red where it lost them.
    """
    figure, panels = _panels(title, heights=(1,) * len(exit_styles))
    shown = _thinned(klines)
    for axes, style in zip(panels, exit_styles, strict=True):
        own = legs[legs["exit_style"] == style]
        axes.plot(shown["close_time"], shown["close"], linewidth=0.7, color="grey")
        axes.set_ylabel("USD per coin", fontsize=8)
        axes.set_title(f"{style}: {len(own)} calls", fontsize=8, loc="left")
        _draw_calls(axes, own)
        _note(axes, "" if len(own) else "no call was sold")
    panels[0].set_title("▼ sold  ▲ bought back  ● expired", fontsize=8, loc="right")
    return _markdown(figure)


def _draw_calls(axes: "Axes", legs: pd.DataFrame) -> None:
    """Entries, exits and strikes of one exit style's calls."""
    cost = legs["entry_fee_coin"] + legs["exit_cost_coin"] + legs["exit_fee_coin"]
    colours = np.where(legs["premium_coin"] > cost, _GAIN, _LOSS)
    axes.hlines(legs["strike"], legs["entry_time"], legs["exit_time"], colors=list(colours), linewidth=1.2)
    axes.scatter(legs["entry_time"], legs["entry_spot"], marker="v", s=16, color="black", zorder=3)
    for reason, marker in _EXIT_MARKERS.items():
        left = (legs["exit_reason"] == reason).to_numpy()
        axes.scatter(
            legs["exit_time"][left],
            legs["exit_spot"][left],
            marker=marker,
            s=14,
            color=list(colours[left]),
            zorder=3,
        )
    if len(legs) <= _MOST_NAMED_STRIKES:
        for entry, strike in zip(legs["entry_time"], legs["strike"], strict=True):
            axes.annotate(f"{strike:g}", (entry, strike), fontsize=6, va="bottom")


def _note(axes: "Axes", text: str) -> None:
    """A word where a plot would say nothing: an empty one looks like a broken one."""
    axes.text(0.5, 0.9, text, transform=axes.transAxes, ha="center", va="top", fontsize=10)


def _thinned(frame: pd.DataFrame) -> pd.DataFrame:
    """Evenly spaced rows, no more than a line of this width can show; the last one is among them."""
    return frame.iloc[:: -max(1, len(frame) // _MOST_POINTS)].iloc[::-1]


def _figure(title: str) -> tuple["Figure", "Axes"]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=10)
    axes.tick_params(labelsize=8)
    return figure, axes


def _panels(title: str, *, heights: tuple[int, ...]) -> tuple["Figure", list["Axes"]]:
    """Panels under each other on one time axis."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1.5 + 1.8 * len(heights)), layout="constrained")
    grid = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)
    figure.suptitle(title, fontsize=10)
    for axes in grid[:, 0]:
        axes.tick_params(labelsize=8)
    return figure, list(grid[:, 0])


def _markdown(figure: "Figure") -> dg.MarkdownMetadataValue:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80)
    return dg.MetadataValue.md(
        f"![plot](data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()})"
    )
