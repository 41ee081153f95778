"""Leaks that the prover must catch: each replaces one function of the pipeline by one that looks ahead.

Belongs here: what a planted leak is, and trying to catch it. The leaks themselves are in `market_plants`,
`choice_plants`, `paper_plants` and `study_plants`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from trader_pipeline.leaks.calibrating import Fit, prove_calibrations
from trader_pipeline.leaks.cases import draw_cases
from trader_pipeline.leaks.paper_proof import prove_paper_case
from trader_pipeline.leaks.paper_trading import PAPER, PaperTrading
from trader_pipeline.leaks.pipeline import PRODUCTION
from trader_pipeline.leaks.prover import Leak, Tally, prove_case
from trader_pipeline.leaks.study import LESSONS, Stretch, prove_stretch
from trader_pipeline.leaks.world import Settings, World

MOST_CASES = 40
"""Cases tried before a planted leak counts as missed."""


@dataclass(frozen=True)
class Plant:
    """A known leak.

    `where` names the field of `Pipeline`, `PaperTrading` or `Lessons` that `leaky` replaces, or `calibrate`; `seen_in`
    the outputs of which one must move; `source` the option prices that it needs (None: any).
    """

    name: str
    says: str
    where: str
    leaky: Callable[..., Any]
    seen_in: tuple[str, ...]
    source: str | None = None
    many: bool = False
    """Whether it stands among the functions over many decisions."""

    @property
    def needs(self) -> str:
        """What it cannot be planted without, in words."""
        if self.many:
            return "candles long enough for splits"
        return (
            f"option prices of source {self.source!r}"
            if self.source
            else "a volatility index or recorded quotes"
        )


@dataclass(frozen=True)
class Catch:
    """What became of a planted leak: the leak by which it was found, and after how many cases; None where missed."""

    plant: Plant
    leak: Leak | None
    cases: int

    @property
    def caught(self) -> bool:
        return self.leak is not None

    def __str__(self) -> str:
        found = f"caught by {self.leak}" if self.leak else f"MISSED in {self.cases} cases"
        return f"{self.plant.name}: {found}"


def try_to_catch(
    plant: Plant, worlds: Sequence[World], stretches: Sequence[Stretch], *, settings: Settings, seed: int
) -> Catch | None:
    """Run the prover on the planted pipeline until an output that must move does.

    None where the worlds lack what it needs, as a leak of recorded quotes does where there are none.
    """
    if plant.where == "calibrate":
        return _catch_fit(plant, worlds, settings, seed)
    if plant.many:
        return _catch_in_stretches(plant, stretches, settings) if stretches else None
    if plant.where in PaperTrading.__dataclass_fields__:
        paper = replace(PAPER, **{plant.where: plant.leaky})
        return _catch_in_cases(plant, partial(prove_paper_case, paper), worlds, settings, seed)
    pipeline = replace(PRODUCTION, **{plant.where: plant.leaky})
    return _catch_in_cases(plant, partial(prove_case, pipeline), worlds, settings, seed)


def _catch_in_cases(
    plant: Plant, prove: Callable[..., Tally], worlds: Sequence[World], settings: Settings, seed: int
) -> Catch | None:
    try:
        cases = draw_cases(worlds, count=MOST_CASES, seed=seed, settings=settings, source=plant.source)
    except ValueError:
        return None
    for tried, case in enumerate(cases, start=1):
        tally = prove(worlds, case, settings=settings, wanted=plant.seen_in)
        if leak := _first(plant, tally):
            return Catch(plant, leak, tried)
    return Catch(plant, None, len(cases))


def _catch_in_stretches(plant: Plant, stretches: Sequence[Stretch], settings: Settings) -> Catch:
    lessons = replace(LESSONS, **{plant.where: plant.leaky})
    for tried, stretch in enumerate(stretches, start=1):
        if leak := _first(plant, prove_stretch(lessons, stretch, settings=settings)):
            return Catch(plant, leak, tried)
    return Catch(plant, None, len(stretches))


def _catch_fit(plant: Plant, worlds: Sequence[World], settings: Settings, seed: int) -> Catch | None:
    if not any(world.quotes is not None or world.index is not None for world in worlds):
        return None
    fit: Fit = plant.leaky
    tally = prove_calibrations(fit, worlds, count=2, settings=settings, seed=seed)
    return Catch(plant, _first(plant, tally), 2)


def _first(plant: Plant, tally: Tally) -> Leak | None:
    """The first leak in one of the outputs that the plant must move."""
    return next((leak for leak in tally.leaks if leak.output.startswith(plant.seen_in)), None)
