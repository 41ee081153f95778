import hashlib
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from trader_pipeline.datasets import market_features
from trader_pipeline.paper import PaperParams, replay_paper_trades
from trader_pipeline.schema import validate
from trader_pipeline.schema.columns import FEATURES
from trader_pipeline.schema.tables import PAPER_REPLAY
from trader_pipeline_tests.datasets.frames import HOUR
from trader_pipeline_tests.paper.trades import KLINES, MARKET, Result, sequential_result

RESULT = sequential_result()


def replay(result: Result = RESULT, klines: pd.DataFrame = KLINES, **params: object) -> pd.DataFrame:
    return replay_paper_trades(
        result, klines, market=MARKET, model_id="teacher", source_hash="ab12", params=PaperParams(**params)
    )


def test_each_chain_of_the_exit_style_is_one_closed_trade():
    trades = replay()
    validate(trades, PAPER_REPLAY)
    assert list(trades.columns) == PAPER_REPLAY.column_names
    assert len(trades) == 2
    assert trades["exit_style"].eq("tp_and_roll").all()
    assert trades["status"].eq("CLOSED").all()
    assert len(replay(exit_style="hold_to_expiry")) == 2


def test_legs_of_a_rolled_chain_are_drawn_together():
    trade = replay().iloc[0]
    step = RESULT.steps[
        RESULT.steps["action"].eq("SELL_CALL") & RESULT.steps["exit_style"].eq("tp_and_roll")
    ].iloc[0]
    assert trade["symbol"] == step["instrument"], "the first leg names the trade"
    assert (trade["entry_price"], trade["exit_price"]) == (0.0095, 0.001), "first premium, last exit"
    assert trade["fee"] == pytest.approx(0.0003 + 0.0002 + 0.0003, abs=1e-15)
    assert (trade["entry_ts"], trade["exit_ts"]) == (step["decision_time"], step["label_end_time"])
    assert trade["timestamp"] == trade["exit_ts"]


def test_leg_order_in_the_input_does_not_matter():
    turned = Result(RESULT.steps[::-1], RESULT.legs[::-1], RESULT.candidates[::-1])
    pd.testing.assert_frame_equal(replay(turned), replay(), check_exact=True)


def test_returns_are_over_the_coins_value_at_the_decision():
    trade = replay(replace(RESULT, size=2.0)).iloc[0]
    spot = RESULT.steps["spot"].iloc[0]
    assert trade["pnl_pct"] == pytest.approx(100 * 39.0 / (2 * spot), rel=1e-14)
    assert trade["covered_return_pct"] == pytest.approx(100 * 69.5 / (2 * spot), rel=1e-14)
    assert (trade["size"], trade["entry_price"], trade["exit_price"]) == (2.0, 0.00475, 0.0005), (
        "prices are per coin"
    )


def test_trade_id_is_the_hash_of_market_time_style_and_instrument():
    trade = replay().iloc[0]
    identity = f"BTC_1h|2024-02-01T08:00:00+00:00|tp_and_roll|{trade['symbol']}"
    assert trade["trade_id"] == hashlib.sha256(identity.encode()).hexdigest()[:16]


def test_decision_context_holds_what_was_seen_and_nothing_else():
    trade = replay().iloc[0]
    text = trade["decision_context"]
    context = json.loads(text)
    assert text == json.dumps(context, sort_keys=True)
    assert sorted(context) == sorted(
        [
            "underlying",
            "exit_style",
            "spot",
            "decision_time",
            "instrument",
            "strike",
            "dte",
            "delta",
            "iv",
            "premium_yield_pct",
            "ivrv_ratio",
            "distance_to_strike_atr",
            "score",
            "features",
        ]
    )
    assert context["decision_time"] == "2024-02-01T08:00:00+00:00"
    moment = pd.DatetimeIndex([context["decision_time"]])
    assert context["features"] == market_features(KLINES, moment, step=HOUR)[list(FEATURES)].iloc[0].to_dict()
    seen = RESULT.candidates[RESULT.candidates["instrument"] == context["instrument"]].iloc[0]
    for name in ("strike", "dte", "delta", "iv", "premium_yield_pct", "ivrv_ratio", "score", "spot"):
        assert context[name] == seen[name]


def test_context_and_reasoning_do_not_change_with_the_future():
    changed = KLINES.copy()
    late = changed["close_time"] > RESULT.steps["decision_time"].iloc[0]
    changed.loc[late, ["open", "high", "low", "close"]] *= np.linspace(0.5, 2.0, int(late.sum()))[:, None]
    steps = RESULT.steps.assign(reward=-5.0 * RESULT.steps["legs"], pnl_vs_hodl=-3.0 * RESULT.steps["legs"])
    before, after = replay(), replay(Result(steps, RESULT.legs, RESULT.candidates), changed)
    for name in ("decision_context", "reasoning", "trade_id"):
        assert before[name][0] == after[name][0]
    assert before["pnl_pct"][0] != after["pnl_pct"][0]


def test_no_sale_gives_an_empty_table():
    idle = Result(RESULT.steps[RESULT.steps["action"] == "DO_NOTHING"], RESULT.legs[:0], RESULT.candidates)
    assert list(replay(idle).columns) == PAPER_REPLAY.column_names
    assert replay(idle).empty


def test_an_exit_style_that_was_not_run_is_refused():
    held = RESULT.steps[RESULT.steps["exit_style"] == "hold_to_expiry"]
    with pytest.raises(ValueError, match="no steps of exit style tp_and_roll; it was run for hold_to_expiry"):
        replay(replace(RESULT, steps=held))


def test_overlapping_chains_are_refused():
    steps, legs = RESULT.steps, RESULT.legs.copy()
    legs["exit_time"] += pd.Timedelta(days=5)
    with pytest.raises(ValueError, match="sequential mode"):
        replay(Result(steps, legs, RESULT.candidates))


def test_a_chain_without_legs_or_without_its_candidate_is_refused():
    with pytest.raises(ValueError, match="has no legs"):
        replay(Result(RESULT.steps, RESULT.legs[:1], RESULT.candidates))
    with pytest.raises(ValueError, match="not among that step's candidates"):
        replay(Result(RESULT.steps, RESULT.legs, RESULT.candidates[:0]))
