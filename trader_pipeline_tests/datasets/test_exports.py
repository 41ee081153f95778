import csv
import hashlib
import json
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trader_pipeline.datasets import (
    ExportSettings,
    build_candidate_dataset,
    build_chain_dataset,
    export_training_data,
)
from trader_pipeline.schema import SchemaError
from trader_pipeline.schema.tables import CANDIDATE_DATASET, CHAIN_DATASET
from trader_pipeline_tests.datasets.frames import HOUR, outcomes, random_candles

KLINES = random_candles(45)
STEPS, OFFERED = outcomes(KLINES, ["sold", "below", "none"])
CHAIN = build_chain_dataset(STEPS, OFFERED, KLINES, step=HOUR)
CANDIDATES = build_candidate_dataset(STEPS, OFFERED, KLINES, step=HOUR)
NAMING = {
    "underlying": "BTC",
    "start": datetime(2024, 2, 1),
    "end": datetime(2024, 2, 4),
    "stamp": datetime(2025, 3, 4, 5, 6, 59),
    "simulated": True,
}


def export(folder, chain=CHAIN, candidates=CANDIDATES, **changes):
    return export_training_data(chain, candidates, output_dir=folder, **{**NAMING, **changes})


def test_files_are_named_as_in_the_design(tmp_path):
    paths = export(tmp_path / "new")
    assert [p.name for p in paths] == [
        "training_dataset_BTC_20240201_20240204_both_20250304_050659.csv",
        "training_dataset_BTC_20240201_20240204_both_20250304_050659.jsonl",
        "training_candidates_BTC_20240201_20240204_both_20250304_050659.csv",
    ]
    assert len(list((tmp_path / "new").iterdir())) == 6, "three files, three manifests, no temporary file"


def test_columns_stand_in_the_design_order_and_times_are_iso(tmp_path):
    paths = export(tmp_path)
    with paths.chain_csv.open() as file:
        rows = list(csv.reader(file))
    assert rows[0][:13] == [
        "decision_time",
        "underlying",
        "spot",
        "action",
        "reward",
        "instrument",
        "delta",
        "strike",
        "dte",
        "score",
        "exit_style",
        "pnl_vs_hodl",
        "max_drawdown_pct",
    ]
    assert rows[1][0] == "2024-02-01T08:00:00+00:00"
    with paths.candidates_csv.open() as file:
        header = next(csv.reader(file))
    assert header[:15] == [
        "decision_time",
        "underlying",
        "spot",
        "instrument",
        "strike",
        "dte",
        "delta",
        "score",
        "exit_style",
        "trade_executed",
        "chosen",
        "action",
        "reward",
        "pnl_vs_hodl",
        "max_drawdown_pct",
    ]
    assert '"' not in paths.candidates_csv.read_text()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=6, max_size=6))
def test_every_float_comes_back_exactly(tmp_path_factory, rewards):
    paths = export(tmp_path_factory.mktemp("exports"), CHAIN.assign(reward=rewards))
    read = pd.read_csv(paths.chain_csv, float_precision="round_trip", dtype={"reward": float})
    expected = CHAIN.assign(reward=rewards)
    for column in CHAIN_DATASET.columns:
        if column.dtype == "float64":
            assert np.array_equal(
                read[column.name].to_numpy(float), expected[column.name].to_numpy(float), equal_nan=True
            )
    lines = [json.loads(line)["reward"] for line in paths.chain_jsonl.read_text().splitlines()]
    assert lines == rewards


def test_missing_values_are_empty_in_csv_and_null_in_jsonl(tmp_path):
    paths = export(tmp_path)
    with paths.chain_csv.open() as file:
        skipped = [row for row in csv.DictReader(file) if row["action"] == "DO_NOTHING"]
    records = [json.loads(line) for line in paths.chain_jsonl.read_text().splitlines()]
    assert {row["instrument"] for row in skipped} == {""}
    assert list(records[0]) == CHAIN_DATASET.column_names
    assert [r["strike"] for r in records if r["action"] == "DO_NOTHING"] == [None] * 4


