"""`trader-pipeline agents grid`: many agents tried on one window, the best of them reported on a later one.

Belongs here: the command's options and what it prints. Running the grid is `agents.grid`.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trader_pipeline.cli.agents_grid_options import ModelPriceType, Values, WindowType
from trader_pipeline.cli.agents_inputs import BudgetSpent
from trader_pipeline.cli.errors import OutputExistsError
from trader_pipeline.cli.options import print_table, profile_of, profile_options

if TYPE_CHECKING:
    from trader_pipeline.agents.asking import Asker
    from trader_pipeline.agents.grid import GridResult
    from trader_pipeline.agents.grid_points import GridParams
    from trader_pipeline.agents.params import AgentParams
    from trader_pipeline.cli.agents_inputs import Stretch

_EXISTING = click.Path(exists=True, path_type=Path)
_OUT = click.Path(path_type=Path)
_SHOWN = 20
_FIGURES = ("sharpe", "accumulated_return", "excess_return", "max_drawdown", "trades", "faults")


@click.command()
@profile_options
@click.option("--klines", "klines_path", required=True, type=_EXISTING, help="Folder or file of candles.")
@click.option("--market", required=True, help="Underlying and timeframe, e.g. BTC_1h.")
@click.option(
    "--validation",
    required=True,
    type=WindowType(),
    metavar="START:END",
    help="Window by which the best is chosen.",
)
@click.option(
    "--test",
    "test_window",
    required=True,
    type=WindowType(),
    metavar="START:END",
    help="Later window on which it is reported (UTC, ends are exclusive).",
)
@click.option(
    "--out", type=_OUT, default=None,
    help="Folder of the grid: new, or of the same one unfinished. Default: data/PROFILE/agents/grid_MARKET_START_END.",
)  # fmt: skip
@click.option(
    "--prompts", type=Values(str), default="bullish,bearish,neutral", show_default=True, metavar="V1,V2,...",
    help="Instructions.",
)  # fmt: skip
@click.option(
    "--models", type=Values(str), default="", metavar="V1,V2,...",
    help="Models at the endpoint. Default: the local one, started here.",
)  # fmt: skip
@click.option(
    "--adapter", default=None, type=_EXISTING, help="Adapter that the local model wears, from `train`."
)
@click.option(
    "--window-sizes", type=Values(int), default="48", show_default=True, metavar="V1,V2,...",
    help="Most candles that an agent can look at.",
)  # fmt: skip
@click.option(
    "--balances", type=Values(float), default="10000", show_default=True, metavar="V1,V2,...",
    help="Cash at the start, in USD.",
)  # fmt: skip
@click.option(
    "--choose-by",
    default="sharpe",
    show_default=True,
    type=click.Choice(["sharpe", "accumulated_return", "apy", "max_drawdown"]),
    help="Figure of the validation window whose largest value is chosen.",
)
@click.option(
    "--fee", default=0.001, show_default=True, help="Trading fee, a share of what a trade receives."
)
@click.option("--temperature", default=0.0, show_default=True, help="Sampling temperature of the models.")
@click.option(
    "--retries", default=2, show_default=True, help="Times a failed question is asked again, then it holds."
)
@click.option(
    "--timeout", type=float, default=None,
    help="Longest wait for an answer, in seconds. Default: 60, and 600 for the local model.",
)  # fmt: skip
@click.option(
    "--cache", type=_OUT, default=None, help="File of answers. Default: answers.sqlite beside --out."
)
@click.option(
    "--price", "prices", type=ModelPriceType(), multiple=True, metavar="MODEL=READ:WRITTEN",
    help="USD per million tokens. May be repeated.",
)  # fmt: skip
@click.option(
    "--max-cost-usd", type=float, default=None,
    help="Stop when this much is spent, earlier runs with the same --cache included; needs a --price for each model.",
)  # fmt: skip
@click.option("--workers", default=1, show_default=True, type=click.IntRange(min=1), help="Processes.")
@click.option("--mlflow", "tracking_uri", metavar="URI", default=None, help="MLflow tracking address.")
@click.option(
    "--progress/--no-progress", default=None, help="Show a progress bar. Default: only in a terminal."
)
def grid(**given: Any) -> None:
    """Try prompts, models, window sizes and balances on a validation window; report the best on a later test window.

    Every combination is one agent. The best is chosen before anything runs on the test window. With it come the number
    of agents tried, the deflated Sharpe ratio, and whether it beat holding the coin: no edge, where the interval of the
    difference holds 0.

    Answers are kept as by `agents run`. A grid that was stopped, even killed, goes on when the same command is given
    again, and an agent that failed is tried again. The folder holds grid.csv, report.json and the files of each run.
    The dashboard's page Agents shows what lies below data/PROFILE/agents.

    \b
    Example:
      trader-pipeline agents grid --klines candles --market BTC_1h --window-sizes 24,48 --workers 2 \\
        --validation 2024-03-01:2024-03-08 --test 2024-03-08:2024-03-15
    \b
    Models of an endpoint (OPENAI_BASE_URL, OPENAI_API_KEY), within a budget:
      trader-pipeline agents grid --klines candles --market ETH_4h --models gpt-4.1-mini \\
        --price gpt-4.1-mini=0.40:1.60 --max-cost-usd 5 \\
        --validation 2024-01-01:2024-02-01 --test 2024-02-01:2024-03-01 --out data/sample/agents/eth
    """
    from trader_pipeline.agents.grid_folder import GridExistsError
    from trader_pipeline.agents.ledger import BudgetSpentError

    try:
        _grid(**given)
    except BudgetSpentError as error:
        raise BudgetSpent(str(error)) from error
    except GridExistsError as error:
        raise OutputExistsError(str(error)) from error
    except KeyboardInterrupt:
        click.echo("\nStopped. The same command goes on from there; what was answered is kept.", err=True)
        raise SystemExit(130) from None


def _grid(
    *, profile: str, overrides: tuple[str, ...], klines_path: Path, market: str, out: Path | None,
    models: tuple[str, ...], adapter: Path | None, cache: Path | None,
    prices: tuple[tuple[str, tuple[float, float]], ...],
    max_cost_usd: float | None, workers: int, tracking_uri: str | None, progress: bool | None, **settings: Any,
) -> None:  # fmt: skip
    from trader_pipeline.agents.address import asked_address
    from trader_pipeline.agents.params import patient
    from trader_pipeline.cli.agents_inputs import (
        agent_candles,
        host_of,
        moment_name,
        shown_folder,
        telling_what_is_paid,
    )
    from trader_pipeline.schema import Market

    if max_cost_usd is not None and (unpriced := sorted(set(models) - dict(prices).keys())):
        raise click.UsageError(
            f"--max-cost-usd needs the price of {unpriced[0]}: --price {unpriced[0]}=READ:WRITTEN"
        )
    loaded = profile_of(profile, overrides, klines=str(klines_path))
    params = _params(models or ("local",), settings)
    stretch = agent_candles(Market.parse(market), params.validation[0], params.test[1], loaded)
    if out is None:
        ends = [moment_name(moment) for moment in stretch.window]
        out = shown_folder(loaded, "_".join(["grid", stretch.market.key, *ends]))
    with host_of(models[0] if models else None, adapter=adapter, profile=loaded) as host:
        own = {"models": models or (host.model,), "agent": patient(params.agent, host.base_url)}
        cache = cache or out.parent / "answers.sqlite"
        asker = partial(
            open_priced, base_url=host.base_url, cache=cache, prices=dict(prices), max_cost_usd=max_cost_usd
        )
        params = params.model_copy(update=own)
        with telling_what_is_paid(cache, dict(prices)):
            _run(
                stretch, params, asker, out, asked_address(host.base_url), workers=workers, tracking_uri=tracking_uri,
                progress=progress,
            )  # fmt: skip


def _params(models: tuple[str, ...], settings: dict[str, Any]) -> GridParams:
    from pydantic import ValidationError

    from trader_pipeline.agents.grid_points import GridParams
    from trader_pipeline.agents.params import AgentParams
    from trader_pipeline.cli.agents_inputs import spot_prompt

    for name in settings["prompts"]:
        spot_prompt(name)
    try:
        waits = {} if settings["timeout"] is None else {"timeout_seconds": settings["timeout"]}
        agent = AgentParams(
            trading_fee=settings["fee"], temperature=settings["temperature"], retries=settings["retries"], **waits
        )  # fmt: skip
        return GridParams(
            prompts=settings["prompts"], models=models, window_sizes=settings["window_sizes"],
            balances=settings["balances"], validation=settings["validation"], test=settings["test_window"],
            choose_by=settings["choose_by"], agent=agent,
        )  # fmt: skip
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise click.UsageError(f"{where}: {problem['msg']}" if where else problem["msg"]) from error


def open_priced(
    params: AgentParams, *, base_url: str | None, cache: Path, prices: dict[str, tuple[float, float]],
    max_cost_usd: float | None,
) -> Asker:  # fmt: skip
    """Who is asked in each process of the grid: one file of answers and one budget for all."""
    from trader_pipeline.cli.agents_inputs import Keeping, open_asker

    keeping = Keeping(cache, prices.get(params.model), max_cost_usd)
    return open_asker(params, base_url=base_url, keeping=keeping)


def _run(
    stretch: Stretch, params: GridParams, asker: Any, out: Path, address: str, *, workers: int,
    tracking_uri: str | None, progress: bool | None,
) -> None:  # fmt: skip
    from tqdm import tqdm

    from trader_pipeline.agents.grid import run_grid
    from trader_pipeline.agents.grid_figures import SHORTEST
    from trader_pipeline.agents.grid_points import WINDOWS, grid_points
    from trader_pipeline.agents.run import window_candles

    points = len(grid_points(params))
    decisions = [len(window_candles(stretch.candles, params.window(name))) for name in WINDOWS]
    click.echo(
        f"{points} agents, {decisions[0]} decisions each on validation and {decisions[1]} on test:"
        f" {points * sum(decisions):,} questions, fewer where answers are kept.",
        err=True,
    )
    if decisions[1] <= SHORTEST:
        click.echo(
            f"A test window of {decisions[1]} candles tells no edge: {SHORTEST + 1} are needed.", err=True
        )
    shown = sys.stderr.isatty() if progress is None else progress
    with tqdm(total=2 * points, desc="runs", unit="run", disable=not shown) as bar:
        result = run_grid(
            stretch.candles, params=params, open_asker=asker, out=out, workers=workers, market=stretch.market.key,
            simulated=stretch.simulated, address=address, tracking=_tracking(tracking_uri),
            on_done=lambda task, why: bar.update(1),
        )  # fmt: skip
    _say(result)


def _tracking(tracking_uri: str | None) -> Any:
    if tracking_uri is None:
        return None
    from trader_pipeline.agents.grid_tracking import EXPERIMENT
    from trader_pipeline.training.tracking import TrackingParams
    from trader_pipeline.training.tracking_address import web_page

    return TrackingParams(
        tracking_uri=tracking_uri, experiment=EXPERIMENT, ui_url=web_page(tracking_uri), system_metrics=False
    )


def _say(result: GridResult) -> None:
    """The table, the report in words; a grid with failed runs ends with exit status 1."""
    from trader_pipeline.agents.grid_report import sentences

    settings = ["prompt", "model", "window_size", "initial_balance"]
    for window in ("validation", "test"):
        shown = result.table.head(_SHOWN)
        balances = [f"{usd:,.0f}" for usd in shown["initial_balance"]]
        own = shown[settings].assign(
            initial_balance=balances, **{name: shown[f"{window}_{name}"] for name in _FIGURES}
        )
        print_table(own, f"{window}; returns and drawdowns as shares, in the order of validation")
    if len(result.table) > _SHOWN:
        click.echo(f"The first {_SHOWN} of {len(result.table)}; all are in {result.folder / 'grid.csv'}")
    for line in sentences(result.report):
        click.echo(line)
    click.echo(f"{result.folder}{' (SIMULATED candles)' if result.report['simulated'] else ''}")
    if result.failed:
        raise click.ClickException(
            f"{len(result.failed)} runs failed, see above; the same command tries them again and keeps the others"
        )
