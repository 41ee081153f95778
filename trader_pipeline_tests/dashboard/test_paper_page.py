"""The page Paper: trades on the candles, verdicts in counts and in words, live books, and what is open."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from trader_pipeline.dashboard.page import BadChoiceError, Context
from trader_pipeline.dashboard.pages import paper
from trader_pipeline.dashboard.paper_views import (
    MOST_TRADES,
    _open_text,
    joined_trades,
    live_trades,
    pnl_figure,
    trades_figure,
    verdict_counts,
    with_spot,
)
from trader_pipeline.paper.verdicts.evaluator import EvaluatorParams
from trader_pipeline.profile import Profile
from trader_pipeline.schema.tables import REPLAY_EVALUATIONS
from trader_pipeline_tests.agents.scripted import hourly_candles
from trader_pipeline_tests.dashboard.conftest import context_of
from trader_pipeline_tests.dashboard.pages_data import (
    WINDOW,
    judged_trades,
    paper_trades,
    words_of,
    write_paper,
)
from trader_pipeline_tests.dashboard.reading import charts, components
from trader_pipeline_tests.paper.replay_lines import numbered_file


@pytest.fixture
def trades() -> pd.DataFrame:
    return joined_trades(paper_trades(), judged_trades())


@pytest.fixture
def replayed(tmp_path: Path, profile: Profile) -> Context:
    write_paper(tmp_path)
    return context_of(tmp_path, profile)


def test_an_empty_folder_says_how_trades_are_made(empty_context):
    assert "trader-pipeline run --profile tiny" in words_of(paper.layout({}, empty_context))


def test_verdicts_and_open_trades_are_counted(trades):
    assert verdict_counts(trades) == {"GOOD": 0, "OK": 1, "BAD": 1, "open": 1}


def test_a_sold_call_stands_at_the_coins_price_and_a_long_at_its_fill(trades):
    marks = with_spot(trades).set_index("trade_id")[["entry_usd", "exit_usd", "strike"]]
    assert marks.loc["call"].tolist() == [50_200.0, 51_000.0, 52_000.0]
    assert marks.loc["long"].tolist()[:2] == [100.0, 110.0]
    assert pd.isna(marks.loc["long", "strike"])
    assert pd.isna(marks.loc["open", "exit_usd"])


def test_entries_and_exits_are_drawn_by_verdict_and_the_strike_between_them(trades):
    traces = {t.name: t for t in trades_figure(hourly_candles(24), trades).data}
    assert list(traces["OK: entry"].y) == [50_200.0]
    assert list(traces["OK: exit"].y) == [51_000.0]
    assert list(traces["open: entry"].y) == [100.0]
    assert "open: exit" not in traces
    lines = [
        t for t in trades_figure(hourly_candles(24), trades).data if t.type == "scatter" and t.mode == "lines"
    ]
    assert list(lines[0].y) == [52_000.0, 52_000.0, None]


def test_text_of_a_trade_cannot_be_markup(trades):
    named = trades.assign(symbol="<b>BTC</b>")
    texts = [text for trace in trades_figure(hourly_candles(24), named).data for text in (trace.text or ())]
    assert texts
    assert all("&lt;b&gt;" in text and "<b>" not in text for text in texts)


def test_only_the_newest_trades_are_drawn_where_there_are_many(trades):
    many = pd.concat([trades.iloc[[1]]] * (MOST_TRADES + 50), ignore_index=True)
    drawn = [t for t in trades_figure(hourly_candles(24), many).data if t.name and t.name.endswith("entry")]
    assert sum(len(t.x) for t in drawn) == MOST_TRADES


def test_profit_is_added_up_from_nothing_for_each_kind_of_trade(trades):
    lines = {line.name: list(line.y) for line in pnl_figure(trades).data}
    assert lines == {"SHORT_CALL tp_and_roll": [0.0, 1.5], "LONG": [0.0, -4.0]}


def test_a_trade_in_the_url_is_shown_with_its_verdict_in_words(replayed):
    words = words_of(paper.layout({"trade": "call"}, replayed))
    assert "Trade call: OK" in words
    assert "It kept the premium." in words
    assert "It kept the premium." not in words_of(paper.layout({}, replayed))


def test_an_open_trade_has_no_verdict_yet(replayed):
    assert "judged once it is closed" in words_of(paper.layout({"trade": "open"}, replayed))


def test_a_trade_that_is_not_here_is_named(replayed):
    assert "No trade beef is here" in words_of(paper.layout({"trade": "beef"}, replayed))


def test_closed_trades_are_sorted_as_the_url_says(replayed):
    def symbols(sort: str) -> list[str]:
        tables = components(paper.layout({"sort": sort}, replayed), "Table")
        closed = next(t for t in tables if "closed trades" in words_of(t.children[0]))
        return [words_of(row.children[0]) for row in closed.children[2].children]

    assert symbols("pnl_pct") == list(reversed(symbols("-pnl_pct"))) != symbols("-pnl_pct")
    with pytest.raises(BadChoiceError, match="sort 'color'"):
        paper.layout({"sort": "color"}, replayed)


def test_candles_of_the_window_are_behind_the_trades(replayed):
    chart = charts(paper.layout({}, replayed))[0]
    assert len(chart.data[0].x) == 24 * 31


def test_an_unknown_window_is_refused_with_the_known_ones(replayed):
    with pytest.raises(BadChoiceError, match=WINDOW[1]):
        paper.layout({"regime": "bull_20250101_20250131"}, replayed)


def test_without_live_books_the_command_is_named(replayed):
    assert "trader-pipeline paper tick --profile tiny --market BTC_5m" in words_of(paper._live({}, replayed))


def test_live_books_are_shown_with_their_last_tick_and_read_again_as_they_grow(replayed):
    folder = replayed.data_root / "paper" / "live"
    (folder / "BTC_5m").mkdir(parents=True)
    lines = numbered_file(12)
    half = b"".join(lines[: len(lines) // 2])
    (folder / "BTC_5m" / "replay.jsonl").write_bytes(half)
    before = live_trades(folder, "BTC_5m", evaluator=EvaluatorParams())
    assert "2024-01-01" in words_of(paper._live({}, replayed))
    assert "SIMULATED" in words_of(paper._live({}, replayed))
    (folder / "BTC_5m" / "replay.jsonl").write_bytes(b"".join(lines))
    after = live_trades(folder, "BTC_5m", evaluator=EvaluatorParams())
    assert len(after) > len(before) > 0


@pytest.mark.parametrize(
    ("distance", "words"), [(3.04, "3.0 % below its strike"), (-3.04, "3.0 % above its strike")]
)
def test_where_spot_stands_to_its_strike_is_said_in_words(distance, words):
    start = pd.Timestamp("2024-01-01", tz="UTC")
    held = SimpleNamespace(
        direction="SHORT_CALL",
        symbol="BTC",
        entry_ts=start,
        unrealised_pct=None,
        distance_to_strike_pct=distance,
    )
    assert _open_text(held).endswith(f", {words}")


def test_verdicts_that_are_damaged_are_not_counted_as_none(replayed):
    path = Path(replayed.tables.store.path(REPLAY_EVALUATIONS, WINDOW))
    path.write_bytes(b"")
    content = paper.layout({}, replayed)
    assert f"{path} cannot be read" in words_of(content)
    assert not components(content, "Dl")
    assert WINDOW[1] in words_of(components(content, "Select"))
