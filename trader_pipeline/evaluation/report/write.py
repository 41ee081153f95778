"""`write_report`: one self-contained HTML page over a finished run, or over as much of one as there is.

Belongs here: the page's order. What a section shows is in `adapter_sections`, `forgetting_section` and `data_sections`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from trader_pipeline.backtest.page.markup import section
from trader_pipeline.evaluation.overview import run_manifests
from trader_pipeline.evaluation.report import adapter_sections, data_sections, forgetting_section
from trader_pipeline.evaluation.report.page import page
from trader_pipeline.evaluation.report.source import Source
from trader_pipeline.schema.tables import KLINES, VOLATILITY_INDEX, WINDOW_QUOTES
from trader_pipeline.store import Manifest, TableStore, write_atomic

_SECTIONS: dict[str, Callable[[Source], str]] = {
    "What was found": adapter_sections.found_section,
    "Candles and paper trades": data_sections.candles_section,
    "Books against HODL": adapter_sections.equity_section,
    "Loss": adapter_sections.loss_section,
    "What the model forgot": forgetting_section.forgetting_section,
    "Label balance": data_sections.labels_section,
    "P&L of the teacher's sales": data_sections.pnl_section,
    "Regime windows": data_sections.regimes_section,
}


def write_report(
    store: TableStore,
    markets: Sequence[str],
    *,
    path: Path,
    profile_text: str = "",
    links: Mapping[str, str] = MappingProxyType({}),
) -> Path:
    """Write the report of what `store` holds; an existing page is replaced in one step.

    Same tables and arguments give the same bytes. Tables that have not been built give a sentence in their section. The
    page loads nothing: plotly.js and the styles are in it.

    Args:
        markets: keys (`BTC_1h`) whose candles and trades are shown.
        profile_text: the run's settings, shown as they are.
        links: addresses of further results by label.
    """
    source = Source(store, tuple(markets))
    manifests = run_manifests(store)
    parts = {title: section(title, build(source)) for title, build in _SECTIONS.items()}
    parts["Lineage"] = section("Lineage", data_sections.lineage_section(manifests))
    parts["Settings"] = section("Settings", data_sections.settings_section(profile_text, links))
    html = page(
        "Trader pipeline: report of a run",
        f"{_lead(source)} {_pricing(manifests)}",
        parts,
        simulated=any(m.simulated for m in manifests),
    )
    return write_atomic(path, html, overwrite=True)


def _pricing(manifests: Sequence[Manifest]) -> str:
    """Where the option prices come from: a figure means something else on modelled quotes than on recorded ones."""
    held = {m.table for m in manifests if m.rows}
    if WINDOW_QUOTES.name in held:
        return "Option quotes: recorded snapshots of Deribit, marked by a model in between."
    indexed = VOLATILITY_INDEX.name in held and not any(m.simulated for m in manifests)
    level = "from the recorded index where there is one" if indexed else "forecast from the candles"
    return f"Option quotes: modelled, with volatility {level}."


def _lead(source: Source) -> str:
    spans = []
    for market in source.markets:
        times = source.read(KLINES, (market,), ["open_time", "close_time"])
        if len(times):
            first, last = times["open_time"].iloc[0], times["close_time"].iloc[-1]
            spans.append(f"{market} {first:%Y-%m-%d} to {last:%Y-%m-%d}, {len(times):,} candles")
    return f"{'; '.join(spans) or 'No candles yet'}. Paper only: nothing here traded."
