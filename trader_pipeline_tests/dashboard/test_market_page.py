"""Market: what is drawn, how much of it, and what a reader is told about a span that makes no sense."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from trader_pipeline.dashboard.figures import MOST_BARS, bar_step
from trader_pipeline.dashboard.page import Context
from trader_pipeline.dashboard.pages import market
from trader_pipeline.dashboard.routing import lay_out
from trader_pipeline.datasets.features import market_features
from trader_pipeline.profile import Profile
from trader_pipeline.schema import Table
from trader_pipeline.schema.tables import KLINE_GAPS, KLINES, REGIME_WINDOWS, VOLATILITY_INDEX
from trader_pipeline.store import TableStore
from trader_pipeline_tests.dashboard.conftest import MARKET, context_of
from trader_pipeline_tests.dashboard.reading import charts, components, section, shown_text
from trader_pipeline_tests.dashboard.test_frame import text_of


def figures(context: Context, **state: str) -> list[Any]:
    return charts(market.layout(state, context))


@pytest.mark.parametrize("days", [1, 30, 365, 3650])
def test_a_view_never_holds_more_bars_than_a_screen_shows(days: int) -> None:
    span, hour = pd.Timedelta(days=days), pd.Timedelta(hours=1)
    step = bar_step(span, hour)
    assert span / step <= MOST_BARS
    assert step == hour or span / hour > MOST_BARS


def test_a_zoom_shows_finer_bars(context: Context) -> None:
    whole = figures(context)[0].data[0]
    part = figures(context, **{"from": "2021-06-01", "to": "2021-06-11"})[0].data[0]
    assert len(whole.x) <= MOST_BARS
    assert len(part.x) == 10 * 24
    assert part.x[1][-5:] == "01:00"


def test_bars_finer_than_the_screen_are_refused_with_a_word(context: Context) -> None:
    content = market.layout({"bar": "1h"}, context)
    assert "wider ones are drawn" in text_of(content)


def test_candles_that_rose_and_fell_differ_in_colour_and_fill_and_volume_stands_below(
    context: Context,
) -> None:
    figure = figures(context)[0]
    candles = figure.data[0]
    assert candles.increasing.line.color != candles.decreasing.line.color
    assert candles.increasing.fillcolor == "rgba(0,0,0,0)" != candles.decreasing.fillcolor
    volume = next(trace for trace in figure.data if trace.name == "volume")
    assert sum(volume.y) == pytest.approx(context.tables.store.read(KLINES, MARKET)["volume"].sum())
    assert figure.layout.yaxis2.domain[1] < figure.layout.yaxis.domain[0]


def test_windows_are_shaded_with_their_labels_and_gaps_marked(context: Context) -> None:
    candles = figures(context)[0]
    assert [note.text for note in candles.layout.annotations] == ["bull", "dump"]
    assert len(candles.layout.shapes) == 2
    gaps = next(trace for trace in candles.data if trace.name == "gap")
    assert gaps.text == ("12 candles missing: simulated",)


def test_realised_volatility_is_the_feature_of_that_name(context: Context) -> None:
    view = market.read_view({"from": "2021-06-01", "to": "2021-07-01"}, MARKET[0], context)
    shown = market.realised(view, context)
    klines = context.tables.store.read(KLINES, MARKET)
    times = pd.DatetimeIndex(shown["time"])
    expected = market_features(klines, times, step=pd.Timedelta(hours=1))["realised_volatility_30d"]
    assert len(shown) > 400
    assert shown["value"].to_numpy() == pytest.approx(expected.to_numpy())


@pytest.mark.parametrize(
    ("span", "words"),
    [
        ({"from": "2021-06-01", "to": "2021-05-01"}, "has to lie before"),
        ({"from": "soon"}, "is not a date"),
        ({"from": "2031-01-01"}, "candles reach from 2021-01-01"),
    ],
)
def test_a_span_that_makes_no_sense_is_a_sentence_beside_its_field(
    context: Context, span: dict[str, str], words: str
) -> None:
    content = market.layout(span, context)
    errors = [p.children for p in components(content, "P") if getattr(p, "className", "") == "error"]
    assert len(errors) == 1
    assert words in errors[0]
    assert components(content, "Chart")


@pytest.fixture
def copied(small_run: Path, tmp_path: Path, profile: Profile) -> Context:
    """The small run with a volatility index beside it, for tests that damage a file of it."""
    root = Path(shutil.copytree(small_run, tmp_path / "copied"))
    TableStore(str(root)).write(VOLATILITY_INDEX.empty(), VOLATILITY_INDEX, simulated=True)
    return context_of(root, profile)


@pytest.mark.parametrize(
    ("table", "partition", "title"),
    [
        (REGIME_WINDOWS, (), "Regime windows"),
        (KLINE_GAPS, MARKET, "Gaps"),
        (VOLATILITY_INDEX, (), "Volatility"),
    ],
)
def test_a_damaged_table_beside_the_candles_takes_its_section_and_no_other(
    copied: Context, table: Table, partition: tuple[str, ...], title: str
) -> None:
    path = Path(copied.tables.store.path(table, partition))
    path.write_bytes(path.read_bytes()[:300])
    content = market.layout({}, copied)
    told = text_of(section(content, title))
    assert str(path) in told
    assert "trader-pipeline run" in told
    problems = [d for d in components(content, "Div") if getattr(d, "className", "") == "problem"]
    assert len(problems) == 1
    assert "market-candles" in [chart.id for chart in components(content, "Chart")]


def test_candles_damaged_behind_their_footer_leave_the_choices(copied: Context) -> None:
    path = Path(copied.tables.store.path(KLINES, MARKET))
    held = path.read_bytes()
    path.write_bytes(held[:4] + bytes(len(held) * 9 // 10) + held[4 + len(held) * 9 // 10 :])
    told = text_of(lay_out([market.PAGE], "/market", "", copied)[1])
    assert str(path) in told
    assert "trader-pipeline run" in told


def test_without_a_table_of_gaps_it_is_not_known_what_is_missing(copied: Context) -> None:
    Path(copied.tables.store.path(KLINE_GAPS, MARKET)).unlink()
    content = market.layout({}, copied)
    assert "Missingnot known" in shown_text(components(content, "Dl"))
    assert "not known" in text_of(section(content, "Gaps"))
