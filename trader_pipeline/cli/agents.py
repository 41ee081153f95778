"""`trader-pipeline agents`: a language model trades candles, on paper."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trader_pipeline.cli.agents_grid import grid
from trader_pipeline.cli.agents_inputs import BudgetSpent, Keeping, PriceType, Stretch
from trader_pipeline.cli.agents_serving import cache as cache_group
from trader_pipeline.cli.agents_serving import serve
from trader_pipeline.cli.errors import OutputExistsError
from trader_pipeline.cli.options import profile_of, profile_options, utc_day

if TYPE_CHECKING:
    from trader_pipeline.agents.asking import Asker
    from trader_pipeline.agents.params import AgentParams
    from trader_pipeline.agents.run import AgentRun

_EXISTING = click.Path(exists=True, path_type=Path)
_OUT = click.Path(path_type=Path)


@click.group()
def agents() -> None:
    """Language models as trading agents, on paper: run one, serve the local model, compare many. No order is ever sent.

    \b
    Example:
      trader-pipeline agents run --klines FOLDER --market BTC_1h --start 2024-03-01 --end 2024-03-08
    """


@agents.command()
@profile_options
@click.option("--klines", "klines_path", required=True, type=_EXISTING, help="Folder or file of candles.")
@click.option("--market", required=True, help="Underlying and timeframe, e.g. BTC_1h.")
@click.option("--start", required=True, metavar="DATE", help="Where the agent begins (UTC).")
@click.option("--end", required=True, metavar="DATE", help="Where it ends (UTC, exclusive).")
@click.option(
    "--out", type=_OUT, default=None,
    help="Folder of the run, without a finished one. Default: data/PROFILE/agents/MARKET_START_END_PROMPT.",
)  # fmt: skip
@click.option(
    "--prompt", default="neutral", show_default=True, help="Instructions: bullish, bearish or neutral."
)
@click.option("--model", default=None, help="Model at the endpoint. Default: the local one, started here.")
@click.option(
    "--adapter", default=None, type=_EXISTING, help="Adapter that the local model wears, from `train`."
)
@click.option("--window-size", default=48, show_default=True, help="Most candles that the agent can look at.")
@click.option("--balance", default=10_000.0, show_default=True, help="Cash at the start, in USD.")
@click.option(
    "--fee", default=0.001, show_default=True, help="Trading fee, a share of what a trade receives."
)
@click.option("--temperature", default=0.0, show_default=True, help="Sampling temperature of the model.")
@click.option(
    "--retries", default=2, show_default=True, help="Times a failed question is asked again, then it holds."
)
@click.option(
    "--timeout",
    type=float,
    default=None,
    help="Longest wait for an answer, in seconds. Default: 60, and 600 for the local model.",
)
@click.option("--max-output-tokens", default=256, show_default=True, help="Longest answer, in tokens.")
@click.option(
    "--cache", type=_OUT, default=None, help="File of answers. Default: answers.sqlite beside --out."
)
@click.option("--no-cache", is_flag=True, help="Keep no answers: a second run pays again.")
@click.option(
    "--price", type=PriceType(), default=None, metavar="READ:WRITTEN", help="USD per million tokens."
)
@click.option(
    "--max-cost-usd",
    type=float,
    default=None,
    help="Stop when this much is spent, earlier runs with the same --cache included; needs --price.",
)
@click.option(
    "--progress/--no-progress", default=None, help="Show a progress bar. Default: only in a terminal."
)
def run(
    profile: str, overrides: tuple[str, ...], klines_path: Path, market: str, start: str, end: str, out: Path | None,
    prompt: str, model: str | None, adapter: Path | None, window_size: int, balance: float, fee: float,
    temperature: float, retries: int, timeout: float | None, max_output_tokens: int, cache: Path | None, no_cache: bool,
    price: tuple[float, float] | None, max_cost_usd: float | None, progress: bool | None,
) -> None:  # fmt: skip
    """Ask a model at the close of every candle what to buy or sell; fill at the open of the next.

    Any OpenAI-compatible endpoint will do: OPENAI_BASE_URL and OPENAI_API_KEY in the environment name it. Without them
    the local model is served on loopback and asked, so that no key is needed. It sees candles that have closed, by
    --window-size, and its book. An answer that fails is asked for again, then counts as hold.

    Answers are kept: the same command with another --out asks nothing again, and a killed run, given once more, goes on
    where it stopped. The folder holds states.csv, decisions.csv, steps.log, observations.sqlite and run.json.
    The dashboard's page Agents shows what lies below data/PROFILE/agents.

    \b
    Examples:
      trader-pipeline agents run --klines candles --market BTC_1h --start 2024-03-01 --end 2024-03-08
      trader-pipeline agents run --klines candles --market ETH_4h --start 2024-01-01 --end 2024-04-01 \\
        --prompt bullish --model gpt-4.1-mini --price 0.40:1.60 --max-cost-usd 2 --out data/sample/agents/eth
    """
    from trader_pipeline.agents.address import asked_address
    from trader_pipeline.agents.ledger import BudgetSpentError
    from trader_pipeline.agents.params import AgentParams, patient
    from trader_pipeline.cli.agents_inputs import (
        agent_candles,
        closing_asker,
        host_of,
        moment_name,
        open_asker,
        shown_folder,
        spot_prompt,
    )
    from trader_pipeline.schema import Market

    if max_cost_usd is not None and price is None:
        raise click.UsageError("--max-cost-usd needs --price: what a token costs")
    if no_cache and cache is not None:
        raise click.UsageError("--cache and --no-cache exclude each other")
    params = AgentParams(
        window_size=window_size, initial_balance=balance, prompt=spot_prompt(prompt), trading_fee=fee,
        temperature=temperature, retries=retries, max_output_tokens=max_output_tokens,
        **({} if timeout is None else {"timeout_seconds": timeout}),
    )  # fmt: skip
    settings = profile_of(profile, overrides, klines=str(klines_path))
    stretch = agent_candles(Market.parse(market), utc_day(start), utc_day(end), settings)
    if out is None:
        own = [stretch.market.key, *map(moment_name, stretch.window), prompt, *([model] if model else [])]
        out = shown_folder(settings, "_".join(own))
    keeping = Keeping(None if no_cache else cache or out.parent / "answers.sqlite", price, max_cost_usd)
    try:
        with _claimed(out), host_of(model, adapter=adapter, profile=settings) as host:
            asked = patient(params, host.base_url).model_copy(update={"model": host.model})
            asker = open_asker(asked, base_url=host.base_url, keeping=keeping)
            with closing_asker(asker):
                _run(stretch, asked, asker, out, address=asked_address(host.base_url), progress=progress)
    except BudgetSpentError as error:
        raise BudgetSpent(str(error)) from error
    except KeyboardInterrupt:
        kept = "" if no_cache else " What was answered is kept, and the same command goes on from there."
        click.echo(f"\nStopped.{kept}", err=True)
        raise SystemExit(130) from None


@contextmanager
def _claimed(out: Path) -> Iterator[None]:
    from trader_pipeline.agents.run_folder import claimed_run

    with ExitStack() as held:
        try:
            held.enter_context(claimed_run(out))
        except FileExistsError as error:
            raise OutputExistsError(str(error)) from error
        yield


def _run(
    stretch: Stretch, params: AgentParams, asker: Asker, out: Path, *, address: str, progress: bool | None
) -> None:
    """Run with a progress bar, write, say."""
    from tqdm import tqdm

    from trader_pipeline.agents.observations import JsonObservationsStorage
    from trader_pipeline.agents.run import run_agent
    from trader_pipeline.agents.run_folder import LOG, OBSERVATIONS, write_run

    shown = sys.stderr.isatty() if progress is None else progress
    with (
        tqdm(total=stretch.decisions, unit=" decisions", disable=not shown) as bar,
        closing(JsonObservationsStorage(out / OBSERVATIONS)) as storage,
    ):
        done = run_agent(
            stretch.candles, params=params, asker=asker, window=stretch.window, storage=storage, log_path=out / LOG,
            show=lambda reply: bar.update(1),
        )  # fmt: skip
    write_run(
        done, out, market=stretch.market.key, window=stretch.window, simulated=stretch.simulated, address=address
    )  # fmt: skip
    _say(done, out, stretch.simulated)


def _say(done: AgentRun, out: Path, simulated: bool) -> None:
    import pandas as pd

    from trader_pipeline.agents.metrics import agent_metrics
    from trader_pipeline.cli.options import print_table

    figures = agent_metrics(done)
    rows = [{"": "agent", **vars(figures.agent)}, {"": "holding the coin", **vars(figures.hodl)}]
    print_table(pd.DataFrame(rows), f"{done.params.model}, {done.params.prompt}")
    cost = done.cost
    paid = "" if cost.paid_usd is None else f", {cost.paid_usd:.4f} USD of them paid now"
    money = "price unknown" if cost.cost_usd is None else f"{cost.cost_usd:.4f} USD{paid}"
    click.echo(
        f"{cost.decisions} decisions, {cost.cached} from the cache; {figures.trades} trades, {figures.clipped} cut to"
        f" what was there, {figures.fees_usd:.2f} USD of fees; {cost.prompt_tokens} tokens read"
        f" and {cost.completion_tokens} written for all answers, {money}"
    )
    if done.holds:
        click.echo("held: " + ", ".join(f"{count} {why}" for why, count in done.holds.items()))
    click.echo(f"{out}{' (SIMULATED candles)' if simulated else ''}")


agents.add_command(serve)
agents.add_command(cache_group)
agents.add_command(grid)
