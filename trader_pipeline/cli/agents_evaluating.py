"""What `evaluate --agent` adds: a model of an endpoint as a row of the leaderboard, its answers, and what they cost."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    import pandas as pd

    from trader_pipeline.agents.covered_calls import AgentPolicy
    from trader_pipeline.profile import Profile

ANSWERS = "agents.csv"


def refuse_no_endpoint(models: Sequence[str], cache: Path) -> None:
    """Refuse models that nobody could answer for, before the others have worked for minutes.

    Raises:
        UsageError: neither an endpoint nor kept answers.
    """
    from trader_pipeline.cli.agents_inputs import ADDRESS, KEY

    if models and not (os.environ.get(ADDRESS) or os.environ.get(KEY) or cache.is_file()):
        raise click.UsageError(
            f"--agent names a model of an endpoint, and neither {ADDRESS} nor {KEY} is set; set them"
            " (trader-pipeline agents serve starts an endpoint on this machine)"
        )


def agent_policy(
    model: str, cache: Path, settings: Profile, candidates: pd.DataFrame, *, timeout_seconds: float
) -> AgentPolicy:
    """The model as a policy, asked with the prompts of the corpora; its answers and costs are kept.

    Its connections are closed when the command ends.
    """
    from trader_pipeline.agents.asking import close_asker
    from trader_pipeline.agents.covered_calls import AgentPolicy
    from trader_pipeline.agents.params import AgentParams
    from trader_pipeline.cli.agents_inputs import Keeping, open_asker
    from trader_pipeline.evaluation.policies import recorded_slopes

    params = AgentParams(model=model, prompt="covered_call", timeout_seconds=timeout_seconds)
    asker = open_asker(params, base_url=None, keeping=Keeping(cache))
    click.get_current_context().call_on_close(lambda: close_asker(asker))
    return AgentPolicy(
        name=f"agent {model}",
        asker=asker,
        render=settings.render,
        seed=settings.evaluation.seed,
        slopes=recorded_slopes(candidates),
    )


def say_agents(agents: Sequence[AgentPolicy]) -> None:
    """A line an agent: how many steps it was asked about, its faults by kind, what it read and wrote."""
    for agent in agents:
        fresh = [reply for reply in agent.replies if not reply.cached]
        faults = ", ".join(f"{count} {kind}" for kind, count in agent.faults.items() if count) or "none"
        click.echo(
            f"{agent.name}: {len(agent.replies)} steps asked, {len(agent.replies) - len(fresh)} from the cache; without"
            f" an answer (NO_TRADE): {faults}; {sum(r.prompt_tokens for r in fresh)} tokens read and"
            f" {sum(r.completion_tokens for r in fresh)} written"
        )


def write_agents(agents: Sequence[AgentPolicy], folder: Path) -> Path:
    """A row for each step that an agent was asked about, with its reasoning or its fault."""
    import pandas as pd

    from trader_pipeline.store import write_atomic

    frame = pd.concat([agent.answers_frame() for agent in agents], ignore_index=True)
    return write_atomic(folder / ANSWERS, frame.to_csv(index=False).encode())
