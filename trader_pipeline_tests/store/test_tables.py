"""The store: atomic, hashed, refuses what breaks the schema."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from trader_pipeline.schema import SchemaError, conform
from trader_pipeline.schema.tables import KLINES
from trader_pipeline.store import MissingTableError, TableStore, content_hash, write_atomic


def candles(rows: int = 5, price: float = 100.5) -> pd.DataFrame:
    open_time = pd.date_range("2024-01-01", periods=rows, freq="h", tz="UTC")
    return pd.DataFrame(
        {
            "open_time": open_time,
            "open": price,
            "high": price + 1,
            "low": price - 1,
            "close": price,
            "volume": 1.0,
            "close_time": open_time + pd.Timedelta(hours=1),
            "quote_volume": np.nan,
            "trade_count": pd.array([None] * rows, dtype="Int64"),
        }
    )


@pytest.fixture
def store(tmp_path):
    return TableStore(str(tmp_path))


def test_written_table_reads_back_equal_with_its_manifest(store):
    manifest = store.write(candles(), KLINES, partition=("BTC_1h",), parents={"a": "1"}, simulated=True)
    back = store.read(KLINES, ("BTC_1h",))
    assert back["close"].tolist() == [100.5] * 5
    assert str(back["open_time"].dtype) == "datetime64[us, UTC]"
    assert store.manifest(KLINES, ("BTC_1h",)) == manifest
    assert manifest.simulated
    assert manifest.rows == 5
    assert list(store.partitions(KLINES)) == [("BTC_1h",)]


def test_content_hash_reads_nulls_and_not_what_lies_under_them():
    masked = pa.array(np.array([1.5, 99.0, 3.0]), mask=np.array([False, True, False]))
    other = pa.array([1.5, None, 3.0])
    assert content_hash(pa.table({"x": masked})) == content_hash(pa.table({"x": other}))
    assert content_hash(pa.table({"x": other})) != content_hash(pa.table({"x": pa.array([1.5, 0.0, 3.0])}))


def test_content_hash_ignores_row_and_column_order_but_not_values():
    frame = candles()
    shuffled = frame.sample(frac=1, random_state=1)[frame.columns[::-1]]
    assert content_hash(conform(frame, KLINES)) == content_hash(conform(shuffled, KLINES))
    changed = frame.assign(close=[100.5, 100.5, 100.5, 100.5, 100.5000001])
    assert content_hash(conform(frame, KLINES)) != content_hash(conform(changed, KLINES))


def test_same_frame_gives_same_bytes(store):
    written = []
    for _ in range(2):
        store.write(candles(), KLINES, simulated=False)
        written.append(Path(store.path(KLINES)).read_bytes())
    assert written[0] == written[1]


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("close", -1.0, r"row 2, column close: .*-1.0.* violates '> 0'"),
        ("close", float("nan"), r"row 2, column close: .*nan.* violates 'not null'"),
        ("high", float("inf"), r"row 2, column high: .*inf.* violates 'finite'"),
    ],
)
def test_bad_value_is_refused_by_row_and_column_and_old_table_stays(store, column, value, message):
    store.write(candles(), KLINES, partition=("BTC_1h",), simulated=False)
    bad = candles(price=50.5)
    bad.loc[2, column] = value
    with pytest.raises(SchemaError, match=message):
        store.write(bad, KLINES, partition=("BTC_1h",), simulated=False)
    assert store.read(KLINES, ("BTC_1h",))["close"].eq(100.5).all()


def test_duplicate_key_unknown_column_and_naive_times_are_refused(store):
    twice = pd.concat([candles(), candles().iloc[:1]])
    with pytest.raises(SchemaError, match="occurs twice"):
        store.write(twice, KLINES, simulated=False)
    with pytest.raises(SchemaError, match=r"unknown columns \['colour'\]"):
        store.write(candles().assign(colour="red"), KLINES, simulated=False)
    naive = candles().assign(open_time=lambda f: f["open_time"].dt.tz_localize(None))
    with pytest.raises(SchemaError, match="open_time holds times without a zone"):
        store.write(naive, KLINES, simulated=False)


def test_missing_table_says_which(store):
    with pytest.raises(MissingTableError, match="klines/ETH_1h has not been built"):
        store.read(KLINES, ("ETH_1h",))
    assert store.manifest(KLINES, ("ETH_1h",)) is None


def test_is_current_follows_parents(store):
    store.write(candles(), KLINES, parents={"source": "1"}, simulated=False)
    assert store.is_current(KLINES, (), {"source": "1"})
    assert not store.is_current(KLINES, (), {"source": "2"})
    assert not store.is_current(KLINES, ("x",), {"source": "1"})


def test_memory_filesystem_works_like_a_folder():
    store = TableStore("memory://trader_pipeline_test")
    store.write(candles(), KLINES, partition=("BTC_1h",), simulated=False)
    assert len(store.read(KLINES, ("BTC_1h",))) == 5
    assert list(store.partitions(KLINES)) == [("BTC_1h",)]


def test_write_atomic_never_overwrites_unless_told(tmp_path):
    path = write_atomic(tmp_path / "a.txt", b"one")
    with pytest.raises(FileExistsError):
        write_atomic(path, b"two")
    assert path.read_bytes() == b"one"
    write_atomic(path, b"two", overwrite=True)
    assert path.read_bytes() == b"two"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_killed_writer_leaves_a_whole_file(tmp_path):
    """A process that rewrites a file for ever is killed; what is left is one of its whole contents."""
    target = tmp_path / "table.bin"
    script = textwrap.dedent(f"""
        from trader_pipeline.store import write_atomic
        i = 0
        while True:
            write_atomic({str(target)!r}, bytes([i % 256]) * 1_000_000, overwrite=True)
            i += 1
            print(i, flush=True)
    """)
    for writes in (1, 3, 6):
        process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        while int(process.stdout.readline()) < writes:
            pass
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        data = target.read_bytes()
        assert len(data) == 1_000_000
        assert data == data[:1] * 1_000_000