def test_candidates_come_back_as_they_were(tmp_path):
    read = pd.read_csv(export(tmp_path).candidates_csv, float_precision="round_trip")
    for name in ("decision_time", "label_end_time"):
        read[name] = pd.to_datetime(read[name])
    same = read.astype(CANDIDATES.dtypes.to_dict())
    pd.testing.assert_frame_equal(same[CANDIDATE_DATASET.column_names], CANDIDATES, check_exact=True)


def test_an_existing_export_is_kept_and_the_next_takes_the_next_free_second(tmp_path):
    first = export(tmp_path)
    before = {path: path.read_bytes() for path in first}
    second = export(tmp_path, chain=CHAIN.assign(reward=1.0))
    assert second.chain_csv.name.endswith("_20250304_050700.csv")
    assert len({path.stem[-15:] for path in second}) == 1
    assert {path: path.read_bytes() for path in first} == before


def test_one_name_taken_moves_all_three(tmp_path):
    taken = tmp_path / "training_candidates_BTC_20240201_20240204_both_20250304_050659.csv"
    taken.write_text("mine")
    assert {p.stem[-6:] for p in export(tmp_path)} == {"050700"}
    assert taken.read_text() == "mine"


def test_an_export_that_loses_a_race_for_its_name_takes_the_next_second(tmp_path, monkeypatch):
    first = export(tmp_path)
    before = [path.read_bytes() for path in first]
    monkeypatch.setattr(Path, "exists", lambda self: False)  # the other export appeared after the look
    assert {p.stem[-6:] for p in export(tmp_path, chain=CHAIN.assign(reward=1.0))} == {"050700"}
    assert [path.read_bytes() for path in first] == before


def test_same_rows_give_the_same_bytes_in_any_order(tmp_path):
    first = export(tmp_path / "a")
    second = export(
        tmp_path / "b", CHAIN.sample(frac=1, random_state=1), CANDIDATES.sample(frac=1, random_state=2)
    )
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]


def test_manifest_states_hash_rows_parents_and_that_it_is_simulated(tmp_path):
    paths = export(tmp_path, parents={"chain_dataset/BTC_1h": "ab12"})
    for path, rows in zip(paths, (6, 6, 12), strict=True):
        manifest = json.loads(path.with_name(path.name + ".manifest.json").read_text())
        assert manifest == {
            "file": path.name,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "rows": rows,
            "simulated": True,
            "parents": {"chain_dataset/BTC_1h": "ab12"},
            "run": "",
        }


@pytest.mark.parametrize(
    ("chain", "message"),
    [
        (CHAIN[:0], "no rows"),
        (CHAIN.assign(underlying="ETH"), "holds rows of ETH"),
        (CHAIN[CHAIN["exit_style"] == "tp_and_roll"], "no rows of exit style hold_to_expiry"),
    ],
)
def test_an_export_that_its_name_would_misstate_is_refused(tmp_path, chain, message):
    with pytest.raises(ValueError, match=message):
        export(tmp_path, chain)
    assert list(tmp_path.iterdir()) == []


def test_a_broken_table_writes_nothing(tmp_path):
    with pytest.raises(SchemaError, match="occurs twice"):
        export(tmp_path, pd.concat([CHAIN, CHAIN]))
    assert list(tmp_path.iterdir()) == []


def test_settings_come_from_the_environment_and_from_env_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SAVE_TRAINING_DATA", raising=False)
    monkeypatch.delenv("TRAINING_DATA_DIR", raising=False)
    assert ExportSettings().model_dump(mode="json") == {
        "save_training_data": True,
        "training_data_dir": "data/exports",
    }
    (tmp_path / ".env").write_text("SAVE_TRAINING_DATA=false\nTRAINING_DATA_DIR=there\nUNRELATED=1\n")
    assert ExportSettings().model_dump(mode="json") == {
        "save_training_data": False,
        "training_data_dir": "there",
    }
    monkeypatch.setenv("SAVE_TRAINING_DATA", "true")
    assert ExportSettings().save_training_data is True


def test_a_folder_that_is_set_wins_over_the_callers_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRAINING_DATA_DIR", "")
    assert ExportSettings().folder(default=tmp_path / "mine") == tmp_path / "mine"
    monkeypatch.setenv("TRAINING_DATA_DIR", "there")
    assert ExportSettings().folder(default=tmp_path / "mine") == Path("there")
