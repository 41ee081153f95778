"""100,000 changed replay lines: no traceback, no wrong label, and each line either used or refused by its number."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trader_pipeline.corpora.trade_reviews import ReviewParams, TradeReviews, review_trades
from trader_pipeline.paper.reading.percent import PnlUnit
from trader_pipeline.paper.reading.replay_reader import ReplayFile, read_replay
from trader_pipeline.paper.verdicts.evaluator import Evaluations, EvaluatorParams, evaluate_trades
from trader_pipeline_tests.paper.replay_mutations import (
    ACCEPT,
    BLANK,
    MUTATIONS,
    REFUSE,
    SKIP,
    Line,
    lines_of,
)
from trader_pipeline_tests.paper.replay_oracle import Meaning, label_of, meaning_of
from trader_pipeline_tests.paper.replay_trades import dump, trade

LINES, BATCHES = 400, 260
_SYMBOL = re.compile(r"X\d+USDT|BTC-\d+-C")


def check(lines: list[Line], path: Path, unit: PnlUnit = "auto") -> None:
    """Hold the reader, the evaluator and the converter against the oracle on one file."""
    path.write_bytes(b"".join(line.raw + b"\n" for line in lines))
    file = read_replay(path, pnl_unit=unit)
    told = dict(check_lines(lines, file, unit))
    assert [t.trade_id for t in file.trades] == list(told)
    for one in file.trades:
        meaning = told[one.trade_id]
        assert (one.status, one.symbol, one.direction) == (
            meaning.status, meaning.symbol, meaning.direction,
        )  # fmt: skip
        assert same_figure(one.pnl_pct, meaning), (one, meaning)
    evaluations = evaluate_trades(file.trades, params=EvaluatorParams())
    check_labels(told, evaluations)
    judged = {key: m for key, m in told.items() if m.status == "CLOSED"}
    check_reviews(judged, review_trades(file.trades, evaluations, params=ReviewParams(balance="none")))


def check_lines(lines: list[Line], file: ReplayFile, unit: PnlUnit) -> Iterator[tuple[str, Meaning]]:
    """Every line is used, passed over or refused, each as it must be; what the used ones say, trade by trade."""
    refused = {r.line: r.why for r in file.refused}
    assert len(refused) == len(file.refused), "a line refused twice"
    assert all(why and why.isprintable() for why in refused.values())
    assert file.lines_read == sum(line.expect != BLANK for line in lines)
    assert file.skipped == sum(line.expect == SKIP for line in lines)
    folded: dict[str, Meaning] = {}
    for number, line in enumerate(lines, start=1):
        shown = f"line {number} ({line.kind}): {line.raw[:400]!r}: {refused.get(number)}"
        if number in refused:
            assert line.expect not in (ACCEPT, SKIP, BLANK), shown
            continue
        assert line.expect != REFUSE, f"accepted: {shown}"
        if line.expect not in (SKIP, BLANK):
            meaning = meaning_of(line.raw, folded, pnl_unit=unit)
            check_follows(folded.get(meaning.trade_id), meaning, shown)
            folded[meaning.trade_id] = meaning
    yield from folded.items()


def check_follows(before: Meaning | None, now: Meaning, shown: str) -> None:
    """A trade's second line closes it, and is of the same trade."""
    if before is not None:
        assert (before.status, now.status) == ("OPEN", "CLOSED"), shown
        same = [(m.symbol, m.direction, m.entry_price) for m in (before, now)]
        assert same[0] == same[1], shown


def same_figure(pnl_pct: object, meaning: Meaning) -> bool:
    """To the last digit where it is written, to 50 digits where it is computed."""
    if meaning.pnl_pct is None or pnl_pct is None:
        return meaning.pnl_pct is pnl_pct
    off = abs(Fraction(str(pnl_pct)) - meaning.pnl_pct)
    return off == 0 if meaning.fields.get("pnl_pct") is not None else off <= abs(meaning.pnl_pct) / 10**50


