"""What a result gives back: chains with their legs, files, figures, and the five lines that the README promises."""

import dataclasses
import json
import re
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from trader_pipeline.backtest import AlwaysPolicy, BacktestResult, NeverPolicy, TeacherPolicy, summarise
from trader_pipeline.backtest.chains import build_chains, chains_frame
from trader_pipeline.backtest.summary import metrics_by_style
from trader_pipeline.backtest.writing import csv_bytes, write_result
from trader_pipeline.options import OptionParams
from trader_pipeline_tests.backtest.runs import run
from trader_pipeline_tests.options.markets import at, random_candles

REPOSITORY = Path(__file__).resolve().parents[2]
FRAME = random_candles(11, "2024-01-01", 24 * 110)
SHARED_FIGURES = [
    "decisions", "trades", "failed", "without_quotes", "sell_rate", "hit_rate", "mean_pnl_vs_hodl",
    "total_pnl_vs_hodl", "mean_reward", "total_reward", "total_pnl_coin", "total_fees_coin", "mean_legs",
    "max_drawdown_pct",
]  # fmt: skip
POLICIES = {"teacher": TeacherPolicy(6.8), "always": AlwaysPolicy(), "never": NeverPolicy()}


@cache
def simulated(mode: str, policy: str = "teacher", end: str = "2024-02-25") -> BacktestResult:
    return run(
        FRAME, "2024-02-05", end, policy=POLICIES[policy], mode=mode, options=OptionParams(), max_candidates=8
    )


@pytest.mark.parametrize("mode", ["independent", "sequential"])
def test_chains_are_the_steps_that_sold_each_with_its_own_legs(mode):
    result = simulated(mode, "always")
    sold = result.steps[result.steps["action"] == "SELL_CALL"].reset_index(drop=True)
    chains = build_chains(result.steps, result.legs)
    assert len(chains) == len(sold) > 2
    assert max(len(c.legs) for c in chains) > 1, "no chain was rolled; the test would show little"
    for chain, row in zip(chains, sold.itertuples(), strict=True):
        assert (chain.decision_time, chain.exit_style) == (row.decision_time, row.exit_style)
        assert (chain.spot, chain.reward, chain.pnl_vs_hodl) == (row.spot, row.reward, row.pnl_vs_hodl)
        assert len(chain.legs) == row.legs
        assert chain.legs[0].instrument == row.instrument
    assert sum(len(c.legs) for c in chains) == len(result.legs)


@pytest.mark.parametrize("mode", ["independent", "sequential"])
def test_legs_of_a_chain_follow_each_other_and_add_up_to_it(mode):
    for chain in build_chains(simulated(mode, "always").steps, simulated(mode, "always").legs):
        assert chain.pnl_coin == pytest.approx(sum(leg.pnl_coin for leg in chain.legs), abs=1e-12)
        fees = sum(leg.entry_fee_coin + leg.exit_fee_coin for leg in chain.legs)
        assert chain.fees_coin == pytest.approx(fees, abs=1e-12)
        assert chain.legs[0].entry_time >= chain.decision_time
        assert chain.legs[-1].exit_time == chain.end_time
        for leg, following in zip(chain.legs, chain.legs[1:], strict=False):
            assert leg.exit_reason == "take_profit"
            assert leg.exit_time <= following.entry_time
        for leg in chain.legs:
            assert leg.exit_reason == "take_profit" or leg.exit_time == leg.expiry
            assert chain.exit_style == "tp_and_roll" or leg.exit_reason == "expired"


def test_chains_do_not_depend_on_the_order_of_the_legs():
    result = simulated("independent", "always")
    shuffled = result.legs.sample(frac=1, random_state=3)
    assert build_chains(result.steps, shuffled) == build_chains(result.steps, result.legs)
    pd.testing.assert_frame_equal(
        chains_frame(result.steps, shuffled), chains_frame(result.steps, result.legs)
    )


def test_chains_cannot_be_changed():
    chain = build_chains(simulated("independent").steps, simulated("independent").legs)[0]
    with pytest.raises(dataclasses.FrozenInstanceError):
        chain.reward = 0.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        chain.legs[0].strike = 0.0


def test_frames_of_different_runs_are_not_joined():
    result = simulated("independent", "always")
    with pytest.raises(ValueError, match=r"legs in the steps and 0 in the legs; give both frames of one run"):
        build_chains(result.steps, result.legs.iloc[1:])


def test_chains_frame_says_what_the_chains_say():
    result = simulated("independent", "always")
    frame = chains_frame(result.steps, result.legs)
    for chain, row in zip(build_chains(result.steps, result.legs), frame.itertuples(), strict=True):
        assert (chain.decision_time, chain.end_time, chain.pnl_coin) == (
            row.decision_time, row.end_time, row.pnl_coin,
        )  # fmt: skip
        assert (chain.legs[0].instrument, chain.legs[0].strike) == (row.instrument, row.strike)
        assert (len(chain.legs), chain.legs[-1].exit_reason) == (row.legs, row.exit_reason)
        assert row.premium_coin == pytest.approx(sum(leg.premium_coin for leg in chain.legs), abs=1e-12)


def test_without_a_trade_there_are_no_chains_and_the_frame_has_its_columns():
    never, always = simulated("sequential", "never"), simulated("sequential", "always")
    assert build_chains(never.steps, never.legs) == []
    empty = chains_frame(never.steps, never.legs)
    assert len(empty) == 0
    assert list(empty.columns) == list(chains_frame(always.steps, always.legs).columns)


