"""`trader-pipeline train`: fine-tuning over plain files, without Dagster and store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from trader_pipeline.cli.options import profile_of, profile_options

_EXISTING = click.Path(exists=True, path_type=Path)
_OUT = click.Path(path_type=Path)

if TYPE_CHECKING:
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
        overrides = (*model_of_adapter(start_from), *overrides)
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


def model_of_adapter(adapter: Path) -> tuple[str, ...]:
    """The setting that names the base model which the adapter was trained on, where its manifest says so."""
    from trader_pipeline.training.adapter_files import base_model_of

    name = base_model_of(adapter)
    return () if name is None else (f"model.model_name={name}",)
