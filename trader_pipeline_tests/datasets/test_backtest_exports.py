import json
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from types import SimpleNamespace

import pandas as pd
import pyarrow as pa
import pytest

from trader_pipeline.datasets import (
    build_candidate_dataset,
    build_chain_dataset,
    export_candidate_level_training_data,
    export_chain_level_training_data,
    export_training_data,
    load_dataset_file,
)
from trader_pipeline.schema import conform
from trader_pipeline.schema.tables import CANDIDATE_DATASET, CHAIN_DATASET
from trader_pipeline_tests.datasets.frames import DAY, HOUR, START, outcomes, random_candles

KLINES = random_candles(45)
STEPS, OFFERED = outcomes(KLINES, ["sold", "below", "none", "sold"])
FIRST = (START + 31 * DAY).date()


def result(**changes) -> SimpleNamespace:
    """What an export reads of a `BacktestResult`; the first decision is on 1 February 2024."""
    known = {
        "market": "BTC_1h", "policy": "teacher", "size": 1.0, "steps": STEPS, "candidates": OFFERED,
        "klines": KLINES, "recorded_chain": None,
    }  # fmt: skip
    return SimpleNamespace(**known | changes)


def stamp(path) -> str:
    return path.stem[-15:]


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is set."""

    class Clock(datetime):
        moment = datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC)

        @classmethod
        def now(cls, tz=None):
            return cls.moment

    monkeypatch.setattr("trader_pipeline.datasets.backtest_exports.datetime", Clock)
    return Clock


def test_files_of_one_run_share_the_stamp_whichever_level_comes_first(tmp_path, clock):
    candidates = export_candidate_level_training_data(result(), "BTC", "2024-02-01", "2024-02-04", tmp_path)
    clock.moment = datetime(2025, 3, 4, 5, 9, 9, tzinfo=UTC)
    chain = export_chain_level_training_data(result(), "BTC", "2024-02-01", "2024-02-04", tmp_path)
    assert candidates.name == "training_candidates_BTC_20240201_20240204_both_20250304_050607.csv"
    assert chain.name == "training_dataset_BTC_20240201_20240204_both_20250304_050607.csv"
    assert chain.with_suffix(".jsonl").is_file()
    other = tmp_path / "other"
    first = export_chain_level_training_data(result(), "BTC", "2024-02-01", "2024-02-04", other)
    second = export_candidate_level_training_data(result(), "BTC", "2024-02-01", "2024-02-04", other)
    assert stamp(first) == stamp(second) == "20250304_050909"
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_what_is_written_is_the_dataset_of_those_days(tmp_path):
    candidates = export_candidate_level_training_data(result(), "BTC", "2024-02-02", "2024-02-04", tmp_path)
    chain = export_chain_level_training_data(result(), "BTC", "2024-02-02", "2024-02-04", tmp_path)
    later = pd.Timestamp("2024-02-02", tz="UTC")
    for path, table, rows in (
        (candidates, CANDIDATE_DATASET, build_candidate_dataset(STEPS, OFFERED, KLINES, step=HOUR)),
        (chain, CHAIN_DATASET, build_chain_dataset(STEPS, OFFERED, KLINES, step=HOUR)),
    ):
        expected = conform(rows[rows["decision_time"] >= later], table).to_pandas()
        pd.testing.assert_frame_equal(load_dataset_file(path, table), expected, check_exact=True)
    lines = [json.loads(line) for line in chain.with_suffix(".jsonl").read_text().splitlines()]
    assert [line["decision_time"][:10] for line in lines] == ["2024-02-02"] * 2 + ["2024-02-03"] * 2 + [
        "2024-02-04"
    ] * 2


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (date(2024, 2, 1), date(2024, 2, 2)),
        (datetime(2024, 2, 1, 23), datetime(2024, 2, 2, 1)),
        (pd.Timestamp("2024-02-01 01:00", tz="Asia/Tokyo") + DAY, pd.Timestamp("2024-02-02", tz="UTC")),
    ],
)
def test_days_may_be_given_in_any_form_and_the_last_one_is_whole(tmp_path, start, end):
    path = export_chain_level_training_data(result(), "BTC", start, end, tmp_path)
    assert path.name.startswith("training_dataset_BTC_20240201_20240202_both_")
    assert len(load_dataset_file(path, CHAIN_DATASET)) == 4


def test_a_second_export_and_a_second_run_take_stamps_of_their_own(tmp_path, clock):
    days = ("2024-02-01", "2024-02-04", tmp_path)
    first = export_chain_level_training_data(result(), "BTC", *days)
    again = export_chain_level_training_data(result(), "BTC", *days)
    other_run = result(steps=STEPS.assign(fees_coin=STEPS["fees_coin"] * 2))
    other = export_candidate_level_training_data(other_run, "BTC", *days)
    assert [stamp(p)[-6:] for p in (first, again, other)] == ["050607", "050608", "050609"]
    # The candidates of the first run still find a stamp of it that lacks them, twice; then there is none left.
    found = [stamp(export_candidate_level_training_data(result(), "BTC", *days))[-6:] for _ in range(3)]
    assert found == ["050608", "050607", "050610"]


@pytest.mark.parametrize(
    "changes",
    [
        {"klines": KLINES.assign(high=KLINES["high"] * 1.001)},
        {"candidates": OFFERED.assign(score=OFFERED["score"] + 1)},
        {"size": 2.0},
    ],
)
def test_anything_that_the_files_rest_on_makes_another_run(tmp_path, changes, clock):
    first = export_chain_level_training_data(result(), "BTC", FIRST, FIRST, tmp_path)
    second = export_candidate_level_training_data(result(**changes), "BTC", FIRST, FIRST, tmp_path)
    assert stamp(first) != stamp(second)


def test_exports_at_the_same_moment_never_share_a_name_or_a_stamp_with_another_run(tmp_path, clock):
    runs = [result(steps=STEPS.assign(fees_coin=STEPS["fees_coin"] + n)) for n in range(4)]
    jobs = [
        (export, run)
        for run in runs
        for export in (export_chain_level_training_data, export_candidate_level_training_data)
    ]
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda job: job[0](job[1], "BTC", FIRST, FIRST, tmp_path), jobs))
    assert [stamp(a) == stamp(b) for a, b in zip(paths[::2], paths[1::2], strict=True)] == [True] * 4
    assert len({stamp(p) for p in paths}) == 4
    manifests = [json.loads(p.with_name(p.name + ".manifest.json").read_text()) for p in paths]
    assert len({m["run"] for m in manifests}) == 4
    assert [m["file"] for m in manifests] == [p.name for p in paths]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("XRP", "2024-02-01", "2024-02-04"), "unknown underlying 'XRP'; known: BTC, ETH"),
        (("ETH", "2024-02-01", "2024-02-04"), "ran on BTC_1h, not on ETH"),
        (("BTC", "2024-02-04", "2024-02-01"), "start_date 2024-02-04 comes after end_date 2024-02-01"),
        (("BTC", "2024-03-01", "2024-03-04"), "no decisions from 2024-03-01 .* 2024-02-01 to 2024-02-04"),
        (("BTC", "soon", "2024-02-04"), "start_date is 'soon'; give a day as 2024-03-01"),
        (("BTC", "02/01/2024", "2024-02-04"), "start_date is '02/01/2024'; give a day as 2024-03-01"),
        (("BTC", "2024-02", "2024-02-04"), "start_date is '2024-02'; give a day as 2024-03-01"),
        (
            ("BTC", "2024-02-01 12:00", "2024-02-04"),
            "start_date is '2024-02-01 12:00'; give a day as 2024-03-01",
        ),
        (("BTC", "2024-02-30", "2024-02-04"), "start_date is '2024-02-30', a day that is none"),
        (("BTC", 20240201, "2024-02-04"), "start_date is 20240201; give a day as 2024-03-01"),
        (("BTC", pd.NaT, "2024-02-04"), "start_date is missing"),
        (("BTC", None, "2024-02-04"), "start_date is missing"),
    ],
)
def test_what_cannot_be_exported_is_refused_with_what_to_do(tmp_path, arguments, message):
    for export in (export_candidate_level_training_data, export_chain_level_training_data):
        with pytest.raises(ValueError, match=message):
            export(result(), *arguments, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_runs_that_hold_no_whole_training_data_are_refused(tmp_path):
    sequential = result(candidates=OFFERED.drop(columns=["sellable", "reward_if_sold"]))
    one_style = result(
        steps=STEPS[STEPS["exit_style"] == "tp_and_roll"],
        candidates=OFFERED[OFFERED["exit_style"] == "tp_and_roll"],
    )
    for run, message in (
        (sequential, "mode='independent'"),
        (one_style, "no rows of exit style hold_to_expiry"),
    ):
        with pytest.raises(ValueError, match=message):
            export_candidate_level_training_data(run, "BTC", "2024-02-01", "2024-02-04", tmp_path)
    with pytest.raises(ValueError, match="there are no rows"):
        export_candidate_level_training_data(result(), "BTC", "2024-02-03", "2024-02-03", tmp_path)
    assert not list(tmp_path.rglob("training_*"))


def test_a_killed_export_leaves_no_file_under_a_final_name(tmp_path):
    chain = pa.Table.from_pandas(
        build_chain_dataset(STEPS, OFFERED, KLINES, step=HOUR),
        schema=CHAIN_DATASET.arrow_schema,
        preserve_index=False,
    )

    def dying():
        yield chain.slice(0, 4)
        os._exit(9)

    child = os.fork()
    if child == 0:
        export_training_data(
            dying(), [], underlying="BTC", output_dir=tmp_path, stamp=datetime(2025, 3, 4), simulated=True
        )
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert [p.name for p in tmp_path.iterdir() if not p.name.startswith(".")] == []
