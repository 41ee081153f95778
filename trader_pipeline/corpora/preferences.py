"""Corpus kind 4: pairs of answers to a pick prompt, the one that ended best and one that ended worse.

Belongs here: drawing the pairs so that shortcuts pay as little as they must. The prompt is that of kind 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from trader_pipeline.corpora.balance import draw_keys
from trader_pipeline.corpora.labels import STEP, Candidates, CorpusParams, Flags, Numbers, Rows
from trader_pipeline.corpora.pick_candidate import answer_texts, select_steps
from trader_pipeline.corpora.records import corpus_frame
from trader_pipeline.corpora.render import prompt_rows, render_pick
from trader_pipeline.corpora.render_params import RenderParams
from trader_pipeline.corpora.splits import SplitParams
from trader_pipeline.schema.tables import PREFERENCE_CORPUS


def build_preference_corpus(
    candidate_dataset: pd.DataFrame,
    *,
    boundaries: Mapping[str, pd.Timestamp],
    split_params: SplitParams | None = None,
    params: RenderParams | None = None,
    corpus_params: CorpusParams | None = None,
) -> pd.DataFrame:
    """`corpus_params.pairs_per_step` pairs per decision and exit style, in the order of time.

    Chosen is the candidate that beat holding the coin by most, NO_TRADE where none did. Rejected is an answer that
    made at least `preference_margin_pct` less, drawn by the decision's hash. Unless `balance` is none, inside each
    split and underlying NO_TRADE is rejected as often as it is chosen (what is over has no pair), and where calls are
    compared, the chosen one has the larger score, strike, time, delta, volatility and yield as often as the smaller,
    as far as the outcomes allow; where they allow less than 3 in 5, steps are left out. Labels are outcomes whatever
    `params.labels` says, and there are no hindsight lines.

    Args:
        candidate_dataset: rows of CANDIDATE_DATASET, one timeframe per underlying, in any order.
        boundaries: from `split_boundaries`, shared with the other corpora and the evaluation.

    Returns:
        A frame of PREFERENCE_CORPUS. A label ends with the last outcome of the step; purged and sealed steps, and those
        with an outcome that is not known, are not in it.
    """
    params = (params or RenderParams()).model_copy(update={"labels": "hindsight", "hindsight": False})
    corpus_params = corpus_params or CorpusParams()
    candidates, records = select_pairs(
        candidate_dataset,
        boundaries=boundaries,
        split_params=split_params or SplitParams(),
        params=params,
        corpus_params=corpus_params,
    )
    pairs = records[records["kept"]].reset_index(drop=True)
    if pairs.empty:
        return PREFERENCE_CORPUS.empty()
    shown = np.isin(np.arange(candidates.count), pairs["step"])
    prompts = render_pick(prompt_rows(candidates.kept(shown).frame), params, seed=corpus_params.seed)
    prompt = pa.array((~pairs["step"].duplicated()).cumsum() - 1)
    instruments, answers = prompts.instruments.take(prompt), prompts.answers.take(prompt)
    columns = {
        "system": prompts.system.take(prompt),
        "user": prompts.user.take(prompt),
        "chosen_answer": answer_texts(instruments, answers, pairs["instrument"]),
        "rejected_answer": answer_texts(instruments, answers, pairs["rejected"]),
        **{name: pairs[name] for name in ("split", "label_end_time", "instrument", *STEP)},
    }
    return corpus_frame("preference", columns, PREFERENCE_CORPUS)


def select_pairs(
    candidate_dataset: pd.DataFrame,
    *,
    boundaries: Mapping[str, pd.Timestamp],
    split_params: SplitParams,
    params: RenderParams,
    corpus_params: CorpusParams,
) -> tuple[Candidates, pd.DataFrame]:
    """The ordered candidates, and the pairs drawn, with the steps that have none.

    Returns:
        The candidates, and one row a pair (kept) or step without (not kept): the columns of `select_steps` about the
        chosen answer, step, and `rejected` (an instrument, or null for NO_TRADE).
    """
    candidates, steps = select_steps(
        candidate_dataset,
        boundaries=boundaries,
        split_params=split_params,
        params=params.model_copy(update={"labels": "hindsight"}),
        corpus_params=corpus_params,
    )
    offer = _Offer.of(candidates, steps, corpus_params)
    parts = []
    for number in range(corpus_params.pairs_per_step):
        rejected = offer.draw(number)
        offer = offer.without(rejected)
        parts.append(steps.assign(rejected_row=rejected[steps.index]))
    records = pd.concat(parts) if parts else steps
    records = records.assign(step=records.index, kept=records["rejected_row"] != _NOTHING)
    without = records[~records["kept"] & ~records["step"].isin(records.loc[records["kept"], "step"])]
    records = pd.concat([records[records["kept"]], without.drop_duplicates("step")])
    records["rejected"] = candidates.instruments(records["rejected_row"].to_numpy())
    return candidates, records.sort_values("step", kind="stable", ignore_index=True)


_NO_TRADE_ROW, _NOTHING = -1, -2
_PASSES = 3
_MOST_LOPSIDED, _FEW = 1.5, 5
"""A figure is the chosen call's larger or smaller one at most this many times as often as the other way round; where
there are hardly any of the other way, a few pairs stay."""
_FIGURES = ("score", "strike", "dte", "delta", "iv", "premium_yield_pct")
"""What a call may be told by; the other figures order a step's candidates like one of these."""


