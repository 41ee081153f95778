import pytest
from pydantic import ValidationError

from trader_pipeline.agents.actions import AgentAction
from trader_pipeline.agents.params import AgentParams
from trader_pipeline.agents.prompts import PROMPTS, SPOT_PROMPTS, instructions_of


@pytest.mark.parametrize("written", ["buy", "BUY", " Buy\n", "bUy"])
def test_action_is_read_in_any_case_and_without_blanks(written):
    assert AgentAction(action=written, amount=1, reasoning="").action == "buy"


@pytest.mark.parametrize("written", ["short", "", "buy now", None, 1, ["buy"]])
def test_any_other_action_is_refused(written):
    with pytest.raises(ValidationError, match="action"):
        AgentAction(action=written, amount=1, reasoning="")


@pytest.mark.parametrize("amount", [-1, float("nan"), float("inf"), "many", None])
def test_an_amount_that_is_no_amount_is_refused(amount):
    with pytest.raises(ValidationError, match="amount"):
        AgentAction(action="buy", amount=amount, reasoning="")


def test_a_further_field_is_refused():
    with pytest.raises(ValidationError, match="leverage"):
        AgentAction(action="buy", amount=1, reasoning="", leverage=3)


def test_the_schema_for_a_model_lists_the_actions_and_says_what_an_amount_is():
    schema = AgentAction.model_json_schema()
    assert schema["properties"]["action"]["enum"] == ["buy", "sell", "hold"]
    assert schema["properties"]["amount"]["description"] == "buy: USD to spend; sell: coins to sell; hold: 0"
    assert schema["required"] == ["action", "amount", "reasoning"]


@pytest.mark.parametrize("name", SPOT_PROMPTS)
def test_the_instructions_say_what_an_amount_is_and_when_an_order_fills(name):
    text = PROMPTS[name]
    assert "for buy the USD to spend, for sell the coins to sell" in text
    assert "open of the next candle" in text


def test_an_unknown_prompt_is_refused_with_the_nearest_name():
    with pytest.raises(
        ValueError, match=r"no prompt is named 'Bulish' \(did you mean 'bullish'\?\); there are"
    ):
        instructions_of("Bulish")
    with pytest.raises(ValidationError, match="no prompt is named"):
        AgentParams(prompt="Bulish")
