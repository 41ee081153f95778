import json
import re

import numpy as np
import pandas as pd
import pytest

from trader_pipeline.corpora.jsonl import corpus_lines
from trader_pipeline.corpora.labels import CorpusParams
from trader_pipeline.corpora.pick_candidate import build_pick_candidate_corpus
from trader_pipeline.corpora.render import RenderParams, answer_of
from trader_pipeline.corpora.replay import build_replay_corpus, read_decision_context
from trader_pipeline.corpora.trade_or_skip import build_trade_or_skip_corpus
from trader_pipeline.schema import conform
from trader_pipeline.schema.tables import (
    PICK_CANDIDATE_CORPUS,
    REPLAY_CORPUS,
    STABLE_CORPUS,
    TRADE_OR_SKIP_CORPUS,
)
from trader_pipeline_tests.corpora.factories import OUTCOMES, paper_trades

STEP = ["decision_time", "underlying", "exit_style"]
ALL = CorpusParams(balance="none")
HINDSIGHT = RenderParams(labels="hindsight")
_INSTRUMENT = re.compile(r"[A-Z]{3}-\d{1,2}[A-Z]{3}\d\d-\d+-C")


def text(frame: pd.DataFrame) -> str:
    return "".join(corpus_lines(frame))


def picked(record: dict) -> str | None:
    """The instrument that a pick record's answer stands for, from its text alone."""
    listed = _INSTRUMENT.findall(record["user"])
    return None if record["assistant"] == "NO_TRADE" else listed[int(record["assistant"]) - 1]


def test_every_kind_conforms_to_its_table(corpora):
    tables = {
        TRADE_OR_SKIP_CORPUS: corpora.trade,
        PICK_CANDIDATE_CORPUS: corpora.pick,
        REPLAY_CORPUS: corpora.replay,
        STABLE_CORPUS: corpora.stable,
    }
    for table, frame in tables.items():
        assert conform(frame, table).num_rows == len(frame) > 0


def test_trade_or_skip_answers_are_the_teachers_choices(corpora):
    instrument = corpora.trade["user"].str.extract(f"({_INSTRUMENT.pattern})", expand=False)
    assert (instrument == corpora.trade["instrument"]).all()
    joined = corpora.trade.merge(corpora.dataset, on=[*STEP, "instrument"], validate="one_to_one")
    assert len(joined) == len(corpora.trade)
    assert (joined["assistant"] == joined["action"]).all()
    assert joined["assistant"].nunique() == 2


def test_pick_answers_point_at_the_teachers_choice(corpora):
    chosen = corpora.dataset[corpora.dataset["chosen"] == 1].set_index(STEP)["instrument"]
    for record in corpora.pick.to_dict("records"):
        assert (
            picked(record) == chosen.get(tuple(record[name] for name in STEP), None) == record["instrument"]
        )


def test_hindsight_labels_are_the_outcomes(corpora):
    trade = build_trade_or_skip_corpus(
        corpora.dataset, boundaries=corpora.boundaries, params=HINDSIGHT, corpus_params=ALL
    )
    joined = trade.merge(
        corpora.dataset, on=[*STEP, "instrument"], suffixes=("", "_row"), validate="one_to_one"
    )
    assert ((joined["assistant"] == "SELL_CALL") == (joined["pnl_vs_hodl_if_sold"] > 0)).all()
    assert (joined["label_end_time"] == joined["label_end_time_row"]).all()
    pick = build_pick_candidate_corpus(corpora.dataset, boundaries=corpora.boundaries, params=HINDSIGHT)
    outcome = corpora.dataset.set_index([*STEP, "instrument"])["pnl_vs_hodl_if_sold"].sort_index()
    for record in pick.to_dict("records"):
        own = outcome.loc[tuple(record[name] for name in STEP)]
        assert picked(record) == (own.idxmax() if own.max() > 0 else None)


@pytest.mark.parametrize("labels", ["teacher", "hindsight"])
def test_the_asked_for_policy_is_that_of_the_labels(corpora, labels):
    frame = build_trade_or_skip_corpus(
        corpora.dataset, boundaries=corpora.boundaries, params=RenderParams(labels=labels)
    )
    assert frame["system"].str.contains("teacher").all() == (labels == "teacher")


