import sqlite3
from datetime import UTC, datetime, timedelta, timezone

import pandas as pd
import pytest

from trader_pipeline.agents.observations import SPOT, JsonObservationsStorage, observations_of
from trader_pipeline_tests.agents.scripted import HOUR, START, hourly_candles


@pytest.fixture
def seen():
    return list(observations_of(hourly_candles(10)))


def storage_of(observations, path=":memory:"):
    storage = JsonObservationsStorage(path)
    for observation in observations:
        storage.write(observation)
    return storage


def test_what_is_read_equals_what_was_written(seen):
    read = storage_of(seen).read()
    assert read == seen
    assert [o.timestamp for o in read] == [o.timestamp for o in seen]
    assert [o.states[SPOT] for o in read] == [o.states[SPOT] for o in seen]


def test_an_observation_is_stamped_with_the_close_of_its_candle(seen):
    assert seen[0].timestamp == START + HOUR
    assert seen[0].states[SPOT].open_time.startswith("2024-01-01T00:00")
    assert seen[0].states[SPOT].close_time.startswith("2024-01-01T01:00")


def test_both_bounds_of_a_read_are_included(seen):
    storage = storage_of(seen)
    read = storage.read(start_time=seen[2].timestamp, end_time=seen[5].timestamp)
    assert read == seen[2:6]
    assert storage.read(end_time=seen[3].timestamp) == seen[:4]
    assert storage.read(start_time=seen[8].timestamp) == seen[8:]


def test_the_last_ones_are_those_by_the_given_moment_oldest_first(seen):
    storage = storage_of(seen)
    assert storage.last(3, end_time=seen[6].timestamp) == seen[4:7]
    assert storage.last(99, end_time=seen[1].timestamp) == seen[:2]
    assert storage.last(1, end_time=seen[6].timestamp + timedelta(minutes=59)) == [seen[6]]


def test_moments_of_another_zone_are_compared_in_utc(seen):
    storage = storage_of(seen)
    elsewhere = seen[4].timestamp.astimezone(timezone(timedelta(hours=9)))
    assert storage.read(end_time=elsewhere) == seen[:5]


def test_a_timestamp_is_written_once(seen):
    storage = storage_of(seen)
    with pytest.raises(ValueError, match=r"2024-01-01T03:00.* is held already"):
        storage.write(seen[2])
    assert storage.read() == seen


def test_a_moment_without_a_zone_is_refused(seen):
    with pytest.raises(ValueError, match="no time zone"):
        storage_of(seen).read(end_time=datetime(2024, 1, 1))


def test_the_file_holds_json_text_that_another_storage_reads(seen, tmp_path):
    path = tmp_path / "observations.sqlite"
    storage_of(seen, path).close()
    with sqlite3.connect(path) as database:
        kinds = database.execute("SELECT DISTINCT typeof(observation) FROM observations").fetchall()
        text = database.execute("SELECT observation FROM observations LIMIT 1").fetchone()[0]
    assert kinds == [("text",)]
    assert text.startswith('{"SPOT": {"open": ')
    with JsonObservationsStorage(path) as again:
        assert again.read() == seen


def test_order_is_that_of_time_where_seconds_have_fractions():
    candles = hourly_candles(2)
    candles["close_time"] = [START + pd.Timedelta("1s"), START + pd.Timedelta("1.5s")]
    seen = list(observations_of(candles))
    assert storage_of(seen[::-1]).last(1, end_time=datetime(2025, 1, 1, tzinfo=UTC)) == seen[1:]


def test_candles_without_a_column_are_refused_by_its_name():
    with pytest.raises(ValueError, match="lack the columns volume"):
        list(observations_of(hourly_candles(2).drop(columns="volume")))
