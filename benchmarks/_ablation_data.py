"""The decisions that every row of the ablation is trained and tested on, and their texts as a row wants them.

Belongs here: candles to candidates, which of them are train (by seed), val and test, corpora and their audit. The rows
themselves are in `_ablation_rows`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from trader_pipeline.backtest import run_backtest
from trader_pipeline.backtest.window import resolve_window
from trader_pipeline.corpora import (
    AuditParams,
    AuditReport,
    audit_corpus,
    build_trade_or_skip_corpus,
    load_stable_instructions,
    split_boundaries,
)
from trader_pipeline.corpora.balance import draw_keys
from trader_pipeline.corpora.records import corpus_frame
from trader_pipeline.corpora.render import (
    SELL_CALL,
    SKIP,
    RenderParams,
    answer_of,
    prompt_rows,
    render_trade_or_skip,
)
from trader_pipeline.corpora.steps import text_hash
from trader_pipeline.datasets import build_candidate_dataset
from trader_pipeline.klines.source import build_klines
from trader_pipeline.profile import Profile
from trader_pipeline.schema import Market
from trader_pipeline.schema.tables import MIXED_CORPUS, PREFERENCE_CORPUS
from trader_pipeline.store import settings_hash

KEY = ["decision_time", "underlying", "exit_style", "instrument"]
_ALL_SEEDS = 0
"""What val and test records are drawn with: they are the same for all seeds."""
_LOOSE = {
    "constant": 1.0, "shortcut_lift": 1.0, "threshold_lift": 1.0, "interval_lift": 1.0, "copied_answers": 1.0,
    "printed_free_answers": 1.0, "answer_shift": 1.0, "near_duplicates_across": 1.0,
}  # fmt: skip


class Sizes(NamedTuple):
    """Trade-or-skip records of each split; stable ones come on top of train and val."""

    train: int
    val: int
    test: int


class UnusableRowError(ValueError):
    """A row that cannot be made here; the message is the reason that is printed."""


@dataclass(frozen=True)
class Asked:
    """The test records as questions: prompts, the whole assistant turns of SELL_CALL and SKIP, and what is right."""

    prompts: list[tuple[str, str]]
    turns: list[list[str]]
    sell_is_right: np.ndarray
    advantage_pct: np.ndarray
    """What selling made more than holding the coin, percent of its value; 0 where the sale would have failed."""


@dataclass(frozen=True)
class Decisions:
    """All candidates of the candles, and how many records are drawn from them."""

    candidates: pd.DataFrame = field(repr=False)
    profile: Profile
    sizes: Sizes
    simulated: bool
    _pools: dict[str, pd.DataFrame] = field(default_factory=dict, repr=False)

    @property
    def digest(self) -> str:
        """SHA-256 of the candidates, to tell candles apart."""
        hashes = pd.util.hash_pandas_object(self.candidates, index=False).to_numpy()
        return hashlib.sha256(hashes.tobytes()).hexdigest()

    def corpus(
        self, *, seed: int, render: Mapping[str, Any], balanced: bool = True, stable: bool = True
    ) -> pd.DataFrame:
        """Rows of MIXED_CORPUS: train records drawn with `seed`, val and test the same for all; stable ones on top.

        Test records are balanced whatever `balanced` says, so that all rows are tested on the same.
        """
        pools = {flag: self._pool(render, balanced=flag) for flag in {balanced, True}}
        parts = [
            _drawn(pools[balanced], "train", self.sizes.train, seed, paired=balanced),
            _drawn(pools[balanced], "val", self.sizes.val, _ALL_SEEDS, paired=balanced),
            _drawn(pools[True], "test", self.sizes.test, _ALL_SEEDS, paired=True),
        ]
        if stable:
            parts += [
                self._stable("train", len(parts[0]), seed),
                self._stable("val", len(parts[1]), _ALL_SEEDS),
            ]
        return pd.concat([p[MIXED_CORPUS.column_names] for p in parts], ignore_index=True)

    def asked(self, corpus: pd.DataFrame, render: Mapping[str, Any]) -> Asked:
        """The corpus' test records as questions; both answers are rendered, as the corpus holds the right one alone."""
        test = corpus[corpus["split"] == "test"]
        rows = test[KEY].merge(self.candidates, on=KEY, how="left", validate="one_to_one")
        prompts = render_trade_or_skip(prompt_rows(rows), self.render(render))
        if prompts.user.to_pylist() != test["user"].tolist():
            raise AssertionError("a test record is not what its candidate is rendered to")
        turns = [list(pair) for pair in zip(prompts.sell.to_pylist(), prompts.skip.to_pylist(), strict=True)]
        return Asked(
            prompts=list(zip(test["system"], test["user"], strict=True)),
            turns=turns,
            sell_is_right=test["assistant"].map(answer_of).eq(SELL_CALL).to_numpy(),
            advantage_pct=rows["advantage_if_sold_pct"].fillna(0.0).to_numpy(),
        )

    def render(self, changes: Mapping[str, Any]) -> RenderParams:
        return RenderParams.model_validate({**self.profile.render.model_dump(), **changes})

    def test_candidates(self) -> pd.DataFrame:
        """The candidates behind the test records, in their order."""
        corpus = self.corpus(seed=_ALL_SEEDS, render={}, stable=False)
        return self.candidates_of(corpus[corpus["split"] == "test"])

    def candidates_of(self, records: pd.DataFrame) -> pd.DataFrame:
        """The candidates behind some records, in their order, with the step's largest score beside their own."""
        best = self.candidates.groupby(KEY[:-1])["score"].transform("max")
        return records[[*KEY, "assistant"]].merge(self.candidates.assign(best_score=best), on=KEY, how="left")

    def forgetting_instructions(self) -> pd.DataFrame:
        """Stable instructions that no row is trained on."""
        stable = load_stable_instructions()
        return stable[stable["split"] == "test"]

    def _pool(self, render: Mapping[str, Any], *, balanced: bool) -> pd.DataFrame:
        """All records in this form, made once."""
        profile, key = self.profile, settings_hash({"render": render, "balanced": balanced})
        if key not in self._pools:
            balance = {"balance": "downsample" if balanced else "none"}
            self._pools[key] = build_trade_or_skip_corpus(
                self.candidates,
                boundaries=split_boundaries(self.candidates["decision_time"], profile.splits),
                split_params=profile.splits,
                params=self.render(render),
                corpus_params=profile.corpus.model_copy(update=balance),
            )
        return self._pools[key]

    def _stable(self, split: str, beside: int, seed: int) -> pd.DataFrame:
        share = self.profile.mix.stable_share
        records = load_stable_instructions().query("split == @split")
        order = np.argsort([text_hash(seed, r) for r in records["record_id"]], kind="stable")
        return records.iloc[order[: round(beside * share / (1 - share))]]