@dataclass(frozen=True)
class _Offer:
    """What may still be rejected: candidate rows, and NO_TRADE per step.

    `right` is each step's best row (-1 NO_TRADE), `group` numbers its split and underlying (-1 makes no pairs).
    """

    candidates: Candidates
    right: Rows
    group: Rows
    rows: Flags
    no_trade: Flags
    params: CorpusParams

    @classmethod
    def of(cls, candidates: Candidates, steps: pd.DataFrame, params: CorpusParams) -> _Offer:
        usable = steps[steps["kept"]]
        group = np.full(candidates.count, -1)
        group[usable.index] = usable.groupby(["split", "underlying"]).ngroup()
        right = np.full(candidates.count, -1)
        right[usable.index] = usable["right"]
        outcome = candidates.numbers("advantage_if_sold_pct")
        sold = right >= 0
        best = np.where(sold, outcome[right], 0.0) if len(outcome) else np.zeros(0)
        gap = best[candidates.step] - outcome
        open_rows = (gap >= params.preference_margin_pct) & (gap > 0) & (group >= 0)[candidates.step]
        no_trade = sold & (best >= params.preference_margin_pct)
        return cls(candidates, right, group, open_rows, no_trade, params)

    def without(self, rejected: Rows) -> _Offer:
        """The same less what has been drawn."""
        rows = self.rows.copy()
        rows[rejected[rejected >= 0]] = False
        return replace(self, rows=rows, no_trade=self.no_trade & (rejected != _NO_TRADE_ROW))

    def draw(self, number: int) -> Rows:
        """Per step the row to reject, `_NO_TRADE_ROW` or `_NOTHING`."""
        seed = self.params.seed
        keys = _unit(draw_keys(self.candidates.frame, seed, number))
        first = self.candidates.frame.take(self.candidates.starts)
        step_keys = _unit(draw_keys(first, seed, "step", number))
        drawn = self._by_key(keys)
        if self.params.balance == "none":
            key = np.where(drawn >= 0, keys[drawn], np.inf) if len(keys) else keys
            return np.where(self.no_trade & (step_keys < key), _NO_TRADE_ROW, drawn)
        rejected = np.full(self.candidates.count, _NOTHING)
        for group in range(self.group.max(initial=-1) + 1):
            steps = np.flatnonzero(self.group == group)
            steps = steps[np.argsort(step_keys[steps], kind="stable")]
            none, sold_none, rest = self._shares_of_no_trade(steps, drawn >= 0)
            rejected[sold_none] = drawn[sold_none]
            rejected[none] = _NO_TRADE_ROW
            rejected[rest] = self._counterweights(rest)
            rejected[self._surplus(rest, rejected[rest])] = _NOTHING
        return rejected

    def _by_key(self, keys: Numbers) -> Rows:
        """Of each step the open row with the smallest key, or `_NOTHING`."""
        smallest = self.candidates.largest(np.where(self.rows, -keys, np.nan))
        return np.where(self.candidates.any(self.rows), smallest, _NOTHING)

    def _shares_of_no_trade(self, steps: Rows, some: Flags) -> tuple[Rows, Rows, Rows]:
        """Of some steps: those that reject NO_TRADE, as many that choose it, and those that have it on neither side."""
        sold = self.right[steps] >= 0
        chosen = steps[~sold & some[steps]]
        only = steps[sold & self.no_trade[steps] & ~some[steps]]
        either = steps[sold & self.no_trade[steps] & some[steps]]
        none = np.concatenate([only, either])[: len(chosen)]
        rest = steps[sold & some[steps]]
        return none, chosen[: len(none)], rest[~np.isin(rest, none)]

    def _counterweights(self, steps: Rows) -> Rows:
        """Per step the open row that keeps the figures of chosen and rejected calls level.

        Counted is how often the chosen call's figure is the larger one less how often it is the smaller one; each step
        takes the row that brings these counts nearest to 0, given what all others took.
        """
        signs = self._signs()
        starts, sizes = self.candidates.starts, self.candidates.sizes
        offers = [np.flatnonzero(self.rows[starts[i] : starts[i] + sizes[i]]) + starts[i] for i in steps]
        taken = np.zeros(len(steps), dtype=np.int64)
        balance = np.zeros(signs.shape[1])
        for again in range(_PASSES):
            for place, offer in enumerate(offers):
                if again:
                    balance -= signs[taken[place]]
                nearest = ((signs[offer] + balance) ** 2).sum(axis=1).argmin()
                taken[place] = offer[nearest]
                balance += signs[taken[place]]
        return taken

    def _surplus(self, steps: Rows, taken: Rows) -> Rows:
        """Of some steps, in drawn order, the last that make a figure tell chosen from rejected too often."""
        signs = self._signs()[taken]
        kept = np.ones(len(steps), dtype=bool)
        for _ in range(_PASSES):
            for sign in signs.T:
                larger, smaller = kept & (sign > 0), kept & (sign < 0)
                for many, few in ((larger, smaller), (smaller, larger)):
                    allowed = int(_MOST_LOPSIDED * max(few.sum(), _FEW))
                    kept[np.flatnonzero(many)[allowed:]] = False
        return steps[~kept]

    def _signs(self) -> Numbers:
        """Per row and figure: 1 where the chosen call of its step has the larger one, -1 the smaller, 0 the same."""
        chosen = np.maximum(self.right, 0)[self.candidates.step]
        figures = [self.candidates.numbers(name) for name in _FIGURES]
        return np.stack([np.sign(f[chosen] - f) for f in figures], axis=1)


def _unit(keys: NDArray[np.uint64]) -> Numbers:
    return keys / 2.0**64
