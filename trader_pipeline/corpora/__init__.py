"""Chat records for fine-tuning: rendered from decisions, split by time, mixed, audited.

Belongs here: the one prompt renderer (also used by training and evaluation), the splits that every corpus and the
evaluation share, the corpus kinds, the mix, the JSONL form, the audit of any chat corpus.
Does not belong here: features and labels (`datasets`), tokenising and masks (`training`), policies (`evaluation`).
"""

from trader_pipeline.corpora.audit import AuditParams, AuditReport, Finding, audit_corpus
from trader_pipeline.corpora.jsonl import corpus_lines, load_corpus_jsonl, write_corpus_jsonl
from trader_pipeline.corpora.labels import CorpusParams
from trader_pipeline.corpora.mixing import MixParams, mix_corpora
from trader_pipeline.corpora.pick_candidate import build_pick_candidate_corpus
from trader_pipeline.corpora.preferences import build_preference_corpus
from trader_pipeline.corpora.records import corpus_hash
from trader_pipeline.corpora.render import RenderParams
from trader_pipeline.corpora.replay import build_replay_corpus
from trader_pipeline.corpora.splits import (
    SplitParams,
    assign_splits,
    boundaries_from_json,
    boundaries_to_json,
    make_splits,
    split_boundaries,
    split_counts,
)
from trader_pipeline.corpora.stable import StableParams, load_stable_instructions
from trader_pipeline.corpora.trade_or_skip import build_trade_or_skip_corpus
from trader_pipeline.corpora.trade_reviews import ReviewParams, build_trade_reviews

__all__ = [
    "AuditParams",
    "AuditReport",
    "CorpusParams",
    "Finding",
    "MixParams",
    "RenderParams",
    "ReviewParams",
    "SplitParams",
    "StableParams",
    "assign_splits",
    "audit_corpus",
    "boundaries_from_json",
    "boundaries_to_json",
    "build_pick_candidate_corpus",
    "build_preference_corpus",
    "build_replay_corpus",
    "build_trade_or_skip_corpus",
    "build_trade_reviews",
    "corpus_hash",
    "corpus_lines",
    "load_corpus_jsonl",
    "load_stable_instructions",
    "make_splits",
    "mix_corpora",
    "split_boundaries",
    "split_counts",
    "write_corpus_jsonl",
]
