import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trader_pipeline.corpora.checks import check_corpus
from trader_pipeline.corpora.mixing import MixParams, allocate, even_sample, mix_corpora
from trader_pipeline.schema import conform
from trader_pipeline.schema.tables import MIXED_CORPUS


def mix(corpora, **settings) -> tuple[pd.DataFrame, pd.DataFrame]:
    return mix_corpora(corpora.trade, corpora.pick, corpora.replay, corpora.stable, MixParams(**settings))


def test_caps_shares_and_balance_are_exact(corpora):
    mixed, _ = mix(corpora, max_train_records=100, max_val_records=20, stable_share=0.2, replay_share=0.1)
    conform(mixed, MIXED_CORPUS)
    train = mixed[mixed["split"] == "train"]
    assert train["kind"].value_counts().to_dict() == {
        "trade_or_skip": 36, "pick_candidate": 36, "stable": 20, "replay": 8,
    }  # fmt: skip
    answers = train[train["kind"] == "trade_or_skip"]["assistant"].value_counts()
    assert answers.to_dict() == {"SELL_CALL": 18, "SKIP": 18}
    assert (mixed["split"] == "val").sum() == 20
    assert check_corpus(mixed) == []


@pytest.mark.parametrize("share", [0.0, 0.1, 0.33, 0.7])
def test_stable_share_is_exact_to_one_record_even_where_instructions_repeat(corpora, share):
    mixed, _ = mix(corpora, max_train_records=600, stable_share=share)
    train = mixed[mixed["split"] == "train"]
    assert abs((train["kind"] == "stable").sum() - share * len(train)) <= 1
    assert len(train) <= 600
    assert train["record_id"].is_unique


def test_order_of_the_inputs_does_not_matter_and_the_seed_does(corpora):
    mixed, table = mix(corpora, max_train_records=120)
    shuffled = [
        f.sample(frac=1, random_state=3)
        for f in (corpora.trade, corpora.pick, corpora.replay, corpora.stable)
    ]
    again, table_again = mix_corpora(*shuffled, MixParams(max_train_records=120))
    pd.testing.assert_frame_equal(mixed, again)
    pd.testing.assert_frame_equal(table, table_again)
    assert mix(corpora, max_train_records=120, seed=1)[0]["record_id"].tolist() != mixed["record_id"].tolist()


def test_table_counts_before_and_after(corpora):
    mixed, table = mix(corpora, max_train_records=100)
    skip = table.set_index(["split", "kind", "answer"]).loc[("train", "trade_or_skip", "SKIP")]
    train = corpora.trade[corpora.trade["split"] == "train"]
    assert skip["before"] == (train["assistant"] == "SKIP").sum()
    assert skip["after"] == 18
    assert table["after"].sum() == len(mixed)


def test_sampling_is_spread_over_time(corpora):
    train = corpora.trade[corpora.trade["split"] == "train"]
    sample = even_sample(train, 30, seed=0)
    thirds = pd.qcut(train["decision_time"], 3, labels=False).loc[sample.index].value_counts()
    assert len(sample) == 30
    assert thirds.min() >= 9


@given(
    total=st.integers(0, 500),
    available=st.lists(st.integers(0, 300), min_size=3, max_size=3),
    weights=st.lists(st.floats(0.01, 1), min_size=3, max_size=3),
)
def test_allocation_uses_all_that_it_may(total, available, weights):
    stock = dict(zip("abc", available, strict=True))
    quota = allocate(total, stock, dict(zip("abc", weights, strict=True)))
    assert sum(quota.values()) == min(total, sum(available))
    assert all(0 <= quota[k] <= stock[k] for k in stock)


def test_a_split_without_trading_records_is_refused(corpora):
    none = [f[f["split"] != "val"] for f in (corpora.trade, corpora.pick, corpora.replay)]
    with pytest.raises(ValueError, match="no trading records in split val"):
        mix_corpora(*none, corpora.stable, MixParams())


def test_a_stable_share_without_stable_records_is_refused(corpora):
    with pytest.raises(ValueError, match="there are none"):
        mix_corpora(corpora.trade, corpora.pick, corpora.replay, corpora.stable.iloc[:0], MixParams())
