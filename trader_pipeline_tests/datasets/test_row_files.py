import hashlib
from itertools import pairwise

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trader_pipeline.datasets import (
    csv_rows,
    load_dataset_file,
    parquet_rows,
    read_dataset_rows,
    write_dataset_file,
)
from trader_pipeline.datasets.parquet_footer import joined_footer, read_struct, split_file, write_struct
from trader_pipeline.datasets.row_batches import chunks, in_threads
from trader_pipeline.schema import SchemaError, Table
from trader_pipeline.schema.tables import CANDIDATE_DATASET
from trader_pipeline.store import MissingTableError, TableStore, parquet_batches

NAMES = ("decision_time", "instrument", "exit_style", "spot", "pnl_vs_hodl_if_sold", "chosen")
ROWS = Table(
    "rows", "datasets", "A few columns.", ("decision_time", "exit_style", "instrument"),
    tuple(CANDIDATE_DATASET.column(name) for name in NAMES),
)  # fmt: skip


def frame(count: int, *, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "decision_time": pd.date_range("2024-01-01", periods=count, freq="h", tz="UTC").as_unit("us"),
            "instrument": [f"BTC-{n % 28 + 1}MAR24-{n}-C" for n in range(count)],
            "exit_style": np.where(rng.random(count) < 0.5, "hold_to_expiry", "tp_and_roll"),
            "spot": rng.choice([60_000.0, 61_000.5], count),
            "pnl_vs_hodl_if_sold": np.where(rng.random(count) < 0.1, np.nan, rng.normal(0, 500, count)),
            "chosen": rng.integers(0, 2, count),
        }
    )


def arrow(rows: pd.DataFrame) -> pa.Table:
    return pa.Table.from_pandas(rows, schema=ROWS.arrow_schema, preserve_index=False)


def cut(rows: pa.Table, *sizes: int) -> list[pa.Table]:
    edges = np.cumsum([0, *sizes])
    return [rows.slice(a, b - a) for a, b in pairwise(edges)]


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(parquet_rows, "GROUP_ROWS", 64)
    monkeypatch.setattr(csv_rows, "CHUNK_ROWS", 64)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_rows_come_back_exactly_from_many_batches_and_chunks(tmp_path, suffix):
    rows = frame(1_000)
    path = tmp_path / f"rows.{suffix}"
    tally = write_dataset_file(cut(arrow(rows), 1, 0, 500, 63, 436), path, ROWS)
    pd.testing.assert_frame_equal(load_dataset_file(path, ROWS), rows[list(NAMES)], check_exact=True)
    assert (tally.rows, tally.size) == (1_000, path.stat().st_size)
    assert tally.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_bytes_do_not_depend_on_how_rows_are_cut_or_text_is_encoded(tmp_path, suffix):
    rows = arrow(frame(300))
    encoded = rows
    for position, name in enumerate(rows.column_names):
        if pa.types.is_string(rows.schema.field(name).type):
            encoded = encoded.set_column(position, name, rows.column(name).dictionary_encode())
    variants = [rows, cut(rows, 299, 1), cut(rows, *[3] * 100), cut(encoded, 150, 150), rows.to_pandas()]
    written = set()
    for number, batches in enumerate(variants):
        path = tmp_path / f"{number}.{suffix}"
        write_dataset_file(batches, path, ROWS)
        written.add(path.read_bytes())
    assert len(written) == 1


@pytest.mark.usefixtures("small_chunks")
def test_joined_row_groups_hold_their_statistics_and_can_be_read_one_by_one(tmp_path):
    rows = arrow(frame(200))
    write_dataset_file(rows, tmp_path / "rows.parquet", ROWS)
    with pq.ParquetFile(tmp_path / "rows.parquet") as file:
        assert [file.metadata.row_group(n).num_rows for n in range(4)] == [64, 64, 64, 8]
        assert file.metadata.num_rows == 200
        assert file.schema_arrow.equals(ROWS.arrow_schema)
        assert file.read_row_group(2).equals(rows.slice(128, 64))
        times = file.metadata.row_group(3).column(0).statistics
        assert times.min == rows.column(0)[192].as_py()
    late = pq.read_table(tmp_path / "rows.parquet", filters=[("decision_time", ">=", times.min)])
    assert late.num_rows == 8


def test_text_is_read_as_dictionaries_with_the_same_values(tmp_path):
    rows = arrow(frame(50))
    write_dataset_file(rows, tmp_path / "rows.parquet", ROWS)
    read = read_dataset_rows(tmp_path / "rows.parquet", ROWS)
    assert pa.types.is_dictionary(read.schema.field("instrument").type)
    assert read.cast(ROWS.arrow_schema).equals(rows)
    with pytest.raises(SchemaError, match="its columns are not those of candidate_dataset"):
        read_dataset_rows(tmp_path / "rows.parquet", CANDIDATE_DATASET)


