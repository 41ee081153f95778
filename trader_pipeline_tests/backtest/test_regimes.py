"""Figures by regime: where a decision and a mark count, and that the parts make up the whole."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from trader_pipeline.backtest import BacktestResult, summarise
from trader_pipeline.backtest.regimes import NOT_DATED, regime_names, summarise_by_regime
from trader_pipeline.schema import regime_key
from trader_pipeline_tests.backtest.runs import run
from trader_pipeline_tests.options.markets import at, random_candles

FRAME = random_candles(11, "2024-01-01", 24 * 130)


def windows_of(*spans: tuple[str, str, str]) -> pd.DataFrame:
    """Windows by label, first day and day after the last."""
    rows = [
        {
            "regime": regime_key(label, at(first), at(end) - pd.Timedelta(days=1)), "underlying": "BTC",
            "label": label, "start": at(first), "end": at(end), "provisional": False,
        }
        for label, first, end in spans
    ]  # fmt: skip
    return pd.DataFrame(rows)


WINDOWS = windows_of(
    ("chop", "2024-02-08", "2024-02-20"),
    ("bull", "2024-02-20", "2024-03-01"),
    ("chop", "2024-03-01", "2024-07-01"),
)


@pytest.fixture(scope="module")
def book() -> BacktestResult:
    return run(FRAME, "2024-02-05", "2024-03-16", mode="sequential", max_candidates=10, score_threshold=5.0)


@pytest.fixture(scope="module")
def each() -> BacktestResult:
    return run(FRAME, "2024-02-05", "2024-03-16", max_candidates=10, score_threshold=5.0)


def test_window_holds_its_start_and_not_its_end() -> None:
    times = pd.Series(
        [at(t) for t in ("2024-02-07 23:59", "2024-02-08", "2024-02-20", "2024-06-30", "2024-07-01")]
    )
    named = regime_names(times, WINDOWS, by="label")
    assert named.tolist() == [NOT_DATED, "chop", "bull", "chop", NOT_DATED]
    assert regime_names(times, WINDOWS, by="regime")[1] == "chop_20240208_20240219"
    assert set(regime_names(times, WINDOWS.iloc[:0], by="label")) == {NOT_DATED}


def test_chains_count_in_the_regime_in_which_they_were_decided(each: BacktestResult) -> None:
    table = summarise_by_regime(each, WINDOWS).set_index(["label", "exit_style"])
    days = {"chop": 12 + 15, "bull": 10, NOT_DATED: 3}
    for label, number in days.items():
        assert table.loc[(label, "hold_to_expiry"), "decisions"] == number
    sold = each.steps[(each.steps["exit_style"] == "tp_and_roll") & (each.steps["action"] == "SELL_CALL")]
    inside = sold[(sold["decision_time"] >= at("2024-02-20")) & (sold["decision_time"] < at("2024-03-01"))]
    row = table.loc[("bull", "tp_and_roll")]
    assert row["trades"] == len(inside) > 0
    assert row["hit_rate"] == (inside["pnl_vs_hodl"] > 0).mean()
    assert row["total_pnl_vs_hodl"] == pytest.approx(inside["pnl_vs_hodl"].sum())


@pytest.mark.parametrize("by", ["label", "regime"])
def test_regimes_make_up_the_whole_run(book: BacktestResult, each: BacktestResult, by: str) -> None:
    for result in (book, each):
        whole = summarise(result).set_index("exit_style")
        parts = summarise_by_regime(result, WINDOWS, by=by).groupby("exit_style")
        for name in ("decisions", "trades", "total_pnl_vs_hodl", "total_fees_coin"):
            assert parts[name].sum().to_numpy() == pytest.approx(whole[name].to_numpy(dtype=float))
    growth = (1 + summarise_by_regime(book, WINDOWS, by=by).set_index("exit_style")[
        ["return_vs_hodl_pct", "hodl_return_pct"]
    ] / 100).groupby(level=0).prod()  # fmt: skip
    whole = summarise(book).set_index("exit_style")
    assert growth["hodl_return_pct"].to_numpy() == pytest.approx(
        1 + whole["hodl_return_pct"].to_numpy() / 100
    )
    over = (1 + whole["return_pct"] / 100) / (1 + whole["hodl_return_pct"] / 100)
    assert growth["return_vs_hodl_pct"].to_numpy() == pytest.approx(over.to_numpy())


def test_growth_of_a_regime_is_that_between_its_first_and_last_mark(book: BacktestResult) -> None:
    held = book.equity[book.equity["exit_style"] == "hold_to_expiry"].set_index("close_time")
    first, last = held.loc[at("2024-02-20")], held.loc[at("2024-03-01")]
    row = (
        summarise_by_regime(book, WINDOWS).set_index(["label", "exit_style"]).loc[("bull", "hold_to_expiry")]
    )
    assert row["hodl_return_pct"] == pytest.approx(100 * (last["hodl_usd"] / first["hodl_usd"] - 1))
    ratio = (last["equity_usd"] / last["hodl_usd"]) / (first["equity_usd"] / first["hodl_usd"])
    assert row["return_vs_hodl_pct"] == pytest.approx(100 * (ratio - 1))


def test_labels_stand_in_their_order_and_undated_ones_last(book: BacktestResult) -> None:
    table = summarise_by_regime(book, WINDOWS)
    assert list(dict.fromkeys(table["label"])) == ["bull", "chop", NOT_DATED]
    assert np.isfinite(table.select_dtypes("number").to_numpy()).all()
    by_window = summarise_by_regime(book, WINDOWS, by="regime")["regime"]
    assert list(dict.fromkeys(by_window)) == [*WINDOWS["regime"], NOT_DATED]


def test_without_windows_all_is_undated(each: BacktestResult) -> None:
    table = summarise_by_regime(each, WINDOWS.iloc[:0])
    assert set(table["label"]) == {NOT_DATED}
    assert table["decisions"].tolist() == [40, 40]
