"""The whole proof: cases, splits and corpora, fits, and every planted leak, shared out to processes.

Belongs here: what is tried and in which order. How each is tried is in `prover`, `study`, `calibrating` and `plants`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

from trader_pipeline.leaks.calibrating import fit_calibration, prove_calibrations
from trader_pipeline.leaks.cases import draw_cases, impossible_sources
from trader_pipeline.leaks.choice_plants import CHOICE_PLANTS
from trader_pipeline.leaks.market_plants import MARKET_PLANTS
from trader_pipeline.leaks.paper_plants import PAPER_PLANTS
from trader_pipeline.leaks.paper_proof import prove_paper_case
from trader_pipeline.leaks.paper_trading import PAPER, PaperTrading
from trader_pipeline.leaks.pipeline import PRODUCTION, Pipeline
from trader_pipeline.leaks.plants import Catch, Plant, try_to_catch
from trader_pipeline.leaks.prover import Tally, prove_case
from trader_pipeline.leaks.report import LeakReport
from trader_pipeline.leaks.study import LESSONS, Lessons, Stretch, make_stretch, prove_stretch
from trader_pipeline.leaks.study_plants import STUDY_PLANTS
from trader_pipeline.leaks.workers import in_workers
from trader_pipeline.leaks.world import Settings, World

PLANTS: tuple[Plant, ...] = (*MARKET_PLANTS, *CHOICE_PLANTS, *PAPER_PLANTS, *STUDY_PLANTS)
"""Every planted leak."""
PAPER_EVERY = 2
"""One case in this many has its paper trades tried too."""
FITS = 4
"""Calibrations fitted, each once with its own future and three times with another."""
_Task = Callable[[], Tally | Catch | str]


def prove_no_leaks(
    worlds: Sequence[World],
    *,
    settings: Settings | None = None,
    cases: int = 60,
    seed: int = 0,
    jobs: int = 1,
    plants: Sequence[Plant] = PLANTS,
    pipeline: Pipeline = PRODUCTION,
    paper: PaperTrading = PAPER,
    lessons: Lessons = LESSONS,
    stretches: bool = True,
    fits: int = FITS,
    on_progress: Callable[[int, int], None] | None = None,
) -> LeakReport:
    """Try `cases` decisions, splits and corpora of every world, and fits, with other futures; then catch the `plants`.

    Same worlds, settings and seed, same report (but for `seconds`), on any number of `jobs` (processes).
    Without `stretches` no splits, corpora and what is planted in them; `fits` calibrations are fitted.
    `on_progress` is told how many of how many tasks are done.

    Raises:
        ValueError: candles too short for one decision with its past and its future.
    """
    settings, begun = settings or Settings(), time.monotonic()
    made, left_out = _stretches(pipeline, worlds, settings, seed) if stretches else ([], [])
    left_out += impossible_sources(worlds, settings)
    tasks = _tasks(pipeline, lessons, worlds, made, settings=settings, cases=cases, fits=fits, seed=seed)
    drawn = draw_cases(worlds, count=cases, seed=seed, settings=settings)
    tasks += [partial(prove_paper_case, paper, worlds, c, settings=settings) for c in drawn[::PAPER_EVERY]]
    tasks += [_catching(plant, worlds, made, settings, seed) for plant in plants]
    done: dict[int, Tally | Catch | str] = {}
    for number, result in in_workers(lambda i: tasks[i](), len(tasks), jobs=jobs):
        done[number] = result
        if on_progress:
            on_progress(len(done), len(tasks))
    total, catches = Tally(), []
    for _, result in sorted(done.items()):
        if isinstance(result, Tally):
            total.add(result)
        elif isinstance(result, Catch):
            catches.append(result)
        else:
            left_out.append(result)
    return LeakReport(
        worlds=tuple(world.name for world in worlds),
        simulated=any(world.simulated for world in worlds),
        seed=seed,
        tally=total,
        catches=tuple(catches),
        left_out=tuple(left_out),
        seconds=time.monotonic() - begun,
    )


def _tasks(
    pipeline: Pipeline, lessons: Lessons, worlds: Sequence[World], stretches: Sequence[Stretch], *,
    settings: Settings, cases: int, fits: int, seed: int,
) -> list[_Task]:  # fmt: skip
    drawn = draw_cases(worlds, count=cases, seed=seed, settings=settings)
    tries: list[_Task] = [partial(prove_case, pipeline, worlds, case, settings=settings) for case in drawn]
    tries += [partial(prove_stretch, lessons, stretch, settings=settings) for stretch in stretches]
    tries += [
        partial(prove_calibrations, fit_calibration, worlds, count=1, settings=settings, seed=seed, first=n)
        for n in range(fits)
    ]
    return tries


def _stretches(
    pipeline: Pipeline, worlds: Sequence[World], settings: Settings, seed: int
) -> tuple[list[Stretch], list[str]]:
    """A stretch of each world that is long enough, and a word on each that is not."""
    stretches, short = [], []
    for world in worlds:
        try:
            stretches.append(make_stretch(pipeline, world, settings=settings, seed=seed))
        except ValueError as error:
            short.append(f"splits and corpora of {world.name}: {error}")
    return stretches, short


def _catching(
    plant: Plant, worlds: Sequence[World], stretches: Sequence[Stretch], settings: Settings, seed: int
) -> _Task:
    """Planting it; a word where the worlds lack what it needs."""

    def plant_it() -> Catch | str:
        caught = try_to_catch(plant, worlds, stretches, settings=settings, seed=seed)
        return caught or f"planted leak {plant.name!r}: it needs {plant.needs}, and there are none"

    return plant_it