def test_a_stored_partition_comes_in_pieces_with_the_same_rows(tmp_path):
    store = TableStore(str(tmp_path))
    rows = frame(50)
    store.write(rows, ROWS, partition=("BTC_1h", "a"), simulated=False)
    pieces = list(parquet_batches(store.path(ROWS, ("BTC_1h", "a")), ROWS, rows=20))
    assert [p.num_rows for p in pieces] == [20, 20, 10]
    whole = pa.concat_tables(store.read_batches(ROWS, ("BTC_1h", "a")))
    assert whole.cast(ROWS.arrow_schema).equals(arrow(rows))
    write_dataset_file(pieces, tmp_path / "again.csv", ROWS)
    pd.testing.assert_frame_equal(load_dataset_file(tmp_path / "again.csv", ROWS), rows[list(NAMES)])
    with pytest.raises(MissingTableError, match="rows/BTC_1h/b has not been built"):
        next(store.read_batches(ROWS, ("BTC_1h", "b")))


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_file_without_rows_has_the_columns_all_the_same(tmp_path, suffix):
    path = tmp_path / f"none.{suffix}"
    assert write_dataset_file([], path, ROWS).rows == 0
    read = load_dataset_file(path, ROWS)
    assert list(read.columns) == list(NAMES)
    assert read.empty


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        (lambda r: [r, r.slice(9)], r"batch 2: key .*2024-01-01 09:00.* occurs twice"),
        (lambda r: cut(r, 5, 5)[::-1], r"batch 2: key .* does not come after .*come in the order of time"),
        (
            lambda r: [pa.concat_tables([r.slice(0, 3), r.slice(2, 1)])],
            r"batch 1: row 3: key .* occurs twice",
        ),
        (lambda r: [r.take([0, 2, 1])], r"batch 1: row 2: key .* does not come after the row before"),
        (lambda r: [r.to_pandas(), r.to_pandas()], r"batch 2: key .* does not come after"),
        (lambda r: [r.drop_columns("spot")], r"missing columns \['spot'\]"),
        (lambda r: [r.set_column(3, "spot", pa.array(range(10)))], "column spot is int64, not double"),
        (lambda r: [r.to_pandas().assign(spot=-1.0)], "row 0, column spot"),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_rows_that_break_the_table_are_refused_and_leave_no_file(tmp_path, suffix, batches, message):
    with pytest.raises(SchemaError, match=message):
        write_dataset_file(batches(arrow(frame(10))), tmp_path / f"rows.{suffix}", ROWS)
    assert list(tmp_path.iterdir()) == []


def test_one_decision_may_be_spread_over_two_batches(tmp_path):
    rows = frame(4).assign(decision_time=pd.Timestamp("2024-01-01", tz="UTC"), exit_style="tp_and_roll")
    path = tmp_path / "rows.parquet"
    write_dataset_file(cut(arrow(rows.sort_values("instrument")), 2, 2), path, ROWS)
    assert len(load_dataset_file(path, ROWS)) == 4


def test_text_that_would_need_quotes_is_refused(tmp_path):
    for bad in ("BTC,1", 'BTC"', "BTC\n"):
        with pytest.raises(SchemaError, match=r"instrument.*holds a comma, a quote or a line break"):
            write_dataset_file(frame(3).assign(instrument=["A", "B", bad]), tmp_path / "rows.csv", ROWS)
    assert list(tmp_path.iterdir()) == []


def test_a_present_file_is_kept_unless_asked_and_other_endings_are_refused(tmp_path):
    path = tmp_path / "rows.csv"
    write_dataset_file(frame(3), path, ROWS)
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match="nothing was overwritten"):
        write_dataset_file(frame(4), path, ROWS)
    assert path.read_bytes() == before
    write_dataset_file(frame(4), path, ROWS, overwrite=True)
    assert path.read_bytes() != before
    with pytest.raises(ValueError, match=r"name a \.parquet or a \.csv file"):
        write_dataset_file(frame(3), tmp_path / "rows.xlsx", ROWS)


def test_chunks_are_of_one_size_but_the_last_and_no_more_is_held_than_needed():
    rows = arrow(frame(100))
    taken = []

    def batches():
        for batch in cut(rows, 10, 10, 10, 10, 60):
            taken.append(batch.num_rows)
            yield batch

    found = chunks(batches(), rows=25)
    assert next(found).num_rows == 25
    assert taken == [10, 10, 10]
    rest = list(found)
    assert [r.num_rows for r in rest] == [25, 25, 25]
    assert pa.concat_tables(rest).equals(rows.slice(25))


def test_results_keep_the_order_of_items_and_do_not_pile_up(monkeypatch):
    monkeypatch.setattr("trader_pipeline.datasets.row_batches.processors", lambda: 2)
    taken = []

    def items():
        for n in range(50):
            taken.append(n)
            yield n

    results = in_threads(lambda n: n * n, items())
    assert next(results) == 0
    assert len(taken) <= 4
    assert list(results) == [n * n for n in range(1, 50)]


def test_a_footer_written_again_has_the_same_bytes():
    sink = pa.BufferOutputStream()
    pq.write_table(arrow(frame(100)), sink, compression="zstd", row_group_size=5)
    data = sink.getvalue().to_pybytes()
    size = int.from_bytes(data[-8:-4], "little")
    assert write_struct(read_struct(data[-8 - size : -8])) == data[-8 - size : -8]


def test_files_that_cannot_be_joined_are_refused():
    sink = pa.BufferOutputStream()
    pq.write_table(arrow(frame(10)), sink, write_page_index=True)
    _, footer = split_file(sink.getvalue().to_pybytes())
    with pytest.raises(ValueError, match="page indexes"):
        joined_footer([(0, footer)])
    with pytest.raises(ValueError, match="not a Parquet file"):
        split_file(b"PAR1 and some text that ends otherwise")
