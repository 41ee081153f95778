"""Backtest settings by name: changed one by one, checked for contradictions, or combined into a grid.

Belongs here: from names and values to `BacktestParams`, with one clear error for each that cannot be. Importable
without numba. Does not belong here: what a setting does, or running anything.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from pydantic import ValidationError

from trader_pipeline.backtest.params import BacktestParams

MAX_COMBINATIONS = 100_000
_ORDERED = (("min_delta", "max_delta"), ("min_dte_days", "max_dte_days"))


def refuse_unknown(names: Sequence[str]) -> None:
    """Refuse names that are no settings of the backtest.

    Raises:
        ValueError: naming the nearest one, or all of them where none is near.
    """
    known = list(BacktestParams.model_fields)
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
            raise ValueError(f"unknown backtest setting {name}; {hint}")


def check_settings(params: BacktestParams) -> None:
    """Refuse settings that contradict each other, also where they were copied without pydantic's checks.

    Raises:
        ValueError: both values, and which ones would do.
    """
    if found := _contradictions(params.model_dump()):
        raise ValueError(found[0])


def change_settings(base: BacktestParams, changes: Mapping[str, Any]) -> BacktestParams:
    """`base` with the named settings changed, all of them checked together.

    Raises:
        ValueError: an unknown name, a value out of its bounds, or settings that contradict each other.
    """
    refuse_unknown(list(changes))
    values = base.model_dump() | dict(changes)
    try:
        params = BacktestParams.model_validate(values)
    except ValidationError as error:
        problems = [_explain(e) for e in error.errors() if e["loc"]]
        raise ValueError("\n".join(problems or _contradictions(values) or [str(error)])) from error
    check_settings(params)
    return params


def combine_settings(base: BacktestParams, values: Mapping[str, Sequence[Any]]) -> list[BacktestParams]:
    """Every combination of the values, the last name's varying fastest; nothing is left out.

    Raises:
        ValueError: an unknown name, a bad or repeated value, combinations that contradict themselves, or more than
            `MAX_COMBINATIONS` of them.
    """
    refuse_unknown(list(values))
    for name, own in values.items():
        _check_values(base, name, own)
    _refuse_too_many({name: len(own) for name, own in values.items()})
    combinations = [dict(zip(values, row, strict=True)) for row in product(*values.values())]
    impossible = [found for c in combinations if (found := _contradictions(base.model_dump() | c))]
    if impossible:
        raise ValueError(
            f"{len(impossible)} of the grid's {len(combinations)} combinations contradict themselves, first:"
            f" {impossible[0][0]}; leave out the values that cannot go together"
        )
    return [change_settings(base, c) for c in combinations]


def _check_values(base: BacktestParams, name: str, values: Sequence[Any]) -> None:
    """Each value by itself; a contradiction with another setting shows in the combinations."""
    if not values:
        raise ValueError(f"setting {name} has no values to vary; give at least one")
    for value in values:
        try:
            BacktestParams.model_validate(base.model_dump() | {name: value})
        except ValidationError as error:
            if problems := [_explain(e) for e in error.errors() if e["loc"]]:
                raise ValueError(problems[0]) from error
        if values.count(value) > 1:
            raise ValueError(f"setting {name} is given {value} twice in the grid; once is enough")


def _refuse_too_many(counts: Mapping[str, int]) -> None:
    total = math.prod(counts.values())
    if total <= MAX_COMBINATIONS:
        return
    name, longest = max(counts.items(), key=lambda item: item[1])
    fits = MAX_COMBINATIONS // (total // longest)
    hint = f"at most {fits} values of {name} fit" if fits else "vary fewer settings"
    raise ValueError(
        f"the grid has {total:,} combinations, at most {MAX_COMBINATIONS:,} are run at once; {hint}, or split it"
    )


def _contradictions(values: Mapping[str, Any]) -> list[str]:
    found = []
    for low, high in _ORDERED:
        small, large = values[low], values[high]
        if not small < large:
            found.append(
                f"{low} ({small}) must be below {high} ({large}): lower {low} below {large},"
                f" or raise {high} above {small}"
            )
    return found


def _explain(error: Any) -> str:
    return f"setting {'.'.join(map(str, error['loc']))}: {error['msg']} (got {error['input']!r})"
