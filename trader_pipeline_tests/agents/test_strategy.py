import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pandas as pd
import pytest
from fractal.core.launcher import Launcher
from hypothesis import given
from hypothesis import strategies as st

from trader_pipeline.agents.asking import FAULTS, AgentReply
from trader_pipeline.agents.decisions import decisions_frame
from trader_pipeline.agents.observations import SPOT, JsonObservationsStorage, observations_of
from trader_pipeline.agents.strategy import AgentTradingParams, AgentTradingStrategy, _down
from trader_pipeline_tests.agents.scripted import (
    HOUR,
    START,
    ScriptedAsker,
    buy,
    hold,
    hourly_candles,
    reply,
    sell,
)


def run(candles, replies, **params):
    asker = ScriptedAsker(replies)
    strategy = AgentTradingStrategy(decide=asker.ask, params=AgentTradingParams(**params))
    result = strategy.run(list(observations_of(candles)))
    return result, decisions_frame(strategy.decisions), asker


def test_a_decision_is_made_at_the_close_and_filled_at_the_next_open():
    candles = hourly_candles(3)
    result, decisions, _ = run(candles, [buy(4000)])
    first = decisions.iloc[0]
    assert first["decision_time"] == candles["close_time"][0]
    assert first["fill_time"] == candles["open_time"][1]
    assert first["fill_price"] == candles["open"][1]
    assert first["order"] == "filled"
    assert [state[SPOT].cash for state in result.internal_states] == [10_000, 6000, 6000]


def test_an_order_before_a_gap_fills_at_the_first_open_after_it():
    candles = hourly_candles(10).drop(index=range(2, 7)).reset_index(drop=True)
    _, decisions, _ = run(candles, [hold(), buy(4000)])
    assert decisions["decision_time"][1] == START + 2 * HOUR
    assert decisions["fill_time"][1] == START + 7 * HOUR
    assert decisions["fill_price"][1] == candles["open"][2]


def test_the_order_of_the_last_decision_is_marked_as_never_filled():
    _, decisions, _ = run(hourly_candles(3), [hold(), hold(), buy(4000)])
    last = decisions.iloc[-1]
    assert (last["order"], last["amount_asked"], last["amount_filled"]) == ("never_filled", 4000, 0)
    assert pd.isna(last["fill_time"])
    assert pd.isna(last["fill_price"])


def test_what_an_order_became_is_told():
    _, decisions, _ = run(hourly_candles(5), [sell(1), buy(0), buy(99_999), sell(9), hold()])
    assert decisions["order"].tolist() == ["nothing_to_trade", "none", "clipped", "clipped", "none"]
    assert decisions["clipped"].tolist() == [True, False, True, True, False]
    assert decisions["amount_filled"][2] == 10_000


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_holds_and_is_kept(kind):
    faulty = AgentReply(fault=kind, attempts=3, prompt_tokens=70)
    _, decisions, _ = run(hourly_candles(2), [faulty, hold()])
    row = decisions.iloc[0]
    assert (row["action"], row["fault"], row["attempts"], row["prompt_tokens"]) == ("hold", kind, 3, 70)
    assert decisions["fault"][1] is None


def test_a_fault_holds_even_where_an_action_came_with_it():
    _, decisions, _ = run(hourly_candles(2), [reply("buy", 50, fault="refusal")])
    assert decisions[["action", "fault", "order"]].iloc[0].tolist() == ["hold", "refusal", "none"]


def test_a_reply_without_action_and_fault_is_malformed():
    _, decisions, _ = run(hourly_candles(2), [AgentReply()])
    assert decisions["fault"][0] == "malformed"


def rows(text):
    return json.loads(text)["rows"]


def test_the_tool_returns_at_most_the_window_and_only_closed_candles():
    candles = hourly_candles(30)
    _, _, asker = run(candles, [], WINDOW_SIZE=5)
    for number, request in enumerate(asker.requests):
        seen = rows(request.klines(99))
        assert len(seen) == min(number + 1, 5)
        assert pd.Timestamp(seen[-1][0]) == candles["open_time"][number]
        assert seen[-1][4] == pytest.approx(candles["close"][number], rel=1e-7)
        assert request.klines(5) == request.klines(10**9)


@pytest.mark.parametrize(("limit", "count"), [(-3, 1), (0, 1), (1, 1), (2, 2), (4, 4)])
def test_the_tool_takes_any_limit(limit, count):
    _, _, asker = run(hourly_candles(6), [], WINDOW_SIZE=4)
    assert len(rows(asker.requests[-1].klines(limit))) == count


