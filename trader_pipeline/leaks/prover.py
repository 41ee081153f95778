"""The proof: each case computed with several futures, and any output that moves is a leak, named with its cause.

Belongs here: one case, the cases of a run, and looking for the part of the future that an output saw.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, Protocol, Self, TypeVar

import pandas as pd

from trader_pipeline.leaks.cases import Case
from trader_pipeline.leaks.mutations import (
    PARTS,
    PERMUTE,
    PERTURB,
    THIN,
    TRUNCATE,
    mutate,
    scramble_outcomes,
    unreal,
)
from trader_pipeline.leaks.outputs import (
    LABELS_CANDIDATE,
    OUTCOME,
    Columns,
    Computed,
    Difference,
    Labelled,
    compare,
    compute,
    compute_labels,
    count_bytes,
    render_outputs,
)
from trader_pipeline.leaks.pipeline import Pipeline
from trader_pipeline.leaks.world import Inputs, Settings, World

OUTCOMES = "outcomes"
"""Mutation: the label columns of the candidate rows drawn anew, before anything is rendered."""
LABEL_LIFE = "label life"
"""Mutation: everything after a label's end perturbed; that label may not move."""
RULE = "rule"
"""Not a mutation: a rule of splits or fills that is broken."""
FUTURES = (
    (PERTURB, PERMUTE, TRUNCATE), (PERTURB, PERMUTE, TRUNCATE), (PERTURB, PERMUTE, TRUNCATE), (PERTURB, THIN, TRUNCATE),
)  # fmt: skip
"""The mutations of a case, by its seed: each has three other futures."""
_LABELS_EVERY = 2
"""One case in this many has its labels tried too."""


@dataclass(frozen=True)
class Leak:
    """An output that moved with what came after its decision. `part` is what it saw; empty where that is unknown."""

    output: str
    column: str
    mutation: str
    part: str
    market: str
    source: str
    moment: pd.Timestamp | None

    def __str__(self) -> str:
        when = "" if self.moment is None else f" at {self.moment:%Y-%m-%d %H:%M}"
        where = f"({self.market}, {self.source}{when})"
        if self.mutation == RULE:
            return f"{self.output}: {self.column} {where}"
        return f"{self.output}: {self.column} moved under {self.mutation} {self.part}".rstrip() + f" {where}"


@dataclass
class Tally:
    """What was compared. `mutations` and `moved` count runs by kind: all of them, and those whose labels moved."""

    cases: int = 0
    refused: int = 0
    runs: int = 0
    bytes: int = 0
    by_source: Counter[str] = field(default_factory=Counter)
    outputs: Counter[str] = field(default_factory=Counter)
    mutations: Counter[str] = field(default_factory=Counter)
    moved: Counter[str] = field(default_factory=Counter)
    leaks: list[Leak] = field(default_factory=list)
    unreal: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)

    def count(self, mutation: str, *, moved: bool) -> None:
        """One run under a mutation, and whether any label moved in it."""
        self.mutations[mutation] += 1
        self.moved[mutation] += moved

    def add(self, other: Tally) -> None:
        """Count `other` in."""
        for name, value in vars(other).items():
            if isinstance(value, Counter):
                getattr(self, name).update(value)
            else:
                setattr(self, name, getattr(self, name) + value)


