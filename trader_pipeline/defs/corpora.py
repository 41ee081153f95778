"""Stage 6: chat records for fine-tuning, each corpus audited before anything is trained on it."""

from collections.abc import Callable
from typing import Any, Literal

import dagster as dg
import pandas as pd

from trader_pipeline.corpora import (
    AuditReport,
    audit_corpus,
    build_pick_candidate_corpus,
    build_preference_corpus,
    build_replay_corpus,
    build_trade_or_skip_corpus,
    build_trade_reviews,
    load_stable_instructions,
    mix_corpora,
    split_boundaries,
    write_corpus_jsonl,
)
from trader_pipeline.corpora.counts import count_table, selection_table
from trader_pipeline.corpora.render import answer_of
from trader_pipeline.defs.materialise import Findings, markdown_table, materialised, table_asset
from trader_pipeline.defs.plots import bars_plot, lengths_plot
from trader_pipeline.defs.resources import PipelineResource
from trader_pipeline.klines import current_partitions
from trader_pipeline.paper import trades_of
from trader_pipeline.schema import Table, parse_regime
from trader_pipeline.schema.tables import (
    CANDIDATE_DATASET,
    MIXED_CORPUS,
    PICK_CANDIDATE_CORPUS,
    PREFERENCE_CORPUS,
    REPLAY_CORPUS,
    STABLE_CORPUS,
    TRADE_OR_SKIP_CORPUS,
    TRADE_REVIEW_CORPUS,
)
from trader_pipeline.store import write_atomic

_CHECKS = ("corpus_passes_audit",)
_SETTINGS = ("splits", "render", "corpus", "audit")


@dg.asset(**table_asset(STABLE_CORPUS, settings=("stable", "audit"), checks=_CHECKS))
def stable_corpus(pipeline: PipelineResource) -> dg.MaterializeResult:
    return _corpus(pipeline, load_stable_instructions(pipeline.profile.stable), STABLE_CORPUS)


@dg.asset(**table_asset(TRADE_OR_SKIP_CORPUS, settings=_SETTINGS, checks=_CHECKS))
def trade_or_skip_corpus(pipeline: PipelineResource, candidate_dataset: pd.DataFrame) -> dg.MaterializeResult:
    return _of_candidates(
        pipeline, candidate_dataset, "trade_or_skip", build_trade_or_skip_corpus, TRADE_OR_SKIP_CORPUS
    )


@dg.asset(**table_asset(PICK_CANDIDATE_CORPUS, settings=_SETTINGS, checks=_CHECKS))
def pick_candidate_corpus(
    pipeline: PipelineResource, candidate_dataset: pd.DataFrame
) -> dg.MaterializeResult:
    return _of_candidates(
        pipeline, candidate_dataset, "pick_candidate", build_pick_candidate_corpus, PICK_CANDIDATE_CORPUS
    )


@dg.asset(**table_asset(PREFERENCE_CORPUS, settings=_SETTINGS, checks=_CHECKS))
def preference_corpus(pipeline: PipelineResource, candidate_dataset: pd.DataFrame) -> dg.MaterializeResult:
    return _of_candidates(
        pipeline, candidate_dataset, "preference", build_preference_corpus, PREFERENCE_CORPUS
    )


@dg.asset(**table_asset(REPLAY_CORPUS, settings=_SETTINGS, checks=_CHECKS))
def replay_corpus(
    pipeline: PipelineResource,
    paper_replay: pd.DataFrame,
    replay_evaluations: pd.DataFrame,
    candidate_dataset: pd.DataFrame,
) -> dg.MaterializeResult:
    frame = build_replay_corpus(
        paper_replay, replay_evaluations, **_render_arguments(pipeline, candidate_dataset)
    )
    return _corpus(pipeline, frame, REPLAY_CORPUS)


@dg.asset(
    **table_asset(TRADE_REVIEW_CORPUS, settings=("splits", "render", "review", "audit"), checks=_CHECKS)
)
def trade_review_corpus(
    pipeline: PipelineResource,
    paper_replay: pd.DataFrame,
    replay_evaluations: pd.DataFrame,
    candidate_dataset: pd.DataFrame,
) -> dg.MaterializeResult:
    profile = pipeline.profile
    frame = build_trade_reviews(
        trades_of(paper_replay),
        replay_evaluations,
        params=profile.review,
        render=profile.render,
        boundaries=split_boundaries(candidate_dataset["decision_time"], profile.splits),
        split_params=profile.splits,
    )
    return _corpus(pipeline, frame, TRADE_REVIEW_CORPUS)


@dg.asset(
    **table_asset(MIXED_CORPUS, settings=("mix", "audit", "model"), checks=(*_CHECKS, "masks_are_right"))
)
def mixed_corpus(
    pipeline: PipelineResource,
    trade_or_skip_corpus: pd.DataFrame,
    pick_candidate_corpus: pd.DataFrame,
    replay_corpus: pd.DataFrame,
    stable_corpus: pd.DataFrame,
) -> dg.MaterializeResult:
    frame, table = mix_corpora(
        trade_or_skip_corpus,
        pick_candidate_corpus,
        replay_corpus,
        stable_corpus,
        pipeline.profile.mix,
        regimes=_regimes(pipeline),
    )
    return _corpus(
        pipeline,
        frame,
        MIXED_CORPUS,
        counts=table,
        findings={"masks_are_right": _mask_findings(pipeline, frame)},
    )


