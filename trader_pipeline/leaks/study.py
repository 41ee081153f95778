"""What is made of many decisions: splits, folds, corpora, and what is fitted. None may know what comes after its split.

Belongs here: the functions under test, the same stretch of decisions with several futures, and what must not move.
One decision by itself is in `prover`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import pandas as pd

from trader_pipeline.corpora.labels import CorpusParams
from trader_pipeline.corpora.mixing import MixParams, mix_corpora
from trader_pipeline.corpora.pick_candidate import build_pick_candidate_corpus
from trader_pipeline.corpora.preferences import build_preference_corpus
from trader_pipeline.corpora.render import RenderParams, prompt_rows, render_trade_or_skip
from trader_pipeline.corpora.splits import SplitParams, make_splits, split_boundaries
from trader_pipeline.corpora.trade_or_skip import build_trade_or_skip_corpus
from trader_pipeline.leaks.fitted import choose_threshold, fit_scaler
from trader_pipeline.leaks.mutations import PERMUTE, PERTURB, mutate
from trader_pipeline.leaks.outputs import (
    OUTCOME,
    SEEN_CANDIDATE,
    Columns,
    compare,
    count_bytes,
    frame_bytes,
    text_bytes,
)
from trader_pipeline.leaks.pipeline import Pipeline
from trader_pipeline.leaks.prover import RULE, Leak, Tally
from trader_pipeline.leaks.rules import broken_split_rules
from trader_pipeline.leaks.world import MODELLED, Inputs, Settings, World, inputs_between
from trader_pipeline.schema import regime_key
from trader_pipeline.schema.markets import REGIME_LABELS
from trader_pipeline.schema.tables import MIXED_CORPUS, REPLAY_CORPUS, STABLE_CORPUS

Corpora = dict[str, pd.DataFrame]
STUDY_DAYS = 200
_VARIANTS = (
    (RenderParams(), CorpusParams()),
    (
        RenderParams(style="report", rationale=True, labels="hindsight"),
        CorpusParams(balance="weights", noise_within_pct=0.2, shuffles=2),
    ),
)
"""Two ways to build every kind: the defaults, and all that looks at outcomes switched on."""


@dataclass(frozen=True)
class Lessons:
    """The functions over many decisions, each in its place.

    `dataset` gets the candidate rows of all decisions as the pipeline made them, and stands for what one may do to a
    whole batch; the pipeline does nothing more.
    """

    splits: Callable[..., pd.DataFrame]
    corpora: Callable[..., Corpora]
    scaler: Callable[[pd.DataFrame, pd.Series], pd.DataFrame]
    threshold: Callable[[pd.DataFrame, pd.Series], float]
    dataset: Callable[[pd.DataFrame], pd.DataFrame]
    mix: Callable[..., pd.DataFrame]


def build_corpora(
    rows: pd.DataFrame,
    *,
    boundaries: Mapping[str, pd.Timestamp],
    split_params: SplitParams,
    params: RenderParams,
    corpus_params: CorpusParams,
) -> Corpora:
    """Kinds 1, 2 and 4 of these candidate rows. Kind 3 is made from single decisions, which `prover` tries."""
    builders: dict[str, Callable[..., pd.DataFrame]] = {
        "trade_or_skip": build_trade_or_skip_corpus,
        "pick_candidate": build_pick_candidate_corpus,
        "preference": build_preference_corpus,
    }
    return {
        kind: build(
            rows, boundaries=boundaries, split_params=split_params, params=params, corpus_params=corpus_params
        )
        for kind, build in builders.items()
    }


def as_made(rows: pd.DataFrame) -> pd.DataFrame:
    """The candidate rows as the pipeline made them."""
    return rows


def mix_within_quota(corpora: Corpora, regimes: pd.DataFrame) -> pd.DataFrame:
    """Kinds 1 and 2 mixed, no regime above its share. The windows here end on the day that they say.

    Val is short and may be empty, which a mix refuses; copies of train then stand in its place and are taken out again.
    A mix that is refused, as train lies in too few regimes, has no records; no future may change that either.
    """
    params = MixParams(stable_share=0, max_regime_share=0.4, regime_lag_days=0)
    kinds = (corpora["trade_or_skip"], corpora["pick_candidate"])
    without_val = not any(frame["split"].eq("val").any() for frame in kinds)
    if without_val:
        single, pick = (frame[frame["split"] == "train"] for frame in kinds)
        kinds = (pd.concat([single, single.assign(split="val")]), pd.concat([pick, pick.assign(split="val")]))
    single, pick = kinds
    try:
        mixed, _ = mix_corpora(
            single, pick, REPLAY_CORPUS.empty(), STABLE_CORPUS.empty(), params, regimes=regimes
        )
    except ValueError:
        return MIXED_CORPUS.empty()
    return mixed[mixed["split"] == "train"] if without_val else mixed


LESSONS = Lessons(make_splits, build_corpora, fit_scaler, choose_threshold, as_made, mix_within_quota)
"""What the stages really run; scaler and threshold are the prover's own (see `fitted`)."""


