"""The covered-call agent: asked with the corpora's figures, answered by a number, one more policy of the backtest."""

import json
from dataclasses import replace

import pandas as pd
import pytest

from trader_pipeline.agents.asking import FAULTS, AgentReply
from trader_pipeline.agents.covered_calls import AgentPolicy, pick_request
from trader_pipeline.backtest import BacktestParams, NeverPolicy, TeacherPolicy, run_backtest
from trader_pipeline.corpora.render import RenderParams, prompt_rows_of, render_pick
from trader_pipeline.evaluation.policies import prompt_step_of
from trader_pipeline.evaluation.sequential import book_metrics, equity_frame, run_policies
from trader_pipeline.klines import SampleParams, simulate_klines
from trader_pipeline.options import OptionParams
from trader_pipeline.schema import Market
from trader_pipeline_tests.agents.scripted import ScriptedAsker

MARKET, PLAIN = Market("BTC", "1h"), RenderParams()
CANDLES = simulate_klines(SampleParams(years=0.4))["BTC"]
START, END = pd.Timestamp("2021-02-15", tz="UTC"), pd.Timestamp("2021-02-25", tz="UTC")
SETTINGS = {"option_params": OptionParams(), "params": BacktestParams(max_candidates=4)}


def sequential(policy, candles=CANDLES, **changes):
    given = {"market": MARKET, "start": START, "end": END, "mode": "sequential", **SETTINGS, **changes}
    return run_backtest(
        klines=candles, fine_klines=candles, policy=policy, exit_styles=("hold_to_expiry",), **given
    )


class StepsSeen:
    """A policy that keeps what it is shown and sells nothing."""

    name = "seen"

    def __init__(self):
        self.steps = []

    def decide(self, step):
        self.steps.append(step)


@pytest.fixture(scope="module")
def steps():
    seen = StepsSeen()
    sequential(seen)
    return [prompt_step_of(step) for step in seen.steps if len(step.candidates) > 2]


def agent(reply, **settings):
    """A policy that gets `reply`, or what a function makes of each request; and its asker."""
    asker = ScriptedAsker(reply if callable(reply) else lambda request: reply)
    return AgentPolicy("agent", asker, **settings), asker


def request_of(step, render=PLAIN, seed=11):
    return pick_request(step, render, instructions="Decide.", seed=seed)[0]


@pytest.mark.parametrize("style", ["plain", "report"])
def test_what_is_asked_tells_what_the_corpora_prompt_tells_and_nothing_else(steps, style):
    render = RenderParams(style=style)
    prompt = render_pick(prompt_rows_of(steps[:1]), render, seed=11).user[0].as_py()
    request = request_of(steps[0], render)
    market, listed = prompt.split("Candidates:\n")
    lines = [line.strip() for line in listed.splitlines()]
    assert request.message.startswith(market)
    assert request.message.removeprefix(market) == (
        "Call get_candidates to see what is on offer. Answer 1 to 4, or NO_TRADE."
    )
    assert json.loads(request.klines(1))["candidates"] == lines[:-1]


def test_the_teachers_score_is_shown_only_where_it_is_asked_for(steps):
    shown = RenderParams(show_score=True)
    assert "Score" not in request_of(steps[0]).klines(1) + request_of(steps[0]).message
    assert "Score" in request_of(steps[0], shown).klines(1)


def test_a_renderer_that_shows_outcomes_is_refused(steps):
    with pytest.raises(ValueError, match="never shown outcomes"):
        request_of(steps[0], RenderParams(hindsight=True))


def test_a_number_sells_the_call_that_stands_at_it(steps):
    shown = render_pick(prompt_rows_of(steps[:1]), RenderParams(), seed=11).instruments[0].as_py()
    for number, instrument in enumerate(shown, 1):
        policy, _ = agent(AgentReply(answer=str(number)))
        assert policy.choose(steps[:1])[0].instrument == instrument


