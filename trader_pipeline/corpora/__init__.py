"""Chat records for fine-tuning: rendered from decisions, split by time, mixed, checked for leaks.

Belongs here: the one prompt renderer (also used by training and evaluation), the splits that every corpus and the
evaluation share, the four corpus kinds, the mix, the JSONL form, the checks and the trivial baselines.
Does not belong here: features and labels (`datasets`), tokenising and masks (`training`), policies (`evaluation`).
"""

from trader_pipeline.corpora.baselines import baselines
from trader_pipeline.corpora.checks import Finding, check_corpus
from trader_pipeline.corpora.jsonl import corpus_lines, load_corpus_jsonl
from trader_pipeline.corpora.mixing import MixParams, mix_corpora
from trader_pipeline.corpora.pick_candidate import PickParams, build_pick_candidate_corpus
from trader_pipeline.corpora.render import RenderParams
from trader_pipeline.corpora.replay import build_replay_corpus
from trader_pipeline.corpora.splits import (
    SplitParams,
    assign_splits,
    boundaries_from_json,
    boundaries_to_json,
    split_boundaries,
    split_counts,
)
from trader_pipeline.corpora.stable import load_stable_instructions
from trader_pipeline.corpora.trade_or_skip import build_trade_or_skip_corpus

__all__ = [
    "Finding",
    "MixParams",
    "PickParams",
    "RenderParams",
    "SplitParams",
    "assign_splits",
    "baselines",
    "boundaries_from_json",
    "boundaries_to_json",
    "build_pick_candidate_corpus",
    "build_replay_corpus",
    "build_trade_or_skip_corpus",
    "check_corpus",
    "corpus_lines",
    "load_corpus_jsonl",
    "load_stable_instructions",
    "mix_corpora",
    "split_boundaries",
    "split_counts",
]