@dataclass(frozen=True)
class Stretch:
    """Candidate rows of many decisions, and those of other futures: by (mutation, split with which they begin).

    `train` begins in the middle of train. `regimes` are left out in folds, `dated` those that quotas go by.
    """

    market: str
    rows: pd.DataFrame
    boundaries: dict[str, pd.Timestamp]
    regimes: pd.DataFrame
    dated: pd.DataFrame
    futures: dict[tuple[str, str], pd.DataFrame]

    def cut(self, split: str) -> pd.Timestamp:
        """The last moment of which the future from `split` on knows."""
        if split != _IN_TRAIN:
            return self.boundaries[split]
        return self.boundaries["train"] + (self.boundaries["val"] - self.boundaries["train"]) / 2

    def dated_after(self, cut: pd.Timestamp | None) -> pd.DataFrame:
        """The dated windows, with other labels where they end after the cut."""
        if cut is None:
            return self.dated
        other = dict(zip(REGIME_LABELS, REGIME_LABELS[::-1], strict=True)) | {"chop": "dump"}
        late = self.dated["end"] > cut
        return self.dated.assign(label=self.dated["label"].mask(late, self.dated["label"].map(other)))


def make_stretch(
    pipeline: Pipeline, world: World, *, settings: Settings, seed: int, days: int = STUDY_DAYS
) -> Stretch:
    """`days` daily decisions in the middle of the world, and again with all changed from val, test or sealed on, and
    from the middle of train on.

    Raises:
        ValueError: the candles are shorter than that, with what goes before and after.
    """
    first = world.candles["open_time"].iloc[0] + pd.Timedelta(days=settings.history_days)
    last = world.candles["close_time"].iloc[-1] - pd.Timedelta(days=settings.future_days + days)
    if last < first:
        raise ValueError(f"{world.name}: the study of splits needs {days} decision days; give more candles")
    start = (first + (last - first) * ((seed % 97) / 97)).ceil("D") + pd.Timedelta(hours=8)
    end = start + pd.Timedelta(days=days)
    inputs = inputs_between(
        world, start, end, timeframe=world.timeframes[0], source=MODELLED, settings=settings
    )
    rows = _rows(pipeline, inputs, end)
    boundaries = split_boundaries(rows["decision_time"], settings.splits)
    stretch = Stretch(inputs.market.key, rows, boundaries, _windows(start, days), _dated(start, days), {})
    for number, (mutation, split) in enumerate(_FUTURES):
        other = mutate(inputs, mutation, after=stretch.cut(split), seed=seed + number)
        stretch.futures[mutation, split] = _rows(pipeline, other, end)
    return stretch


_IN_TRAIN = "train"
_FUTURES = (
    (PERTURB, "val"),
    (PERTURB, "test"),
    (PERMUTE, "test"),
    (PERTURB, "sealed"),
    (PERTURB, _IN_TRAIN),
)


