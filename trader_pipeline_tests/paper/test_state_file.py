import json
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trader_pipeline.paper.buffer import replay_file
from trader_pipeline.paper.buffer.replay_buffer import ReplayBuffer, open_read_only
from trader_pipeline.paper.buffer.state import Folding, fold
from trader_pipeline_tests.paper.replay_lines import BOOK, START, numbered, numbered_file, tick, trade
from trader_pipeline_tests.paper.test_state import CALL_START, CALLS, asked, call

LINES = [
    CALL_START.to_line(),
    *numbered_file(6),
    *(r.to_line() for r in (asked(0), asked(1, "SELL_CALL"), call(), tick(2, book=CALLS), asked(3))),
]


@pytest.fixture
def folder(tmp_path):
    with ReplayBuffer.open(tmp_path) as buffer:
        buffer.append(LINES)
        buffer.write_state()
    return tmp_path


@pytest.fixture
def folded(monkeypatch):
    """Lines folded since the fixture was asked for, one by one."""
    lines: list[bytes] = []
    add = Folding.add
    monkeypatch.setattr(Folding, "add", lambda self, line: lines.append(line) or add(self, line))
    return lines


def test_a_start_folds_only_the_lines_after_the_state(folder, folded):
    with ReplayBuffer.open(folder) as buffer:
        assert folded == []
        buffer.append(numbered(6))
    folded.clear()
    with ReplayBuffer.open(folder) as buffer:
        assert folded == numbered(6)
        assert buffer.books == fold([*LINES, *numbered(6)])
    folded.clear()
    assert open_read_only(folder)[0] == buffer.books
    assert folded == numbered(6)


def test_the_state_says_what_a_person_wants_to_know(folder):
    state = json.loads((folder / "state.json").read_text())
    assert state["offset"] == len(b"".join(LINES))
    assert state["books"][BOOK]["closed"] == 2
    assert state["books"][BOOK]["realised_pnl_pct_sum"] == "2.0"
    assert state["books"][BOOK]["open_trade"]["trade_id"] == "t5"
    assert state["books"][CALLS]["last"]["action"] == "DO_NOTHING"


def same_with_and_without(folder) -> None:
    with ReplayBuffer.open(folder) as buffer:
        with_state = dict(buffer.books)
    assert with_state == open_read_only(folder)[0]
    (folder / "state.json").unlink(missing_ok=True)
    with ReplayBuffer.open(folder) as buffer:
        assert dict(buffer.books) == with_state
        assert with_state == fold(buffer.path.read_bytes().splitlines(keepends=True))


def test_deleting_the_state_changes_nothing(folder):
    same_with_and_without(folder)


@given(st.integers(0, len(LINES)), st.integers(0, len(LINES)))
@settings(max_examples=40, deadline=None)
def test_a_state_of_any_moment_leads_to_the_same_books(tmp_path_factory, at, end):
    folder = tmp_path_factory.mktemp("state")
    with ReplayBuffer.open(folder) as buffer:
        buffer.append(LINES[: min(at, end)])
        buffer.write_state()
        buffer.append(LINES[min(at, end) : max(at, end)])
    same_with_and_without(folder)
    shutil.rmtree(folder)


def edited(text: bytes, **changes: object) -> bytes:
    return json.dumps({**json.loads(text), **changes}).encode()


@pytest.mark.parametrize(
    "change",
    [
        lambda text: b"",
        lambda text: text[: len(text) // 2],
        lambda text: b"[]",
        lambda text: b"{}",
        lambda text: b"null",
        lambda text: b"\xff\xfe",
        lambda text: b"[" * 100_000,
        lambda text: text.replace(b'"closed": 2', b'"closed": 9'),
        lambda text: edited(text, offset=0),
        lambda text: edited(text, offset=10**9),
        lambda text: edited(text, offset="0"),
        lambda text: edited(text, books={}),
        lambda text: edited(text, version=0),
    ],
)
def test_a_broken_or_edited_state_is_not_believed(folder, folded, change):
    path = folder / "state.json"
    path.write_bytes(change(path.read_bytes()))
    with ReplayBuffer.open(folder) as buffer:
        assert folded == LINES
        assert buffer.books == fold(LINES)
    same_with_and_without(folder)


def test_a_state_of_another_file_is_not_believed(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    with ReplayBuffer.open(other) as buffer:
        buffer.append(numbered_file(9))
        buffer.write_state()
    shutil.copy(other / "state.json", folder / "state.json")
    same_with_and_without(folder)


def test_a_state_is_not_believed_where_an_earlier_line_was_changed(folder):
    path = folder / "replay.jsonl"
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"pnl_pct": 1.0', b'"pnl_pct": 5.0'))
    assert path.stat().st_size == len(data)
    with ReplayBuffer.open(folder) as buffer:
        assert buffer.books[BOOK].realised_pnl_pct_sum == 10


def test_a_state_newer_than_the_file_is_not_believed(folder):
    path = folder / "replay.jsonl"
    path.write_bytes(b"".join(LINES[:5]))
    with ReplayBuffer.open(folder) as buffer:
        assert buffer.books == fold(LINES[:5])


def test_a_state_that_is_a_folder_is_passed_over(folder):
    (folder / "state.json").unlink()
    (folder / "state.json").mkdir()
    with ReplayBuffer.open(folder) as buffer:
        assert buffer.books == fold(LINES)
        with pytest.raises(OSError, match=r"cannot write the state of the replay buffer: .*state\.json"):
            buffer.write_state()


def test_unfinished_trades_survive_in_the_state(tmp_path):
    with ReplayBuffer.open(tmp_path) as buffer:
        buffer.append([*numbered_file(1), trade().to_line()])
        buffer.write_state()
    with ReplayBuffer.open(tmp_path) as buffer:
        assert buffer.books[BOOK].unfinished == (trade(),)
        assert buffer.books[BOOK].open_trade is None
        buffer.append([tick(1).to_line()])
        assert buffer.books[BOOK].open_trade == trade()


def test_half_written_states_of_a_killed_process_are_cleared_away(folder):
    (folder / ".state.json.abc.tmp").write_bytes(b"{")
    (folder / ".mine.tmp").write_bytes(b"keep")
    ReplayBuffer.open(folder).close()
    assert sorted(p.name for p in folder.iterdir()) == [".lock", ".mine.tmp", "replay.jsonl", "state.json"]


def test_lines_longer_than_a_block_are_read_whole(folder, monkeypatch):
    monkeypatch.setattr(replay_file, "_BLOCK", 7)
    same_with_and_without(folder)


def test_the_same_books_give_the_same_bytes(folder):
    first = (folder / "state.json").read_bytes()
    (folder / "state.json").unlink()
    with ReplayBuffer.open(folder) as buffer:
        assert buffer.write_state().read_bytes() == first
    assert START.book in first.decode()
