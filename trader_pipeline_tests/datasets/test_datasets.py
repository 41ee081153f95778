import numpy as np
import pandas as pd
import pytest

from trader_pipeline.datasets import (
    build_candidate_dataset,
    build_chain_dataset,
    dataset_findings,
    market_features,
)
from trader_pipeline.schema import conform, validate
from trader_pipeline.schema.columns import FEATURES
from trader_pipeline.schema.tables import BACKTEST_STEPS, CANDIDATE_DATASET, CANDIDATE_OUTCOMES, CHAIN_DATASET
from trader_pipeline_tests.datasets.frames import HOUR, outcomes, random_candles

KLINES = random_candles(45)
STEPS, CANDIDATES = outcomes(KLINES, ["sold", "below", "failed", "none", "sold"])


@pytest.fixture
def chain() -> pd.DataFrame:
    return build_chain_dataset(STEPS, CANDIDATES, KLINES, step=HOUR)


@pytest.fixture
def candidates() -> pd.DataFrame:
    return build_candidate_dataset(STEPS, CANDIDATES, KLINES, step=HOUR)


def test_datasets_conform_and_nothing_is_found_wrong(chain, candidates):
    validate(chain, CHAIN_DATASET)
    validate(candidates, CANDIDATE_DATASET)
    assert list(chain.columns) == CHAIN_DATASET.column_names
    assert list(candidates.columns) == CANDIDATE_DATASET.column_names
    assert (len(chain), len(candidates)) == (10, 24)
    assert dataset_findings(chain, candidates) == []


def test_regret_and_advantage_of_each_candidate_are_those_worked_by_hand(candidates):
    """The three candidates of a decision make 40, 39 and 38 USD more than holding."""
    decision = candidates[candidates["decision_time"] == candidates["decision_time"].iloc[0]]
    made = decision.groupby("pnl_vs_hodl_if_sold")["regret_if_sold"].unique().map(list)
    assert made.to_dict() == {40.0: [0.0], 39.0: [1.0], 38.0: [2.0]}
    expected = 100 * decision["pnl_vs_hodl_if_sold"] / decision["spot"]
    assert decision["advantage_if_sold_pct"].to_numpy() == pytest.approx(expected.to_numpy(), rel=1e-12)


def test_advantage_is_over_the_value_of_the_coins_held(candidates):
    double = build_candidate_dataset(STEPS, CANDIDATES, KLINES, step=HOUR, size=2.0)
    half = 0.5 * candidates["advantage_if_sold_pct"]
    assert double["advantage_if_sold_pct"].to_numpy() == pytest.approx(half.to_numpy(), rel=1e-12)


def test_regret_of_a_step_is_against_the_best_choice_and_doing_nothing_is_one(chain):
    by_reason = chain.groupby("reason")[["best_pnl_vs_hodl", "regret"]].first()
    assert by_reason.loc["sold"].tolist() == [40.0, 1.0]
    assert by_reason.loc["score_below_threshold"].tolist() == [40.0, 40.0]
    assert by_reason.loc["no_candidates"].tolist() == [0.0, 0.0]
    lost = CANDIDATES.assign(pnl_vs_hodl_if_sold=-CANDIDATES["pnl_vs_hodl_if_sold"])
    steps = STEPS.assign(pnl_vs_hodl=-STEPS["pnl_vs_hodl"])
    losing = build_chain_dataset(steps, lost, KLINES, step=HOUR).groupby("reason")[
        ["best_pnl_vs_hodl", "regret"]
    ]
    assert losing.first().loc["sold"].tolist() == [0.0, 39.0]


def test_a_candidate_whose_outcome_is_unknown_has_no_label_and_is_nobodys_best():
    outcome = ["reward_if_sold", "pnl_vs_hodl_if_sold", "max_drawdown_pct_if_sold"]
    best = CANDIDATES["pnl_vs_hodl_if_sold"].eq(40.0)
    unknown = CANDIDATES.assign(sellable=(~best).astype("int64"))
    unknown[outcome] = unknown[outcome].mask(best)
    dataset = build_candidate_dataset(STEPS, unknown, KLINES, step=HOUR)
    chain = build_chain_dataset(STEPS, unknown, KLINES, step=HOUR)
    labels = dataset[["regret_if_sold", "advantage_if_sold_pct"]]
    assert labels.isna().all(axis=1).eq(dataset["sellable"].eq(0)).all()
    assert dataset["regret_if_sold"].max() == 1.0
    assert dataset_findings(chain, dataset) == []


