import json

import pandas as pd
import pytest

from trader_pipeline.paper import PaperParams, read_replay, replay_paper_trades, write_replay
from trader_pipeline.schema import SchemaError
from trader_pipeline_tests.datasets.frames import DAY
from trader_pipeline_tests.paper.trades import KLINES, MARKET, closed_trade, sequential_result

TRADES = replay_paper_trades(
    sequential_result(), KLINES, market=MARKET, model_id="teacher", source_hash="ab12", params=PaperParams()
)


def test_trades_come_back_exactly_and_in_the_order_of_their_exits(tmp_path):
    path = write_replay(TRADES[::-1], tmp_path / "paper" / "replay.jsonl")
    back = read_replay(path)
    pd.testing.assert_frame_equal(back, TRADES, check_dtype=False, check_exact=True)
    assert back["timestamp"].is_monotonic_increasing


def test_each_line_is_one_record_with_sorted_keys(tmp_path):
    lines = write_replay(TRADES, tmp_path / "replay.jsonl").read_text().splitlines()
    assert len(lines) == len(TRADES)
    for line in lines:
        record = json.loads(line)
        assert list(record) == sorted(record)
        assert record["entry_ts"].endswith("+00:00")


def test_same_trades_give_the_same_bytes(tmp_path):
    first = write_replay(TRADES, tmp_path / "a.jsonl").read_bytes()
    assert write_replay(read_replay(tmp_path / "a.jsonl"), tmp_path / "b.jsonl").read_bytes() == first


def test_a_rewrite_replaces_the_file_and_a_refused_one_leaves_it(tmp_path):
    path = write_replay(TRADES, tmp_path / "replay.jsonl")
    before = path.read_bytes()
    with pytest.raises(SchemaError, match="column size"):
        write_replay(TRADES.assign(size=-1.0), path)
    assert path.read_bytes() == before
    write_replay(TRADES[:1], path)
    assert len(read_replay(path)) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["replay.jsonl"]


def test_an_empty_buffer_reads_as_an_empty_table(tmp_path):
    assert read_replay(write_replay(TRADES[:0], tmp_path / "replay.jsonl")).empty


def good_line(**changes: object) -> str:
    trade = closed_trade(**changes)
    return json.dumps({k: v.isoformat() if isinstance(v, pd.Timestamp) else v for k, v in trade.items()})


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{oops", "not a JSON object"),
        ("[1, 2]", "not list"),
        ("{}", "missing fields"),
        (good_line(extra=1), r"unknown fields \['extra'\]"),
        (good_line(size="1"), "field size: '1' is not a float64"),
        (good_line(size=True), "field size: True is not a float64"),
        (good_line(symbol=5), "field symbol: 5 is not a string"),
        (good_line(entry_ts="yesterday"), "'yesterday' is not an ISO 8601 time"),
        (good_line(entry_ts="2024-01-01T00:00:00"), "has no zone"),
        (good_line(size=-1.0), "column size: .* violates '> 0'"),
        (good_line(pnl_pct=float("nan")), "column pnl_pct: .* violates 'not null'"),
        (good_line(pnl_pct=float("inf")), "column pnl_pct: .* violates 'finite'"),
        (good_line(status="MAYBE"), r"violates 'OPEN \| CLOSED'"),
        (good_line(), "trade_id '00ff' occurs a second time"),
    ],
)
def test_a_bad_line_is_named_by_file_and_line(tmp_path, line, message):
    path = tmp_path / "replay.jsonl"
    path.write_text(f"{good_line()}\n\n{line}\n")
    with pytest.raises(SchemaError, match=message) as caught:
        read_replay(path)
    assert str(caught.value).startswith(f"{path}:3: ")


def test_a_line_that_is_not_utf8_is_named(tmp_path):
    path = tmp_path / "replay.jsonl"
    path.write_bytes(good_line().encode() + b"\n\xff\xfe{}\n")
    with pytest.raises(SchemaError, match=r"replay\.jsonl:2: not a JSON object"):
        read_replay(path)


def test_times_of_another_zone_are_read_as_utc(tmp_path):
    path = tmp_path / "replay.jsonl"
    path.write_text(good_line(entry_ts="2024-02-01T02:00:00+02:00", exit_ts="2024-02-10T00:00:00Z"))
    assert read_replay(path)["entry_ts"][0] == pd.Timestamp("2024-01-01", tz="UTC") + 31 * DAY
