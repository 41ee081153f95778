"""`trader-pipeline evaluate`: an adapter beside its rivals over plain files, without Dagster and store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from trader_pipeline.cli.corpus import refuse_existing
from trader_pipeline.cli.options import print_overview, profile_of, profile_options
from trader_pipeline.cli.training import model_of_adapter

_EXISTING = click.Path(exists=True, path_type=Path)
_OUT = click.Path(path_type=Path)

if TYPE_CHECKING:
    import pandas as pd


@click.command()
@profile_options
@click.option(
    "--adapter", required=True, type=_EXISTING, help="Folder of the adapter; its base model is used."
)
@click.option(
    "--timeframe",
    default="1h",
    show_default=True,
    type=click.Choice(["1h", "4h", "1d"]),
    help="Timeframe with which the candidates were made.",
)
@click.option("--klines", "klines_path", required=True, type=_EXISTING, help="Folder or file of candles.")
@click.option(
    "--quotes",
    "quotes_path",
    type=_EXISTING,
    default=None,
    help="Recorded quotes, for --set options.source=recorded.",
)
@click.option(
    "--volatility-index",
    "index_path",
    type=_EXISTING,
    default=None,
    help="Hourly DVOL values, where the candidates were made with them.",
)
@click.option(
    "--out", type=_OUT, default=None, help="Folder for decisions.csv, metrics.csv, equity.csv; agents.csv."
)
@click.option(
    "--agent",
    "agent_models",
    multiple=True,
    metavar="MODEL",
    help="Also judge this model of the endpoint at OPENAI_BASE_URL, asked step by step; a model on this machine needs"
    " `agents serve`. May be repeated.",
)
@click.option(
    "--agent-cache",
    type=_OUT,
    default=Path("answers.sqlite"),
    show_default=True,
    help="File of the agents' answers: a second run asks nothing.",
)
@click.option(
    "--agent-timeout",
    default=60.0,
    show_default=True,
    help="Longest wait for an agent's answer, in seconds; a model on this machine may need more.",
)
@click.argument("candidates", nargs=-1, required=True, type=_EXISTING)
def evaluate(
    profile: str,
    overrides: tuple[str, ...],
    adapter: Path,
    timeframe: str,
    klines_path: Path,
    quotes_path: Path | None,
    index_path: Path | None,
    out: Path | None,
    agent_models: tuple[str, ...],
    agent_cache: Path,
    agent_timeout: float,
    candidates: tuple[Path, ...],
) -> None:
    """Score an adapter on the held-out steps of candidate files, and run it in the sequential backtest.

    Ends with a sentence for each comparison: ahead, tied or behind, and on how many decisions.

    \b
    Examples:
      trader-pipeline evaluate --adapter adapter --klines ~/candles exports/training_candidates_*.csv
      OPENAI_BASE_URL=http://127.0.0.1:8765/v1 trader-pipeline evaluate --agent smollm2-135m-instruct --out scores \\
        --adapter adapter --klines ~/candles exports/training_candidates_*.csv
    """
    import pandas as pd

    from trader_pipeline.cli.agents_evaluating import (
        ANSWERS,
        agent_policy,
        refuse_no_endpoint,
        say_agents,
        write_agents,
    )
    from trader_pipeline.cli.everything import quieten
    from trader_pipeline.datasets import load_dataset_file
    from trader_pipeline.evaluation.adapter import evaluate_adapter
    from trader_pipeline.evaluation.overview import evaluation_overview
    from trader_pipeline.klines import build_klines
    from trader_pipeline.options.recordings import load_quotes_file, load_volatility_index_file
    from trader_pipeline.options.surface import with_volatility_index
    from trader_pipeline.schema import Market
    from trader_pipeline.schema.tables import CANDIDATE_DATASET
    from trader_pipeline.store import write_atomic

    if out is not None:
        refuse_existing(out, "decisions.csv", "metrics.csv", "equity.csv", ANSWERS)
    refuse_no_endpoint(agent_models, agent_cache)
    quieten()
    settings = profile_of(profile, (*model_of_adapter(adapter), *overrides), klines=str(klines_path))
    frame = pd.concat([load_dataset_file(path, CANDIDATE_DATASET) for path in candidates], ignore_index=True)
    markets = [Market(underlying, timeframe) for underlying in sorted(set(frame["underlying"]))]
    finest = {m.key: Market(m.underlying, settings.klines.finest_timeframe) for m in markets}
    now = pd.Timestamp.now("UTC")
    built = {m.key: build_klines(finest[m.key], settings.klines, as_of=now) for m in markets}
    fine = {key: candles for key, (candles, _, _) in built.items()}
    simulated = any(own for _, _, own in built.values())
    if index_path:
        index = load_volatility_index_file(index_path)
        fine = {m.key: with_volatility_index(fine[m.key], index, underlying=m.underlying) for m in markets}
    agents = [
        agent_policy(model, agent_cache, settings, frame, timeout_seconds=agent_timeout)
        for model in agent_models
    ]
    result = evaluate_adapter(
        adapter_dir=adapter,
        model_params=settings.model,
        candidates=frame,
        candles={m.key: build_klines(m, settings.klines, as_of=now)[0] for m in markets},
        fine_candles=fine,
        markets=markets,
        split_params=settings.splits,
        render=settings.render,
        option_params=settings.options,
        backtest_params=settings.backtest,
        params=settings.evaluation,
        boundaries=_boundaries_of(adapter),
        quotes=load_quotes_file(quotes_path) if quotes_path else None,
        guests=agents,
    )
    print_overview(evaluation_overview(result.metrics, simulated=simulated))
    _say_origin(simulated, settings.options.source)
    say_agents(agents)
    if out is not None:
        for name in ("decisions", "metrics", "equity"):
            text = getattr(result, name).to_csv(index=False)
            click.echo(write_atomic(out / f"{name}.csv", text.encode()))
        if agents:
            click.echo(write_agents(agents, out))


def _say_origin(simulated: bool, premiums: str) -> None:
    """What the figures rest on, as far as the files tell."""
    if not simulated:
        click.echo("Candles: not marked as simulated; files of other programs carry no such mark.")
    if premiums == "recorded":
        click.echo("Premiums: recorded quotes.")
    else:
        click.echo("Premiums: modelled from the candles, so a P&L is a statement about that model too.")


def _boundaries_of(adapter: Path) -> dict[str, pd.Timestamp] | None:
    """The split boundaries of the corpus that the adapter was trained on, if they came with it."""
    from trader_pipeline.corpora import boundaries_from_json
    from trader_pipeline.corpora.folder import SPLITS_FILE

    path = adapter / SPLITS_FILE
    if not path.is_file():
        click.echo(
            f"{path} is missing: the splits are computed from these candidates. If the adapter was trained on others,"
            " held-out steps may be among what it was trained on.",
            err=True,
        )
        return None
    return boundaries_from_json(path.read_text())