def load_decisions(profile: Profile, sizes: Sizes) -> Decisions:
    """Candidates of the profile's markets, from its candles, with option prices from the model."""
    parts, simulated = [], []
    for market in map(Market.parse, profile.markets):
        fine, _, is_simulated = build_klines(profile.klines.finest(market), profile.klines)
        klines = build_klines(market, profile.klines)[0]
        options, backtest = profile.options, profile.backtest
        start, end, _ = resolve_window(
            fine, market=market, start=None, end=None, params=backtest, option_params=options
        )
        result = run_backtest(
            klines=klines, fine_klines=fine, market=market, start=start, end=end,
            option_params=options, params=backtest,
        )  # fmt: skip
        parts.append(
            build_candidate_dataset(
                result.steps, result.candidates, klines, step=market.step, size=result.size
            )
        )
        simulated.append(is_simulated)
    return Decisions(pd.concat(parts, ignore_index=True), profile, sizes, any(simulated))


def pairs_of(corpus: pd.DataFrame) -> pd.DataFrame:
    """The trade-or-skip records as preferences: the right answer chosen, the other one rejected."""
    own = corpus[corpus["kind"] == "trade_or_skip"]
    other = {SELL_CALL: SKIP, SKIP: SELL_CALL}
    names = [
        "split",
        "system",
        "user",
        "underlying",
        "decision_time",
        "label_end_time",
        "exit_style",
        "instrument",
    ]
    columns = {name: own[name] for name in names}
    answers = {"chosen_answer": own["assistant"], "rejected_answer": own["assistant"].map(other)}
    return corpus_frame("preference", {**columns, **answers}, PREFERENCE_CORPUS)


def audited(corpus: pd.DataFrame, params: AuditParams) -> tuple[AuditReport, list[str]]:
    """The corpus' passed audit, and which rules it passed only with every bound lifted.

    Raises:
        UnusableRowError: a finding that has no bound.
    """
    report = audit_corpus(corpus, params=params)
    if report.passed:
        return report, []
    loose = audit_corpus(corpus, params=params.model_copy(update=_LOOSE))
    if not loose.passed:
        raise UnusableRowError(f"its corpus does not pass the audit: {loose.findings[0]}")
    return loose, sorted({finding.rule for finding in report.findings})


def _drawn(pool: pd.DataFrame, split: str, count: int, seed: int, *, paired: bool) -> pd.DataFrame:
    """`count` records of a split by the hash of seed and decision, in the order of time; as many of either answer."""
    own = pool[pool["split"] == split]
    if len(own) < count:
        raise UnusableRowError(
            f"the candles give {len(own)} records with split {split}, {count} are asked for"
        )
    ordered = own.iloc[np.argsort(draw_keys(own, seed), kind="stable")]
    if paired:
        ordered = ordered.groupby(ordered["assistant"].map(answer_of)).head(-(-count // 2))
    return ordered.head(count).sort_index()


def shortcut_figures(decisions: Decisions, seeds: Sequence[int]) -> dict[str, np.ndarray]:
    """Accuracy on the test records of rules that read next to nothing; one entry a seed."""
    test = decisions.test_candidates()
    right = test["assistant"].map(answer_of).eq(SELL_CALL).to_numpy()
    largest = (test["score"] >= test["best_score"]).to_numpy()
    constant, stump = [], []
    for seed in seeds:
        corpus = decisions.corpus(seed=seed, render={}, stable=False)
        train = decisions.candidates_of(corpus[corpus["split"] == "train"])
        constant.append(max(np.mean(right), np.mean(~right)))
        stump.append(_stump_accuracy(train, test, decisions.profile.render.candidate_columns))
    return {
        "the commoner answer": np.array(constant),
        "largest score of the step (the teacher's own, hidden from the model)": np.full(
            len(seeds), np.mean(largest == right)
        ),
        "one threshold on one figure shown, learned on the train records": np.array(stump),
    }


def _stump_accuracy(train: pd.DataFrame, test: pd.DataFrame, columns: Sequence[str]) -> float:
    from sklearn.tree import DecisionTreeClassifier

    stump = DecisionTreeClassifier(max_depth=1, random_state=0)
    stump.fit(train[list(columns)], train["assistant"].map(answer_of))
    return float(np.mean(stump.predict(test[list(columns)]) == test["assistant"].map(answer_of)))
