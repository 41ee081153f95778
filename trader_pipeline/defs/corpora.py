"""Stage 6: chat records for fine-tuning, each corpus checked before anything is trained on it."""

import dagster as dg
import pandas as pd

from trader_pipeline.corpora import (
    build_pick_candidate_corpus,
    build_replay_corpus,
    build_trade_or_skip_corpus,
    check_corpus,
    corpus_lines,
    load_stable_instructions,
    mix_corpora,
    split_boundaries,
)
from trader_pipeline.defs.materialise import Findings, materialised, table_asset
from trader_pipeline.defs.plots import bars_plot
from trader_pipeline.defs.resources import PipelineResource
from trader_pipeline.schema import Table
from trader_pipeline.schema.tables import (
    MIXED_CORPUS,
    PICK_CANDIDATE_CORPUS,
    REPLAY_CORPUS,
    STABLE_CORPUS,
    TRADE_OR_SKIP_CORPUS,
)
from trader_pipeline.store import write_atomic

_CHECKS = ("corpus_is_sound",)
_SETTINGS = ("splits", "render", "mix")


@dg.asset(**table_asset(STABLE_CORPUS, checks=_CHECKS))
def stable_corpus(pipeline: PipelineResource) -> dg.MaterializeResult:
    return _corpus(pipeline, load_stable_instructions(), STABLE_CORPUS)


@dg.asset(**table_asset(TRADE_OR_SKIP_CORPUS, settings=("splits", "render"), checks=_CHECKS))
def trade_or_skip_corpus(pipeline: PipelineResource, candidate_dataset: pd.DataFrame) -> dg.MaterializeResult:
    profile = pipeline.profile
    boundaries = split_boundaries(candidate_dataset["decision_time"], profile.splits)
    frame = build_trade_or_skip_corpus(
        candidate_dataset, boundaries=boundaries, split_params=profile.splits, params=profile.render
    )
    return _corpus(pipeline, frame, TRADE_OR_SKIP_CORPUS)


@dg.asset(**table_asset(PICK_CANDIDATE_CORPUS, settings=("splits", "render"), checks=_CHECKS))
def pick_candidate_corpus(
    pipeline: PipelineResource, candidate_dataset: pd.DataFrame
) -> dg.MaterializeResult:
    profile = pipeline.profile
    boundaries = split_boundaries(candidate_dataset["decision_time"], profile.splits)
    frame = build_pick_candidate_corpus(
        candidate_dataset, boundaries=boundaries, split_params=profile.splits, params=profile.render
    )
    return _corpus(pipeline, frame, PICK_CANDIDATE_CORPUS)


@dg.asset(**table_asset(REPLAY_CORPUS, settings=("splits", "render"), checks=_CHECKS))
def replay_corpus(
    pipeline: PipelineResource,
    paper_replay: pd.DataFrame,
    replay_evaluations: pd.DataFrame,
    candidate_dataset: pd.DataFrame,
) -> dg.MaterializeResult:
    profile = pipeline.profile
    boundaries = split_boundaries(candidate_dataset["decision_time"], profile.splits)
    frame = build_replay_corpus(
        paper_replay,
        replay_evaluations,
        boundaries=boundaries,
        split_params=profile.splits,
        params=profile.render,
    )
    return _corpus(pipeline, frame, REPLAY_CORPUS)


@dg.asset(**table_asset(MIXED_CORPUS, settings=("mix", "model"), checks=(*_CHECKS, "masks_are_right")))
def mixed_corpus(
    pipeline: PipelineResource,
    trade_or_skip_corpus: pd.DataFrame,
    pick_candidate_corpus: pd.DataFrame,
    replay_corpus: pd.DataFrame,
    stable_corpus: pd.DataFrame,
) -> dg.MaterializeResult:
    frame, table = mix_corpora(
        trade_or_skip_corpus, pick_candidate_corpus, replay_corpus, stable_corpus, pipeline.profile.mix
    )
    return _corpus(
        pipeline,
        frame,
        MIXED_CORPUS,
        extra={"mix": dg.MetadataValue.md(table.to_markdown(index=False))},
        findings={"masks_are_right": _mask_findings(pipeline, frame)},
    )


def _mask_findings(pipeline: PipelineResource, frame: pd.DataFrame) -> list[str]:
    """What keeps a record from being trained on: its length, or an answer that merges with the prompt's tokens."""
    from trader_pipeline.training.models import load_base_model  # loads torch
    from trader_pipeline.training.records import CorpusError, check_encodings, check_records

    _, tokenizer = load_base_model(pipeline.model_params)
    try:
        check_records(frame)
        check_encodings(frame, tokenizer, max_length=pipeline.profile.finetune.max_length)
    except CorpusError as error:
        return [str(error)]
    return []


def _corpus(
    pipeline: PipelineResource,
    frame: pd.DataFrame,
    table: Table,
    *,
    extra: dict[str, object] | None = None,
    findings: Findings | None = None,
) -> dg.MaterializeResult:
    """The corpus as table and as one JSONL file a split, with its findings."""
    paths = _write_jsonl(pipeline, frame, table)
    answers = frame["assistant"].where(frame["kind"] != "stable", "(text)").value_counts().head(12)
    return materialised(
        frame,
        table,
        findings={"corpus_is_sound": [str(f) for f in check_corpus(frame)], **(findings or {})},
        metadata={
            **paths,
            "splits": dg.MetadataValue.json(
                {str(k): int(v) for k, v in frame["split"].value_counts().items()}
            ),
            "plot": bars_plot(answers, "answers"),
            **(extra or {}),
        },
    )


def _write_jsonl(pipeline: PipelineResource, frame: pd.DataFrame, table: Table) -> dict[str, object]:
    paths: dict[str, object] = {}
    for split, records in frame.groupby("split"):
        path = pipeline.folder("corpora") / "jsonl" / f"{table.name}_{split}.jsonl"
        write_atomic(path, "".join(corpus_lines(records)).encode(), overwrite=True)
        paths[f"{split}.jsonl"] = dg.MetadataValue.path(str(path))
    return paths
