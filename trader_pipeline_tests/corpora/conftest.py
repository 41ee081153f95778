"""One synthetic data set and its corpora, built once."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import pytest

from trader_pipeline.corpora.pick_candidate import build_pick_candidate_corpus
from trader_pipeline.corpora.preferences import build_preference_corpus
from trader_pipeline.corpora.replay import build_replay_corpus
from trader_pipeline.corpora.splits import Boundaries, SplitParams, split_boundaries
from trader_pipeline.corpora.stable import load_stable_instructions
from trader_pipeline.corpora.trade_or_skip import build_trade_or_skip_corpus
from trader_pipeline_tests.corpora.factories import candidate_dataset, paper_trades


@dataclass(frozen=True)
class Corpora:
    dataset: pd.DataFrame
    boundaries: Boundaries
    trade: pd.DataFrame
    pick: pd.DataFrame
    replay: pd.DataFrame
    preference: pd.DataFrame
    stable: pd.DataFrame


@pytest.fixture(scope="session")
def corpora() -> Corpora:
    dataset = candidate_dataset()
    boundaries = split_boundaries(dataset["decision_time"], SplitParams())
    return Corpora(
        dataset,
        boundaries,
        build_trade_or_skip_corpus(dataset, boundaries=boundaries),
        build_pick_candidate_corpus(dataset, boundaries=boundaries),
        build_replay_corpus(*paper_trades(dataset), boundaries=boundaries),
        build_preference_corpus(dataset, boundaries=boundaries),
        load_stable_instructions(),
    )
