import numpy as np
import pandas as pd
import pytest

from trader_pipeline.corpora.balance import class_weights, draw_keys, hold_down
from trader_pipeline.corpora.counts import count_table, selection_table
from trader_pipeline.corpora.labels import CorpusParams
from trader_pipeline.corpora.pick_candidate import build_pick_candidate_corpus
from trader_pipeline.corpora.preferences import build_preference_corpus
from trader_pipeline.corpora.replay import build_replay_corpus
from trader_pipeline.corpora.trade_or_skip import build_trade_or_skip_corpus
from trader_pipeline.schema.tables import REPLAY_CORPUS
from trader_pipeline_tests.corpora.factories import paper_trades

GROUP = ["split", "underlying"]
BUILDERS = {
    "trade_or_skip": build_trade_or_skip_corpus,
    "pick_candidate": build_pick_candidate_corpus,
    "preference": build_preference_corpus,
}


def build(corpora, **settings) -> pd.DataFrame:
    params = CorpusParams(**settings)
    return build_trade_or_skip_corpus(corpora.dataset, boundaries=corpora.boundaries, corpus_params=params)


def test_down_sampling_leaves_as_many_of_either_answer_and_all_of_the_rarer(corpora):
    whole, balanced = build(corpora, balance="none"), build(corpora, balance="downsample")
    counts = balanced.groupby([*GROUP, "assistant"]).size().unstack()
    rarer = whole.groupby([*GROUP, "assistant"]).size().unstack().min(axis=1)
    assert (counts["SELL_CALL"] == counts["SKIP"]).all()
    assert counts["SELL_CALL"].tolist() == rarer.tolist()
    assert set(balanced["record_id"]) < set(whole["record_id"])


def test_down_sampling_takes_skips_evenly_over_time_and_exit_styles(corpora):
    balanced = build(corpora, balance="downsample")
    skips = balanced[(balanced["split"] == "train") & (balanced["assistant"] == "SKIP")]
    whole = build(corpora, balance="none")
    train = whole[(whole["split"] == "train") & (whole["assistant"] == "SKIP")]
    edges = train["decision_time"].quantile([0.25, 0.5, 0.75])
    quarters = np.bincount(edges.searchsorted(skips["decision_time"]), minlength=4) / len(skips)
    assert quarters.min() > 0.2
    assert skips["exit_style"].value_counts(normalize=True).min() > 0.4


def test_weights_keep_all_and_let_the_answers_weigh_the_same(corpora):
    weighted = build(corpora, balance="weights")
    assert len(weighted) == len(build(corpora, balance="none"))
    totals = weighted.groupby([*GROUP, "assistant"])["weight"].sum().unstack()
    assert np.allclose(totals["SELL_CALL"], totals["SKIP"])
    assert np.allclose(weighted.groupby(GROUP)["weight"].mean(), 1)


def test_the_seed_draws_other_skips_and_the_same_sales(corpora):
    one, other = build(corpora, seed=0), build(corpora, seed=1)
    sales = [set(f.loc[f["assistant"] == "SELL_CALL", "record_id"]) for f in (one, other)]
    assert sales[0] == sales[1]
    assert set(one["record_id"]) != set(other["record_id"])


def test_where_nothing_is_sold_down_sampling_leaves_nothing_and_weights_are_one(corpora):
    never = corpora.dataset.assign(chosen=0)
    for balance, count in (("downsample", 0), ("weights", len(build(corpora, balance="none")))):
        frame = build_trade_or_skip_corpus(
            never, boundaries=corpora.boundaries, corpus_params=CorpusParams(balance=balance)
        )
        assert len(frame) == count
        assert (frame["weight"] == 1).all()


def test_weights_of_three_answers_are_equal_in_total():
    weight = class_weights(np.array([0, 1, 1, 2, 2, 2]))
    assert np.allclose([weight[:1].sum(), weight[1:3].sum(), weight[3:].sum()], 2)


def test_draws_do_not_depend_on_the_other_rows(corpora):
    rows = corpora.dataset.iloc[100:200]
    assert (draw_keys(corpora.dataset, 3)[100:200] == draw_keys(rows, 3)).all()
    assert (draw_keys(rows, 4) != draw_keys(rows, 3)).mean() > 0.99
    assert len(np.unique(draw_keys(corpora.dataset, 3))) == len(corpora.dataset)