def test_candidates_of_a_sequential_run_are_refused_with_what_to_do():
    bare = CANDIDATES.drop(columns=["sellable", "pnl_vs_hodl_if_sold"])
    for build in (build_chain_dataset, build_candidate_dataset):
        with pytest.raises(ValueError, match=r"lack sellable, pnl_vs_hodl_if_sold.*mode='independent'"):
            build(STEPS, bare, KLINES, step=HOUR)


def test_features_stand_beside_their_own_decision(chain, candidates):
    names = list(FEATURES)
    for frame in (chain, candidates):
        alone = market_features(KLINES, frame["decision_time"], step=HOUR)
        assert np.array_equal(frame[names].to_numpy(), alone[names].to_numpy())
    row = candidates.iloc[5]
    expected = (row["strike"] - row["spot"]) / (row["atr_14d_pct"] / 100 * row["spot"])
    assert row["distance_to_strike_atr"] == expected


def test_exactly_the_sold_candidate_is_chosen_and_carries_the_outcome(candidates):
    sold = candidates[candidates["trade_executed"] == 1]
    assert len(sold) == 2 * 2 * 3
    chosen = sold[sold["chosen"] == 1]
    assert chosen["action"].eq("SELL_CALL").all()
    assert chosen[["reward", "pnl_vs_hodl", "max_drawdown_pct"]].eq([69.5, 39.0, 4.0]).all(axis=None)
    rest = candidates.drop(index=chosen.index)
    assert rest["action"].eq("SKIP").all()
    assert rest[["reward", "pnl_vs_hodl", "max_drawdown_pct"]].eq(0.0).all(axis=None)
    assert rest["reward_if_sold"].ne(0.0).all(), "what would have been stays"


def test_a_sale_that_could_not_be_simulated_chooses_none():
    picked = CANDIDATES.assign(chosen=CANDIDATES["instrument"].duplicated().astype("int64"))
    dataset = build_candidate_dataset(STEPS, picked, KLINES, step=HOUR)
    failed = dataset[
        dataset["decision_time"]
        == STEPS.loc[STEPS["reason"] == "trade_simulation_failed", "decision_time"].iloc[0]
    ]
    assert len(failed) == 6
    assert failed[["trade_executed", "chosen"]].eq(0).all(axis=None)


def test_row_order_of_the_inputs_does_not_matter(chain, candidates):
    shuffled = (frame.sample(frac=1.0, random_state=3) for frame in (STEPS, CANDIDATES))
    steps, offered = shuffled
    pd.testing.assert_frame_equal(
        build_chain_dataset(steps, offered, KLINES, step=HOUR), chain, check_exact=True
    )
    pd.testing.assert_frame_equal(
        build_candidate_dataset(steps, offered, KLINES, step=HOUR), candidates, check_exact=True
    )


def test_decisions_without_candidates_give_tables_that_conform():
    steps, offered = outcomes(KLINES, ["none", "none"])
    chain = build_chain_dataset(steps, offered, KLINES, step=HOUR)
    candidates = build_candidate_dataset(steps, offered, KLINES, step=HOUR)
    assert conform(chain, CHAIN_DATASET).num_rows == 4
    assert conform(candidates, CANDIDATE_DATASET).num_rows == 0
    assert dataset_findings(chain, candidates) == []
    nothing = build_chain_dataset(BACKTEST_STEPS.empty(), CANDIDATE_OUTCOMES.empty(), KLINES, step=HOUR)
    assert conform(nothing, CHAIN_DATASET).num_rows == 0
    empty = build_candidate_dataset(BACKTEST_STEPS.empty(), CANDIDATE_OUTCOMES.empty(), KLINES, step=HOUR)
    assert dataset_findings(nothing, empty) == []


def test_a_sold_instrument_that_was_not_offered_is_refused():
    without = CANDIDATES[CANDIDATES["chosen"] == 0]
    with pytest.raises(ValueError, match=r"sold BTC-.*-C, which is not among its candidates"):
        build_candidate_dataset(STEPS, without, KLINES, step=HOUR)


