"""All rules over a corpus, kind by kind."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pandas as pd

from trader_pipeline.corpora.audit.duplicates import (
    broken_across,
    broken_repeats,
    near_duplicates,
)
from trader_pipeline.corpora.audit.free_text import measure_free_text
from trader_pipeline.corpora.audit.learned import (
    Measured,
    measure_chosen,
    measure_constant,
    measure_preferences,
    measure_shift,
    measure_shortcuts,
)
from trader_pipeline.corpora.audit.params import AuditParams
from trader_pipeline.corpora.audit.printed import is_given_away
from trader_pipeline.corpora.audit.reading import options_of, printed_answers
from trader_pipeline.corpora.audit.report import AuditReport, Finding
from trader_pipeline.corpora.audit.sides import lower_limit
from trader_pipeline.corpora.audit.text_rules import PAIR, TRADING_KINDS, Broken, broken_texts
from trader_pipeline.corpora.audit.times import broken_times, decision_times, unchecked_rules
from trader_pipeline.corpora.records import corpus_hash
from trader_pipeline.corpora.render import answer_of
from trader_pipeline.schema.columns import NO_TRADE

_MOST_ANSWERS, _ANSWERED_BY_FEW, _MOST_DISTINCT_SHARE = 30, 0.95, 0.05
_SHOWN_BEFORE, _SHOWN = 30, 80
_COLUMNS = ("record_id", "kind", "system", "user")
_EXAMPLES, _EARLIER_RIGHT = 0.5, 0.95


def audit_corpus(frame: pd.DataFrame, *, params: AuditParams | None = None) -> AuditReport:
    """Figures and findings of a corpus; no finding means that it may be trained on.

    Args:
        frame: columns `record_id, kind, system, user`, and `assistant` or `chosen_answer, rejected_answer`; optional
            `split, weight, decision_time, label_end_time, line, source` (where the record stands in a file). With
            `split`, shortcuts are learned on train and scored on the other splits, else by block-wise cross-validation.

    Returns:
        Figures named `kind/figure`. A rule that is broken by single records has their number as figure, and bound 0.

    Raises:
        ValueError: a column is missing.
    """
    params = params or AuditParams()
    if missing := _missing_columns(frame):
        raise ValueError(f"a corpus to audit lacks the columns {', '.join(missing)}")
    if frame.empty:
        nothing = Finding("empty", "", None, None, "", None, "the corpus holds no record")
        return AuditReport(corpus_hash(frame), 0, {}, (nothing,), {}, params.model_dump())
    whole = frame.reset_index(drop=True)
    collected = _Collected()
    collected.add_kind("", whole, iter([_unusable_weights(whole)]))
    whole = whole.assign(weight=_usable_weights(whole))
    for kind in dict.fromkeys(whole["kind"]):
        own = _with_own_answers(whole[whole["kind"] == kind].reset_index(drop=True), str(kind))
        collected.add_kind(str(kind), own, _kind_results(own, str(kind), params))
    if "split" in whole:
        collected.add_kind("", whole, broken_times(whole))
    return AuditReport(
        corpus_hash(frame),
        len(frame),
        collected.figures,
        tuple(collected.findings),
        collected.bounds,
        params.model_dump(),
        (*unchecked_rules(whole), *_too_few_to_judge(whole, params)),
    )


def _too_few_to_judge(frame: pd.DataFrame, params: AuditParams) -> list[str]:
    """Kinds of so few records that no shortcut can be told from chance: their figures judge nothing."""
    counts = frame.loc[frame["kind"] != "stable", "kind"].value_counts(sort=False)
    return [f"shortcuts_of_{kind}_with_{n}_records" for kind, n in counts.items() if n < params.min_records]


def is_closed(frame: pd.DataFrame) -> bool:
    """Whether a few answers serve many prompts: then there are shortcuts to them. Columns user, answer."""
    counts = frame["answer"].value_counts()
    few = counts.head(_MOST_ANSWERS).sum() >= _ANSWERED_BY_FEW * len(frame)
    most = min(max(2, _MOST_DISTINCT_SHARE * len(frame)), frame["user"].nunique() - 1)
    return bool(few and len(counts) <= most)


def _weights(frame: pd.DataFrame) -> np.ndarray:
    """The weights given; 1 where there is none, which a column of floats cannot say."""
    given = frame["weight"] if "weight" in frame else pd.Series(1.0, index=frame.index)
    if given.dtype == object:
        given = given.map(lambda weight: 1.0 if weight is None else weight)
    return pd.to_numeric(given, errors="coerce").to_numpy(float)


def _unusable_weights(frame: pd.DataFrame) -> Broken:
    weights = _weights(frame)
    rows = np.flatnonzero(~(np.isfinite(weights) & (weights > 0)))
    shown = f"weight is {weights[rows[0]]:g}; a weight is a finite number above 0" if len(rows) else ""
    return Broken("weight_unusable", rows, shown)


def _usable_weights(frame: pd.DataFrame) -> np.ndarray:
    """The weights that every share is counted with: 1 for those that are a finding themselves."""
    weights = _weights(frame)
    return np.where(np.isfinite(weights) & (weights > 0), weights, 1.0)


def _missing_columns(frame: pd.DataFrame) -> list[str]:
    kinds = set(frame.get("kind", ()))
    only_pairs = "assistant" not in frame and PAIR[0] in frame and len(kinds) <= 1
    pairs = PAIR if only_pairs or "preference" in kinds else ()
    single = () if only_pairs or kinds == {"preference"} else ("assistant",)
    return [name for name in (*_COLUMNS, *single, *pairs) if name not in frame]


class _Collected:
    """Figures, bounds and findings as they come in."""

    def __init__(self) -> None:
        self.figures: dict[str, float] = {}
        self.bounds: dict[str, float] = {}
        self.findings: list[Finding] = []

    def add_kind(self, kind: str, frame: pd.DataFrame, results: Iterator[Broken | Measured]) -> None:
        if kind:
            self.figures[f"{kind}/records"] = float(len(frame))
        for result in results:
            if isinstance(result, Broken):
                self._add_broken(kind, frame, result)
            else:
                self._add_measured(kind, frame, result)

    def _add_broken(self, kind: str, frame: pd.DataFrame, broken: Broken) -> None:
        if not len(broken.rows):
            return
        row = int(broken.rows[0])
        name = f"{kind or 'corpus'}/{broken.rule}"
        self.figures[name] = self.figures.get(name, 0.0) + len(broken.rows)
        self.bounds[name] = 0.0
        self.findings.append(
            _finding(broken.rule, kind, float(len(broken.rows)), 0.0, frame, row, broken.detail)
        )

    def _add_measured(self, kind: str, frame: pd.DataFrame, measured: Measured) -> None:
        name = f"{kind}/{measured.figure}"
        if measured.value >= self.figures.get(name, -1.0):
            self.figures[name] = measured.value
        if measured.bound is not None:
            self.bounds[name] = measured.bound
        if measured.above:
            shown = "" if measured.row is None else f", as in {_excerpt(frame, measured)}"
            finding = _finding(
                measured.figure,
                kind,
                measured.value,
                measured.bound,
                frame,
                measured.row,
                measured.detail + shown,
            )
            self.findings.append(finding)


def _kind_results(frame: pd.DataFrame, kind: str, params: AuditParams) -> Iterator[Broken | Measured]:
    yield from broken_texts(frame, kind)
    answers = [name for name in ("assistant", *PAIR) if name in frame]
    turns = ["system", "user", *answers]
    readable = frame[turns].map(lambda text: isinstance(text, str)).all(axis=1).to_numpy(bool)
    rows = np.flatnonzero(readable)
    if not len(rows):
        return
    times = decision_times(frame.iloc[rows]).reset_index(drop=True)
    rows = rows[times.sort_values(kind="stable").index]
    own = frame.iloc[rows].reset_index(drop=True)
    for result in _comparing_results(_with_answer(own, kind), kind, params):
        yield _at(result, rows)


def _comparing_results(frame: pd.DataFrame, kind: str, params: AuditParams) -> Iterator[Broken | Measured]:
    pairs = "chosen_answer" in frame
    closed = not pairs and (kind in TRADING_KINDS or is_closed(frame))
    yield from broken_repeats(frame, closed=closed)
    if "split" in frame and frame["split"].nunique() > 1:
        yield from broken_across(frame)
        if (frame["split"] != "train").sum() >= params.min_records:
            yield _near(frame, params)
        if closed and (shift := measure_shift(frame, params)) is not None:
            yield shift
    if not closed and not pairs:
        yield from measure_free_text(frame, params)
        return
    frame = frame.assign(printed=_printed(frame, params))
    constant = measure_constant(frame, params)
    yield _given_away(frame, constant.value, params)
    if pairs:
        yield from measure_preferences(frame, params)
        few = frame["answer"].nunique() <= _MOST_ANSWERS
        if is_closed(frame) or (few and any(options_of(user) for user in frame["user"].head(100))):
            yield from measure_chosen(frame, params)
    else:
        yield constant
        yield from measure_shortcuts(frame, params)


def _with_own_answers(frame: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Without the answers that this kind does not have: a table of several kinds holds nulls there."""
    pairs = set(PAIR) <= set(frame) and ("assistant" not in frame or frame["assistant"].isna().all())
    return frame.drop(columns=["assistant"] if pairs or kind == "preference" else [*PAIR], errors="ignore")