@pytest.mark.parametrize("kind", ["trade_or_skip", "pick_candidate", "preference"])
def test_the_table_counts_what_the_builder_keeps(corpora, kind):
    params = CorpusParams(noise_within_pct=0.5)
    given = {"boundaries": corpora.boundaries, "corpus_params": params}
    table = selection_table(kind, corpora.dataset, **given)
    frame = BUILDERS[kind](corpora.dataset, **given)
    counted = count_table(frame)
    key = ["split", "kind", "group", "value"]
    joined = table[table["group"] != "noise"].merge(
        counted, on=key, suffixes=("", "_built"), validate="one_to_one"
    )
    assert len(joined) == len(counted)
    assert (joined["after"] == joined["after_built"]).all()
    assert np.allclose(joined["weight"], joined["weight_built"])
    noise = table[table["group"] == "noise"].set_index(["split", "value"])
    assert noise.loc[("train", "within noise"), "before"] > 0
    assert noise.loc[("train", "within noise"), "after"] == 0
    assert ("test", "within noise") not in noise.index


def test_regimes_are_counted_and_stay_out_of_the_corpus(corpora):
    start, middle = corpora.boundaries["train"], corpora.boundaries["train"] + pd.Timedelta(days=50)
    regimes = pd.DataFrame({"regime": ["a"], "label": ["bull"], "start": [start], "end": [middle]})
    table = count_table(corpora.trade, regimes=regimes).set_index(["split", "group", "value"])["after"]
    early = (corpora.trade["decision_time"] < middle) & (corpora.trade["split"] == "train")
    assert table["train", "regime", "bull"] == early.sum()
    assert table["test", "regime", "not dated"] == (corpora.trade["split"] == "test").sum()


def test_nothing_is_counted_as_nothing(corpora):
    assert count_table(REPLAY_CORPUS.empty()).empty
    for kind, build_kind in BUILDERS.items():
        nothing = corpora.dataset.iloc[:0]
        assert build_kind(nothing, boundaries=corpora.boundaries).empty
        assert selection_table(kind, nothing, boundaries=corpora.boundaries).empty


@pytest.mark.parametrize("mode", ["downsample", "weights"])
def test_no_trade_is_at_most_half_where_it_was_the_commonest(mode):
    answers = ["NO_TRADE"] * 30 + ["index"] * 10 + ["NO_TRADE"] * 5 + ["index"] * 20
    records = pd.DataFrame(
        {
            "split": "train",
            "underlying": ["BTC"] * 40 + ["ETH"] * 25,
            "decision_time": pd.date_range("2024-01-01", periods=65, tz="UTC"),
            "exit_style": "hold_to_expiry",
            "instrument": None,
            "answer": answers,
        }
    )
    kept, weight = hold_down(records, np.ones(65, dtype=bool), answer="NO_TRADE", mode=mode, seed=0)
    totals = records.assign(total=weight).loc[kept].groupby(["underlying", "answer"])["total"].sum()
    assert totals["BTC", "NO_TRADE"] == pytest.approx(totals["BTC", "index"])
    assert (totals["ETH", "NO_TRADE"], totals["ETH", "index"]) == (5, 20)


def test_a_verdict_is_held_to_twice_the_other(corpora):
    replay, evaluations = paper_trades(corpora.dataset)
    train = evaluations.sort_values("trade_id").reset_index(drop=True)
    mostly_bad = train.assign(verdict=np.where(np.arange(len(train)) % 10 == 0, "OK", "BAD"))
    held = build_replay_corpus(replay, mostly_bad, boundaries=corpora.boundaries)
    every = build_replay_corpus(
        replay, mostly_bad, boundaries=corpora.boundaries, corpus_params=CorpusParams(balance="none")
    )
    counts = held.groupby(["split", "underlying", "assistant"]).size().unstack()
    assert (counts["SKIP"] <= np.maximum(2 * counts["SELL_CALL"], 10)).all()
    assert (every["assistant"] == "SELL_CALL").sum() == (held["assistant"] == "SELL_CALL").sum()
    assert (every["assistant"] == "SKIP").mean() > 0.85
