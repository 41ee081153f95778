"""The proof that agents do not look ahead, as `trader-pipeline leaks` runs it; and a storage that does is caught."""

import pandas as pd
import pytest

from trader_pipeline.agents.observations import JsonObservationsStorage, observations_of
from trader_pipeline.cli.agents_leaks import LATER, prove_agent_case, prove_agents
from trader_pipeline.leaks import Settings, simulated_worlds
from trader_pipeline.leaks.cases import draw_cases

OUTPUTS = {"agent get_klines", "agent questions", "agent answers"}


@pytest.fixture(scope="module")
def worlds():
    return simulated_worlds(seed=0, options=Settings().options)


def test_nothing_an_agent_is_told_moves_with_the_future_and_what_comes_later_does(worlds):
    found = prove_agents(worlds, settings=Settings(), cases=8, seed=3)
    assert (found.leaks, found.unreal, found.refusals) == ([], [], [])
    assert found.outputs == dict.fromkeys(OUTPUTS, 4)
    assert found.runs == 4 * 4
    assert found.moved[LATER] == found.mutations[LATER] >= 8


class ReadingAhead(JsonObservationsStorage):
    """Returns the candle after the last one too."""

    def __init__(self, inputs):
        super().__init__()
        near = (inputs.candles["close_time"] - inputs.moment).abs() < pd.Timedelta(days=3)
        self._all, self._step = list(observations_of(inputs.candles[near])), inputs.finest_step

    def last(self, count, *, end_time):
        return [o for o in self._all if pd.Timestamp(o.timestamp) <= end_time + self._step][-count:]


def test_a_storage_that_reads_one_candle_ahead_is_caught_and_named(worlds):
    [case] = draw_cases(worlds, count=1, seed=3, settings=Settings())
    found = prove_agent_case(worlds, case, settings=Settings(), open_storage=ReadingAhead)
    said = [str(leak) for leak in found.leaks]
    assert said[0].startswith(
        ("agent get_klines: get_klines moved under", "agent answers: action moved under")
    )
    for mutation in ("perturb", "permute", "truncate"):
        assert any(
            line.startswith(f"agent get_klines: get_klines moved under {mutation} candles") for line in said
        )
