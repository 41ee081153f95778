"""A decision on recorded quotes: the quotes it saw, the recordings they lie in, the volatility index beside candles."""

import pandas as pd
import pytest

from trader_pipeline.options.recordings import folder_sha256
from trader_pipeline.schema import tables as t
from trader_pipeline_tests.lineage.store_factory import (
    CALLS,
    FINE,
    MOMENT,
    OWN,
    SETTINGS,
    Writer,
    frame_of,
    write_backtest,
)
from trader_pipeline_tests.lineage.test_tree import find, states, trace

QUOTED = MOMENT - pd.Timedelta(minutes=2)
DAYS = ("2021-03-14", "2021-03-15", "2021-03-16")


def quotes() -> pd.DataFrame:
    """Both calls two hours before, two minutes before and a minute after the decision."""
    times = (MOMENT - pd.Timedelta(hours=2), QUOTED, MOMENT + pd.Timedelta(minutes=1))
    return frame_of(
        t.OPTION_QUOTES,
        [
            {"quote_time": time, "underlying": "BTC", "instrument": call, "option_type": "call", "iv": iv}
            for time, iv in zip(times, (0.7, 0.8, 0.9), strict=True)
            for call in CALLS
        ],
    )


@pytest.fixture
def recorded(base, store):
    """The folder, with quotes recorded on three days and a chain made from them."""
    sources = {}
    for day in DAYS:
        folder = base / "data" / "options" / "recordings" / "quotes" / "BTC" / day
        folder.mkdir(parents=True)
        (folder / "a.parquet").write_text(f"what was recorded on {day}")
        sources[f"recordings/quotes/BTC/{day}"] = folder_sha256([folder / "a.parquet"])
    writer = Writer(store)
    writer.put_from_file(t.OPTION_QUOTES, quotes(), (), **sources)
    writer.put(t.WINDOW_QUOTES, quotes(), OWN, of=((t.OPTION_QUOTES, ()),), options=SETTINGS["options"])
    write_backtest(writer, OWN, FINE)
    return base


def test_last_quote_before_the_decision_is_shown_and_none_after_it(recorded):
    rows = find(trace(recorded, "preference_corpus_train.jsonl"), "window_quotes").rows
    assert [(row["instrument"], row["quote_time"], row["iv"]) for row in rows] == [
        (call, QUOTED.isoformat(), 0.8) for call in CALLS
    ]


def test_recording_of_the_day_is_checked_and_other_days_are_counted(recorded):
    tree = trace(recorded)
    assert find(tree, "file recordings").name == "file recordings/quotes/BTC/2021-03-14"
    assert find(tree, "file recordings").state == "current"
    assert find(tree, "2 more recorded days").note == "(not used here)"
    (recorded / "data" / "options" / "recordings" / "quotes" / "BTC" / DAYS[0] / "b.parquet").write_text(
        "more"
    )
    assert find(trace(recorded), "file recordings").state == "changed since"
    (recorded / "data" / "options" / "recordings" / "quotes" / "BTC" / DAYS[0]).rename(recorded / "gone")
    assert find(trace(recorded), "file recordings").state == "missing"


def test_quotes_added_after_the_window_change_nothing_and_those_in_it_do(recorded, store):
    later = quotes().assign(quote_time=MOMENT + pd.Timedelta(days=90))
    Writer(store).put(t.OPTION_QUOTES, pd.concat([quotes(), later.iloc[:1]]))
    node = find(trace(recorded), "option_quotes")
    assert (node.state, "not the part of this window" in node.note) == ("current", True)
    within = quotes().iloc[:1].assign(quote_time=QUOTED - pd.Timedelta(hours=1))
    Writer(store).put(t.OPTION_QUOTES, pd.concat([quotes(), within]))
    assert find(trace(recorded), "option_quotes").state == "changed since"


def test_quotes_recorded_since_do_not_matter_to_a_modelled_chain(base, store):
    Writer(store).put(t.OPTION_QUOTES, quotes())
    node = find(trace(base), "option_quotes")
    assert (node.state, node.note) == ("current", "(changed since, but no quote of it was used)")


def index(first: pd.Timestamp, hours: int, level: float = 0.6) -> pd.DataFrame:
    opens = pd.date_range(first, periods=hours, freq="1h")
    rows = [
        {"underlying": "BTC", "open_time": o, "close_time": o + pd.Timedelta(hours=1), "iv_close": level}
        for o in opens
    ]
    return frame_of(t.VOLATILITY_INDEX, rows)


@pytest.fixture
def with_index(base, store):
    """The folder, with an index known for two days before the decision."""
    known = index(MOMENT - pd.Timedelta(days=2), 48)
    writer = Writer(store)
    writer.put(t.VOLATILITY_INDEX, known)
    beside = dict(zip(known["close_time"], known["iv_close"], strict=True))
    for partition in (OWN, FINE):
        cut = store.read(t.WINDOW_KLINES, partition)
        cut["volatility_index"] = cut["close_time"].map(beside).astype(float)
        of = ((t.KLINES, (partition[0],)), (t.VOLATILITY_INDEX, ()))
        writer.put(t.WINDOW_KLINES, cut, partition, of=of, windows="3" * 16)
    return base


def test_level_with_an_index_rests_on_the_days_it_is_bridged_over_too(with_index):
    (volatility,) = (
        r for r in find(trace(with_index), "window_klines/BTC_1h").rows if r["used for"] == "volatility"
    )
    assert volatility["candles"] == (30 + 14) * 24 + 1


def test_index_hours_outside_the_window_change_nothing_and_those_in_it_do(with_index, store):
    held = index(MOMENT - pd.Timedelta(days=2), 48)
    Writer(store).put(t.VOLATILITY_INDEX, pd.concat([held, index(MOMENT + pd.Timedelta(days=100), 5)]))
    assert find(trace(with_index), "volatility_index").state == "current"
    Writer(store).put(t.VOLATILITY_INDEX, pd.concat([held, index(MOMENT + pd.Timedelta(days=1), 5)]))
    tree = trace(with_index)
    assert find(tree, "volatility_index").state == "changed since"
    assert "volatility_index" in states(tree)