def prove_case(
    pipeline: Pipeline,
    worlds: Sequence[World],
    case: Case,
    *,
    settings: Settings,
    wanted: tuple[str, ...] = (),
) -> Tally:
    """One decision with three other futures, with other outcomes, and half of the time with its labels tried too.

    Where a leak in one of the `wanted` outputs is all that is looked for, the first of them ends the case. A decision
    that the pipeline refuses to make (too little history before it) is counted and not tried.
    """
    inputs = case.inputs(worlds, settings)
    try:
        base = compute(pipeline, inputs)
    except ValueError as error:
        return Tally(refused=1, refusals=[f"{case.moment}: {error}"])
    tally = Tally(cases=1, runs=1, by_source=Counter([case.source]), outputs=Counter(list(base.outputs)))
    if prove_futures(partial(compute, pipeline), inputs, base, tally, seed=case.seed, wanted=wanted):
        return tally
    _prove_outcomes(pipeline, inputs, base, case.seed, tally)
    if (case.seed // 16) % _LABELS_EVERY == 0:
        _prove_label_life(pipeline, inputs, base.labelled, case.seed, tally)
    return tally


class Result(Protocol):
    """What was computed at a decision."""

    @property
    def outputs(self) -> dict[str, Columns]: ...

    def moved(self, other: Self | None) -> Iterable[tuple[str, bool]]:
        """What should move with the future, and whether it did; an empty name stands for the mutation's own.

        `other` is None where another future brought up an error.
        """
        ...


R = TypeVar("R", bound=Result)


def prove_futures(
    computing: Callable[[Inputs], R], inputs: Inputs, base: R, tally: Tally, *, seed: int, wanted: tuple[str, ...] = ()
) -> bool:  # fmt: skip
    """Compute a decision again with its three other futures, and count in what moved.

    Returns:
        Whether a leak in one of the `wanted` outputs was found; the first of them ends it.
    """
    for number, mutation in enumerate(FUTURES[(seed // 4) % len(FUTURES)]):
        _Future(computing, inputs, base, mutation, seed + number).prove(tally)
        if any(leak.output.startswith(wanted) for leak in tally.leaks if wanted):
            return True
    return False


@dataclass(frozen=True)
class _Future(Generic[R]):
    """Another future of a decision, and what was computed with the real one."""

    computing: Callable[[Inputs], R]
    inputs: Inputs
    base: R
    mutation: str
    seed: int

    def prove(self, tally: Tally) -> None:
        inputs, moment = self.inputs, self.inputs.moment
        other = mutate(inputs, self.mutation, after=moment, seed=self.seed)
        tally.unreal += [f"{self.mutation}: {finding}" for finding in unreal(inputs, other, cut=moment)]
        computed, found = self._differences(other)
        tally.runs += 1
        for name, moved in self.base.moved(computed):
            tally.count(name or self.mutation, moved=moved)
        tally.bytes += count_bytes(computed.outputs) if computed else 0
        guilty = self._guilty() if found else {}
        tally.leaks += [leak_of(d, self.mutation, guilty.get(d.output, ""), inputs) for d in found]

    def _differences(self, other: Inputs) -> tuple[R | None, list[Difference]]:
        """What is computed; an error that another future alone brings up is a difference like any other."""
        try:
            computed = self.computing(other)
        except ValueError as error:
            return None, [Difference("an error", str(error).splitlines()[0])]
        return computed, compare(self.base.outputs, computed.outputs)

    def _guilty(self) -> dict[str, str]:
        """For each output that moves, the first part of the future that moves it by itself."""
        found: dict[str, str] = {}
        for part in PARTS:
            if part in ("quotes", "index") and getattr(self.inputs, part) is None:
                continue
            other = mutate(
                self.inputs, self.mutation, after=self.inputs.moment, seed=self.seed, parts=(part,)
            )
            for difference in self._differences(other)[1]:
                found.setdefault(difference.output, part)
        return found


def leak_of(difference: Difference, mutation: str, part: str, inputs: Inputs) -> Leak:
    return Leak(
        difference.output, difference.column, mutation, part, inputs.market.key, inputs.source, inputs.moment
    )


def _prove_outcomes(pipeline: Pipeline, inputs: Inputs, base: Computed, seed: int, tally: Tally) -> None:
    """Prompts of the same candidates with other labels."""
    rows = base.labelled.rows
    if rows.empty:
        return
    changed = scramble_outcomes(rows, LABELS_CANDIDATE, seed=seed)
    tally.count(OUTCOMES, moved=not rows[OUTCOME].equals(changed[OUTCOME]))
    rendered = render_outputs(pipeline, inputs, changed)
    tally.bytes += count_bytes(rendered)
    shown: dict[str, Columns] = {name: base.outputs[name] for name in rendered}
    tally.leaks += [leak_of(d, OUTCOMES, "", inputs) for d in compare(shown, rendered)]


def _prove_label_life(pipeline: Pipeline, inputs: Inputs, base: Labelled, seed: int, tally: Tally) -> None:
    """A label may rest on nothing later than its `label_end_time`: purging counts on it.

    The price at that very moment is the first at which a roll can be tried, so it belongs to the label.
    """
    known = base.rows[base.rows["sellable"] == 1]
    if known.empty:
        return
    end = known["label_end_time"].iloc[seed % len(known)]
    other = mutate(inputs, PERTURB, after=end, seed=seed, open_is_known=True)
    tally.unreal += [f"{LABEL_LIFE}: {finding}" for finding in unreal(inputs, other, cut=end)]
    labelled = compute_labels(pipeline, other)
    tally.runs += 1
    tally.count(LABEL_LIFE, moved=labelled.outcomes_differ(base))
    left, right = base.known_by(end), labelled.known_by(end)
    tally.bytes += count_bytes(right)
    tally.outputs.update(list(right))
    tally.leaks += [leak_of(d, LABEL_LIFE, "", inputs) for d in compare(left, right)]


def first_leaks(leaks: Sequence[Leak]) -> Iterator[Leak]:
    """One leak per output and column, the first of each."""
    seen = set()
    for leak in leaks:
        if (key := (leak.output, leak.column)) not in seen:
            seen.add(key)
            yield leak
