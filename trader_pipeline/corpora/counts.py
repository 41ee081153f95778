"""How many records of what there are, before and after choosing: by answer, underlying, regime and noise.

Belongs here: counting alone. What is chosen is decided in the modules of the kinds, in `balance` and in `mixing`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import pandas as pd

from trader_pipeline.backtest.regimes import regime_names
from trader_pipeline.corpora.labels import CorpusParams
from trader_pipeline.corpora.pick_candidate import select_picks
from trader_pipeline.corpora.preferences import select_pairs
from trader_pipeline.corpora.render import answer_of
from trader_pipeline.corpora.render_params import RenderParams
from trader_pipeline.corpora.splits import SplitParams
from trader_pipeline.corpora.trade_or_skip import select_candidates
from trader_pipeline.schema.columns import SPLITS

_SELECTORS = {"trade_or_skip": select_candidates, "pick_candidate": select_picks, "preference": select_pairs}
_GROUPS = ("answer", "underlying", "regime", "noise")
_KEY = ["split", "kind", "group", "value"]


def count_table(
    corpus: pd.DataFrame, *, before: pd.DataFrame | None = None, regimes: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Records of a corpus per split and kind, counted by answer, by underlying, and by regime label where given.

    Args:
        corpus: a frame of any corpus table.
        before: the records that it was chosen from, of the same kinds.
        regimes: columns label, start, end of REGIME_WINDOWS. The label names a group and is in no text.

    Returns:
        Columns split, kind, group (answer, underlying, regime), value, before (where given), after, and weight: the
        sum of the weights, beside which `after` counts heads.
    """
    after = _counts(_described(corpus, regimes)).rename(columns={"count": "after"})
    if before is None:
        return _sorted(after.reset_index())[[*_KEY, "after", "weight"]]
    earlier = _counts(_described(before, regimes))["count"].rename("before")
    both = pd.concat([earlier, after], axis=1).fillna(0).astype({"before": "int64", "after": "int64"})
    return _sorted(both.reset_index())[[*_KEY, "before", "after", "weight"]]


def selection_table(
    kind: Literal["trade_or_skip", "pick_candidate", "preference"],
    candidate_dataset: pd.DataFrame,
    *,
    boundaries: Mapping[str, pd.Timestamp],
    split_params: SplitParams | None = None,
    params: RenderParams | None = None,
    corpus_params: CorpusParams | None = None,
    regimes: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """What noise reduction and balance leave of a kind's labelled records; nothing is rendered for it.

    The arguments are those of the kind's builder. `before` counts what has a split and a known label (of preferences:
    decisions, before the pairs are drawn); `after` what the builder puts into the corpus.

    Returns:
        Columns as `count_table`, with the group noise (values clear and "within noise") where noise is left out.
    """
    corpus_params = corpus_params or CorpusParams()
    _, records = _SELECTORS[kind](
        candidate_dataset,
        boundaries=boundaries,
        split_params=split_params or SplitParams(),
        params=params or RenderParams(),
        corpus_params=corpus_params,
    )
    records = records.assign(kind=kind)
    if corpus_params.noise_within_pct > 0:
        records["noise"] = records["noisy"].map({True: "within noise", False: "clear"})
    if regimes is not None:
        records["regime"] = regime_names(records["decision_time"], regimes, by="label")
    first = records.drop_duplicates("step") if kind == "preference" else records
    earlier = _counts(first)["count"].rename("before")
    after = _counts(records[records["kept"]]).rename(columns={"count": "after"})
    both = pd.concat([earlier, after], axis=1).fillna(0).astype({"before": "int64", "after": "int64"})
    return _sorted(both.reset_index())[[*_KEY, "before", "after", "weight"]]


def answer_classes(corpus: pd.DataFrame) -> pd.Series:
    """Each record's answer, with all indices as `index` and all stable answers as `text`; of a pair the chosen one."""
    texts = corpus["chosen_answer" if "chosen_answer" in corpus.columns else "assistant"]
    answers = texts.map({text: answer_of(text) for text in texts.unique()}).astype(object)
    index = corpus["kind"].isin(["pick_candidate", "preference"]) & answers.str.fullmatch(r"\d+")
    return answers.mask(index, "index").mask(corpus["kind"] == "stable", "text")


def _described(corpus: pd.DataFrame, regimes: pd.DataFrame | None) -> pd.DataFrame:
    names = ["split", "kind", "underlying", "decision_time", "weight"]
    described = corpus[names].assign(answer=answer_classes(corpus))
    if regimes is None:
        return described
    times = pd.to_datetime(corpus["decision_time"], utc=True)
    labels = pd.Series(regime_names(times, regimes, by="label"), index=corpus.index, dtype=object)
    return described.assign(regime=labels.where(times.notna(), None))


def _counts(records: pd.DataFrame) -> pd.DataFrame:
    """Count and weight per split, kind, group and value."""
    parts = [
        records.assign(group=group, value=records[group])
        .groupby(_KEY, sort=False)["weight"]
        .agg(count="size", weight="sum")
        for group in _GROUPS
        if group in records.columns
    ]
    return pd.concat(parts)


def _sorted(table: pd.DataFrame) -> pd.DataFrame:
    ranks = {"split": SPLITS, "group": _GROUPS}
    return table.sort_values(
        _KEY,
        key=lambda c: c.map({v: i for i, v in enumerate(ranks[str(c.name)])}) if c.name in ranks else c,
        ignore_index=True,
    )
