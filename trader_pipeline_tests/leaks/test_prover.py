from dataclasses import replace

import pandas as pd
import pytest

from trader_pipeline.leaks.cases import draw_cases
from trader_pipeline.leaks.outputs import ROWS, SEEN_CANDIDATE, SEEN_CHAIN, Difference, compare, frame_bytes
from trader_pipeline.leaks.pipeline import PRODUCTION
from trader_pipeline.leaks.plants import try_to_catch
from trader_pipeline.leaks.prove import PLANTS
from trader_pipeline.leaks.prover import LABEL_LIFE, OUTCOMES, prove_case
from trader_pipeline.leaks.study import LESSONS, prove_stretch
from trader_pipeline.leaks.world import SOURCES
from trader_pipeline.schema.tables import CANDIDATE_DATASET, CHAIN_DATASET


@pytest.mark.parametrize("source", SOURCES)
def test_nothing_at_a_decision_moves_with_its_future(worlds, settings, source):
    for case in draw_cases(worlds, count=3, seed=11, settings=settings, source=source):
        tally = prove_case(PRODUCTION, worlds, case, settings=settings)
        assert tally.leaks == []
        assert tally.unreal == []
        assert tally.cases == 1
        assert tally.bytes > 50_000
        assert all(tally.moved[m] == n for m, n in tally.mutations.items() if m != LABEL_LIFE)
        assert {"perturb", "truncate", OUTCOMES} <= set(tally.mutations)


def test_splits_corpora_and_fits_know_nothing_of_what_comes_after(stretches, settings):
    tally = prove_stretch(LESSONS, stretches[0], settings=settings)
    assert tally.leaks == []
    assert sum(tally.moved.values()) == sum(tally.mutations.values()) == 5
    assert tally.outputs["candidate dataset"] == tally.outputs["prompt trade_or_skip (report)"] == 5
    assert tally.outputs["mix (teacher)"] == 4
    for kind in ("trade_or_skip", "pick_candidate", "preference"):
        assert tally.outputs[f"corpus {kind} (teacher)"] == tally.outputs[f"corpus {kind} (hindsight)"] == 4


def test_a_stretch_has_folds_that_leave_out_each_regime(stretches, settings):
    s = stretches[0]
    times = s.rows["decision_time"], s.rows["label_end_time"]
    splits = LESSONS.splits(*times, params=settings.splits, boundaries=s.boundaries, regimes=s.regimes)
    assert len(splits.columns) == 4
    assert all({"train", "test", "sealed"} <= set(splits[name]) for name in splits)


@pytest.mark.parametrize("plant", PLANTS, ids=lambda p: p.name)
def test_a_planted_leak_is_caught_where_it_shows(worlds, stretches, settings, plant):
    catch = try_to_catch(plant, worlds, stretches, settings=settings, seed=5)
    assert catch is not None
    assert catch.caught, str(catch)
    assert catch.leak.output.startswith(plant.seen_in)


def test_a_shift_over_a_batch_shows_in_its_prompts_too(stretches, settings):
    plant = next(p for p in PLANTS if p.name == "feature of the next decision")
    lessons = replace(LESSONS, dataset=plant.leaky)
    moved = {leak.output for leak in prove_stretch(lessons, stretches[0], settings=settings).leaks}
    assert {"candidate dataset", "prompt trade_or_skip (report)"} <= moved


def test_at_least_sixteen_kinds_are_planted_and_each_once():
    assert len(PLANTS) >= 16
    assert len({p.name for p in PLANTS}) == len({p.leaky for p in PLANTS}) == len(PLANTS)


def test_the_part_of_the_future_that_was_seen_is_named(worlds, stretches, settings):
    parts = {}
    for name in ("regime in a prompt", "surface fitted on later data", "index stamped after the decision"):
        plant = next(p for p in PLANTS if p.name == name)
        parts[name] = try_to_catch(plant, worlds, stretches, settings=settings, seed=5).leak.part
    assert list(parts.values()) == ["regimes", "calibrations", "index"]


def test_a_future_that_brings_up_an_error_is_a_difference(worlds, settings):
    def refuses(inputs, held):
        later = held.klines["close"][held.klines["close_time"] > inputs.moment]
        if len(later) < 10:
            raise ValueError("the candles end too soon")
        return PRODUCTION.features(inputs, held)

    case = draw_cases(worlds, count=1, seed=1, settings=settings)[0]
    tally = prove_case(replace(PRODUCTION, features=refuses), worlds, case, settings=settings)
    assert {(leak.output, leak.column, leak.mutation, leak.part) for leak in tally.leaks} == {
        ("an error", "the candles end too soon", "truncate", "candles")
    }


def test_a_decision_that_is_refused_is_counted_and_not_tried(worlds, settings):
    hole = worlds[0].candles["open_time"].between("2023-03-01", "2023-03-20")
    gappy = replace(
        worlds[0], candles=worlds[0].candles[~hole].reset_index(drop=True), index=None, quotes=None
    )
    case = replace(
        draw_cases([gappy], count=1, seed=1, settings=settings)[0],
        moment=pd.Timestamp("2023-03-25", tz="UTC"), timeframe="1h",
    )  # fmt: skip
    tally = prove_case(PRODUCTION, [gappy], case, settings=settings)
    assert (tally.cases, tally.refused) == (0, 1)
    assert "at least 80%" in tally.refusals[0]


def test_every_column_of_the_datasets_is_either_seen_or_a_label():
    assert set(SEEN_CANDIDATE) <= set(CANDIDATE_DATASET.column_names)
    assert set(SEEN_CHAIN) <= set(CHAIN_DATASET.column_names)
    hidden = set(CANDIDATE_DATASET.column_names) - set(SEEN_CANDIDATE)
    assert hidden == {
        "trade_executed", "chosen", "action", "reward", "pnl_vs_hodl", "max_drawdown_pct", "sellable", "reward_if_sold",
        "pnl_vs_hodl_if_sold", "max_drawdown_pct_if_sold", "regret_if_sold", "advantage_if_sold_pct", "label_end_time",
    }  # fmt: skip


def test_comparison_names_the_first_column_that_differs_to_the_last_bit():
    left = pd.DataFrame({"a": [1.0, 2.0], "b": [0.1 + 0.2, 1.0], "c": ["x", "y"]})
    right = left.assign(b=[0.3, 1.0], c=["x", "z"])
    assert compare({"it": frame_bytes(left)}, {"it": frame_bytes(left.copy())}) == []
    assert compare({"it": frame_bytes(left)}, {"it": frame_bytes(right)}) == [Difference("it", "b")]
    assert compare({"it": frame_bytes(left)}, {"it": frame_bytes(left.head(1))}) == [Difference("it", ROWS)]
    assert [d.output for d in compare({"it": frame_bytes(left)}, {})] == ["it"]
    assert compare({"decision context": frame_bytes(left)}, {}) == [], "a trade needs a future to be closed"
