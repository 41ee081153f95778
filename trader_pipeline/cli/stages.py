"""Training and evaluation as sub-commands, over the stages' own functions and plain files: no Dagster, no store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from trader_pipeline.cli.corpus import refuse_existing
from trader_pipeline.cli.options import print_overview, profile_of, profile_options

_EXISTING = click.Path(exists=True, path_type=Path)
_OUT = click.Path(path_type=Path)

if TYPE_CHECKING:
    import pandas as pd

    from trader_pipeline.agents.covered_calls import AgentPolicy
    from trader_pipeline.profile import Profile
    from trader_pipeline.training.finetune import AdapterResult


@click.command()
@profile_options
@click.option(
    "--corpus",
    "corpus_dir",
    required=True,
    type=_EXISTING,
    help="Folder with train.jsonl, val.jsonl and audit.json.",
)
@click.option("--out", required=True, type=_OUT, help="Folder of the adapter; it must not exist.")
@click.option(
    "--model", default=None, help="Base model: smollm2-135m-instruct, tiny, a hub id or a local folder."
)
@click.option(
    "--adapter",
    "start_from",
    type=_EXISTING,
    default=None,
    help="Folder of an adapter to go on from; its base model is used. Objective dpo needs one.",
)
@click.option(
    "--objective",
    type=click.Choice(["sft", "dpo"]),
    default=None,
    help="sft: answers alone. dpo: a corpus of pairs. Default: the profile's.",
)
@click.option(
    "--mlflow", "tracking_uri", default=None, help="MLflow tracking address; without it nothing is tracked."
)
@click.option(
    "--num-processes",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes that train together, one a GPU; without GPUs they share the cores.",
)
@click.option("--fresh", is_flag=True, help="Discard what a stopped training of the same left; begin anew.")
def train(
    profile: str,
    overrides: tuple[str, ...],
    corpus_dir: Path,
    out: Path,
    model: str | None,
    start_from: Path | None,
    objective: str | None,
    tracking_uri: str | None,
    num_processes: int,
    fresh: bool,
) -> None:
    """Fine-tune a LoRA adapter on JSONL chat records; the loss covers the answers alone.

    A training that was stopped, even killed, goes on from its last checkpoint when the same command is given again,
    and ends with the same bytes. Its checkpoints lie beside --out in .NAME.training until it is done. The progress is
    a bar on a terminal, else a line a step.

    \b
    Examples:
      trader-pipeline train --corpus corpora --out adapter
      trader-pipeline train --corpus corpora --out adapter --set finetune.max_steps=40 --set finetune.learning_rate=2e-4
      trader-pipeline train --corpus corpora --out adapter --mlflow sqlite:///mlflow.db --num-processes 2
      trader-pipeline train --corpus pairs --out dpo --adapter adapter --objective dpo --set finetune.learning_rate=1e-5
      trader-pipeline train --corpus corpora --out try --model tiny --set finetune.max_steps=5
    """
    from trader_pipeline.training.launch import is_main_process, run_in_processes
    from trader_pipeline.training.processes import process_count

    if out.exists() and is_main_process():
        raise FileExistsError(f"{out} exists; name a new folder for the adapter")
    if model is None and start_from is not None:
        overrides = (*_base_model_of(start_from), *overrides)
    own = {"model.model_name": model, "finetune.objective": objective}
    given = tuple(f"{key}={value}" for key, value in own.items() if value is not None)
    settings = profile_of(profile, (*overrides, *given))
    if num_processes > 1 and process_count() == 1:
        run_in_processes(_given_arguments(without="num_processes"), num_processes)
        return
    from trader_pipeline.cli.everything import quieten
    from trader_pipeline.corpora.folder import load_corpus_folder
    from trader_pipeline.training.adapter_files import place_new
    from trader_pipeline.training.finetune import train_adapter
    from trader_pipeline.training.tracking import TrackingParams
    from trader_pipeline.training.tracking_address import web_page

    quieten()
    corpus = load_corpus_folder(corpus_dir)
    result = train_adapter(
        corpus.records,
        audit=corpus.audit,
        model_params=settings.model,
        params=settings.finetune,
        output_dir=out,
        tracking=TrackingParams(tracking_uri=tracking_uri, ui_url=web_page(tracking_uri))
        if tracking_uri
        else None,
        start_from=start_from,
        fresh=fresh,
        boundaries=corpus.boundaries,
        place=place_new,
    )
    if not is_main_process():
        return
    _say_trained(result, tracking_uri)


def _given_arguments(*, without: str) -> list[str]:
    """The running command and the options given to it, but for one."""
    context = click.get_current_context()
    arguments = [str(context.info_name)]
    for option in context.command.params:
        name = str(option.name)
        source = context.get_parameter_source(name)
        if name == without or source is not click.core.ParameterSource.COMMANDLINE:
            continue
        value = context.params[name]
        if isinstance(value, bool):
            arguments.append(option.opts[0])
        else:
            for one in value if option.multiple else (value,):
                arguments += [option.opts[0], str(one)]
    return arguments


def _say_trained(result: AdapterResult, tracking_uri: str | None) -> None:
    from trader_pipeline.training.logged_model import serve_command
    from trader_pipeline.training.loss_log import loss_fell
    from trader_pipeline.training.tracking_address import page_command

    before = result.log[result.log["split"] == "val"]["loss"].iloc[0]
    click.echo(
        f"train loss {result.train_loss:.4f}, validation loss {result.val_loss:.4f} (before: {before:.4f})"
    )
    if not loss_fell(before, result.val_loss):
        click.echo("validation loss never fell: nothing was learned; raise max_steps or change learning_rate")
    speed = f"{result.tokens_per_second:.0f} tokens/s; " if result.tokens_per_second else ""
    click.echo(f"{speed}adapter in {result.adapter_dir}")
    if result.mlflow_run_url is not None:
        click.echo(f"MLflow run: {result.mlflow_run_url}")
    if tracking_uri and (command := page_command(tracking_uri)):
        click.echo(f"its page opens with: {command}")
    click.echo(
        f"evaluate it: trader-pipeline evaluate --adapter {result.adapter_dir} --klines FOLDER CANDIDATES..."
    )
    if result.registered is None:
        click.echo("serve it: train with --mlflow, which registers a model for 'mlflow models serve'")
    else:
        click.echo(f"serve it: {serve_command(result.registered, tracking_uri or '')}")


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
@click.option("--out", type=_OUT, default=None, help="Folder for decisions.csv, metrics.csv and equity.csv.")
@click.option(
    "--agent",
    "agent_models",
    multiple=True,
    metavar="MODEL",
    help="Also judge this model of the endpoint at OPENAI_BASE_URL, asked step by step. May be repeated.",
)
@click.option(
    "--agent-cache",
    type=_OUT,
    default=Path("answers.sqlite"),
    show_default=True,
    help="File of the agents' answers: a second run asks nothing.",
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
    candidates: tuple[Path, ...],
) -> None:
    """Score an adapter on the held-out steps of candidate files, and run it in the sequential backtest.

    Ends with a sentence for each comparison: ahead, tied or behind, and on how many decisions.

    \b
    Example:
      trader-pipeline evaluate --adapter adapter --klines ~/candles exports/training_candidates_*.csv
    """
    import pandas as pd

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
        refuse_existing(out, "decisions.csv", "metrics.csv", "equity.csv")
    quieten()
    settings = profile_of(profile, (*_base_model_of(adapter), *overrides), klines=str(klines_path))
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
    agents = [_agent(model, agent_cache, settings, frame) for model in agent_models]
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
    for agent in agents:
        faults = ", ".join(f"{count} {kind}" for kind, count in agent.faults.items() if count) or "none"
        click.echo(f"{agent.name}: {len(agent.replies)} steps asked, without an answer (NO_TRADE): {faults}")
    if out is not None:
        for name in ("decisions", "metrics", "equity"):
            text = getattr(result, name).to_csv(index=False)
            click.echo(write_atomic(out / f"{name}.csv", text.encode()))


def _agent(model: str, cache: Path, settings: Profile, candidates: pd.DataFrame) -> AgentPolicy:
    from trader_pipeline.agents.covered_calls import AgentPolicy
    from trader_pipeline.agents.openai_asker import asker_for
    from trader_pipeline.agents.params import AgentParams
    from trader_pipeline.evaluation.policies import recorded_slopes

    return AgentPolicy(
        name=f"agent {model}",
        asker=asker_for(AgentParams(model=model, prompt="covered_call"), cache=cache),
        render=settings.render,
        seed=settings.evaluation.seed,
        slopes=recorded_slopes(candidates),
    )


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


def _base_model_of(adapter: Path) -> tuple[str, ...]:
    """The setting that names the base model which the adapter was trained on, where its manifest says so."""
    from trader_pipeline.training.adapter_files import base_model_of

    name = base_model_of(adapter)
    return () if name is None else (f"model.model_name={name}",)
