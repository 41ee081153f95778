"""`agents serve` and `agents cache`: the local model as an endpoint, and the kept answers as a text file."""

from __future__ import annotations

from pathlib import Path

import click

from trader_pipeline.cli.options import profile_of, profile_options

_EXISTING = click.Path(exists=True, path_type=Path)
_CACHE = click.option(
    "--cache", "cache_path", required=True, type=_EXISTING, help="File of answers, such as answers.sqlite."
)


@click.command()
@profile_options
@click.option("--adapter", type=_EXISTING, default=None, help="Folder of an adapter; its base model is used.")
@click.option("--port", type=click.IntRange(1, 65535), default=8765, show_default=True, help="On 127.0.0.1.")
@click.option(
    "--candles",
    type=click.IntRange(min=1),
    default=12,
    show_default=True,
    help="How many candles the model asks for; more take longer to read.",
)
def serve(profile: str, overrides: tuple[str, ...], adapter: Path | None, port: int, candles: int) -> None:
    """Serve the base model, or an adapter, as an OpenAI-compatible endpoint on this machine, until Ctrl-C.

    Its answers are constrained: offered a tool it calls it, then it takes the likeliest of the allowed values; the
    amount is half of the cash or of the coins. It needs no key. Any program that asks OpenAI for chat completions
    can ask it too.

    \b
    Examples:
      trader-pipeline agents serve
      trader-pipeline agents serve --adapter adapter --port 8800
      OPENAI_BASE_URL=http://127.0.0.1:8765/v1 trader-pipeline agents run --model smollm2-135m-instruct ...
    """
    from trader_pipeline.agents.endpoint import Endpoint, serve_forever
    from trader_pipeline.agents.local_model import LocalModel
    from trader_pipeline.cli.everything import quieten
    from trader_pipeline.settings import EnvironmentSettings

    def say(endpoint: Endpoint) -> None:
        address = f"OPENAI_BASE_URL={endpoint.base_url}"
        click.echo(f"{endpoint.model} answers at {endpoint.base_url} (Ctrl-C stops it). Ask it with")
        click.echo(f"  {address} trader-pipeline agents run --model {endpoint.model} ...")

    quieten()
    settings = profile_of(profile, overrides)
    root = EnvironmentSettings(profile=settings.name).data_root
    params = settings.model.model_copy(update={"cache_dir": root.parent / "models"})
    serve_forever(LocalModel(params, adapter=adapter, rows=candles), port=port, on_ready=say)
    click.echo("Stopped.")


@click.group()
def cache() -> None:
    """Carry kept answers from one machine to another as JSON lines, to repeat a run without a model.

    \b
    Examples:
      trader-pipeline agents cache export --cache runs/answers.sqlite --out answers.jsonl
      trader-pipeline agents cache import --cache runs/answers.sqlite answers.jsonl
    """


@cache.command("export")
@_CACHE
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The file to write.")
def export(cache_path: Path, out: Path) -> None:
    """Write all kept answers to a new file, a line each, in a fixed order.

    \b
    Example:
      trader-pipeline agents cache export --cache runs/answers.sqlite --out answers.jsonl
    """
    from trader_pipeline.agents.cache import ResponseCache

    click.echo(f"{ResponseCache(cache_path).export(out)} answers in {out}")


@cache.command("import")
@click.option(
    "--cache",
    "cache_path",
    required=True,
    type=click.Path(path_type=Path),
    help="File of answers; made if it is not there.",
)
@click.argument("exported", type=_EXISTING)
def import_(cache_path: Path, exported: Path) -> None:
    """Take over the answers of an exported file; those that are there already stay.

    \b
    Example:
      trader-pipeline agents cache import --cache runs/answers.sqlite answers.jsonl
    """
    from trader_pipeline.agents.cache import ResponseCache

    click.echo(f"{ResponseCache(cache_path).load(exported)} new answers in {cache_path}")