@pytest.mark.parametrize("mode", ["independent", "sequential"])
def test_files_read_back_are_the_frames(tmp_path, mode):
    result = simulated(mode)
    paths = write_result(result, tmp_path / "out")
    names = ["steps", "chains", "legs", "candidates", *(["equity"] if mode == "sequential" else [])]
    assert [p.name for p in paths] == [*(f"{n}.csv" for n in names), "metrics.json"]
    assert sorted(paths) == sorted((tmp_path / "out").iterdir())
    for name in names:
        frame = chains_frame(result.steps, result.legs) if name == "chains" else getattr(result, name)
        times = [c for c in frame.columns if frame[c].dtype.kind == "M"]
        back = pd.read_csv(tmp_path / "out" / f"{name}.csv", float_precision="round_trip")
        assert len(back) == len(frame) > 0
        for column in times:
            assert back[column].str.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00").all()
            back[column] = pd.to_datetime(back[column], utc=True)
        pd.testing.assert_frame_equal(back, frame.reset_index(drop=True), check_dtype=False, check_exact=True)


@pytest.mark.parametrize("policy", POLICIES)
def test_metrics_file_is_strict_json_and_says_what_was_run(tmp_path, policy):
    write_result(simulated("sequential", policy), tmp_path)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    content = json.loads((tmp_path / "metrics.json").read_text(), parse_constant=refuse)
    assert (content["market"], content["mode"], content["size"]) == ("BTC_1h", "sequential", 1.0)
    assert content["policy"] == POLICIES[policy].name
    assert content["metrics"].keys() == {"hold_to_expiry", "tp_and_roll"}
    assert content["metrics"]["hold_to_expiry"]["days"] >= 20


def test_same_result_is_written_as_the_same_bytes(tmp_path):
    first, second = (write_result(simulated("sequential"), tmp_path / name) for name in ("a", "b"))
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]


def test_a_file_in_the_way_is_named_and_nothing_is_written(tmp_path):
    (tmp_path / "legs.csv").write_text("mine")
    with pytest.raises(FileExistsError, match=r"holds legs\.csv already; nothing was written"):
        write_result(simulated("independent"), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["legs.csv"]
    assert (tmp_path / "legs.csv").read_text() == "mine"


def test_text_that_would_break_the_csv_is_refused():
    with pytest.raises(ValueError, match="CSV"):
        csv_bytes(pd.DataFrame({"reason": ["one, two"]}))


@pytest.mark.parametrize("policy", POLICIES)
def test_both_modes_share_their_figures_and_a_book_adds_its_performance(policy):
    single = metrics_by_style(simulated("independent", policy).steps, simulated("independent", policy).equity)
    book = metrics_by_style(simulated("sequential", policy).steps, simulated("sequential", policy).equity)
    for style in ("hold_to_expiry", "tp_and_roll"):
        assert list(single[style]) == SHARED_FIGURES
        assert list(book[style])[: len(SHARED_FIGURES)] == SHARED_FIGURES
        assert {"return_pct", "hodl_return_pct", "annual_return", "sharpe_ratio", "days"} <= book[
            style
        ].keys()
        assert np.isfinite(list(book[style].values())).all()


def test_book_that_never_sells_is_hodl_in_every_figure():
    for _, row in summarise(simulated("sequential", "never")).iterrows():
        for figure in (
            "return_pct",
            "max_drawdown_pct",
            "annual_return",
            "annual_volatility",
            "sharpe_ratio",
        ):
            assert row[figure] == row[f"hodl_{figure}"]
        assert (
            row["return_vs_hodl_pct"] == row["max_drawdown_vs_hodl_pct"] == row["annual_return_vs_hodl"] == 0
        )
        assert np.isnan(row["sharpe_ratio_vs_hodl"])


def test_gain_of_the_book_in_coins_is_what_its_chains_gained():
    result = simulated("sequential", "always")
    for style, row in summarise(result).set_index("exit_style").iterrows():
        coins, book = 1.0, result.equity[result.equity["exit_style"] == style].set_index("close_time")
        over = [c for c in result.chains if c.exit_style == style and c.end_time in book.index]
        for chain in over:
            coins += min(1.0, coins) * chain.pnl_coin
            assert book.loc[chain.end_time, "equity_usd"] / book.loc[chain.end_time, "hodl_usd"] == (
                pytest.approx(coins, rel=1e-9)
            )
        assert over
        last = book.iloc[-1]
        assert row["return_vs_hodl_pct"] == pytest.approx(100 * (last["equity_usd"] / last["hodl_usd"] - 1))


def test_result_hands_out_its_chains_as_objects_as_a_frame_and_as_files(tmp_path):
    result = simulated("sequential", "always")
    assert result.chains == build_chains(result.steps, result.legs)
    pd.testing.assert_frame_equal(result.to_dataframe(), chains_frame(result.steps, result.legs))
    paths = result.to_csv(tmp_path)
    assert paths[-1] == tmp_path / "metrics.json"
    assert json.loads(paths[-1].read_text())["metrics"] == result.metrics()


def snippet(page: str) -> str:
    (code,) = re.findall(r"```python\n(.*?)```", (REPOSITORY / page).read_text(), flags=re.DOTALL)
    return code


def test_readme_gets_from_candles_to_a_result_in_five_lines():
    lines = [line for line in snippet("README.md").splitlines() if line and not line.startswith("#")]
    assert len(lines) == 5
    assert "run_backtest(" in lines[3]


def test_candles_need_no_more_columns_than_the_readme_names():
    names: dict[str, object] = {}
    *imports, candles, result, _ = [line for line in snippet("README.md").splitlines() if line]
    exec("\n".join([*imports, candles]), names)
    named = ["open_time", "open", "high", "low", "close", "close_time"]
    names["candles"] = names["candles"][named].assign(extra="ignored")
    exec(result, names)
    whole = names["result"]
    assert whole.steps["decision_time"].min() == at("2021-03-01")
    assert whole.metrics().keys() == {"hold_to_expiry", "tp_and_roll"}