def read_audit(pipeline: PipelineResource, table: Table) -> AuditReport:
    """The audit of the corpus as it was last made.

    Raises:
        ValueError: the corpus has not been made with an audit.
    """
    path = pipeline.folder("corpora") / "audits" / f"{table.name}.json"
    if not path.is_file():
        raise ValueError(f"{path} is missing: materialise {table.name}, which is audited as it is made")
    return AuditReport.from_json(path.read_text())


def _of_candidates(
    pipeline: PipelineResource,
    candidates: pd.DataFrame,
    kind: Literal["trade_or_skip", "pick_candidate", "preference"],
    build: Callable[..., pd.DataFrame],
    table: Table,
) -> dg.MaterializeResult:
    arguments = _render_arguments(pipeline, candidates)
    counts = selection_table(kind, candidates, **arguments, regimes=_regimes(pipeline))
    return _corpus(pipeline, build(candidates, **arguments), table, counts=counts)


def _render_arguments(pipeline: PipelineResource, candidates: pd.DataFrame) -> dict[str, Any]:
    profile = pipeline.profile
    return {
        "boundaries": split_boundaries(candidates["decision_time"], profile.splits),
        "split_params": profile.splits,
        "params": profile.render,
        "corpus_params": profile.corpus,
    }


def _regimes(pipeline: PipelineResource) -> pd.DataFrame:
    """The windows behind the corpora, for quotas and counts: from the partitions, which name them."""
    keys = sorted({regime for _, regime in current_partitions(pipeline.store, CANDIDATE_DATASET)})
    rows = [(key, *parse_regime(key)) for key in keys]
    return pd.DataFrame(rows, columns=["regime", "label", "start", "end"])


def _mask_findings(pipeline: PipelineResource, frame: pd.DataFrame) -> list[str]:
    """What keeps a record from being trained on: its length, or an answer that merges with the prompt's tokens."""
    from trader_pipeline.training.models import load_tokenizer  # loads torch
    from trader_pipeline.training.records import CorpusError, check_encodings, check_records

    try:
        check_records(frame)
        check_encodings(
            frame, load_tokenizer(pipeline.model_params), max_length=pipeline.profile.finetune.max_length
        )
    except CorpusError as error:
        return [str(error)]
    return []


def _corpus(
    pipeline: PipelineResource,
    frame: pd.DataFrame,
    table: Table,
    *,
    counts: pd.DataFrame | None = None,
    findings: Findings | None = None,
) -> dg.MaterializeResult:
    """The corpus as table and as one JSONL file a split, with its audit and its lengths."""
    report = audit_corpus(frame, params=pipeline.profile.audit)
    write_atomic(
        pipeline.folder("corpora") / "audits" / f"{table.name}.json",
        report.to_json().encode(),
        overwrite=True,
    )
    return materialised(
        frame,
        table,
        findings={"corpus_passes_audit": [str(f) for f in report.findings], **(findings or {})},
        metadata={
            **_write_jsonl(pipeline, frame, table),
            "counts": dg.MetadataValue.md(markdown_table(count_table(frame) if counts is None else counts)),
            "audit": dg.MetadataValue.md(markdown_table(report.table())),
            **_lengths(pipeline, frame),
            "plot": _answers_plot(frame),
            "preview": dg.MetadataValue.md(_chats(frame)),
        },
    )


def _chats(frame: pd.DataFrame) -> str:
    """The first record of each kind and split as a person would read it."""
    turns = [c for c in ("system", "user", "assistant", "chosen_answer", "rejected_answer") if c in frame]
    return "\n\n---\n\n".join(
        f"**{row['kind']}, {row['split']}**\n\n"
        + "\n\n".join(f"{turn}\n```\n{row[turn]}\n```" for turn in turns)
        for _, row in frame.drop_duplicates(["kind", "split"]).iterrows()
    )


def _answers_plot(frame: pd.DataFrame) -> dg.MarkdownMetadataValue:
    answers = frame["chosen_answer" if "chosen_answer" in frame else "assistant"].map(answer_of)
    return bars_plot(answers.where(frame["kind"] != "stable", "(text)").value_counts().head(12), "answers")


def _lengths(pipeline: PipelineResource, frame: pd.DataFrame) -> dict[str, Any]:
    """Token counts of whole records, how many the model's context would cut off, and their histogram."""
    from trader_pipeline.training.lengths import length_figures, token_lengths  # loads torch
    from trader_pipeline.training.models import load_tokenizer

    if frame.empty:
        return {}
    most = pipeline.profile.finetune.max_length
    lengths = token_lengths(frame, load_tokenizer(pipeline.model_params))
    figures = length_figures(lengths, max_length=most)
    return {
        **{
            name: round(figures[name], 1)
            for name in ("tokens_total", "tokens_mean", "tokens_p95", "tokens_max", "truncated")
        },
        "plot_lengths": lengths_plot(lengths, most),
    }


def _write_jsonl(pipeline: PipelineResource, frame: pd.DataFrame, table: Table) -> dict[str, object]:
    paths: dict[str, object] = {}
    for split, records in frame.groupby("split"):
        path = pipeline.folder("corpora") / "jsonl" / f"{table.name}_{split}.jsonl"
        paths[f"{split}.jsonl"] = dg.MetadataValue.path(
            str(write_corpus_jsonl(records, path, overwrite=True))
        )
    return paths
