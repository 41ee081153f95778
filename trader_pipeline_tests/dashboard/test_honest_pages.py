"""What no page may get wrong: simulated candles are named, tiles hold the figures of the tables behind them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from trader_pipeline.dashboard import agent_views
from trader_pipeline.dashboard.page import Context
from trader_pipeline.dashboard.pages import PAGES
from trader_pipeline.dashboard.routing import lay_out
from trader_pipeline.profile import Profile
from trader_pipeline.schema.tables import CANDIDATE_DATASET, KLINE_GAPS, KLINES, MIXED_CORPUS
from trader_pipeline.store import TableStore
from trader_pipeline_tests.agents.scripted import reply
from trader_pipeline_tests.dashboard.conftest import context_of
from trader_pipeline_tests.dashboard.pages_data import (
    write_agent_run,
    write_manifest,
    write_paper,
    write_training,
)
from trader_pipeline_tests.dashboard.reading import body_rows, charts, components, section, shown_text
from trader_pipeline_tests.evaluation.report_store import rows_of, write_store

ADDRESSES = (
    "/", "/market", "/datasets", "/datasets?table=chain_dataset&heat=sold", "/corpora", "/training",
    "/policies", "/paper", "/agents", "/lineage", "/lineage?table=klines",
)  # fmt: skip


@pytest.fixture(scope="module", params=[True, False], ids=["simulated", "real"])
def whole_run(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, profile: Profile
) -> tuple[Context, bool]:
    """Every table that a page reads, and a run of an agent."""
    root = tmp_path_factory.mktemp("honest")
    write_store(root, simulated=request.param)
    write_agent_run(root, [reply("buy", 5_000.0)], simulated=request.param)
    return context_of(root, profile), request.param


def shown(context: Context, address: str) -> Any:
    path, _, search = address.partition("?")
    _, content = lay_out(PAGES, path, search, context)
    assert not [d for d in components(content, "Div") if getattr(d, "className", "") == "problem"]
    return content


def tiles(content: Any) -> dict[str, tuple[str, ...]]:
    """What stands beside each label: the value, and the remark below it."""
    cells = [cell for grid in components(content, "Dl") for cell in grid.children]
    return {shown_text(c.children[0]): tuple(shown_text(part) for part in c.children[1:]) for c in cells}


def table(content: Any, caption: str) -> Any:
    found = [t for t in components(content, "Table") if caption in shown_text(components(t, "Caption"))]
    assert len(found) == 1
    return found[0]


def cells(row: Any) -> list[str]:
    return [shown_text(cell) for cell in (*components(row, "Th"), *components(row, "Td"))]


def test_every_page_is_looked_at() -> None:
    """Backtests shows no figures before a run; its own tests look at the banner over one."""
    assert {address.partition("?")[0] for address in ADDRESSES} == {page.path for page in PAGES} - {
        "/backtests"
    }


@pytest.mark.parametrize("address", ADDRESSES)
def test_simulated_candles_are_named_and_real_ones_are_not(
    whole_run: tuple[Context, bool], address: str
) -> None:
    context, simulated = whole_run
    banners = [
        d for d in components(shown(context, address), "Div") if getattr(d, "className", "") == "banner"
    ]
    assert [shown_text(banner)[:17] for banner in banners] == (["SIMULATED CANDLES"] if simulated else [])


def hours(closes: list[float], first: str = "2024-01-01") -> pd.DataFrame:
    """Candles, each opening where the one before closed; the first opens at 100."""
    opens = pd.date_range(first, periods=len(closes), freq="h", tz="UTC")
    before = [100.0, *closes[:-1]]
    return rows_of(
        KLINES, open_time=opens, close_time=opens + pd.Timedelta(hours=1), open=before, close=closes,
        high=[max(pair) for pair in zip(before, closes, strict=True)],
        low=[min(pair) for pair in zip(before, closes, strict=True)],
    )  # fmt: skip


@pytest.fixture
def six_candles(tmp_path: Path, profile: Profile) -> Context:
    """00:00 to 09:00, closing at 110, 120, 60, then 90, 96, 99; three candles lack in between, from 03:00 on."""
    store = TableStore(str(tmp_path))
    late = hours([60.0, 90.0, 96.0, 99.0], "2024-01-01 05:00").iloc[1:]
    store.write(
        pd.concat([hours([110.0, 120.0, 60.0]), late]), KLINES, partition=("BTC_1h",), simulated=False
    )
    start = pd.Timestamp("2024-01-01 03:00", tz="UTC")
    lost = rows_of(KLINE_GAPS, **{"from": [start], "to": [start + pd.Timedelta(hours=3)], "bars": [3]})
    store.write(lost, KLINE_GAPS, partition=("BTC_1h",), simulated=False)
    return context_of(tmp_path, profile)


def test_market_counts_what_its_span_holds(six_candles: Context) -> None:
    found = tiles(shown(six_candles, "/market"))
    assert found["Last close"] == ("$99", "2024-01-01 09:00")
    assert found["Change"][0] == "-1.0 %"  # 99 after the first open of 100
    assert found["Largest fall"][0] == "50.0 %"  # from 120 to 60
    assert found["Candles"] == ("6", "drawn as 6 bars of 1 h")
    assert found["Missing"] == ("3", "1 gap in the span")


@pytest.mark.parametrize(
    ("span", "close", "missing"),
    [
        ("from=2024-01-01T04:00&to=2024-01-01T07:00", ("$90", "2024-01-01 07:00"), "2"),
        ("from=2024-01-01T01:00&to=2024-01-01T04:00", ("$60", "2024-01-01 03:00"), "1"),
        ("from=2024-01-01T01:00&to=2024-01-01T02:30", ("$60", "2024-01-01 03:00"), "0"),
        ("from=2024-01-01T06:00", ("$99", "2024-01-01 09:00"), "0"),
    ],
)
def test_market_counts_no_candle_outside_its_span(
    six_candles: Context, span: str, close: tuple[str, str], missing: str
) -> None:
    found = tiles(shown(six_candles, f"/market?{span}"))
    assert found["Last close"] == close
    assert found["Missing"][0] == missing


@pytest.fixture
def two_partitions(tmp_path: Path, profile: Profile) -> Context:
    """Three rows that score 1, 2, 3, all skipped, and one that scores 9 and is sold."""
    store = TableStore(str(tmp_path))
    times = pd.date_range("2024-01-01", periods=3, freq="D", tz="UTC")
    known = {"exit_style": ["tp_and_roll"] * 3, "decision_time": times, "instrument": list("abc")}
    rows = rows_of(CANDIDATE_DATASET, **known, score=[1.0, 2.0, 3.0], action=["SKIP"] * 3)
    store.write(rows, CANDIDATE_DATASET, partition=("BTC_1h", "bull_20240101_20240131"), simulated=False)
    sold = rows.head(1).assign(score=9.0, action="SELL_CALL")
    store.write(sold, CANDIDATE_DATASET, partition=("BTC_1h", "dump_20240201_20240229"), simulated=False)
    return context_of(tmp_path, profile)


@pytest.mark.parametrize(
    ("partition", "labels", "figures", "drawn"),
    [
        ("all", [["SELL_CALL", "1", "25.00"], ["SKIP", "3", "75.00"]], ("4", "3.75", "1", "9"), 4),
        ("BTC_1h/bull_20240101_20240131", [["SKIP", "3", "100.00"]], ("3", "2", "1", "3"), 3),
        ("BTC_1h/dump_20240201_20240229", [["SELL_CALL", "1", "100.00"]], ("1", "9", "9", "9"), 1),
    ],
)
def test_datasets_counts_the_rows_of_the_partition(
    two_partitions: Context, partition: str, labels: list[list[str]], figures: tuple[str, ...], drawn: int
) -> None:
    content = shown(two_partitions, f"/datasets?partition={partition}&column=score")
    balance = table(content, "Labels by exit style")
    assert [cells(row)[1:] for row in body_rows(balance)] == labels
    found = tiles(content)
    assert tuple(found[name][0] for name in ("rows", "mean", "least", "largest")) == figures
    assert sum(charts(section(content, "Distribution"))[0].data[0].y) == drawn
    assert len(body_rows(section(content, "Rows"))) == drawn


def test_datasets_heat_map_says_how_many_are_sold(two_partitions: Context) -> None:
    heat = charts(section(shown(two_partitions, "/datasets?heat=sold"), "Partitions"))[0].data[0]
    assert [list(row) for row in heat.text] == [["0.0", "100.0"]]


def test_paper_adds_up_the_profit_and_counts_verdicts(tmp_path: Path, profile: Profile) -> None:
    write_paper(tmp_path)
    found = tiles(shown(context_of(tmp_path, profile), "/paper"))
    assert found["P&L added up"] == ("-2.50 %", "-1.25 % on average")  # +1.5 and -4
    assert [found[name][0] for name in ("GOOD", "OK", "BAD", "Open")] == ["0", "1", "1", "1"]
    windows = table(shown(context_of(tmp_path, profile), "/paper"), "Windows of BTC_1h")
    assert cells(body_rows(windows)[0])[1:] == ["3", "0", "1", "1", "1", "-1.25", "-2.50"]


def test_training_tells_the_adapters_own_figures(tmp_path: Path, profile: Profile) -> None:
    write_training(tmp_path)
    write_manifest(tmp_path)
    content = shown(context_of(tmp_path, profile), "/training")
    found = tiles(content)
    assert found["Steps"] == ("3", "kept: step 2")
    assert found["Validation loss"] == ("1.4000", "before: 2.1000")
    words = shown_text(components(content, "Figcaption"))
    assert "Training: 2.0000 at first, 1.2000 at best, 1.2000 at last." in words
    assert "Validation: 2.1000 at first, 1.4000 at best, 1.4000 at last." in words


def test_corpora_and_overview_count_records(whole_run: tuple[Context, bool]) -> None:
    context, _ = whole_run
    assert " 4 records." in shown_text(shown(context, "/corpora"))
    rows = {cells(row)[0]: cells(row)[1:3] for row in body_rows(shown(context, "/"))}
    assert rows[MIXED_CORPUS.name] == ["1", "4"]
    assert rows["candidate_dataset"] == ["2", "32"]


def test_agents_tiles_are_those_of_the_run(tmp_path: Path, profile: Profile) -> None:
    folder = write_agent_run(tmp_path, [reply("buy", 5_000.0)])
    figures = json.loads((folder / agent_views.SUMMARY).read_text())["metrics"]
    found = tiles(shown(context_of(tmp_path, profile), "/agents"))
    assert found["Return"][0] == f"{100 * figures['accumulated_return']:+.2f} %"
    assert found["Return"][1] == f"HODL {100 * figures['hodl_accumulated_return']:+.2f} %"
    assert found["Largest fall"][0] == f"{-100 * figures['max_drawdown']:.1f} %"
    assert found["Trades"][0] == "1"
