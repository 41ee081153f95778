"""Rows for pages: right rows, right order, nothing from a URL as SQL, a changed file at once."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow.parquet as pq
import pytest

from trader_pipeline.dashboard.damage import DamagedTableError
from trader_pipeline.dashboard.kept_frames import KeptFrames
from trader_pipeline.dashboard.page import Context
from trader_pipeline.dashboard.tables import Tables, Where
from trader_pipeline.schema.tables import KLINES, POLICY_METRICS, WINDOW_KLINES
from trader_pipeline.store import MissingTableError, TableStore
from trader_pipeline_tests.dashboard.conftest import MARKET, REGIME


def metrics(values: list[float | None]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "policy": [f"p{i}" for i in range(len(values))],
            "segment": "all",
            "exit_style": "tp_and_roll",
            "metric": "mean",
            "value": [float(v) if v is not None else 0.0 for v in values],
            "count": range(len(values)),
        }
    )


@pytest.fixture
def store(tmp_path: Path) -> TableStore:
    store = TableStore(str(tmp_path))
    store.write(metrics([3, 1, 2, 2]), POLICY_METRICS, simulated=False)
    return store


def test_page_gives_the_rows_asked_for_in_the_order_asked_for(store: TableStore) -> None:
    tables = Tables(store)
    page = tables.page(POLICY_METRICS, ["policy", "value"], order=["-value", "policy"], limit=2, offset=1)
    assert page.to_numpy().tolist() == [["p2", 2.0], ["p3", 2.0]]


def test_page_agrees_with_the_store(context: Context) -> None:
    page = context.tables.page(KLINES, limit=10**6, order=["open_time"])
    expected = context.tables.store.read(KLINES, MARKET)
    pd.testing.assert_frame_equal(page, expected, check_dtype=False)
    assert str(page["open_time"].dt.tz) == "UTC"


@pytest.mark.parametrize(
    ("where", "names"),
    [
        ([Where("value", ">=", 2)], ["p0", "p2", "p3"]),
        ([Where("policy", "in", ["p1", "p3"])], ["p1", "p3"]),
        ([Where("policy", "contains", "P2")], ["p2"]),
        ([Where("value", "=", 2), Where("count", "!=", 3)], ["p2"]),
        ([Where("value", "is null")], []),
    ],
)
def test_conditions_choose_rows(store: TableStore, where: list[Where], names: list[str]) -> None:
    tables = Tables(store)
    assert tables.page(POLICY_METRICS, where=where, order=["policy"])["policy"].tolist() == names
    assert tables.count(POLICY_METRICS, where) == len(names)


def test_a_value_is_never_sql(store: TableStore) -> None:
    tables = Tables(store)
    assert tables.count(POLICY_METRICS, [Where("policy", "=", "p0' OR '1'='1")]) == 0


@pytest.mark.parametrize("column", ["value; DROP TABLE rows", "valu", '"'])
def test_a_column_that_the_table_lacks_is_refused(store: TableStore, column: str) -> None:
    with pytest.raises(ValueError, match="has no column"):
        Tables(store).page(POLICY_METRICS, [column])
    with pytest.raises(ValueError, match="did you mean value"):
        Tables(store).page(POLICY_METRICS, order=["-valeu"])


def test_a_changed_table_shows_at_once(store: TableStore) -> None:
    tables = Tables(store)
    assert tables.page(POLICY_METRICS, ["value"], order=["policy"])["value"].tolist() == [3, 1, 2, 2]
    store.write(metrics([9]), POLICY_METRICS, simulated=False)
    assert tables.page(POLICY_METRICS, ["value"], order=["policy"])["value"].tolist() == [9]
    assert tables.count(POLICY_METRICS) == 1


def test_a_kept_result_cannot_be_spoilt_by_its_reader(store: TableStore) -> None:
    tables = Tables(store)
    tables.page(POLICY_METRICS)["value"] = 0.0
    assert tables.page(POLICY_METRICS)["value"].sum() == 8


def test_histogram_counts_every_value_once(context: Context) -> None:
    closes = context.tables.store.read(KLINES, MARKET)["close"]
    bins = context.tables.histogram(KLINES, "close", (closes.min(), closes.max()), bins=7)
    assert bins["rows"].sum() == len(closes)
    inside = ((closes >= bins["low"][2]) & (closes < bins["high"][2])).sum()
    assert abs(bins["rows"][2] - inside) <= 1  # an edge may be rounded to either side
    assert (bins["low"].iloc[0], bins["high"].iloc[-1]) == pytest.approx((closes.min(), closes.max()))


def test_histogram_of_a_constant_is_one_bin(context: Context) -> None:
    where = [Where("policy", "=", "p0")]
    store = TableStore(str(context.data_root.parent / "constant"))
    store.write(metrics([4]), POLICY_METRICS, simulated=False)
    assert Tables(store).histogram(POLICY_METRICS, "value", (4.0, 4.0), where=where)["rows"].tolist() == [1]


def test_groups_are_counted_by_partition(context: Context) -> None:
    groups = context.tables.groups(
        WINDOW_KLINES, ["partition"], {"n": ("count", "*"), "top": ("max", "high")}
    )
    assert groups["partition"].tolist() == [f"{MARKET[0]}/{REGIME}"]
    assert groups["n"].tolist() == [4000]


def test_joined_candles_keep_extremes_and_volume(context: Context) -> None:
    klines = context.tables.store.read(KLINES, MARKET)
    daily = context.tables.candles(KLINES, MARKET, step=pd.Timedelta(days=1))
    assert daily["bars"].sum() == len(klines)
    assert daily["volume"].sum() == pytest.approx(klines["volume"].sum())
    day = klines[klines["open_time"].dt.floor("D") == daily["open_time"][10]]
    expected = [day["open"].iloc[0], day["high"].max(), day["low"].min(), day["close"].iloc[-1]]
    assert daily.loc[10, ["open", "high", "low", "close"]].tolist() == expected


def test_a_table_that_was_never_built_is_named(store: TableStore) -> None:
    with pytest.raises(MissingTableError, match="klines/BTC_1h has not been built"):
        Tables(store).page(KLINES, partitions=[MARKET])
    assert not Tables(store).exists(KLINES)
    assert Tables(store).count(KLINES) == 0


def test_a_kept_frame_is_read_once_and_all_of_them_stay_within_a_bound() -> None:
    kept, frame, read = KeptFrames(largest=1_000, most=2_000), pd.DataFrame({"a": range(100)}), []

    def get(key: int, part: pd.DataFrame) -> None:
        assert kept.get(key, lambda: read.append(key) or part).equals(part)

    for key in (1, 2, 1, 3, 1, 2):
        get(key, frame)
        assert kept.held_bytes <= 2_000
    assert read == [1, 2, 3, 2]  # 932 bytes each: two fit, and 2 was used longest ago when 3 came
    for _ in range(2):
        get(9, pd.DataFrame({"a": range(1_000)}))
    get(2, frame)
    assert read == [1, 2, 3, 2, 9, 9]  # too large to be kept, and nothing had to go for it


def damage(store: TableStore, how: str) -> Path:
    """A second file beside the one of `store`, or that one itself: it is no table any more."""
    whole = Path(store.path(POLICY_METRICS))
    if how == "copied":
        return Path(shutil.copy(whole, whole.parent / "copy of all.parquet"))
    if how == "foreign":
        pd.DataFrame({"a": [1]}).to_parquet(whole)
    else:
        whole.write_bytes(whole.read_bytes()[: 0 if how == "empty" else 500])
    return whole


@pytest.mark.parametrize("how", ["empty", "cut off", "foreign", "copied"])
def test_a_file_that_is_no_table_is_named_and_never_left_out_unsaid(store: TableStore, how: str) -> None:
    path, tables = damage(store, how), Tables(store)
    partition = () if how != "copied" else ("copy of all",)
    with pytest.raises(DamagedTableError, match=re.escape(str(path))):
        tables.manifest(POLICY_METRICS, partition)
    assert list(tables.damaged(POLICY_METRICS)) == [partition]
    assert partition not in tables.manifests(POLICY_METRICS)
    for ask in (tables.page, tables.count):
        with pytest.raises(DamagedTableError, match=re.escape(str(path))):
            ask(POLICY_METRICS)


def test_the_partitions_beside_a_damaged_one_are_read(store: TableStore) -> None:
    damage(store, "copied")
    assert Tables(store).page(POLICY_METRICS, ["value"], partitions=[()])["value"].sum() == 8


def test_a_body_damaged_behind_its_footer_is_named(store: TableStore) -> None:
    path = Path(store.path(POLICY_METRICS))
    held, footer = path.read_bytes(), pq.ParquetFile(path).metadata.serialized_size + 8
    path.write_bytes(held[:4] + bytes(len(held) - footer - 4) + held[-footer:])
    tables = Tables(store)
    assert tables.manifest(POLICY_METRICS) is not None
    with pytest.raises(DamagedTableError, match=re.escape(str(path))):
        tables.page(POLICY_METRICS)


def test_an_error_that_is_not_the_file_s_stays_what_it_is(store: TableStore) -> None:
    with pytest.raises(duckdb.Error):
        Tables(store).page(POLICY_METRICS, where=[Where("value", "=", "many")])


def test_the_bound_of_what_is_kept_is_one_for_all(store: TableStore) -> None:
    assert Tables(store).kept is Tables(store).kept
