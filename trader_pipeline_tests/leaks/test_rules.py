import numpy as np
import pandas as pd
import pytest

from trader_pipeline.leaks.rules import FOLD, FOLD_AFTER, ORDER, OVERLAP, SEALED, broken_split_rules

DAY = pd.Timedelta(days=1)
START = pd.Timestamp("2024-01-01", tz="UTC")
BOUNDARIES = {"sealed": START + 90 * DAY}


def broken(
    rows: list[tuple[float, float, str | None]], column: str = "split", embargo: float = 1.0
) -> set[str]:
    """Rules broken by rows of (decision, label end, split), in days."""
    frame = pd.DataFrame(
        {
            "decision_time": [START + a * DAY for a, _, _ in rows],
            "label_end_time": [START + b * DAY for _, b, _ in rows],
        }
    )
    values = pd.Series([s for *_, s in rows], dtype=object)
    splits = pd.DataFrame({"split": [None] * len(rows), column: values}, dtype=object)
    return {r for r, _ in broken_split_rules(frame, splits, boundaries=BOUNDARIES, embargo=embargo * DAY)}


def test_labels_that_end_with_embargo_before_the_next_split_break_nothing():
    assert broken([(0, 8.9, "train"), (10, 18.9, "val"), (20, 30, "test"), (95, 99, "sealed")]) == set()


@pytest.mark.parametrize("end", [9.0, 9.5, 25.0])
def test_a_label_that_is_known_when_the_next_split_begins_overlaps(end: float):
    assert broken([(0, end, "train"), (10, 12, "val")]) == {OVERLAP}


def test_a_call_closed_early_lives_until_it_would_have_expired():
    rows = pd.DataFrame(
        {
            "decision_time": [START, START + 10 * DAY],
            "label_end_time": [START + DAY, START + 12 * DAY],
            "dte": [9.5, 2.0],
        }
    )
    splits = pd.DataFrame({"split": ["train", "val"]}, dtype=object)
    given = {"boundaries": BOUNDARIES, "embargo": DAY}
    assert [rule for rule, _ in broken_split_rules(rows, splits, **given)] == [OVERLAP]
    assert broken_split_rules(rows.assign(dte=8.9), splits, **given) == []


def test_a_label_may_not_reach_over_an_empty_split_either():
    assert broken([(0, 40, "train"), (30, 31, "test")]) == {OVERLAP}


def test_training_after_the_test_is_out_of_order():
    assert ORDER in broken([(0, 1, "test"), (10, 11, "train")])


def test_sealed_decisions_may_not_be_used():
    assert broken([(0, 1, "train"), (91, 92, "test")]) == {SEALED}


@pytest.mark.parametrize(
    ("rows", "rule"),
    [
        ([(0, 9.5, "train"), (10, 12, "test")], FOLD),
        ([(0, 2, "test"), (2.5, 4, "train")], FOLD_AFTER),
        ([(5, 6, "train"), (5, 6, "test")], FOLD),
    ],
)
def test_lives_that_hold_a_decision_of_the_other_side_break_a_fold(rows, rule):
    assert rule in broken(rows, "without_bull")


def test_a_fold_may_train_on_both_sides_of_the_regime_left_out():
    assert (
        broken([(0, 2, "train"), (10, 12, "test"), (20, 22, "train"), (95, 96, "sealed")], "without_bull")
        == set()
    )


def test_the_rules_hold_of_the_splits_that_the_pipeline_makes_of_random_lives():
    from trader_pipeline.corpora.splits import SplitParams, make_splits, split_boundaries

    generator = np.random.default_rng(0)
    decision = START + pd.to_timedelta(np.sort(generator.integers(0, 300 * 24, 500)), unit="h")
    rows = pd.DataFrame({"decision_time": decision})
    rows["label_end_time"] = rows["decision_time"] + pd.to_timedelta(
        generator.integers(0, 900, 500), unit="h"
    )
    boundaries = split_boundaries(rows["decision_time"], SplitParams())
    splits = make_splits(
        rows["decision_time"], rows["label_end_time"], params=SplitParams(), boundaries=boundaries
    )
    assert broken_split_rules(rows, splits, boundaries=boundaries, embargo=pd.Timedelta(hours=24)) == []
    longer = broken_split_rules(rows, splits, boundaries=boundaries, embargo=pd.Timedelta(hours=240))
    assert {rule for rule, _ in longer} == {OVERLAP}
