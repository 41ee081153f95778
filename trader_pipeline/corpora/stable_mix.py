"""An exact share of stable records beside others.

Belongs here: the mix of one corpus in the order of time with instructions that have none. The mix of several trading
kinds, with quotas, is in `mixing`; stable files are read in `stable`.
"""

from __future__ import annotations

from fractions import Fraction

import pandas as pd

from trader_pipeline.corpora.mixing import even_sample
from trader_pipeline.corpora.quotas import allocate
from trader_pipeline.corpora.render import answer_of
from trader_pipeline.corpora.steps import text_hash
from trader_pipeline.schema.tables import MIXED_CORPUS


def mix_exactly(
    own: pd.DataFrame, stable: pd.DataFrame, *, share: float, max_samples: int | None = None, seed: int = 0
) -> pd.DataFrame:
    """The most records of both such that stable ones are `share` of them, exact to one record.

    Where either side is short the total shrinks. Of `own` an even sample over time is taken, answer by answer in the
    shares in which they come; of `stable` a seeded one without the prompts that `own` holds and without repeats.

    Args:
        own, stable: rows of a corpus table with single answers.
        share: stable records over all, in [0, 1).
        max_samples: most records of the result.

    Returns:
        A frame of MIXED_CORPUS: `own` in the order of time, stable records spread between them in a seeded order.

    Raises:
        ValueError: `share` outside [0, 1).
    """
    if not 0 <= share < 1:
        raise ValueError(f"the share of stable records is {share:g}; it lies in [0, 1)")
    others = stable[~stable["user"].isin(own["user"])].drop_duplicates("user")
    most = len(own) + len(others) if max_samples is None else min(max_samples, len(own) + len(others))
    count = next(n for n in range(most, -1, -1) if _fits(n, share, len(own), len(others)))
    wanted = stable_count(count, share)
    chosen = sample_by_answer(own, count - wanted, seed=seed)
    drawn = others.iloc[_order(others, seed)[:wanted]]
    places = [*_places(len(chosen)), *_places(wanted)]
    frames = [f[MIXED_CORPUS.column_names] for f in (chosen, drawn) if len(f)]
    if not frames:
        return MIXED_CORPUS.empty()
    return pd.concat(frames).iloc[_sorted_places(places)].reset_index(drop=True)


def stable_count(total: int, share: float) -> int:
    """`share` of `total`, to the nearest whole record, halves up.

    >>> stable_count(10, 0.25), stable_count(9, 0.3)
    (3, 3)
    """
    return int(Fraction(repr(float(share))) * total + Fraction(1, 2))


def sample_by_answer(records: pd.DataFrame, count: int, *, seed: int) -> pd.DataFrame:
    """At most `count` records, evenly over time, each answer with its share of `records`; in the order of time."""
    answers = records["assistant"].map(answer_of)
    available = {str(answer): int(n) for answer, n in answers.value_counts(sort=False).sort_index().items()}
    counts = allocate(count, available, {answer: float(n) for answer, n in available.items()})
    chosen = [even_sample(records[answers == answer], n, seed) for answer, n in counts.items() if n]
    return in_time(pd.concat(chosen)) if chosen else records.iloc[:0]


def in_time(records: pd.DataFrame) -> pd.DataFrame:
    """The records by decision time, those of one moment by their id."""
    return records.sort_values(["decision_time", "record_id"], ignore_index=True)


def _fits(total: int, share: float, own: int, stable: int) -> bool:
    wanted = stable_count(total, share)
    return wanted <= stable and total - wanted <= own


def _order(stable: pd.DataFrame, seed: int) -> list[int]:
    keys = [text_hash(seed, "stable", r) for r in stable["record_id"]]
    return sorted(range(len(keys)), key=keys.__getitem__)


def _places(count: int) -> list[float]:
    """So many places, spread evenly over 0 to 1."""
    return [(i + 0.5) / count for i in range(count)]


def _sorted_places(places: list[float]) -> list[int]:
    return sorted(range(len(places)), key=places.__getitem__)
