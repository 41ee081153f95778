"""The bounds of the audit: what a corpus may have of each flaw before it is a finding.

Belongs here: the settings and the reasons for their defaults. What is measured is in the modules of the rules.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field

_STRICTER_IF_MORE = ("max_learned", "folds")


class AuditParams(BaseModel):
    """Bounds and sizes. A share is held against its bound by its lower confidence limit, so that few records are not
    enough for an alarm; flaws that must not occur at all have no bound here: one record is a finding."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    constant: float = Field(
        default=0.75,
        gt=0,
        le=1,
        description="largest share of one answer: above it a model that has learned nothing looks good",
    )
    shortcut_lift: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="largest share of the errors of the best constant that a word, a place, a number read as a code, a"
        " blank or an option's looks may remove; half: with two answers of 50 % each that is an accuracy of 75 %",
    )
    threshold_lift: float = Field(
        default=0.6,
        gt=0,
        le=1,
        description="the same for a depth-1 tree over figures: more, as figures are what a model is to learn from",
    )
    interval_lift: float = Field(
        default=0.9,
        gt=0,
        le=1,
        description="the same for an interval of one figure (for options: the one nearest to a value); beyond it"
        " nothing is left to learn, and the figure is as good as a printed answer",
    )
    copied_answers: float = Field(
        default=0.25,
        gt=0,
        le=1,
        description="largest share of free answers that stand word for word in their prompts; extracting is a fair"
        " task, as the whole of a corpus it is none",
    )
    printed_free_answers: float = Field(
        default=0.05,
        gt=0,
        le=1,
        description="largest share of free answers that stand in their prompts after a word such as answer; not 0, as a"
        " prompt may show an example",
    )
    position_sigmas: float = Field(
        default=5.0,
        gt=0,
        description="standard deviations of a position's count from a fair shuffle's; chance goes beyond 5 once in a"
        " million times",
    )
    position_excess: float = Field(
        default=0.02,
        ge=0,
        lt=1,
        description="share of the sold by which a position must also be off: of many records 5 deviations are next to"
        " nothing",
    )
    answer_shift: float = Field(
        default=0.3,
        gt=0,
        le=1,
        description="largest change of an answer's share from train to the other splits: beyond it they measure"
        " another task; real markets move the share of NO_TRADE by 0.2",
    )
    near_duplicate_similarity: float = Field(
        default=0.7,
        gt=0,
        le=1,
        description="how much of two prompts' rare words near duplicates have in common; what all say does not count",
    )
    near_duplicates_across: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="largest share of records with a near duplicate in train; not 0, as two calm days can print alike",
    )
    min_records: int = Field(
        default=30,
        ge=2,
        description="records of a kind from which shortcuts are learned; fewer say nothing about any of them",
    )
    min_scored: int = Field(
        default=100,
        ge=2,
        description="records outside train on which shortcuts are scored; fewer, and they are cross-validated over all",
    )
    max_learned: int = Field(
        default=20_000,
        ge=100,
        description="at most that many records of a kind, spread evenly, are learned from, and as many are scored",
    )
    confidence_sigmas: float = Field(
        default=2.33,
        gt=0,
        description="standard deviations of the one-sided confidence limits; 2.33: wrong once in a hundred",
    )
    folds: int = Field(
        default=5, ge=2, description="blocks of the cross-validation, where there is one split alone"
    )


def loosened(values: Mapping[str, float]) -> list[str]:
    """Names of the settings that let more through than the defaults, in the order of `AuditParams`.

    >>> loosened({"constant": 0.9, "shortcut_lift": 0.4, "max_learned": 200})
    ['constant', 'max_learned']
    """
    names = []
    for name, setting in AuditParams.model_fields.items():
        value = values.get(name, setting.default)
        if value < setting.default if name in _STRICTER_IF_MORE else value > setting.default:
            names.append(name)
    return names