def _dated(start: pd.Timestamp, days: int) -> pd.DataFrame:
    """Windows over the stretch, label by label; the third is open where val begins, and much of train lies in it."""
    parts = (0, 1, 2, 7, 8, 9, 10)
    edges = [start.floor("D") + pd.Timedelta(days=days * part // 10) for part in parts]
    labels = [REGIME_LABELS[place % len(REGIME_LABELS)] for place in range(len(parts) - 1)]
    return pd.DataFrame({"label": labels, "start": edges[:-1], "end": edges[1:]})


def _windows(start: pd.Timestamp, days: int) -> pd.DataFrame:
    """Windows to leave out, three over the first four fifths of the stretch: dated ones may all lie outside it.

    The rules of folds do not ask how a window came about.
    """
    edges = [start.floor("D") + pd.Timedelta(days=days * part // 15) for part in (0, 4, 8, 12)]
    spans = zip(REGIME_LABELS, pairwise(edges), strict=True)
    return pd.DataFrame(
        [
            {"regime": regime_key(label, first, end - pd.Timedelta(days=1)), "label": label, "start": first, "end": end}
            for label, (first, end) in spans
        ]
    ).assign(provisional=False)  # fmt: skip


def _rows(pipeline: Pipeline, inputs: Inputs, end: pd.Timestamp) -> pd.DataFrame:
    held, params = pipeline.candles(inputs), pipeline.calibration(inputs)
    decided = pipeline.backtest(inputs, held, params, end)
    return pipeline.candidate_dataset(inputs, held, decided, pd.DataFrame())


def prove_stretch(lessons: Lessons, stretch: Stretch, *, settings: Settings) -> Tally:
    """Rules of the splits, and what was learned before each future began."""
    tally = Tally()
    for rule, example in _broken(lessons, stretch, settings):
        tally.leaks.append(Leak("splits", f"{rule} ({example})", RULE, "", stretch.market, MODELLED, None))
    base = _learned(lessons, stretch.rows, stretch, settings, None)
    for (mutation, split), rows in stretch.futures.items():
        tally.runs += 1
        tally.count(f"{mutation} from {split}", moved=not rows[OUTCOME].equals(stretch.rows[OUTCOME]))
        cut = stretch.cut(split)
        learned = _learned(lessons, rows, stretch, settings, cut)
        left, right = (_before(split, cut, own, settings) for own in (base, learned))
        tally.bytes += count_bytes(right)
        tally.outputs.update(list(right))
        for found in compare(left, right):
            where = f"candles from {split} on"
            tally.leaks.append(
                Leak(found.output, found.column, mutation, where, stretch.market, MODELLED, None)
            )
    return tally


def _broken(lessons: Lessons, stretch: Stretch, settings: Settings) -> list[tuple[str, str]]:
    rows = lessons.dataset(stretch.rows)
    splits = lessons.splits(
        rows["decision_time"], rows["label_end_time"], params=settings.splits, boundaries=stretch.boundaries,
        regimes=stretch.regimes, dte=rows["dte"],
    )  # fmt: skip
    embargo = pd.Timedelta(hours=settings.splits.embargo_hours)
    broken = broken_split_rules(rows, splits, boundaries=stretch.boundaries, embargo=embargo)
    for frame in _corpora_of(lessons, rows, stretch, settings, _VARIANTS[0]).values():
        broken += broken_split_rules(frame, frame[["split"]], boundaries=stretch.boundaries, embargo=embargo)
    return broken


_Variant = tuple[RenderParams, CorpusParams]


def _corpora_of(
    lessons: Lessons, rows: pd.DataFrame, stretch: Stretch, settings: Settings, variant: _Variant
) -> Corpora:
    params, corpus_params = variant
    return lessons.corpora(
        rows, boundaries=stretch.boundaries, split_params=settings.splits, params=params, corpus_params=corpus_params
    )  # fmt: skip


@dataclass(frozen=True)
class _Learned:
    """What was learned: corpora by name, candidate rows, the split of each with its name, scaler and threshold."""

    rows: pd.DataFrame
    corpora: Corpora
    members: pd.DataFrame
    scaler: pd.DataFrame
    threshold: float


def _learned(
    lessons: Lessons, rows: pd.DataFrame, stretch: Stretch, settings: Settings, cut: pd.Timestamp | None
) -> _Learned:
    """All that is learned of some rows; the regimes are dated in another way after the cut."""
    rows = lessons.dataset(rows)
    split = lessons.splits(
        rows["decision_time"], rows["label_end_time"], params=settings.splits, boundaries=stretch.boundaries,
        dte=rows["dte"],
    )["split"]  # fmt: skip
    members = rows[["decision_time", "exit_style", "instrument"]].assign(split=split)
    corpora: Corpora = {}
    for params, corpus_params in _VARIANTS:
        variant = _corpora_of(lessons, rows, stretch, settings, (params, corpus_params))
        corpora |= {f"corpus {kind} ({params.labels})": frame for kind, frame in variant.items()}
        corpora[f"mix ({params.labels})"] = lessons.mix(variant, stretch.dated_after(cut))
    return _Learned(rows, corpora, members, lessons.scaler(rows, split), lessons.threshold(rows, split))


_EARLIER = {"val": ("train",), "test": ("train", "val"), "sealed": ("train", "val", "test")}


def _before(split: str, cut: pd.Timestamp, learned: _Learned, settings: Settings) -> dict[str, Columns]:
    """What may not know anything after the cut, at the start of `split` or in the middle of train."""
    outputs = _decided_by(cut, learned.rows, settings)
    if split == _IN_TRAIN:
        return outputs
    earlier = _EARLIER[split]
    outputs |= {
        name: frame_bytes(frame[frame["split"].isin(earlier)]) for name, frame in learned.corpora.items()
    }
    members = learned.members
    outputs["splits"] = frame_bytes(members[members["split"].isin(earlier)])
    outputs["scaler"] = frame_bytes(learned.scaler)
    if "val" in earlier:
        outputs["threshold"] = {"threshold": str(learned.threshold).encode()}
    return outputs


def _decided_by(cut: pd.Timestamp, rows: pd.DataFrame, settings: Settings) -> dict[str, Columns]:
    """The seen columns of all candidate rows decided on by the cut, and the prompts made of them."""
    rows = rows[rows["decision_time"] <= cut]
    outputs = {"candidate dataset": frame_bytes(rows, SEEN_CANDIDATE)}
    for params in settings.renders:
        prompts = render_trade_or_skip(prompt_rows(rows), params)
        texts = {name: text_bytes(column.to_pylist()) for name, column in vars(prompts).items()}
        outputs[f"prompt trade_or_skip ({params.style})"] = texts
    return outputs