def test_a_candidate_without_a_step_is_refused():
    with pytest.raises(ValueError, match="has no step"):
        build_candidate_dataset(STEPS[2:], CANDIDATES, KLINES, step=HOUR)


def _set(frame: pd.DataFrame, rows: pd.Series, **values: object) -> pd.DataFrame:
    changed = frame.copy()
    for name, value in values.items():
        changed.loc[rows, name] = value
    return changed


@pytest.mark.parametrize(
    ("break_candidates", "finding"),
    [
        (lambda f: pd.concat([f, f.tail(1)]), "occurs twice"),
        (lambda f: _set(f, f["chosen"].eq(1), iv=np.nan), "column iv"),
        (lambda f: f.drop(columns="iv"), "missing columns"),
        (lambda f: _set(f, f["chosen"].eq(1), chosen=0), "not exactly one chosen"),
        (lambda f: _set(f, f["trade_executed"].eq(1), chosen=1), "not exactly one chosen"),
        (lambda f: _set(f, f["chosen"].eq(0), reward=1.0), "reward is not 0 off the chosen row"),
        (lambda f: _set(f, f["chosen"].eq(1), pnl_vs_hodl=1.0), "pnl_vs_hodl differs from the chain's"),
        (lambda f: _set(f, f["chosen"].eq(1), reward_if_sold=1.0), "reward differs from reward_if_sold"),
        (lambda f: _set(f, f["chosen"].eq(1), sellable=0), "not sellable"),
        (lambda f: _set(f, f["chosen"].eq(1), action="SKIP"), "chosen disagrees"),
        (lambda f: _set(f, f["chosen"].eq(1), trade_executed=0), "trade_executed disagrees"),
        (
            lambda f: _set(f, f["chosen"].eq(0), label_end_time=f["decision_time"] - HOUR),
            "before decision_time",
        ),
        (lambda f: _set(f, f["chosen"].eq(1), label_end_time=f["decision_time"]), "differs from the chain's"),
        (
            lambda f: _set(f, f["regret_if_sold"].eq(0), regret_if_sold=1e-9),
            "regret_if_sold of the best candidate is not 0",
        ),
        (lambda f: f.assign(regret_if_sold=f["regret_if_sold"] * 2), "not the distance to the best"),
        (
            lambda f: _set(f, f["chosen"].eq(1), advantage_if_sold_pct=9.0),
            "advantage_if_sold_pct is not pnl_vs_hodl_if_sold over spot",
        ),
        (
            lambda f: _set(f, f["chosen"].eq(1), advantage_if_sold_pct=np.nan),
            "advantage_if_sold_pct without an outcome",
        ),
    ],
)
def test_each_broken_invariant_is_found(chain, candidates, break_candidates, finding):
    findings = dataset_findings(chain, break_candidates(candidates))
    assert any(finding in text for text in findings), findings


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ({"best_pnl_vs_hodl": 41.0}, "best_pnl_vs_hodl is not the best candidate's"),
        ({"regret": 2.0}, "regret is not best_pnl_vs_hodl minus pnl_vs_hodl"),
    ],
)
def test_a_wrong_label_of_a_step_is_found(chain, candidates, change, finding):
    changed = _set(chain, chain["action"].eq("SELL_CALL"), **change)
    assert any(finding in text for text in dataset_findings(changed, candidates))


def test_a_choice_better_than_every_candidate_is_refused(candidates):
    steps = STEPS.assign(pnl_vs_hodl=STEPS["pnl_vs_hodl"] * 2)
    chain = build_chain_dataset(steps, CANDIDATES, KLINES, step=HOUR)
    assert any("column regret" in text for text in dataset_findings(chain, candidates))


def test_a_choice_moved_to_another_candidate_is_found(chain, candidates):
    moved = candidates.copy()
    moved["chosen"] = moved["chosen"].shift(1, fill_value=0)
    assert any("not the instrument that was sold" in text for text in dataset_findings(chain, moved))


def test_a_chain_row_that_is_missing_is_found(chain, candidates):
    assert any("without a row in chain_dataset" in text for text in dataset_findings(chain[2:], candidates))
