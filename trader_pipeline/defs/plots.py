"""Small static plots for asset metadata: PNG in markdown, so that the Dagster page shows them without a server."""

import base64
import io
from typing import TYPE_CHECKING

import dagster as dg
import pandas as pd

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LABEL_COLOURS = {"bull": "#2a9d5c", "chop": "#b8b8b8", "dump": "#c8443c"}


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
    return _markdown(figure)


def histogram_plot(values: pd.Series, title: str, unit: str) -> dg.MarkdownMetadataValue:
    figure, axes = _figure(title)
    axes.hist(values.dropna(), bins=50)
    axes.set_xlabel(unit)
    return _markdown(figure)


def losses_plot(log: pd.DataFrame) -> dg.MarkdownMetadataValue:
    """Training and validation loss by step."""
    figure, axes = _figure("loss of the answer tokens")
    for split, own in log.groupby("split"):
        axes.plot(own["step"], own["loss"], marker="o" if split == "val" else None, markersize=3, label=split)
    axes.set_xlabel("optimiser step")
    axes.set_ylabel("nats per token")
    axes.legend()
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


def _figure(title: str) -> tuple[object, "Axes"]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=10)
    axes.tick_params(labelsize=8)
    return figure, axes


def _markdown(figure: object) -> dg.MarkdownMetadataValue:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80)  # type: ignore[attr-defined]
    return dg.MetadataValue.md(
        f"![plot](data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()})"
    )
