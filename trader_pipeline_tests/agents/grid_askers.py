"""Askers that a grid's processes open by name, and small grids for the tests."""

import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

from trader_pipeline.agents.asking import AgentReply, AskingError
from trader_pipeline.agents.cache import OWN_SERVER, CachedAsker, ResponseCache
from trader_pipeline.agents.grid import run_grid
from trader_pipeline.agents.grid_points import GridParams
from trader_pipeline.agents.ledger import BudgetSpentError
from trader_pipeline.training.tracking import TrackingParams
from trader_pipeline_tests.agents.scripted import (
    HOUR,
    START,
    ScriptedAsker,
    answered_from_what_is_seen,
    buy,
    hourly_candles,
)

CANDLES = hourly_candles(100, seed=3)
VALIDATION = (START + 20 * HOUR, START + 50 * HOUR)
TEST = (START + 50 * HOUR, START + 90 * HOUR)


def grid_params(**changes):
    given = {
        "prompts": ("bearish", "bullish", "neutral"),
        "window_sizes": (4,),
        "validation": VALIDATION,
        "test": TEST,
    }
    return GridParams(**{"bootstrap_samples": 200, **given, **changes})


def small_grid(out, *, open_asker, params=None, klines=CANDLES, **more):
    return run_grid(
        klines,
        params=params or grid_params(),
        open_asker=open_asker,
        out=Path(out),
        market="BTC_1h",
        simulated=True,
        **more,
    )


def by_what_is_seen(params):
    return ScriptedAsker(answered_from_what_is_seen)


def as_if_hosted(params, *, base_url, cache, ledger):
    """In the place of `openai_asker.asker_for`."""
    return by_what_is_seen(params)


def kept_in(path, params, *, address=OWN_SERVER):
    """Answers as above, kept in a file; without one that is there, none is given any more."""
    return CachedAsker(by_what_is_seen(params), ResponseCache(path), params=params, address=address)


def only_kept(path, params):
    return CachedAsker(ScriptedAsker(_never), ResponseCache(path), params=params)


def buys_and_holds(params):
    return ScriptedAsker([buy(1e9)])


def only_holds(params):
    return ScriptedAsker()


def broken_for_bullish(params):
    if params.prompt == "bullish":
        raise AskingError("there is no model 'bullish'; use another")
    return by_what_is_seen(params)


def broken_for_bullish_on_test(params):
    return ScriptedAsker(_late_broken) if params.prompt == "bullish" else by_what_is_seen(params)


def _late_broken(request):
    if "2024-01-03 03:00" in request.message or "2024-01-03T03:00" in request.message:
        raise AskingError("there is no model any more")
    return answered_from_what_is_seen(request)


def broken_or_killed(params):
    if params.prompt == "bearish":
        os.kill(os.getpid(), signal.SIGKILL)
    return broken_for_bullish(params)


def out_of_budget(params):
    return ScriptedAsker(_out_of_budget)


def faulty(params):
    return ScriptedAsker(lambda request: AgentReply(fault="timeout", attempts=3))


def noting(folder, params):
    """Answers as above, and leaves a file for every run that was begun."""
    (Path(folder) / f"{params.prompt}-{params.window_size}-{time.monotonic_ns()}").touch()
    return by_what_is_seen(params)


def slow(folder, params):
    """As `noting`, slow enough to be killed in the midst of a run."""
    noting(folder, params)
    return ScriptedAsker(_slowly)


def _slowly(request):
    time.sleep(0.02)
    return answered_from_what_is_seen(request)


def _never(request):
    raise AssertionError("a question was put that should have been answered from the cache")


def _out_of_budget(request):
    raise BudgetSpentError("1.0000 USD are spent, the budget is 1")


def main() -> None:
    """A slow grid in a process of its own: OUT NOTES, and MLflow's address."""
    out, notes, *address = sys.argv[1:]
    tracking = agents_tracking(address[0]) if address else None
    small_grid(out, open_asker=partial(slow, notes), workers=2, tracking=tracking)


def agents_tracking(address):
    return TrackingParams(tracking_uri=address, experiment="agents-test", system_metrics=False)


if __name__ == "__main__":
    main()
