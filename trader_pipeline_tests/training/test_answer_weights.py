import numpy as np
import pandas as pd
import pytest

from trader_pipeline.training.answer_weights import answer_weight_table, balanced_weights
from trader_pipeline.training.records import chat_records

COUNTS = {
    ("train", "trade_or_skip", "SKIP"): 9,
    ("train", "trade_or_skip", "SELL_CALL"): 3,
    ("train", "pick_candidate", "NO_TRADE"): 8,
    ("train", "pick_candidate", "1"): 3,
    ("train", "pick_candidate", "2"): 1,
    ("train", "review", "It gained little.\nGOOD"): 2,
    ("train", "review", "It lost.\nBAD"): 6,
    ("train", "stable", "Paris."): 5,
    ("val", "trade_or_skip", "SKIP"): 3,
    ("val", "trade_or_skip", "SELL_CALL"): 1,
    ("val", "review", "Neither.\nOK"): 1,
    ("val", "stable", "Rome."): 2,
    ("test", "trade_or_skip", "SKIP"): 4,
}


def lopsided_corpus() -> pd.DataFrame:
    rows = [key for key, count in COUNTS.items() for _ in range(count)]
    corpus = pd.DataFrame(rows, columns=["split", "kind", "assistant"])
    return corpus.assign(system="s", user=[f"u{i}" for i in range(len(corpus))])


def totals(corpus: pd.DataFrame, split: str = "train") -> dict[tuple[str, str], float]:
    rows = corpus[corpus["split"] == split]
    last = rows["assistant"].str.rsplit("\n").str[-1]
    return rows["weight"].groupby([rows["kind"], last]).sum().to_dict()


def test_every_answer_of_a_kind_has_the_same_total_weight():
    found = totals(balanced_weights(lopsided_corpus()))
    assert found["trade_or_skip", "SKIP"] == pytest.approx(found["trade_or_skip", "SELL_CALL"])
    assert found["review", "GOOD"] == pytest.approx(found["review", "BAD"])


def test_picks_are_balanced_between_no_trade_and_a_call_whatever_its_number():
    found = totals(balanced_weights(lopsided_corpus()))
    calls = found["pick_candidate", "1"] + found["pick_candidate", "2"]
    assert found["pick_candidate", "NO_TRADE"] == pytest.approx(calls)
    assert found["pick_candidate", "1"] == pytest.approx(3 * found["pick_candidate", "2"])


def test_a_kind_keeps_its_weight_in_the_mix():
    balanced = balanced_weights(lopsided_corpus())
    train = balanced[balanced["split"] == "train"]
    assert np.allclose(train.groupby("kind")["weight"].mean(), 1)


def test_given_weights_are_multiplied():
    corpus = lopsided_corpus().assign(weight=np.linspace(0.5, 2, len(lopsided_corpus())))
    before, after = totals(corpus), totals(balanced_weights(corpus))
    for kind, answers in {"trade_or_skip": ("SKIP", "SELL_CALL"), "review": ("GOOD", "BAD")}.items():
        mean = sum(before[kind, answer] for answer in answers) / 2
        assert [after[kind, answer] for answer in answers] == pytest.approx([mean, mean])
    assert after["stable", "Paris."] == before["stable", "Paris."]
    skips = corpus.query("split == 'train' and assistant == 'SKIP'").index
    factors = balanced_weights(corpus)["weight"][skips] / corpus["weight"][skips]
    assert factors.nunique() == 1 or np.ptp(factors) < 1e-12


def test_validation_takes_the_factors_of_train_and_other_splits_stay():
    balanced = balanced_weights(lopsided_corpus())
    weights = balanced.groupby(["split", "kind", "assistant"])["weight"].first()
    for answer in ("SKIP", "SELL_CALL"):
        assert weights["val", "trade_or_skip", answer] == weights["train", "trade_or_skip", answer] != 1
    assert weights["val", "review", "Neither.\nOK"] == 1
    assert weights["val", "stable", "Rome."] == weights["train", "stable", "Paris."] == 1
    assert weights["test", "trade_or_skip", "SKIP"] == 1


def test_balanced_records_reach_training_with_their_weight():
    records = chat_records(balanced_weights(lopsided_corpus()), "train")
    found = {record["completion"][0]["content"]: record["weight"] for record in records}
    assert found["SELL_CALL"] == pytest.approx(2)
    assert found["SKIP"] == pytest.approx(2 / 3)


def test_rows_under_one_label_are_weighed_each_by_itself():
    corpus = pd.concat([lopsided_corpus(), lopsided_corpus()])
    assert totals(balanced_weights(corpus))["trade_or_skip", "SKIP"] == pytest.approx(12)


def test_table_tells_shares_before_and_after():
    corpus = lopsided_corpus()
    table = answer_weight_table(corpus, balanced_weights(corpus)).set_index(["kind", "answer"])
    assert list(table.index.get_level_values("kind").unique()) == [
        "pick_candidate",
        "review",
        "trade_or_skip",
    ]
    skip = table.loc["trade_or_skip", "SKIP"]
    assert skip["records"] == 9
    assert skip["share_before_pct"] == pytest.approx(75)
    assert skip["share_after_pct"] == pytest.approx(50)
    assert skip["factor"] == pytest.approx(2 / 3)
    assert table.loc["pick_candidate", "a call"]["records"] == 4