def check_labels(told: dict[str, Meaning], evaluations: Evaluations) -> None:
    closed = {key: m for key, m in told.items() if m.status == "CLOSED"}
    assert {row.trade_id: row.label for row in evaluations.rows} == {
        key: label_of(m.pnl_pct) for key, m in closed.items() if m.pnl_pct is not None
    }
    assert {t.trade_id for t in evaluations.open_trades} == set(told) - set(closed)
    assert evaluations.to_json(source={"name": "x"}).endswith(b"}\n")
    for row in evaluations.rows:
        words = re.split(r"[^a-z0-9.+-]+", f"{row.analysis} {row.improvement}".lower())
        assert not {"nan", "inf", "-inf", "+inf", "infinity", "-0.00", "none", "nat"} & set(words), row


def check_reviews(judged: dict[str, Meaning], reviews: TradeReviews) -> None:
    """Each closed trade is a record, passed over or a duplicate; a record's last line is the label of its trade."""
    left_out = [*(trade_id for trade_id, _ in reviews.passed_over), *reviews.duplicates]
    assert len(reviews.records) + len(left_out) == len(judged)
    assert set(left_out) <= set(judged)
    labels = {m.symbol: label_of(m.pnl_pct) for m in judged.values() if m.pnl_pct is not None}
    for user, assistant in zip(reviews.records["user"], reviews.records["assistant"], strict=True):
        (symbol,) = set(_SYMBOL.findall(user))
        assert assistant.rsplit("\n", maxsplit=1)[-1] == labels[symbol], (user, assistant)


@pytest.mark.slow
@settings(
    max_examples=BATCHES, derandomize=True, database=None, deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(
    seed=st.integers(0, 2**32 - 1),
    kinds=st.lists(st.sampled_from(sorted(MUTATIONS)), min_size=1, max_size=12),
    unit=st.sampled_from(["auto", "auto", "auto", "percent", "fraction"]),
)
def test_a_hundred_thousand_changed_lines(tmp_path: Path, seed: int, kinds: list[str], unit: PnlUnit) -> None:
    check(lines_of(random.Random(seed), kinds, LINES), tmp_path / "replay.jsonl", unit)


@pytest.mark.parametrize("kind", sorted(MUTATIONS))
def test_lines_changed_in_one_way(tmp_path: Path, kind: str) -> None:
    check(lines_of(random.Random(7), [kind, "whole"], 60), tmp_path / "replay.jsonl")


def test_a_line_of_ten_megabytes_is_refused_by_its_number_or_used(tmp_path: Path) -> None:
    whole, broken = (trade(random.Random(n), n, plain=True) for n in (1001, 1002))
    long = "x" * 10_000_000
    lines = [
        Line(dump(whole | {"note": long}), ACCEPT, "10 MB of an unknown field"),
        Line(dump(broken)[:-1] + long.encode(), REFUSE, "10 MB of no JSON"),
        *lines_of(random.Random(3), ["whole"], 3),
    ]
    check(lines, tmp_path / "replay.jsonl")
    assert max(len(r.why) for r in read_replay(tmp_path / "replay.jsonl").refused) < 300


@pytest.mark.parametrize(
    ("before", "between", "after"),
    [
        (b"\xef\xbb\xbf", b"\n", b"\n"),
        (b"", b"\r\n", b"\r\n"),
        (b"", b"\n", b""),
        (b"\n\n", b"\n \n", b"\n\t"),
    ],
    ids=["byte order mark", "CRLF", "no last newline", "blank lines"],
)
def test_what_editors_do_to_a_whole_file_changes_no_trade(
    tmp_path: Path, before: bytes, between: bytes, after: bytes
) -> None:
    raw = [line.raw for line in lines_of(random.Random(5), ["whole", "open_and_closed"], 40)]
    trades = []
    for name, data in (("a", b"\n".join(raw) + b"\n"), ("b", before + between.join(raw) + after)):
        (tmp_path / name).write_bytes(data)
        read = read_replay(tmp_path / name)
        assert read.refused == ()
        trades.append(read.trades)
    assert trades[0] == trades[1]


def test_an_empty_file_holds_nothing(tmp_path: Path) -> None:
    check([], tmp_path / "replay.jsonl")