def _with_answer(frame: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Column `answer`: what is to be told, of trading records the last line."""
    texts = frame["chosen_answer" if "chosen_answer" in frame else "assistant"]
    return frame.assign(
        answer=texts.map(answer_of) if kind in (*TRADING_KINDS, "preference") else texts.str.strip()
    )


def _printed(frame: pd.DataFrame, params: AuditParams) -> pd.Series:
    """What each prompt gives away; of an example or an earlier decision only where that is right too often."""
    known = set(frame["answer"]) | ({NO_TRADE} if "chosen_answer" in frame else set())
    prompts = zip(frame["system"], frame["user"], strict=True)
    found = [printed_answers(f"{s}\n{u}", known | {label for label, _ in options_of(u)}) for s, u in prompts]
    printed, *others = (pd.Series(said, index=frame.index, dtype=object) for said in zip(*found, strict=True))
    for said, least in zip(others, (_EXAMPLES, _EARLIER_RIGHT), strict=True):
        if is_given_away(said, frame["answer"], params.confidence_sigmas, least=least, few_are_enough=False):
            printed = printed.where(printed.notna(), said)
    return printed


def _given_away(frame: pd.DataFrame, constant: float, params: AuditParams) -> Measured:
    """Who says what the prompt prints, and where nothing is printed the most common answer of such records."""
    printed, answer = frame["printed"], frame["answer"]
    right = (printed == answer).to_numpy(bool)
    given = is_given_away(printed, answer, params.confidence_sigmas)
    silent = answer[printed.isna()].value_counts()
    accuracy = float((right.sum() + silent.max()) / len(frame)) if len(silent) else float(right.mean())
    detail = (
        f"{printed.notna().sum()} prompts print an answer after a key word, {right.sum()} of them the right one;"
        f" who says what is printed is right in {accuracy:.1%}"
    )
    value = accuracy if given else constant
    return Measured(
        "printed_answer", value, constant, given, detail, int(right.argmax()) if right.any() else None
    )


def _near(frame: pd.DataFrame, params: AuditParams) -> Measured:
    outside, inside = near_duplicates(frame, similarity=params.near_duplicate_similarity)
    others = int((frame["split"] != "train").sum())
    share, bound = len(outside) / max(others, 1), params.near_duplicates_across
    above = lower_limit(share, others, params.confidence_sigmas) > bound
    row = int(outside[0]) if len(outside) else None
    detail = (
        f"prompts that are nearly one of train, as record {frame['record_id'].iloc[inside[0]]}"
        if row is not None
        else ""
    )
    return Measured("near_duplicates_across_splits", share, bound, above, detail, row)


def _at(result: Broken | Measured, rows: np.ndarray) -> Broken | Measured:
    """The same result with the places of all records of the kind."""
    if isinstance(result, Broken):
        return Broken(result.rule, rows[result.rows], result.detail)
    if result.row is None:
        return result
    return Measured(
        result.figure, result.value, result.bound, result.above, result.detail, int(rows[result.row])
    )


def _finding(
    rule: str,
    kind: str,
    figure: float,
    bound: float | None,
    frame: pd.DataFrame,
    row: int | None,
    detail: str,
) -> Finding:
    if row is None:
        return Finding(rule, kind, figure, bound, "", None, detail)
    record = frame.iloc[row]
    line = int(record["line"]) if "line" in frame and pd.notna(record["line"]) else None
    source = str(record["source"]) if "source" in frame else ""
    return Finding(rule, kind, figure, bound, str(record["record_id"]), line, detail, source)


def _excerpt(frame: pd.DataFrame, measured: Measured) -> str:
    """The part of the example's prompt that the detail quotes, or its beginning."""
    record = frame.iloc[measured.row if measured.row is not None else 0]
    quoted = re.search(r"'([^']+)'", measured.detail)
    text = " ".join(f"{record['user']}".split())
    if "system" in measured.figure:
        text = " ".join(f"{record['system']}".split())
    place = text.casefold().find(quoted[1]) if quoted else 0
    start = max(place - _SHOWN_BEFORE, 0)
    end = start + _SHOWN
    return repr(f"{'…' if start else ''}{text[start:end]}{'…' if end < len(text) else ''}")
