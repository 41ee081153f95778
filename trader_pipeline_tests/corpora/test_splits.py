import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trader_pipeline.corpora.splits import SplitParams, assign_splits, split_boundaries, split_counts

START = pd.Timestamp("2024-01-01", tz="UTC")
DAY = pd.Timedelta(days=1)


def days(*numbers: float) -> pd.Series:
    return pd.Series([START + n * DAY for n in numbers])


def test_boundaries_are_shares_of_the_time_span():
    boundaries = split_boundaries(days(100, 0, 40), SplitParams())
    assert boundaries == {
        "train": START,
        "val": START + 60 * DAY,
        "test": START + 75 * DAY,
        "sealed": START + 90 * DAY,
    }


def test_a_row_is_purged_when_its_label_and_embargo_reach_the_next_split():
    params = SplitParams(embargo_hours=24)
    boundaries = split_boundaries(days(0, 100), params)
    decisions = days(0, 50, 50, 50, 60, 74, 80, 90, 100)
    labels = days(7, 58.99, 59, 65, 61, 80, 85, 200, 200)
    splits = assign_splits(decisions, labels, params=params, boundaries=boundaries)
    assert splits.tolist() == ["train", "train", None, None, "val", None, "test", "sealed", "sealed"]
    assert split_counts(splits) == {"train": 2, "val": 1, "test": 1, "sealed": 2, "purged": 3}


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 900)), min_size=2, max_size=60),
    embargo=st.integers(0, 200),
)
def test_no_labels_life_overlaps_a_decision_of_a_later_split(rows: list[tuple[int, int]], embargo: int):
    decision = pd.Series([START + pd.Timedelta(hours=d) for d, _ in [*rows, (0, 0), (2000, 0)]])
    label_end = decision + pd.Series([pd.Timedelta(hours=n) for _, n in [*rows, (0, 0), (2000, 0)]])
    params = SplitParams(embargo_hours=embargo)
    boundaries = split_boundaries(decision, params)
    splits = assign_splits(decision, label_end, params=params, boundaries=boundaries)
    order = ["train", "val", "test", "sealed"]
    for place, split in enumerate(order[:-1]):
        later = decision[splits.isin(order[place + 1 :])]
        if len(later):
            assert ((label_end[splits == split] + pd.Timedelta(hours=embargo)) < later.min()).all()
    assert (decision[splits.isna()] < boundaries["sealed"]).all()


def test_a_span_too_short_for_four_splits_is_refused():
    with pytest.raises(ValueError, match="too close together"):
        split_boundaries(days(0, 0), SplitParams())


def test_times_without_a_zone_are_refused():
    with pytest.raises(ValueError, match="UTC is required"):
        split_boundaries(pd.Series([pd.Timestamp("2024-01-01"), pd.Timestamp("2024-02-01")]), SplitParams())


def test_shares_that_do_not_sum_to_one_are_refused():
    with pytest.raises(ValueError, match=r"must be 1, got 1\.1"):
        SplitParams(train=0.7)


def test_a_label_that_ends_before_its_decision_is_refused():
    params = SplitParams()
    with pytest.raises(ValueError, match="row 1: label_end_time"):
        assign_splits(days(0, 5), days(1, 4), params=params, boundaries=split_boundaries(days(0, 9), params))