def test_replay_answers_follow_the_verdict(corpora):
    replay, evaluations = paper_trades(corpora.dataset)
    verdict = evaluations.set_index("trade_id")["verdict"]
    asked = replay.set_index(["symbol", "entry_ts"])["trade_id"]
    for record in corpora.replay.to_dict("records"):
        trade = asked[_INSTRUMENT.findall(record["user"])[0], record["decision_time"]]
        assert record["assistant"] == ("SKIP" if verdict[trade] == "BAD" else "SELL_CALL")


def test_nothing_sealed_is_rendered_and_no_label_reaches_a_later_split(corpora):
    for frame in (corpora.trade, corpora.pick, corpora.replay, corpora.preference):
        assert set(frame["split"]) == {"train", "val", "test"}
        for split, later in (("train", "val"), ("val", "test"), ("test", "sealed")):
            ends = frame.loc[frame["split"] == split, "label_end_time"]
            assert (ends + pd.Timedelta(hours=24) < corpora.boundaries[later]).all()


def test_shuffled_input_rows_give_the_same_bytes(corpora):
    shuffled = corpora.dataset.sample(frac=1, random_state=1)
    boundaries = corpora.boundaries
    assert text(build_trade_or_skip_corpus(shuffled, boundaries=boundaries)) == text(corpora.trade)
    assert text(build_pick_candidate_corpus(shuffled, boundaries=boundaries)) == text(corpora.pick)
    replay, evaluations = paper_trades(corpora.dataset)
    shuffled_trades = (f.sample(frac=1, random_state=2) for f in (replay, evaluations))
    assert text(build_replay_corpus(*shuffled_trades, boundaries=boundaries)) == text(corpora.replay)


def test_trades_that_ended_early_are_purged_by_their_expiry(corpora):
    replay, evaluations = paper_trades(corpora.dataset)
    entered = replay["decision_context"].map(lambda c: pd.Timestamp(json.loads(c)["decision_time"]))
    soon = replay.assign(exit_ts=entered + pd.Timedelta(hours=1))
    rebuilt = build_replay_corpus(soon, evaluations, boundaries=corpora.boundaries)
    assert rebuilt[["decision_time", "split"]].equals(corpora.replay[["decision_time", "split"]])
    dataset = corpora.dataset
    early = dataset.assign(label_end_time=dataset["decision_time"] + pd.Timedelta(hours=1))
    rebuilt = build_trade_or_skip_corpus(early, boundaries=corpora.boundaries)
    assert rebuilt["record_id"].tolist() == corpora.trade["record_id"].tolist()


def test_prompts_do_not_change_when_the_outcomes_change(corpora):
    rng = np.random.default_rng(5)
    names = [*OUTCOMES, "advantage_if_sold_pct", "regret_if_sold"]
    changed = corpora.dataset.assign(**{c: rng.uniform(0, 50, len(corpora.dataset)) for c in names})
    trade = build_trade_or_skip_corpus(changed, boundaries=corpora.boundaries)
    pick = build_pick_candidate_corpus(changed, boundaries=corpora.boundaries)
    assert text(trade) == text(corpora.trade)
    assert text(pick) == text(corpora.pick)
    replay, evaluations = paper_trades(corpora.dataset)
    moved = replay.assign(pnl_pct=-99.0, exit_price=9.0, covered_return_pct=-99.0, reasoning="it lost")
    rebuilt = build_replay_corpus(moved, evaluations, boundaries=corpora.boundaries)
    assert text(rebuilt) == text(corpora.replay)


def test_prompts_do_not_change_when_another_candidate_was_chosen(corpora):
    every = CorpusParams(
        balance="none"
    )  # which decisions are kept may depend on the answers, their text may not
    other = corpora.dataset.assign(chosen=0, reward=0.0)
    pick = build_pick_candidate_corpus(other, boundaries=corpora.boundaries, corpus_params=every)
    before = build_pick_candidate_corpus(corpora.dataset, boundaries=corpora.boundaries, corpus_params=every)
    assert pick["user"].tolist() == before["user"].tolist()
    assert set(pick["assistant"]) == {"NO_TRADE"}