def test_a_tool_called_late_still_tells_nothing_of_what_came_after_its_question():
    asker = ScriptedAsker()
    strategy = AgentTradingStrategy(decide=asker.ask)
    early = list(observations_of(hourly_candles(8)))
    strategy.run(early[:3])
    at_once = asker.requests[2].klines(48)
    strategy.run(early[3:])
    assert asker.requests[2].klines(48) == at_once


def test_the_tool_may_be_called_from_another_thread():
    _, _, asker = run(hourly_candles(3), [])
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(asker.requests[1].klines, 9).result() == asker.requests[1].klines(9)


def test_the_message_tells_the_book_at_the_close():
    candles = hourly_candles(3)
    result, _, asker = run(candles, [buy(4000)])
    coins = result.internal_states[1][SPOT].amount
    assert "Time: 2024-01-01T02:00Z." in asker.requests[1].message
    assert f"just closed at {candles['close'][1]:.8g} USD" in asker.requests[1].message
    assert "Cash: 6000.00 USD. Coins: 0.0" in asker.requests[1].message
    assert f"{coins:.6f}"[:-1] in asker.requests[1].message


@pytest.mark.parametrize("seed", range(5))
def test_who_sells_all_coins_that_are_shown_is_not_cut(seed):
    def everything(request):
        coins = float(request.message.split("Coins: ")[1].split(". Both")[0])
        return sell(coins) if coins else buy(777.77)

    _, decisions, _ = run(hourly_candles(6, seed=seed), everything)
    assert not decisions["clipped"].any()


@pytest.mark.parametrize(
    ("value", "digits", "shown"),
    [
        (6263.139999999999, 2, "6263.13"),
        (6263.14, 2, "6263.14"),
        (0.29, 2, "0.29"),
        (0.0, 8, "0.00000000"),
        (1e-9, 8, "0.00000000"),
        (1e25, 8, "10000000000000000000000000.00000000"),
    ],
)
def test_what_is_shown_of_the_book_is_rounded_down(value, digits, shown):
    assert _down(value, digits) == shown


@given(st.floats(0, 1e9), st.sampled_from([2, 8]))
def test_who_orders_what_is_shown_never_asks_for_more_than_there_is(value, digits):
    assert value - 10.0**-digits * 1.001 - 1e-15 * value <= float(_down(value, digits)) <= value


def test_the_instructions_are_those_of_the_prompt():
    _, _, asker = run(hourly_candles(2), [], PROMPT="bearish")
    assert "expect its price to fall" in asker.requests[0].instructions


def test_fractal_launcher_runs_it_like_any_strategy():
    observations = list(observations_of(hourly_candles(12)))
    asker = ScriptedAsker(lambda request: buy(100))
    launcher = Launcher(
        partial(AgentTradingStrategy, decide=asker.ask),
        AgentTradingParams(INITIAL_BALANCE=500.0),
        JsonObservationsStorage,
    )
    frame = launcher.run_strategy(observations).to_dataframe()
    assert frame["net_balance"].iloc[0] == 500
    assert frame["SPOT_cash"].tolist()[:7] == [500, 400, 300, 200, 100, 0, 0]


def test_candles_out_of_order_are_refused_before_anything_changes():
    asker = ScriptedAsker()
    strategy = AgentTradingStrategy(decide=asker.ask)
    seen = list(observations_of(hourly_candles(4)))
    strategy.run(seen[1:3])
    with pytest.raises(ValueError, match="sort the candles by time"):
        strategy.step(seen[0])
    assert len(asker.requests) == 2
    assert strategy.observations_storage.read() == seen[1:3]


def test_an_observation_not_stamped_with_its_close_is_refused():
    seen = list(observations_of(hourly_candles(2)))
    seen[0].timestamp -= HOUR
    with pytest.raises(ValueError, match="stamp each with its close"):
        AgentTradingStrategy(decide=ScriptedAsker().ask).step(seen[0])


def test_the_log_has_every_step_and_no_clock(tmp_path):
    for name in ("a.log", "b.log"):
        strategy = AgentTradingStrategy(
            decide=ScriptedAsker([buy(10)]).ask, debug=True, log_path=tmp_path / name
        )
        strategy.run(list(observations_of(hourly_candles(5))))
        strategy.close_log()
    text = (tmp_path / "a.log").read_text()
    assert text.count("Running step...") == 5
    assert "Action(buy, {'amount_in_notional': 10.0})" in text
    assert text == (tmp_path / "b.log").read_text()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.log", "b.log"]
