"""The status of a folder: one row says one thing, and no line of the record is passed over in silence."""

import json
from decimal import Decimal

import pandas as pd
import pytest

from trader_pipeline.paper.buffer.lines import ReplayError
from trader_pipeline.paper.ticking.status import BookStatus, book_trades, folder_status
from trader_pipeline.paper.verdicts.evaluator import EvaluatorParams
from trader_pipeline_tests.paper.replay_lines import numbered_file

NOW = pd.Timestamp("2024-01-02", tz="UTC")


def write(folder, lines: list[bytes]) -> None:
    (folder / "replay.jsonl").write_bytes(b"".join(lines))


def status_of(folder) -> BookStatus:
    (book,) = folder_status(folder, now=NOW, evaluator=EvaluatorParams()).books
    return book


def closes(lines: list[bytes]) -> list[int]:
    return [n for n, line in enumerate(lines) if json.loads(line).get("status") == "CLOSED"]


def test_a_close_whose_tick_is_not_written_counts_nowhere(tmp_path):
    lines = numbered_file(8)
    at = closes(lines)[2]
    write(tmp_path, lines[: at + 1])
    book, trades = status_of(tmp_path), book_trades(tmp_path)
    assert (book.closed, sum(book.verdicts.values()), book.total_pnl_pct) == (2, 2, 2.0)
    assert book.open_trade is not None
    assert [t.status for t in trades] == ["CLOSED", "CLOSED", "OPEN"]


def test_a_finished_file_counts_all_and_a_line_that_is_being_written_counts_nowhere(tmp_path):
    lines = numbered_file(8)
    write(tmp_path, [*lines, lines[-1][:-20]])
    book = status_of(tmp_path)
    assert book.closed == sum(book.verdicts.values()) == len(closes(lines))
    assert len(book_trades(tmp_path)) == book.closed + 1


def test_a_close_whose_profit_was_changed_is_an_error_that_names_its_line(tmp_path):
    lines = numbered_file(8)
    at = closes(lines)[0]
    row = json.loads(lines[at])
    assert Decimal(str(row["pnl_pct"])) == 1
    lines[at] = json.dumps({**row, "pnl_pct": 99.0}, sort_keys=True).encode() + b"\n"
    write(tmp_path, lines)
    for read in (status_of, book_trades):
        with pytest.raises(ReplayError, match=rf"replay.jsonl:{at + 1}: pnl_pct is 99 %, .* come to 1 %"):
            read(tmp_path)
