import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trader_pipeline.corpora.labels import CorpusParams
from trader_pipeline.corpora.mixing import MixParams, allocate, even_sample, mix_corpora, windows_known_by
from trader_pipeline.corpora.quotas import Quota, allocate_cells
from trader_pipeline.corpora.trade_or_skip import build_trade_or_skip_corpus
from trader_pipeline.klines.regimes import RegimeParams, date_regime_windows
from trader_pipeline.schema import conform
from trader_pipeline.schema.tables import MIXED_CORPUS

ANSWER = ["split", "underlying", "assistant"]


def mix(corpora, *, regimes=None, trade=None, **params) -> tuple[pd.DataFrame, pd.DataFrame]:
    trade = corpora.trade if trade is None else trade
    params = {"regime_lag_days": 0} | params
    return mix_corpora(
        trade, corpora.pick, corpora.replay, corpora.stable, MixParams(**params), regimes=regimes
    )


def regimes_of(corpora) -> pd.DataFrame:
    """A bull over two thirds of the training time, then chop, then a dump over val and test."""
    start, val, end = (corpora.boundaries[s] for s in ("train", "val", "sealed"))
    cuts = [start, start + 0.66 * (val - start), val, end]
    return pd.DataFrame(
        {"regime": list("abc"), "label": ["bull", "chop", "dump"], "start": cuts[:-1], "end": cuts[1:]}
    )


def shares(frame: pd.DataFrame, regimes: pd.DataFrame, split: str) -> pd.Series:
    trading = frame[(frame["split"] == split) & (frame["kind"] != "stable")]
    place = regimes["start"].searchsorted(trading["decision_time"], side="right") - 1
    return pd.Series(regimes["label"].to_numpy()[place]).value_counts(normalize=True)


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
    assert (mixed["weight"] == 1).all()


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
    mixed, table = mix(corpora, max_train_records=100, regimes=regimes_of(corpora))
    answers = table[table["group"] == "answer"]
    skip = answers.set_index(["split", "kind", "value"]).loc[("train", "trade_or_skip", "SKIP")]
    train = corpora.trade[corpora.trade["split"] == "train"]
    assert skip["before"] == (train["assistant"] == "SKIP").sum()
    assert skip["after"] == 18
    assert answers["after"].sum() == len(mixed)
    trading = (mixed["kind"] != "stable").sum()
    for group in ("underlying", "regime"):
        assert table.loc[table["group"] == group, "after"].sum() == trading


def test_trade_or_skip_stays_balanced_in_every_split_and_underlying(corpora):
    for params in ({}, {"max_train_records": 77}, {"max_underlying_share": 0.5}, {"max_regime_share": 0.5}):
        mixed, _ = mix(corpora, regimes=regimes_of(corpora), **params)
        own = mixed[mixed["kind"] == "trade_or_skip"].groupby(ANSWER).size().unstack()
        assert (own["SELL_CALL"] == own["SKIP"]).all()


def test_weights_are_made_anew_and_are_one_on_average(corpora):
    trade = build_trade_or_skip_corpus(
        corpora.dataset, boundaries=corpora.boundaries, corpus_params=CorpusParams(balance="weights")
    )
    mixed, _ = mix(corpora, trade=trade, max_train_records=150)
    own = mixed[mixed["kind"] == "trade_or_skip"].groupby(ANSWER)["weight"].sum().unstack()
    heads = mixed[mixed["kind"] == "trade_or_skip"].groupby(ANSWER).size().unstack()
    assert np.allclose(own["SELL_CALL"], own["SKIP"])
    assert (heads["SELL_CALL"] < heads["SKIP"]).all()
    assert np.allclose(mixed.groupby("split")["weight"].mean(), 1)


@pytest.mark.parametrize("share", [0.5, 0.55])
def test_no_regime_has_more_than_its_share_of_the_training_records(corpora, share):
    regimes = regimes_of(corpora)
    free, _ = mix(corpora, max_train_records=500)
    held, _ = mix(corpora, max_train_records=500, regimes=regimes, max_regime_share=share)
    assert shares(free, regimes, "train").max() > share
    assert shares(held, regimes, "train").max() <= share
    stable = held[held["split"] == "train"]["kind"].eq("stable")
    assert abs(stable.sum() - 0.2 * len(stable)) <= 1


def test_no_underlying_has_more_than_its_share(corpora):
    few = corpora.trade[(corpora.trade["underlying"] == "BTC") | (corpora.trade["decision_time"].dt.day < 8)]
    mixed, _ = mix(corpora, trade=few, max_underlying_share=0.5)
    for split in ("train", "val"):
        own = mixed[(mixed["split"] == split) & (mixed["kind"] != "stable")]
        assert own["underlying"].value_counts(normalize=True).max() <= 0.5


def test_val_in_one_regime_is_not_held_to_a_quota_that_it_cannot_meet(corpora):
    mixed, _ = mix(corpora, regimes=regimes_of(corpora), max_regime_share=0.6, max_val_records=20)
    assert (mixed["split"] == "val").sum() == 20


def test_a_quota_that_train_cannot_meet_is_refused(corpora):
    with pytest.raises(
        ValueError, match=r"max_regime_share 0\.4 cannot hold: all records are of bull, not dated;.* 0\.5"
    ):
        mix(corpora, regimes=regimes_of(corpora), max_regime_share=0.4)
    with pytest.raises(ValueError, match="max_regime_share needs the regime windows"):
        mix(corpora, max_regime_share=0.4)


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


