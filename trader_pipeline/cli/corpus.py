"""`trader-pipeline corpus`: chat records from candidate files, and the audit of any chat corpus."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from trader_pipeline.cli.audit import audit
from trader_pipeline.cli.distil import distil
from trader_pipeline.cli.options import print_table, profile_of, profile_options

Kind = Literal["mixed", "trade_or_skip", "pick_candidate", "preference"]
_EXISTING = click.Path(exists=True, path_type=Path)
_OUT = click.Path(path_type=Path)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from trader_pipeline.profile import Profile
    from trader_pipeline.schema import Table


@click.group()
def corpus() -> None:
    """Chat records for fine-tuning: build them, audit them, let the base model write stable ones."""


corpus.add_command(audit)
corpus.add_command(distil)


@corpus.command("build")
@profile_options
@click.argument("candidates", nargs=-1, required=True, type=_EXISTING)
@click.option(
    "--kind",
    type=click.Choice(["mixed", "trade_or_skip", "pick_candidate", "preference"]),
    default="mixed",
    show_default=True,
    help="One kind as it is, or the mix that an adapter is trained on.",
)
@click.option(
    "--splits",
    "splits_path",
    type=_EXISTING,
    default=None,
    help="splits.json of an earlier corpus: take its boundaries, so that what was sealed or tested stays so.",
)
@click.option(
    "--klines",
    "klines_path",
    type=_EXISTING,
    default=None,
    help="Folder or file of candles on which regime windows are dated: for mix.max_regime_share and counts by regime.",
)
@click.option(
    "--out", required=True, type=_OUT, help="Folder of the files; existing ones are kept and refused."
)
def corpus_build(
    profile: str,
    overrides: tuple[str, ...],
    candidates: tuple[Path, ...],
    kind: Kind,
    splits_path: Path | None,
    klines_path: Path | None,
    out: Path,
) -> None:
    """Render, split, balance, mix and audit a corpus from candidate files (training_candidates_*.csv, or Parquet).

    Writes a JSONL file a split (a mix is trained on, so it has train and val alone), audit.json, splits.json, and
    records.parquet with sources.json, which lead from a line back to its candidates. A corpus that fails its audit is
    written for study: training refuses it. Replay instructions need paper trades: `trader-pipeline run` makes them.
    Preferences are for `train --objective dpo`.

    \b
    Examples:
      trader-pipeline corpus build exports/training_candidates_*.csv --out corpora
      trader-pipeline corpus build exports/training_candidates_*.csv --out report --set render.style=report
      trader-pipeline corpus build exports/training_candidates_*.csv --out pairs --kind preference
      trader-pipeline corpus build exports/training_candidates_*.csv --out study --kind pick_candidate \\
          --set render.hindsight=true
    """
    import pandas as pd

    from trader_pipeline.corpora import audit_corpus, boundaries_from_json, split_boundaries
    from trader_pipeline.corpora.folder import AUDIT_FILE, RECORDS_FILE, SOURCES_FILE, SPLITS_FILE
    from trader_pipeline.datasets import load_dataset_file
    from trader_pipeline.schema.tables import CANDIDATE_DATASET

    refuse_existing(
        out, "train.jsonl", "val.jsonl", "test.jsonl", SPLITS_FILE, AUDIT_FILE, RECORDS_FILE, SOURCES_FILE
    )
    settings = profile_of(profile, overrides, klines=str(klines_path or ""))
    frame = pd.concat([load_dataset_file(path, CANDIDATE_DATASET) for path in candidates], ignore_index=True)
    if splits_path is None:
        boundaries = split_boundaries(frame["decision_time"], settings.splits)
    else:
        boundaries = boundaries_from_json(splits_path.read_text())
    regimes = None if klines_path is None else _regimes(settings)
    records, tables, table = _build(kind, frame, boundaries, regimes, settings)
    if records.empty:
        raise ValueError(f"no record of kind {kind} comes from these candidates; give more of them")
    lines = records.groupby("split", sort=False).cumcount() + 1
    files = [str(out / f"{split}.jsonl") for split in records["split"]]
    report = audit_corpus(records.assign(line=lines, source=files), params=settings.audit)
    _write(out, records, table, boundaries, report.to_json(), candidates)
    for title, counts in tables.items():
        print_table(counts.astype({"weight": "int64"}, errors="ignore"), title)
    print_table(report.table(), "Audit")
    for line in report.lines():
        click.echo(line, err=not report.passed)
    if not report.passed:
        raise ValueError(
            f"the audit found {len(report.findings)}: the corpus is kept for study, training refuses it"
        )


def _regimes(settings: Profile) -> pd.DataFrame | None:
    """Regime windows dated on the reference candles, for quotas and counts; they enter no text."""
    import pandas as pd

    from trader_pipeline.klines import build_klines, date_regime_windows
    from trader_pipeline.klines.windows import after_warm_up
    from trader_pipeline.schema import Market

    reference = Market.parse(settings.reference_market)
    candles = build_klines(reference, settings.klines, as_of=pd.Timestamp.now("UTC"))[0]
    candles = after_warm_up(candles, params=settings.windows)
    return date_regime_windows(candles, underlying=reference.underlying, params=settings.regimes)


def _build(
    kind: Kind,
    frame: pd.DataFrame,
    boundaries: dict[str, pd.Timestamp],
    regimes: pd.DataFrame | None,
    settings: Profile,
) -> tuple[pd.DataFrame, dict[str, pd.DataFrame], Table]:
    """The records, how many there were and are of what at each step, and their table."""
    import pandas as pd

    from trader_pipeline import corpora
    from trader_pipeline.corpora.counts import selection_table
    from trader_pipeline.schema import tables

    builders: dict[str, Any] = {
        "trade_or_skip": (corpora.build_trade_or_skip_corpus, tables.TRADE_OR_SKIP_CORPUS),
        "pick_candidate": (corpora.build_pick_candidate_corpus, tables.PICK_CANDIDATE_CORPUS),
        "preference": (corpora.build_preference_corpus, tables.PREFERENCE_CORPUS),
    }

    arguments: dict[str, Any] = {
        "boundaries": boundaries,
        "split_params": settings.splits,
        "params": settings.render,
        "corpus_params": settings.corpus,
    }

    def selected(name: Any) -> pd.DataFrame:
        return selection_table(name, frame, **arguments, regimes=regimes)

    if kind != "mixed":
        build, table = builders[kind]
        return build(frame, **arguments), {"Records, before and after selection": selected(kind)}, table
    mixed, counts = corpora.mix_corpora(
        corpora.build_trade_or_skip_corpus(frame, **arguments),
        corpora.build_pick_candidate_corpus(frame, **arguments),
        tables.REPLAY_CORPUS.empty(),
        corpora.load_stable_instructions(settings.stable),
        settings.mix,
        regimes=regimes,
    )
    caps = f"mix.max_train_records {settings.mix.max_train_records}, max_val_records {settings.mix.max_val_records}"
    return (
        mixed,
        {
            "Records of the kinds, before and after noise reduction and balance": pd.concat(
                [selected("trade_or_skip"), selected("pick_candidate")]
            ),
            f"Records, before and after the mix ({caps})": counts,
        },
        tables.MIXED_CORPUS,
    )


def _write(
    out: Path,
    records: pd.DataFrame,
    table: Table,
    boundaries: dict[str, pd.Timestamp],
    audit_json: str,
    candidates: Sequence[Path],
) -> None:
    import io
    import json

    import pyarrow.parquet as pq

    from trader_pipeline.corpora import boundaries_to_json, write_corpus_jsonl
    from trader_pipeline.corpora.folder import AUDIT_FILE, RECORDS_FILE, SOURCES_FILE, SPLITS_FILE
    from trader_pipeline.schema import conform
    from trader_pipeline.store import file_sha256, write_atomic

    for split, own in records.groupby("split"):
        path = write_corpus_jsonl(own, out / f"{split}.jsonl")
        click.echo(f"{len(own):>6} records  {path}")
    origin = io.BytesIO()
    pq.write_table(conform(records, table), origin, compression="zstd")
    write_atomic(out / RECORDS_FILE, origin.getvalue())
    sources = {str(path.absolute()): file_sha256(path) for path in candidates}
    write_atomic(out / SOURCES_FILE, (json.dumps(sources, indent=2, sort_keys=True) + "\n").encode())
    write_atomic(out / SPLITS_FILE, boundaries_to_json(boundaries).encode())
    write_atomic(out / AUDIT_FILE, audit_json.encode())


def refuse_existing(folder: Path, *names: str) -> None:
    """Say so before the work, not after it."""
    if taken := [name for name in names if (folder / name).exists()]:
        raise FileExistsError(f"{folder} holds {', '.join(taken)} already; name another folder")
