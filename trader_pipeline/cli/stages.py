"""Training and evaluation as sub-commands, over the stages' own functions and plain files: no Dagster, no store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from trader_pipeline.cli.corpus import refuse_existing
from trader_pipeline.cli.options import print_table, profile_of, profile_options

_EXISTING = click.Path(exists=True, path_type=Path)
_OUT = click.Path(path_type=Path)

if TYPE_CHECKING:
    import pandas as pd


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
    "--mlflow", "tracking_uri", default=None, help="MLflow tracking address; without it nothing is tracked."
)
def train(
    profile: str,
    overrides: tuple[str, ...],
    corpus_dir: Path,
    out: Path,
    model: str | None,
    tracking_uri: str | None,
) -> None:
    """Fine-tune a LoRA adapter on JSONL chat records; the loss covers the answers alone.

    \b
    Example:
      trader-pipeline train --corpus corpora --out adapter --set finetune.max_steps=40
    """
    if out.exists():
        raise FileExistsError(f"{out} exists; name a new folder for the adapter")
    from trader_pipeline.corpora.folder import SPLITS_FILE, load_corpus_folder
    from trader_pipeline.store import write_atomic
    from trader_pipeline.training.finetune import train_adapter
    from trader_pipeline.training.tracking import TrackingParams

    settings = profile_of(profile, (*overrides, *([f"model.model_name={model}"] if model else [])))
    corpus = load_corpus_folder(corpus_dir)
    result = train_adapter(
        corpus.records,
        audit=corpus.audit,
        model_params=settings.model,
        params=settings.finetune,
        output_dir=out,
        tracking=TrackingParams(tracking_uri=tracking_uri) if tracking_uri else None,
    )
    if corpus.boundaries is not None:
        write_atomic(result.adapter_dir / SPLITS_FILE, (corpus_dir / SPLITS_FILE).read_bytes())
    click.echo(f"train loss {result.train_loss:.4f}, validation loss {result.val_loss:.4f} nats per token")
    click.echo(f"{result.tokens_per_second:.0f} tokens/s; adapter in {result.adapter_dir}")


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
    candidates: tuple[Path, ...],
) -> None:
    """Score an adapter on the held-out steps of candidate files, and run it in the sequential backtest.

    \b
    Example:
      trader-pipeline evaluate --adapter adapter --klines ~/candles exports/training_candidates_*.csv
    """
    import pandas as pd

    from trader_pipeline.datasets import load_dataset_file
    from trader_pipeline.evaluation.adapter import evaluate_adapter
    from trader_pipeline.evaluation.overview import book_table, held_out_table
    from trader_pipeline.klines import build_klines
    from trader_pipeline.options.recordings import load_quotes_file, load_volatility_index_file
    from trader_pipeline.options.surface import with_volatility_index
    from trader_pipeline.schema import Market
    from trader_pipeline.schema.tables import CANDIDATE_DATASET
    from trader_pipeline.store import write_atomic

    if out is not None:
        refuse_existing(out, "decisions.csv", "metrics.csv", "equity.csv")
    settings = profile_of(profile, (*_base_model_of(adapter), *overrides), klines=str(klines_path))
    frame = pd.concat([load_dataset_file(path, CANDIDATE_DATASET) for path in candidates], ignore_index=True)
    markets = [Market(underlying, timeframe) for underlying in sorted(set(frame["underlying"]))]
    finest = {m.key: Market(m.underlying, settings.klines.finest_timeframe) for m in markets}
    now = pd.Timestamp.now("UTC")
    fine = {m.key: build_klines(finest[m.key], settings.klines, as_of=now)[0] for m in markets}
    if index_path:
        index = load_volatility_index_file(index_path)
        fine = {m.key: with_volatility_index(fine[m.key], index, underlying=m.underlying) for m in markets}
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
    )
    print_table(held_out_table(result.metrics), "Held-out steps")
    if len(result.equity):
        print_table(book_table(result.metrics), "Sequential backtest over the test split")
    if out is not None:
        for name in ("decisions", "metrics", "equity"):
            text = getattr(result, name).to_csv(index=False)
            click.echo(write_atomic(out / f"{name}.csv", text.encode()))


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
    import json

    manifest = adapter / "adapter_manifest.json"
    if not manifest.is_file():
        return ()
    return (f"model.model_name={json.loads(manifest.read_text())['model']['model_name']}",)
