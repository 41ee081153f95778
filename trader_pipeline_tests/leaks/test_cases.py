from dataclasses import replace

import pandas as pd
import pytest

from trader_pipeline.leaks.cases import draw_cases, impossible_sources
from trader_pipeline.leaks.world import RECORDED, SOURCES, Settings


def test_cases_cover_coins_sources_timeframes_and_styles(worlds, settings):
    cases = draw_cases(worlds, count=60, seed=0, settings=settings)
    assert {(c.world, c.source) for c in cases} == {(w, s) for w in (0, 1) for s in SOURCES}
    assert {c.timeframe for c in cases} == {"1h", "4h", "1d"}
    styles = {(c.world, c.inputs(worlds, settings).renders[0].style) for c in cases}
    assert styles == {(w, s) for w in (0, 1) for s in ("plain", "report")}


def test_the_same_seed_gives_the_same_cases(worlds, settings):
    first, again, other = (draw_cases(worlds, count=20, seed=s, settings=settings) for s in (1, 1, 2))
    assert first == again
    assert first != other


def test_some_decisions_lie_in_gaps(worlds, settings):
    cases = draw_cases(worlds, count=60, seed=0, settings=settings)
    closes = [set(w.candles["close_time"]) for w in worlds]
    assert sum(c.moment not in closes[c.world] for c in cases) >= 3


def test_recorded_cases_have_a_snapshot_that_counts(worlds, settings):
    age = pd.Timedelta(hours=settings.options.max_quote_age_hours)
    for case in draw_cases(worlds, count=10, seed=0, settings=settings, source=RECORDED):
        stamps = worlds[case.world].quotes["quote_time"]
        assert stamps.between(case.moment - age, case.moment).any()


def test_candles_too_short_for_a_decision_are_refused_in_words(worlds, settings):
    short = replace(worlds[0], candles=worlds[0].candles.head(24 * 60), quotes=None, index=None)
    with pytest.raises(
        ValueError, match=r"BTC_1h, modelled: .* 48 days before it and 39 after it; give more candles"
    ):
        draw_cases([short], count=1, seed=0, settings=settings)


def test_a_source_without_room_is_left_out_and_said(worlds, settings):
    late = worlds[0].quotes[worlds[0].quotes["quote_time"] > worlds[0].candles["close_time"].iloc[-24 * 10]]
    world = replace(worlds[0], quotes=late.reset_index(drop=True))
    assert {c.source for c in draw_cases([world], count=9, seed=0, settings=settings)} == set(SOURCES[:2])
    assert [line.split(":")[0] for line in impossible_sources([world], settings)] == ["BTC_1h, recorded"]


def test_settings_say_how_much_past_and_future_a_decision_needs():
    assert Settings().history_days == 48
    assert Settings().future_days == 39