@settings(deadline=None, max_examples=60)
@given(
    total=st.integers(0, 3000),
    available=st.lists(st.integers(0, 200), min_size=12, max_size=12),
    share=st.floats(0.34, 1),
    underlying_share=st.floats(0.5, 1),
)
def test_quotas_hold_to_the_record_whatever_there_is(total, available, share, underlying_share):
    cells = pd.DataFrame(
        [(k, u, r) for k in ("pairs", "single") for u in "BE" for r in ("bull", "chop", "dump")],
        columns=["kind", "underlying", "regime"],
    )
    cells["unit"] = np.where(cells["kind"] == "pairs", 2, 1)
    cells["available"] = np.array(available) // cells["unit"] * cells["unit"]
    quotas = [Quota("regime", share), Quota("underlying", underlying_share)]
    held = [cells.loc[cells["available"] > 0, q.column].nunique() for q in quotas]
    if any(0 < n * q.share < 1 for n, q in zip(held, quotas, strict=True)):
        with pytest.raises(ValueError, match="cannot hold"):
            allocate_cells(cells, total, {"pairs": 1, "single": 1}, quotas)
        return
    counts = allocate_cells(cells, total, {"pairs": 1, "single": 1}, quotas)
    assert counts.sum() <= total
    assert (counts <= cells["available"]).all()
    assert (counts % cells["unit"] == 0).all()
    for quota in quotas:
        assert pd.Series(counts).groupby(cells[quota.column]).sum().max() <= quota.share * counts.sum() + 1e-6


def test_a_quota_costs_no_more_records_than_it_must():
    cells = pd.DataFrame({"kind": "a", "regime": ["bull", "chop"], "available": [1000, 100], "unit": 1})
    assert allocate_cells(cells, 5000, {"a": 1.0}, [Quota("regime", 0.5)]).tolist() == [100, 100]
    assert allocate_cells(cells, 5000, {"a": 1.0}, [Quota("regime", 0.8)]).tolist() == [400, 100]
    assert allocate_cells(cells, 120, {"a": 1.0}, [Quota("regime", 0.5)]).tolist() == [60, 60]


def test_a_split_without_trading_records_is_refused(corpora):
    none = [f[f["split"] != "val"] for f in (corpora.trade, corpora.pick, corpora.replay)]
    with pytest.raises(ValueError, match="no trading records in split val"):
        mix_corpora(*none, corpora.stable, MixParams())


def test_a_stable_share_without_stable_records_is_refused(corpora):
    with pytest.raises(
        ValueError, match=r"mix\.stable_share 0\.2 .*there are none: .*stable\.path more.*mix\.stable_share=0"
    ):
        mix_corpora(corpora.trade, corpora.pick, corpora.replay, corpora.stable.iloc[:0], MixParams())


def daily_candles(closes: np.ndarray) -> pd.DataFrame:
    day = pd.date_range("2020-01-01", periods=len(closes), freq="D", tz="UTC")
    return pd.DataFrame(
        {"open_time": day, "close_time": day + pd.Timedelta(days=1), "open": closes, "close": closes}
    )


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), share=st.floats(0.2, 0.95), drift=st.sampled_from([-0.01, 0.0, 0.01]))
def test_no_later_candle_moves_a_window_that_counts_as_known(seed, share, drift):
    generator = np.random.default_rng(seed)
    moves = generator.normal(0, 0.04, 900)
    cut = int(share * 900)
    later = np.concatenate([moves[:cut], generator.normal(drift, 0.04, 900 - cut)])
    moment = pd.Timestamp("2020-01-01", tz="UTC") + pd.Timedelta(days=cut)
    lag = pd.Timedelta(days=RegimeParams().stall_days)
    known = [
        windows_known_by(
            date_regime_windows(daily_candles(100 * np.exp(np.cumsum(m)))), moment, lag=lag
        ).reset_index(drop=True)
        for m in (moves, later)
    ]
    pd.testing.assert_frame_equal(*known)


def test_windows_of_a_long_past_trend_count_as_known():
    start = pd.Timestamp("2020-01-01", tz="UTC")
    edges = [start + pd.Timedelta(days=d) for d in (0, 100, 200, 300, 400)]
    regimes = pd.DataFrame({"label": ["bull", "chop", "dump", "chop"], "start": edges[:-1], "end": edges[1:]})
    moment, lag = start + pd.Timedelta(days=380), pd.Timedelta(days=72)
    assert windows_known_by(regimes, moment, lag=lag)["label"].tolist() == ["bull", "chop", "dump"]
    assert windows_known_by(regimes, edges[3], lag=lag)["label"].tolist() == ["bull"]
    assert windows_known_by(regimes, edges[0], lag=lag).empty


def test_the_label_of_a_window_that_is_not_over_when_train_ends_changes_no_training_record(corpora):
    regimes = regimes_of(corpora)
    other = regimes.assign(label=["bull", "bull", "chop"])
    mixed = [
        mix(corpora, regimes=windows, max_regime_share=0.5, max_train_records=500)[0]
        for windows in (regimes, other)
    ]
    left, right = (m[m["split"] == "train"].reset_index(drop=True) for m in mixed)
    pd.testing.assert_frame_equal(left, right)
