"""What the commands of `trader-pipeline agents` need: candles, the model that is asked, what is kept of its answers."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    import pandas as pd

    from trader_pipeline.agents.asking import Asker
    from trader_pipeline.agents.endpoint import LocalModel
    from trader_pipeline.agents.ledger import CostLedger
    from trader_pipeline.agents.params import AgentParams
    from trader_pipeline.agents.run import Window
    from trader_pipeline.profile import Profile
    from trader_pipeline.schema import Market

ADDRESS, KEY = "OPENAI_BASE_URL", "OPENAI_API_KEY"


class BudgetSpent(click.ClickException):
    """The budget is spent; exit status 3. What was answered is kept."""

    exit_code = 3


@dataclass(frozen=True)
class Host:
    """Who answers: the model's name, and the address of a server that this command started; None: the environment's."""

    model: str
    base_url: str | None = None


@contextlib.contextmanager
def host_of(model: str | None, *, adapter: Path | None, profile: Profile) -> Iterator[Host]:
    """The endpoint of the environment, or where that names none a local one, for as long as it is needed.

    Raises:
        UsageError: an endpoint without a model, or a model or adapter that it cannot have.
    """
    address = os.environ.get(ADDRESS) or (os.environ.get(KEY) and "OpenAI")
    if address:
        if not model:
            raise click.UsageError(f"{ADDRESS} or {KEY} is set: name the model of that endpoint with --model")
        if adapter:
            raise click.UsageError(f"--adapter is for the local model; unset {ADDRESS} and {KEY} to use that")
        yield Host(model)
        return
    if model:
        raise click.UsageError(
            f"--model names a model of an endpoint, and neither {ADDRESS} nor {KEY} is set; set them, or leave --model"
            " out to ask the local model"
        )
    from trader_pipeline.agents.endpoint import local_endpoint
    from trader_pipeline.cli.everything import quieten

    quieten()
    with local_endpoint(local_model(profile, adapter)) as endpoint:
        click.echo(
            f"{ADDRESS} and {KEY} are not set: asking {endpoint.model}, served by this command at {endpoint.base_url}",
            err=True,
        )
        yield Host(endpoint.model, endpoint.base_url)


@contextlib.contextmanager
def closing_asker(asker: Asker) -> Iterator[None]:
    """Its connections are closed when the block ends."""
    from trader_pipeline.agents.asking import close_asker

    try:
        yield
    finally:
        close_asker(asker)


def local_model(profile: Profile, adapter: Path | None) -> LocalModel:
    """The profile's base model, or an adapter of it; loaded at the first question."""
    from trader_pipeline.agents.endpoint import LocalModel
    from trader_pipeline.settings import EnvironmentSettings

    root = EnvironmentSettings(profile=profile.name).data_root
    params = profile.model.model_copy(update={"cache_dir": root.parent / "models"})
    return LocalModel(params, adapter=adapter)


@dataclass(frozen=True)
class Keeping:
    """Where answers and costs are kept, and what may be spent. `price`: USD per million tokens read and written."""

    cache: Path | None
    price: tuple[float, float] | None = None
    max_cost_usd: float | None = None

    def ledger(self, model: str) -> CostLedger:
        """The ledger beside the cache; in memory where there is none."""
        from trader_pipeline.agents.ledger import CostLedger, ModelPrice

        prices = (
            {model: ModelPrice(prompt_usd=self.price[0], completion_usd=self.price[1])} if self.price else {}
        )
        path = None if self.cache is None else costs_path(self.cache)
        return CostLedger(path, prices=prices, max_cost_usd=self.max_cost_usd)


def costs_path(cache: Path) -> Path:
    """The ledger beside a file of answers."""
    return cache.with_name(f"{cache.stem}_costs.sqlite")


@contextlib.contextmanager
def telling_what_is_paid(cache: Path, prices: dict[str, tuple[float, float]]) -> Iterator[None]:
    """Say at the end, however it comes, what was paid now: the files tell what all answers cost."""
    from trader_pipeline.agents.ledger import CostLedger, ModelPrice

    if not prices:
        yield
        return
    known = {
        name: ModelPrice(prompt_usd=read, completion_usd=wrote) for name, (read, wrote) in prices.items()
    }
    ledger = CostLedger(costs_path(cache), prices=known)
    before = ledger.spent_usd()
    try:
        yield
    finally:
        spent = ledger.spent_usd()
        click.echo(f"{spent - before:.4f} USD paid now, {spent:.4f} in all ({costs_path(cache)})", err=True)


def open_asker(params: AgentParams, *, base_url: str | None, keeping: Keeping) -> Asker:
    """Who is asked with these settings: the cache first, then the model within the budget."""
    from trader_pipeline.agents.openai_asker import asker_for

    if base_url is not None:
        keeping = replace(keeping, price=(0.0, 0.0))  # served by this command: it costs nothing
    return asker_for(params, cache=keeping.cache, ledger=keeping.ledger(params.model), base_url=base_url)


def shown_folder(profile: Profile, name: str) -> Path:
    """Where a run or grid goes that is given no --out: the page Agents of the dashboard reads that folder alone."""
    from trader_pipeline.settings import EnvironmentSettings

    plain = re.sub(r"[^\w.+=-]+", "-", name)  # a model's name may hold slashes and colons
    return EnvironmentSettings(profile=profile.name).data_root / "agents" / plain


def moment_name(moment: pd.Timestamp) -> str:
    """A moment in the name of a folder; midnight is the day alone."""
    return f"{moment:%Y-%m-%d}" if moment == moment.normalize() else f"{moment:%Y-%m-%dT%H%M}"


@dataclass(frozen=True)
class Stretch:
    """Candles of a market by the window's end, and the window in which an agent decides."""

    market: Market
    window: Window
    candles: pd.DataFrame
    simulated: bool

    @property
    def decisions(self) -> int:
        """How often an agent is asked."""
        from trader_pipeline.agents.run import window_candles

        return len(window_candles(self.candles, self.window))


def agent_candles(market: Market, start: pd.Timestamp, end: pd.Timestamp, profile: Profile) -> Stretch:
    """The candles of `profile` for an agent that decides from `start` to `end` (UTC).

    Raises:
        ValueError: fewer than 2 candles there; the message says where the candles lie.
    """
    from trader_pipeline.cli.paper_inputs import replay_candles

    if end <= start:
        raise click.UsageError(f"--end {end:%Y-%m-%d %H:%M} is not after --start {start:%Y-%m-%d %H:%M}")
    candles, simulated = replay_candles(market, profile, start=start, end=end)
    stretch = Stretch(market, (start, end), candles, simulated)
    _ = stretch.decisions  # refuses a window without candles before anything is started
    return stretch


def spot_prompt(name: str) -> str:
    """`name`, where it names instructions for an agent over candles.

    Raises:
        BadParameter: it names none.
    """
    from trader_pipeline.agents.prompts import SPOT_PROMPTS

    if name not in SPOT_PROMPTS:
        raise click.BadParameter(f"{name!r} is none of {', '.join(SPOT_PROMPTS)}", param_hint="--prompt")
    return name


class PriceType(click.ParamType):
    """READ:WRITTEN in USD per million tokens."""

    name = "price"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, float]:
        """Two numbers that are not negative."""
        if isinstance(value, tuple):
            return value
        try:
            read, written = (float(part) for part in str(value).split(":"))
        except ValueError:
            read = written = -1.0
        if not (0 <= read < float("inf") and 0 <= written < float("inf")):
            self.fail(f"{value!r} is no price; write USD per million tokens as READ:WRITTEN, e.g. 0.15:0.60")
        return read, written
