import numpy as np
import pandas as pd
import pytest

from trader_pipeline.leaks.cases import draw_cases
from trader_pipeline.leaks.mutations import (
    MUTATIONS,
    PARTS,
    PERMUTE,
    TRUNCATE,
    mutate,
    scramble_outcomes,
    unreal,
)
from trader_pipeline.leaks.world import RECORDED, SOURCES, Inputs

STAMPS = {"candles": "close_time", "quotes": "quote_time", "index": "close_time", "regimes": "end"}


@pytest.fixture(scope="module")
def many(worlds, settings) -> list[Inputs]:
    cases = [c for s in SOURCES for c in draw_cases(worlds, count=6, seed=4, settings=settings, source=s)]
    return [case.inputs(worlds, settings) for case in cases]


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_mutation_changes_all_that_is_later_and_nothing_else(many, mutation):
    for number, inputs in enumerate(many):
        other = mutate(inputs, mutation, after=inputs.moment, seed=number)
        assert unreal(inputs, other, cut=inputs.moment) == []
        for part, stamp in STAMPS.items():
            before, after = getattr(inputs, part), getattr(other, part)
            if before is None:
                assert after is None
                continue
            past = before[before[stamp] <= inputs.moment].reset_index(drop=True)
            kept = after[after[stamp] <= inputs.moment].reset_index(drop=True)
            pd.testing.assert_frame_equal(kept, past, check_exact=True)
            assert not after.equals(before)


def test_every_source_of_prices_has_its_own_part(many):
    assert {i.source for i in many} == set(SOURCES)
    assert all((i.quotes is not None) == (i.source == RECORDED) for i in many)


@pytest.mark.parametrize("part", PARTS)
def test_parts_are_changed_one_at_a_time(many, part):
    for inputs in many:
        other = mutate(inputs, "perturb", after=inputs.moment, seed=1, parts=(part,))
        for name in STAMPS:
            same = getattr(inputs, name) is getattr(other, name)
            assert same == (name != part or getattr(inputs, name) is None)
        assert (inputs.option_params == other.option_params) == (part != "calibrations")


def test_truncated_candles_end_with_the_decision_and_leave_one_only_behind_a_gap(many):
    for inputs in many:
        held = inputs.candles["close_time"]
        in_a_gap = not (held == inputs.moment).any()
        later = mutate(inputs, TRUNCATE, after=inputs.moment, seed=1).candles["close_time"] > inputs.moment
        assert int(later.sum()) == int(in_a_gap)


def test_permuted_candles_are_the_same_moves_in_another_order(many):
    inputs = many[0]
    later = [
        np.log(i.candles["close"]).diff()[i.candles["close_time"] > inputs.moment + pd.Timedelta(hours=1)]
        for i in (inputs, mutate(inputs, PERMUTE, after=inputs.moment, seed=1))
    ]
    assert later[0].std() == pytest.approx(later[1].std(), rel=0.02)
    assert not np.allclose(later[0], later[1])


def test_candles_stay_candles(many):
    for inputs in many:
        for mutation in MUTATIONS:
            c = mutate(inputs, mutation, after=inputs.moment, seed=2).candles
            assert (c["low"] <= c[["open", "close"]].min(axis=1) * (1 + 1e-12)).all()
            assert (c["high"] >= c[["open", "close"]].max(axis=1) * (1 - 1e-12)).all()
            assert (c["low"] > 0).all()


def test_the_open_at_the_cut_can_be_kept(many):
    inputs = next(i for i in many if (i.candles["open_time"] == i.moment).any())
    opens = [
        i.candles.loc[i.candles["open_time"] == inputs.moment, "open"].item()
        for i in (
            inputs,
            mutate(inputs, "perturb", after=inputs.moment, seed=1, open_is_known=True),
            mutate(inputs, "perturb", after=inputs.moment, seed=1),
        )
    ]
    assert opens[0] == opens[1] != opens[2]


def test_a_mutation_that_changes_nothing_is_named(many):
    inputs = many[0]
    found = unreal(inputs, inputs, cut=inputs.moment)
    assert f"candles stamped after {inputs.moment} were not changed" in found


def test_a_mutation_of_the_past_is_named(many):
    inputs = many[0]
    early = mutate(inputs, "perturb", after=inputs.moment - pd.Timedelta(hours=9), seed=1)
    assert f"candles stamped by {inputs.moment} were changed" in unreal(inputs, early, cut=inputs.moment)


def test_scrambled_outcomes_leave_what_was_seen():
    rows = pd.DataFrame(
        {"score": [6.0, 7.0], "chosen": [0, 1], "action": ["SKIP", "SELL_CALL"], "reward": [0.0, 9.0]}
    )
    changed = scramble_outcomes(rows, ["chosen", "action", "reward"], seed=0)
    assert changed["score"].tolist() == [6.0, 7.0]
    assert changed["chosen"].tolist() == [1, 0]
    assert changed["action"].tolist() == ["SELL_CALL", "SKIP"]
    assert not changed["reward"].equals(rows["reward"])
