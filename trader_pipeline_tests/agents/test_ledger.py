"""What asking cost: tokens by model, money where the price is known, and a budget that stops it."""

import pytest

from trader_pipeline.agents.actions import AgentAction
from trader_pipeline.agents.asking import AgentReply, AskingError
from trader_pipeline.agents.ledger import (
    BudgetSpentError,
    CostLedger,
    ModelPrice,
    PaidAsker,
    PricedAsker,
)
from trader_pipeline.agents.openai_asker import OpenAIAsker, asker_for
from trader_pipeline.agents.params import AgentParams
from trader_pipeline_tests.agents.test_asking import BUY, spot
from trader_pipeline_tests.agents.test_cache import Replying
from trader_pipeline_tests.agents.wire_server import fails, says, says_json, wire_server

PRICES = {"small-1": ModelPrice(prompt_usd=2.0, completion_usd=10.0)}
REPLY = AgentReply(action=AgentAction(**BUY), prompt_tokens=1000, completion_tokens=100)


def test_money_is_tokens_times_the_price_of_a_million():
    ledger = CostLedger(prices=PRICES)
    reply = PricedAsker(PaidAsker(Replying(REPLY), ledger, model="small-1"), ledger, model="small-1").ask(
        spot()
    )
    assert reply.cost_usd == pytest.approx(1000 * 2e-6 + 100 * 10e-6)
    assert ledger.spent_usd() == pytest.approx(0.003)


def test_failed_attempts_are_paid_too():
    ledger = CostLedger(prices=PRICES)
    with wire_server(says("no"), says("no"), says_json(**BUY)) as wire:
        params = AgentParams(model="small-1", retries=0)
        asker = asker_for(params, ledger=ledger, base_url=wire.base_url)
        replies = [asker.ask(spot()) for _ in range(3)]
    assert [reply.fault for reply in replies] == ["malformed", "malformed", None]
    assert ledger.spent_usd() == pytest.approx((30 * 2 + 9 * 10) / 1e6)


def test_without_a_price_an_answer_has_tokens_and_no_cost():
    ledger = CostLedger()
    asker = PricedAsker(PaidAsker(Replying(REPLY), ledger, model="small-1"), ledger, model="small-1")
    reply = asker.ask(spot())
    assert (reply.prompt_tokens, reply.cost_usd, ledger.spent_usd()) == (1000, None, 0)


def test_a_kept_answer_is_not_paid_again_and_its_cost_is_still_told(tmp_path):
    ledger = CostLedger(prices=PRICES, max_cost_usd=0.00005)
    with wire_server(says_json(**BUY)) as wire:
        params = AgentParams(model="small-1")
        asker = asker_for(params, cache=tmp_path / "c.sqlite", ledger=ledger, base_url=wire.base_url)
        replies = [asker.ask(spot()) for _ in range(3)]
        with pytest.raises(BudgetSpentError):
            asker.ask(spot("a new question"))
        assert asker.ask(spot()).cached
    assert [(r.cached, r.cost_usd) for r in replies] == [(False, 0.00005), (True, 0.00005), (True, 0.00005)]
    assert ledger.spent_usd() == pytest.approx(0.00005)


def test_what_was_paid_before_the_model_is_not_there_is_booked():
    ledger = CostLedger(prices=PRICES)
    with wire_server(says("no"), fails(401)) as wire:
        params = AgentParams(model="small-1", retries=1)
        behind = OpenAIAsker(params, base_url=wire.base_url, first_wait_seconds=0.001)
        with pytest.raises(AskingError, match="HTTP 401"):
            PaidAsker(behind, ledger, model="small-1").ask(spot())
        behind.close()
    assert ledger.spent_usd() == pytest.approx((10 * 2 + 3 * 10) / 1e6)


@pytest.mark.parametrize("fault", [None, "malformed", "refusal", "timeout"])
def test_a_host_that_counts_no_tokens_cannot_be_asked_within_a_budget(fault):
    uncounted = AgentReply(action=None if fault else AgentAction(**BUY), fault=fault)
    within = PaidAsker(Replying(uncounted), CostLedger(prices=PRICES, max_cost_usd=1), model="small-1")
    if fault == "timeout":
        assert within.ask(spot()).fault == "timeout", "nothing was answered, nothing is paid"
    else:
        with pytest.raises(AskingError, match="does not say how many tokens"):
            within.ask(spot())
    assert PaidAsker(Replying(uncounted), CostLedger(), model="small-1").ask(spot()) == uncounted


def test_what_was_asked_when_no_price_was_known_counts_at_the_present_one(tmp_path):
    CostLedger(tmp_path / "l.sqlite").add("small-1", REPLY)
    later = CostLedger(tmp_path / "l.sqlite", prices=PRICES, max_cost_usd=0.002)
    assert later.spent_usd() == pytest.approx(0.003)
    with pytest.raises(BudgetSpentError):
        later.check_budget("small-1")


def test_the_budget_stops_with_one_line_and_keeps_everything(tmp_path):
    ledger = CostLedger(tmp_path / "ledger.sqlite", prices=PRICES, max_cost_usd=0.005)
    behind = Replying(REPLY)
    asker = PaidAsker(behind, ledger, model="small-1")
    asker.ask(spot())
    asker.ask(spot())
    with pytest.raises(BudgetSpentError, match=r"0\.0060 USD are spent.*raise --max-cost-usd") as caught:
        asker.ask(spot())
    assert (behind.asked, caught.value.exit_code) == (2, 3)
    assert "\n" not in str(caught.value)
    again = CostLedger(tmp_path / "ledger.sqlite", prices=PRICES, max_cost_usd=0.005)
    with pytest.raises(BudgetSpentError):  # a new process goes on with the same sum
        again.check_budget("small-1")


def test_a_budget_without_a_price_is_refused_before_anything_is_asked():
    behind = Replying(REPLY)
    with pytest.raises(AskingError, match="no price is known for 'small-9'"):
        PaidAsker(behind, CostLedger(prices=PRICES, max_cost_usd=1), model="small-9").ask(spot())
    assert behind.asked == 0


def test_each_model_is_paid_at_its_own_price():
    prices = PRICES | {"small-3": ModelPrice(prompt_usd=1.0, completion_usd=0.0)}
    ledger = CostLedger(prices=prices)
    for model in ("small-2", "small-1", "small-1", "small-3"):
        ledger.add(model, REPLY)
    assert ledger.spent_usd() == pytest.approx(2 * 0.003 + 0.001)
