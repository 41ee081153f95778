import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trader_pipeline.corpora.splits import (
    SplitParams,
    assign_splits,
    boundaries_from_json,
    boundaries_to_json,
    make_splits,
    open_until,
    split_boundaries,
    split_counts,
)

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


def lives_hold(start: pd.Series, end: pd.Series, moments: pd.Series) -> bool:
    """Whether any of the lives [start, end] holds any of the moments."""
    begin, over, moment = (times.to_numpy("datetime64[ns]") for times in (start, end, moments))
    return bool(((begin[:, None] <= moment) & (moment <= over[:, None])).any())


def test_a_null_time_is_refused():
    params = SplitParams()
    labels = days(7, 8)
    labels[1] = pd.NaT
    with pytest.raises(ValueError, match="row 1: label_end_time is null"):
        assign_splits(days(0, 5), labels, params=params, boundaries=split_boundaries(days(0, 9), params))


def windows(*rows: tuple[str, float, float]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["label", "start", "end"])
    times = {name: days(*frame[name]).tolist() for name in ("start", "end")}
    return frame.assign(**times, regime=[f"{label}_{i}" for i, label in enumerate(frame["label"])])


def test_a_fold_leaves_one_window_out_and_purges_both_its_sides():
    decision = days(0, 18, 18, 20, 29, 33, 35, 40, 88, 95, 100)
    label_end = days(1, 18.9, 19, 27, 32, 34, 37, 60, 89, 99, 100)
    splits = make_splits(decision, label_end, regimes=windows(("dump", 20, 30)))
    assert splits["without_dump_0"].tolist() == [
        # the second label is known, with embargo, before day 20; the third on it
        "train", "train", None, "test", "test",
        # what was tested is known on day 33: a decision at that moment is too early
        None, "train", "train",
        # a label that reaches the sealed stretch on day 90 is in no fold
        None, "sealed", "sealed",
    ]  # fmt: skip
    assert splits["split"].equals(
        assign_splits(
            decision, label_end, params=SplitParams(), boundaries=split_boundaries(decision, SplitParams())
        )
    )


def test_all_windows_of_a_label_can_be_left_out_at_once():
    decision = days(*range(101))
    regimes = windows(("dump", 20, 30), ("bull", 30, 50), ("dump", 50, 60), ("chop", 92, 99))
    splits = make_splits(decision, decision + DAY / 2, regimes=regimes, by="label")
    assert splits.columns.tolist() == ["split", "without_dump", "without_bull"]
    tested = decision[splits["without_dump"] == "test"]
    assert tested.tolist() == days(*range(20, 30), *range(50, 60)).tolist()


def test_provisional_and_undecided_windows_have_no_fold():
    decision = days(*range(101))
    regimes = windows(("dump", 20, 30), ("bull", 30, 31), ("chop", 30.5, 30.7)).assign(
        provisional=[False, True, False]
    )
    assert make_splits(decision, decision, regimes=regimes).columns.tolist() == ["split", "without_dump_0"]


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 300), st.integers(0, 120), st.integers(0, 120)), min_size=2, max_size=60
    ),
    cuts=st.lists(
        st.tuples(st.integers(0, 300), st.sampled_from(["bull", "chop", "dump"])), min_size=1, max_size=6
    ),
    embargo=st.integers(0, 60),
    by=st.sampled_from(["regime", "label"]),
)
def test_no_training_labels_life_overlaps_a_test_decision_in_any_fold(rows, cuts, embargo, by):
    rows = [*rows, (0, 0, 0), (300, 0, 0)]
    decision = pd.Series([START + pd.Timedelta(hours=d) for d, *_ in rows])
    label_end = decision + pd.Series([pd.Timedelta(hours=n) for _, n, _ in rows])
    expiry = decision + pd.Series([pd.Timedelta(hours=n) for *_, n in rows])
    dte = pd.Series([n / 24 for *_, n in rows])
    edges = [*sorted({hour for hour, _ in cuts}), 301]
    labels = [label for _, label in cuts]
    regimes = windows(
        *((label, a / 24, b / 24) for label, a, b in zip(labels, edges[:-1], edges[1:], strict=False))
    )
    params = SplitParams(embargo_hours=embargo)
    splits = make_splits(decision, label_end, params=params, regimes=regimes, by=by, dte=dte)
    sealed_from = split_boundaries(decision, params)["sealed"]
    known_by = label_end.where(label_end > expiry, expiry) + pd.Timedelta(hours=embargo)
    for name in splits.columns:
        fold = splits[name]
        assert ((fold == "sealed") == (decision >= sealed_from)).all()
        held_out = fold.isin(["val", "test"]) if name == "split" else fold == "test"
        train = fold == "train"
        later = held_out | (fold == "sealed")
        assert not lives_hold(decision[train], known_by[train], decision[later])
        assert not lives_hold(decision[held_out], known_by[held_out], decision[train])
        assert (known_by[train | held_out] < sealed_from).all()


