"""`trader-pipeline corpus`: chat records from candidate files, and the audit of any chat corpus."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from trader_pipeline.cli.audit import audit
from trader_pipeline.cli.options import print_table, profile_of, profile_options

SPLITS_FILE, AUDIT_FILE = "splits.json", "audit.json"
RECORDS_FILE, SOURCES_FILE = "records.parquet", "sources.json"
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
    """Chat records for fine-tuning: build them, audit them."""


corpus.add_command(audit)


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
    "--out", required=True, type=_OUT, help="Folder of the files; existing ones are kept and refused."
)
def corpus_build(
    profile: str, overrides: tuple[str, ...], candidates: tuple[Path, ...], kind: Kind, out: Path
) -> None:
    """Render, split, balance, mix and audit a corpus from candidate files (training_candidates_*.csv, or Parquet).

    Writes a JSONL file a split, audit.json, splits.json, and records.parquet with sources.json, which lead from a line
    back to its candidates. A corpus that fails its audit is written for study: training refuses it.

    \b
    Examples:
      trader-pipeline corpus build exports/training_candidates_*.csv --out corpora
      trader-pipeline corpus build exports/training_candidates_*.csv --out report --set render.style=report
      trader-pipeline corpus build exports/training_candidates_*.csv --out pairs --kind preference
      trader-pipeline corpus build exports/training_candidates_*.csv --out study --kind pick_candidate \\
          --set render.hindsight=true
    """
    import pandas as pd

    from trader_pipeline.corpora import audit_corpus, split_boundaries
    from trader_pipeline.datasets import load_dataset_file
    from trader_pipeline.schema.tables import CANDIDATE_DATASET

    refuse_existing(
        out, "train.jsonl", "val.jsonl", "test.jsonl", SPLITS_FILE, AUDIT_FILE, RECORDS_FILE, SOURCES_FILE
    )
    settings = profile_of(profile, overrides)
    frame = pd.concat([load_dataset_file(path, CANDIDATE_DATASET) for path in candidates], ignore_index=True)
    boundaries = split_boundaries(frame["decision_time"], settings.splits)
    records, counts, table = _build(kind, frame, boundaries, settings)
    if records.empty:
        raise ValueError(f"no record of kind {kind} comes from these candidates; give more of them")
    report = audit_corpus(records, params=settings.audit)
    _write(out, records, table, boundaries, report.to_json(), candidates)
    print_table(counts, "Records")
    print_table(report.table(), "Audit")
    if not report.passed:
        for line in report.lines():
            click.echo(line, err=True)
        raise ValueError(
            f"{len(report.findings)} findings: the corpus is kept for study, training refuses it"
        )


def _build(
    kind: Kind, frame: pd.DataFrame, boundaries: dict[str, pd.Timestamp], settings: Profile
) -> tuple[pd.DataFrame, pd.DataFrame, Table]:
    """The records, how many there are of what, and their table."""
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
    if kind != "mixed":
        build, table = builders[kind]
        return build(frame, **arguments), selection_table(kind, frame, **arguments), table
    mixed, counts = corpora.mix_corpora(
        corpora.build_trade_or_skip_corpus(frame, **arguments),
        corpora.build_pick_candidate_corpus(frame, **arguments),
        tables.REPLAY_CORPUS.empty(),
        corpora.load_stable_instructions(),
        settings.mix,
    )
    return mixed, counts, tables.MIXED_CORPUS


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
