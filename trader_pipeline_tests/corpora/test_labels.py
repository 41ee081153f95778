import numpy as np
import pandas as pd
import pytest

from trader_pipeline.corpora.labels import (
    CorpusParams,
    order_candidates,
    outcome_gap_pct,
    pick_labels,
    sell_labels,
)
from trader_pipeline.corpora.pick_candidate import build_pick_candidate_corpus
from trader_pipeline.corpora.render import RenderParams
from trader_pipeline.corpora.splits import SplitParams, split_boundaries
from trader_pipeline.corpora.steps import prompt_steps
from trader_pipeline.corpora.trade_or_skip import build_trade_or_skip_corpus
from trader_pipeline_tests.corpora.factories import candidate_dataset

STEP = ["decision_time", "underlying", "exit_style"]
OUTCOMES = ["reward_if_sold", "pnl_vs_hodl_if_sold", "max_drawdown_pct_if_sold", "advantage_if_sold_pct"]


def unsettled(dataset: pd.DataFrame, rows: pd.Series) -> pd.DataFrame:
    changed = dataset.copy()
    changed.loc[rows, "sellable"] = 0
    changed.loc[rows, OUTCOMES] = np.nan
    return changed


def test_labels_are_those_of_the_step_objects_that_the_evaluation_asks(corpora):
    rng = np.random.default_rng(3)
    dataset = unsettled(corpora.dataset, pd.Series(rng.random(len(corpora.dataset)) < 0.2))
    dataset.loc[dataset["sellable"] == 0, ["chosen"]] = 0
    visible = dataset[dataset["decision_time"] < corpora.boundaries["sealed"]]
    expected = {
        (s.step.decision_time, s.step.underlying, s.step.exit_style): s.chosen for s in prompt_steps(visible)
    }
    candidates = order_candidates(dataset, boundaries=corpora.boundaries)
    right, known = pick_labels(candidates, "teacher")
    keys = candidates.of_steps()[known][STEP].itertuples(index=False, name=None)
    instrument = candidates.frame["instrument"].tolist()
    assert dict(zip(keys, [instrument[r] if r >= 0 else None for r in right[known]], strict=True)) == expected
    assert 0 < known.sum() < len(known)


def test_a_label_that_rests_on_an_unknown_outcome_is_left_out(corpora):
    first = corpora.dataset.iloc[0]
    same_step = (corpora.dataset[STEP] == first[STEP]).all(axis=1)
    one = same_step & (corpora.dataset["instrument"] == first["instrument"])
    candidates = order_candidates(unsettled(corpora.dataset, one), boundaries=corpora.boundaries)
    _, sell_known = sell_labels(candidates, "hindsight")
    _, pick_known = pick_labels(candidates, "hindsight")
    assert (~sell_known).sum() == 1
    assert (~pick_known).sum() == 1


def test_labels_of_a_step_end_with_its_last_outcome(corpora):
    ends = corpora.dataset.groupby(STEP)["label_end_time"].max()
    for frame in (corpora.pick, corpora.preference):
        assert (
            frame.set_index(STEP)["label_end_time"] == ends.reindex(pd.MultiIndex.from_frame(frame[STEP]))
        ).all()


@pytest.mark.parametrize(
    ("outcomes", "gap"),
    [
        ([3.0, 1.0], 2.0),
        ([3.0, -1.0], 3.0),
        ([-2.0, -5.0], 2.0),
        ([4.0], 4.0),
        ([0.0, -1.0], 0.0),
        ([1.0, np.nan], 1.0),
    ],
)
def test_gap_is_between_the_best_two_with_doing_nothing_among_them(outcomes, gap):
    dataset = candidate_dataset(days=30, candidates=len(outcomes), underlyings=("BTC",))
    dataset = dataset[dataset["exit_style"] == "tp_and_roll"].reset_index(drop=True)
    boundaries = split_boundaries(dataset["decision_time"], SplitParams())
    dataset["advantage_if_sold_pct"] = np.tile(outcomes, 30)
    candidates = order_candidates(dataset, boundaries=boundaries)
    assert outcome_gap_pct(candidates) == pytest.approx(gap)


def test_noise_is_left_out_of_train_and_val_and_never_of_test(corpora):
    within = CorpusParams(noise_within_pct=0.5, balance="none")
    best = corpora.dataset.groupby(STEP)["advantage_if_sold_pct"].apply(
        lambda own: np.sort(np.append(own.to_numpy(), 0.0))[-1] - np.sort(np.append(own.to_numpy(), 0.0))[-2]
    )
    for build in (build_trade_or_skip_corpus, build_pick_candidate_corpus):
        frame = build(corpora.dataset, boundaries=corpora.boundaries, corpus_params=within)
        gap = best.reindex(pd.MultiIndex.from_frame(frame[STEP])).to_numpy()
        assert (gap[frame["split"] != "test"] > 0.5).all()
        assert (gap[frame["split"] == "test"] <= 0.5).any()


def test_where_noise_decides_a_record_rests_on_all_outcomes_of_its_step(corpora):
    frame = build_trade_or_skip_corpus(
        corpora.dataset, boundaries=corpora.boundaries, corpus_params=CorpusParams(noise_within_pct=0.1)
    )
    ends = corpora.dataset.groupby(STEP)["label_end_time"].max()
    assert (
        frame.set_index(STEP)["label_end_time"] == ends.reindex(pd.MultiIndex.from_frame(frame[STEP]))
    ).all()


def test_frames_that_cannot_be_one_market_are_refused(corpora):
    doubled = pd.concat([corpora.dataset, corpora.dataset.iloc[[5]]])
    with pytest.raises(ValueError, match="is listed twice; pass one timeframe per underlying"):
        order_candidates(doubled, boundaries=corpora.boundaries)
    with pytest.raises(ValueError, match="is not the only one chosen"):
        order_candidates(corpora.dataset.assign(chosen=1), boundaries=corpora.boundaries)
    with pytest.raises(ValueError, match=r"lacks columns \['chosen'\]"):
        build_trade_or_skip_corpus(
            corpora.dataset.drop(columns="chosen"), boundaries=corpora.boundaries, params=RenderParams()
        )