def test_each_shuffle_is_a_record_in_another_order(corpora):
    frame = build_pick_candidate_corpus(
        corpora.dataset, boundaries=corpora.boundaries, corpus_params=CorpusParams(shuffles=3)
    )
    assert len(corpora.pick) * 2 < len(frame) <= len(corpora.pick) * 3
    assert frame["record_id"].is_unique
    named = frame.assign(picked=[picked(r) or "" for r in frame.to_dict("records")])
    assert (named.groupby(STEP)["picked"].nunique() == 1).all()


def test_hindsight_lines_tell_the_outcome_of_the_right_candidate(corpora):
    shown = RenderParams(hindsight=True)
    pick = build_pick_candidate_corpus(corpora.dataset, boundaries=corpora.boundaries, params=shown)
    outcome = corpora.dataset.set_index([*STEP, "instrument"])["pnl_vs_hodl"]
    for record in pick.to_dict("records"):
        sold = record["assistant"] != "NO_TRADE"
        assert ("Chosen candidate index" in record["user"]) == sold
        if sold:
            pnl = outcome[(*(record[name] for name in STEP), record["instrument"])]
            assert f"Chosen candidate index: {record['assistant']}\n" in record["user"]
            assert f"PnL vs HODL (USD): {pnl:.2f}\n" in record["user"]


def test_hindsight_lines_beside_hindsight_labels_tell_what_selling_would_have_made(corpora):
    trade = build_trade_or_skip_corpus(
        corpora.dataset,
        boundaries=corpora.boundaries,
        params=RenderParams(hindsight=True, labels="hindsight"),
    )
    joined = trade.merge(corpora.dataset, on=[*STEP, "instrument"], validate="one_to_one")
    told = joined["user"].str.extract(r"PnL vs HODL \(USD\): (-?[\d.]+)", expand=False).astype(float)
    assert np.allclose(told, joined["pnl_vs_hodl_if_sold"], atol=0.005)


def test_rationale_ends_with_the_answer(corpora):
    for build in (build_trade_or_skip_corpus, build_pick_candidate_corpus):
        bare = build(corpora.dataset, boundaries=corpora.boundaries)
        reasoned = build(corpora.dataset, boundaries=corpora.boundaries, params=RenderParams(rationale=True))
        assert reasoned["assistant"].map(answer_of).tolist() == bare["assistant"].tolist()


def test_no_decisions_give_empty_corpora(corpora):
    nothing = corpora.dataset.iloc[:0]
    assert build_trade_or_skip_corpus(nothing, boundaries=corpora.boundaries).empty
    assert build_pick_candidate_corpus(nothing, boundaries=corpora.boundaries).empty
    replay, evaluations = paper_trades(nothing)
    assert build_replay_corpus(replay, evaluations, boundaries=corpora.boundaries).empty


def test_an_unreadable_decision_context_is_named():
    with pytest.raises(ValueError, match="trade t1: decision_context is not JSON"):
        read_decision_context("{", trade_id="t1")
    with pytest.raises(ValueError, match="trade t1: decision_context lacks 'decision_time'"):
        read_decision_context("{}", trade_id="t1")


def test_an_evaluation_without_its_trade_is_refused(corpora):
    replay, evaluations = paper_trades(corpora.dataset)
    with pytest.raises(ValueError, match="no such trade in the replay"):
        build_replay_corpus(replay.iloc[1:], evaluations, boundaries=corpora.boundaries)


def test_stable_instructions_are_many_unique_short_and_split(corpora):
    stable = corpora.stable
    assert len(stable) >= 120
    assert stable["user"].is_unique
    assert (stable["user"].str.len() + stable["assistant"].str.len()).max() < 400
    assert set(stable["split"]) == {"train", "val", "test"}
    assert stable["split"].eq("train").mean() == pytest.approx(0.7, abs=0.08)
