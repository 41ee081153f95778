"""`run`: the whole graph with progress and a summary. `ui`: the servers."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trader_pipeline.cli.options import print_overview, profile_options

if TYPE_CHECKING:
    import dagster as dg

    from trader_pipeline.defs.resources import PipelineResource


@click.command()
@profile_options
@click.option(
    "--klines", default="", help="Folder or file of real candles; without it the profile's own source."
)
@click.option(
    "--data-dir", default="", help="Where tables, adapter and report land. Default: data/<profile>."
)
@click.option("--force", is_flag=True, help="Make everything again, also what is current.")
def run(profile: str, overrides: tuple[str, ...], klines: str, data_dir: str, force: bool) -> None:
    """Materialise the whole asset graph, from candles to the evaluated adapter and its report.

    What is current by content hash is skipped, so a run that was stopped goes on where it was.

    \b
    Examples:
      trader-pipeline run
      trader-pipeline run --profile full --klines ~/candles
      trader-pipeline run --set finetune.max_steps=20 --data-dir data/short
    """
    _set_environment(profile, overrides, klines, data_dir)
    quieten()
    import dagster as dg

    from trader_pipeline.defs.resources import PipelineResource
    from trader_pipeline.defs.run import RunFailedError, run_all, sole_run
    from trader_pipeline.servers import prepare_dagster_home

    pipeline = PipelineResource.from_environment()
    _ = pipeline.graph_profile  # a wrong setting is said before anything is done
    os.environ.setdefault("DAGSTER_HOME", str(prepare_dagster_home(pipeline.root)))
    with dg.DagsterInstance.get() as instance:
        try:
            with sole_run(pipeline):
                timings = run_all(pipeline, instance, force=force, show=_progress())
        except RunFailedError as error:
            raise click.ClickException(
                f"{error}\nWhat was built before stays. Once its cause is put right, the same command does the rest."
            ) from error
    _print_summary(pipeline, timings, instance)


@click.command()
@click.option(
    "--profile",
    default="sample",
    show_default=True,
    envvar="TRADER_PIPELINE_PROFILE",
    help="Whose data to show.",
)
@click.option(
    "--klines",
    default="",
    envvar="TRADER_PIPELINE_KLINES",
    help="Candles of that profile, for runs from the page.",
)
@click.option("--data-dir", default="", help="Where its tables lie. Default: data/<profile>.")
@click.option("--port-dagster", default=3000, show_default=True, help="Port of the Dagster page.")
@click.option("--port-mlflow", default=5000, show_default=True, help="Port of the MLflow page.")
@click.option("--port-dashboard", default=8050, show_default=True, help="Port of the dashboard.")
def ui(
    profile: str, klines: str, data_dir: str, port_dagster: int, port_mlflow: int, port_dashboard: int
) -> None:
    """Start Dagster (webserver and daemon), MLflow and the dashboard on loopback; Ctrl-C stops them.

    \b
    Example:
      trader-pipeline ui --profile full --port-dagster 3100
    """
    _set_environment(profile, (), klines, data_dir)
    for name, port in (("DAGSTER_UI", port_dagster), ("MLFLOW_UI", port_mlflow)):
        os.environ.setdefault(f"TRADER_PIPELINE_{name}", f"http://127.0.0.1:{port}")
    from trader_pipeline.servers import prepare_dagster_home, serve
    from trader_pipeline.settings import EnvironmentSettings

    os.environ.setdefault("DAGSTER_HOME", str(prepare_dagster_home(EnvironmentSettings().data_root)))
    _clear_dead_runs()
    raise SystemExit(serve(port_dagster, port_mlflow, port_dashboard, EnvironmentSettings().data_root))


def _clear_dead_runs() -> None:
    import dagster as dg

    from trader_pipeline.defs.run import fail_dead_runs

    with dg.DagsterInstance.get() as instance:
        if dead := fail_dead_runs(instance):
            click.echo(f"{dead} runs whose process is gone were marked as failed", err=True)


_FOREIGN = (
    "Could not find a config file in",  # PEFT, at every checkpoint of a model that is not on a hub; nothing is resized
    "fan_in_fan_out is set to",  # PEFT, of GPT-2's layers; it sets what is right by itself
)
"""How warnings begin that tell a user nothing."""


def quieten() -> None:
    """Warnings of the libraries about their own future are for their users' developers, not for ours."""
    import warnings

    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|trl|peft|torch)\b.*")
    warnings.filterwarnings("ignore", category=FutureWarning, message=r".*\bgradient_checkpointing")
    for beginning in _FOREIGN:
        warnings.filterwarnings("ignore", message=beginning)


def _set_environment(profile: str, overrides: tuple[str, ...], klines: str, data_dir: str) -> None:
    """The definitions read the environment alone, in this process and in those that the servers start."""
    import json

    values = {
        "PROFILE": profile,
        "KLINES": str(Path(klines).expanduser().absolute()) if klines else "",
        "DATA_DIR": data_dir,
    }
    if overrides:
        values["OVERRIDES"] = json.dumps(list(overrides))
    for name, value in values.items():
        if value:
            os.environ[f"TRADER_PIPELINE_{name}"] = value


def _progress() -> Callable[[str, int, int], None]:
    """One line that is rewritten on a terminal, a line per step elsewhere (a log, CI).

    No live display: training draws its own bar.
    """
    started = time.monotonic()
    terminal = sys.stderr.isatty()

    def show(title: str, done: int, total: int) -> None:
        elapsed = time.strftime("%M:%S", time.gmtime(time.monotonic() - started))
        line = f"{elapsed}  [{done + 1}/{total}] {title}"
        click.echo(f"\r\033[K{line}" if terminal else line, err=True, nl=not terminal or done + 1 == total)

    return show


def _print_summary(
    pipeline: PipelineResource, timings: list[tuple[str, float]], instance: dg.DagsterInstance
) -> None:
    from trader_pipeline.evaluation.overview import run_overview

    print_overview(run_overview(pipeline.store, pipeline.profile.markets))
    click.echo(f"\n{len(timings)} runs in {sum(s for _, s in timings):.0f} s; nothing else needed making.")
    exports = pipeline.exports_dir
    paths = {
        "adapter": pipeline.adapter_dir,
        "exports": exports,
        "report": pipeline.report_path,
    }
    for name, path in paths.items():
        click.echo(f"{name:>8}: {path}")