def test_no_trade_sells_nothing_and_is_no_fault(steps):
    policy, _ = agent(AgentReply(answer="NO_TRADE"))
    assert policy.choose(steps[:1])[0].instrument is None
    assert sum(policy.faults.values()) == 0


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_no_trade_and_is_counted_by_kind(steps, fault):
    policy, _ = agent(AgentReply(fault=fault, attempts=3))
    assert [c.instrument for c in policy.choose(steps[:2])] == [None, None]
    assert policy.faults == {**dict.fromkeys(FAULTS, 0), fault: 2}
    shares = policy.own_metrics().set_index("metric")
    assert shares["value"].to_dict() == {f"agent_{kind}": float(kind == fault) for kind in FAULTS}
    assert set(shares["count"]) == {2}


@pytest.mark.parametrize("answer", ["0", "5", "buy", "", None])
def test_an_answer_that_was_not_on_offer_is_malformed(steps, answer):
    policy, _ = agent(AgentReply(answer=answer))
    assert policy.choose(steps[:1])[0].instrument is None
    assert policy.faults["malformed"] == 1


def test_the_order_depends_on_the_decision_and_the_seed_and_not_on_the_input(steps):
    turned = replace(steps[0], candidates=steps[0].candidates[::-1])
    assert request_of(turned).klines(1) == request_of(steps[0]).klines(1)
    orders = {request_of(steps[0], seed=seed).klines(1) for seed in range(8)}
    assert len(orders) > 1
    firsts = {
        min(s.candidates, key=lambda c: c.strike).instrument in request_of(s).klines(1).split("[2]")[0]
        for s in steps
    }
    assert firsts == {True, False}, "the lowest strike stands first in some steps and not in others"


def test_a_step_is_asked_about_once_and_an_empty_one_never(steps):
    policy, asker = agent(AgentReply(answer="1"))
    policy.choose([steps[0], replace(steps[1], candidates=())])
    policy.choose([steps[0]])
    assert len(asker.requests) == len(policy.replies) == 1


def test_an_agent_is_one_more_row_beside_teacher_and_hodl():
    selling, _ = agent(AgentReply(answer="1"))
    failing = AgentPolicy("failing agent", ScriptedAsker(lambda request: AgentReply(fault="timeout")))
    results = run_policies(
        [selling, failing, TeacherPolicy(5.0), NeverPolicy()],
        markets=[MARKET],
        candles={MARKET.key: CANDLES},
        fine_candles={MARKET.key: CANDLES},
        boundaries={"test": START, "sealed": END},
        exit_styles=("hold_to_expiry",),
        **SETTINGS,
    )
    equity = equity_frame(results, until=END)
    books = {name: own["equity_usd"].tolist() for name, own in equity.groupby("policy")}
    assert set(books) == {"agent", "failing agent", "teacher", "never"}
    assert books["failing agent"] == books["never"]
    assert books["agent"] != books["never"]
    assert failing.faults["timeout"] == len(failing.replies) > 0
    trades = book_metrics(results, equity).query("metric == 'book_trades'").set_index("policy")["value"]
    assert trades["agent"] > 0
    assert trades["failing agent"] == 0


def test_nothing_that_is_asked_up_to_a_moment_changes_with_the_candles_after_it():
    moment = pd.Timestamp("2021-02-20", tz="UTC")
    later = CANDLES["open_time"] >= moment
    prices = ["open", "high", "low", "close"]
    changed = CANDLES.assign(**{name: CANDLES[name].where(~later, CANDLES[name] * 1.3) for name in prices})

    def asked(candles):
        policy, asker = agent(AgentReply(answer="NO_TRADE"))
        sequential(policy, candles)
        return [(r.message, r.klines(1)) for r in asker.requests]

    before, after = asked(CANDLES), asked(changed)
    known = [i for i, (message, _) in enumerate(before) if message.split("time: ")[1][:10] <= "2021-02-20"]
    assert len(known) >= 5
    assert [before[i] for i in known] == [after[i] for i in known]
    assert before != after