@settings(max_examples=50, deadline=None)
@given(
    start=st.integers(1, 200), length=st.integers(1, 80), life=st.integers(0, 60), embargo=st.integers(0, 30)
)
def test_nothing_more_is_purged_than_the_lives_around_the_window(start, length, life, embargo):
    decision = pd.Series([START + pd.Timedelta(hours=h) for h in range(301)])
    label_end = decision + pd.Timedelta(hours=life)
    regimes = windows(("bull", start / 24, (start + length) / 24))
    splits = make_splits(decision, label_end, params=SplitParams(embargo_hours=embargo), regimes=regimes)
    if "without_bull_0" not in splits.columns:
        return
    purged = splits.loc[splits["without_bull_0"].isna()].index
    around = [*range(start - life - embargo, start), *range(start + length, start + length + life + embargo)]
    before_sealed = range(270 - life - embargo, 270)
    assert set(purged) <= {*around, *before_sealed}


def test_a_row_is_purged_by_its_expiry_however_early_its_label_ended():
    params = SplitParams(embargo_hours=24)
    boundaries = split_boundaries(days(0, 100), params)
    decision, won_early, lost = days(50, 50, 50), days(51, 51, 51), days(60, 60, 60)
    dte = pd.Series([8.9, 9.0, 10.0])
    for label_end in (won_early, won_early.where(dte < 9, lost)):
        splits = assign_splits(decision, label_end, params=params, boundaries=boundaries, dte=dte)
        assert splits.tolist() == ["train", None, None]


def test_a_row_is_open_until_its_label_ends_where_that_is_later():
    ends = open_until(days(0, 0), days(3, 30), pd.Series([7.0, 7.0]))
    assert ends.tolist() == days(7, 30).tolist()
    with pytest.raises(ValueError, match="row 1: dte is nan"):
        open_until(days(0, 0), days(3, 30), pd.Series([7.0, float("nan")]))


FIRST_MOMENTS = {"train": days(0)[0], "val": days(60)[0], "test": days(75)[0], "sealed": days(90)[0]}


def test_boundaries_come_back_in_utc_from_any_zone():
    eastern = {split: moment.tz_convert("America/New_York") for split, moment in FIRST_MOMENTS.items()}
    read = boundaries_from_json(boundaries_to_json(eastern))
    assert read == FIRST_MOMENTS
    assert {str(moment.tz) for moment in read.values()} == {"UTC"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"val": pd.Timestamp("2024-03-01")}, "val is .* without a zone"),
        ({"val": pd.NaT}, "val is NaT"),
        ({"val": FIRST_MOMENTS["test"]}, "test begins at .*, not after val"),
        ({"sealed": FIRST_MOMENTS["val"]}, "sealed begins at .*, not after test"),
        ({"extra": FIRST_MOMENTS["val"]}, "got train, val, test, sealed, extra"),
        ({"val": 5}, "val is 5"),
        ({"val": "soon"}, "val is 'soon'"),
    ],
)
def test_boundaries_that_are_none_are_refused_everywhere(change, message):
    boundaries = FIRST_MOMENTS | change
    decision = days(0, 100)
    with pytest.raises(ValueError, match=message):
        make_splits(decision, decision, boundaries=boundaries)
    with pytest.raises(ValueError, match=message):
        assign_splits(decision, decision, params=SplitParams(), boundaries=boundaries)


@pytest.mark.parametrize(
    "text", ["", "[1]", '{"train": "2024-01-01T00:00:00Z"}', '{"train":1,"val":2,"test":3,"sealed":4}']
)
def test_files_without_boundaries_are_refused_by_name(text):
    with pytest.raises(ValueError, match="split boundaries must be"):
        boundaries_from_json(text)


@pytest.mark.parametrize("hours", [float("inf"), float("nan")])
def test_an_embargo_without_an_end_is_refused(hours):
    with pytest.raises(ValueError, match="embargo_hours"):
        SplitParams(embargo_hours=hours)


def test_provisional_may_be_of_any_dtype():
    decision = days(*range(101))
    regimes = windows(("dump", 20, 30), ("bull", 30, 50))
    regimes["provisional"] = pd.Series([False, True], dtype=object)
    assert make_splits(decision, decision, regimes=regimes).columns.tolist() == ["split", "without_dump_0"]
