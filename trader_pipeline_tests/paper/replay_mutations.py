"""Replay lines that are whole, odd or broken, each with what a reader may make of it.

Belongs here: making lines. Whole trades are `replay_trades`; what lines mean is worked out in `replay_oracle`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Context, Decimal
from typing import Any

from trader_pipeline_tests.paper.replay_trades import EDGES, START, Fields, Raw, dump, json_of, opened, trade

ACCEPT, REFUSE, EITHER, SKIP, BLANK = "accept", "refuse", "either", "skip", "blank"
_ALL_DIGITS = Context(prec=200)
REQUIRED = ("trade_id", "symbol", "direction", "entry_price", "entry_ts", "status")
OPTIONAL = (
    "timestamp", "size", "fee", "reasoning", "model_id", "source_hash", "market", "book", "decision_context", "path",
    "exit_reason", "exit_style", "regime", "covered_return_pct",
)  # fmt: skip


@dataclass(frozen=True)
class Line:
    """A line without its newline, what a reader must do with it, and what was done to it."""

    raw: bytes
    expect: str
    kind: str


def lines_of(rng: random.Random, kinds: list[str], count: int) -> list[Line]:
    """At least `count` lines: trades changed in the ways that `kinds` names, in random order."""
    made: list[Line] = []
    number = 0
    while len(made) < count:
        kind = rng.choice(kinds)
        made += MUTATIONS[kind](rng, number)
        number += 1
    return made


def _one(fields: Fields, expect: str, kind: str) -> list[Line]:
    return [Line(dump(fields), expect, kind)]


def _whole(rng: random.Random, number: int) -> list[Line]:
    return _one(trade(rng, number), ACCEPT, "whole")


def _open_and_closed(rng: random.Random, number: int) -> list[Line]:
    fields = trade(rng, number)
    return [
        Line(dump(opened(fields)), ACCEPT, "opened"),
        *_events(rng, number),
        Line(dump(fields), ACCEPT, "then closed"),
    ]


def _events(rng: random.Random, number: int) -> list[Line]:
    """START and TICK lines, which are the book's own."""
    moment = (START + timedelta(minutes=5 * number)).isoformat()
    tick = {
        "event": "TICK", "book": "BTC_5m/spot", "candle": moment, "close_time": moment, "action": "HOLD",
        "symbol": None, "reasoning": "", "model_id": "trend", "context": None, "source_hash": "cd" * 32,
    }  # fmt: skip
    start = {
        "event": "START", "book": "BTC_5m/spot", "market": "BTC_5m", "desk": "spot", "first_candle": moment,
        "frame_from": moment, "settings": {}, "simulated": True,
    }  # fmt: skip
    return [Line(dump(rng.choice([tick, start])), SKIP, "event")]


def _blank(rng: random.Random, number: int) -> list[Line]:
    return [Line(rng.choice([b"", b" ", b"\t", b"\r", b"  \r"]), BLANK, "blank")]


def _byte_flip(rng: random.Random, number: int) -> list[Line]:
    raw = bytearray(dump(trade(rng, number)))
    for _ in range(rng.randint(1, 3)):
        raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    return [Line(bytes(raw).replace(b"\n", b" "), EITHER, "byte flip")]


def _cut(rng: random.Random, number: int) -> list[Line]:
    raw = dump(trade(rng, number))
    return [Line(raw[: rng.randrange(1, len(raw))], REFUSE, "cut")]


def _glued(rng: random.Random, number: int) -> list[Line]:
    first, second = dump(trade(rng, number)), dump(trade(rng, number))
    return [Line(first + rng.choice([b"", b" ", b","]) + second, REFUSE, "two in a line")]


_ODD: tuple[Any, ...] = (
    None, True, False, "", " ", "x", [], {}, [1], {"a": 1}, 0, -1, Raw("1e999"), Raw("NaN"), Raw("-Infinity"),
    Raw("1e400"), Raw("9" * 400), "NaN", "Infinity", "nan", "0x10", "1_0", "1,5", "１５", "٣", "+5", "1e999", "1e-999",
    "\u0000", "1" * 5000, Raw("-1e-999999999"), Raw("1e99999999999999999999"), Raw("[" * 40 + "]" * 40),
)  # fmt: skip


def _other_type(rng: random.Random, number: int) -> list[Line]:
    fields = trade(rng, number)
    return _one(fields | {rng.choice(list(fields)): rng.choice(_ODD)}, EITHER, "other type")


def _not_a_number(rng: random.Random, number: int) -> list[Line]:
    name = rng.choice(["pnl_pct", "entry_price", "exit_price"])
    odd = rng.choice(
        [Raw("NaN"), Raw("Infinity"), Raw("-Infinity"), Raw("1e999"), True, False, [], {}, "", "x", "NaN"]
    )
    return _one(trade(rng, number) | {name: odd}, REFUSE, f"{name} is {odd!r}")


def _edge(rng: random.Random, number: int) -> list[Line]:
    return _one(trade(rng, number, pnl=rng.choice(EDGES)), ACCEPT, "edge")


def _fraction(rng: random.Random, number: int) -> list[Line]:
    """A fraction where percent are meant: said by the record, or to be told from the prices."""
    fields = trade(rng, number)
    value = _ALL_DIGITS.scaleb(Decimal(str(fields["pnl_pct"])), -2)
    fields["pnl_pct"] = Raw(f"{value:f}")
    if rng.random() < 0.6:
        return _one(fields | {"pnl_unit": "fraction"}, ACCEPT, "fraction, said")
    return _one(fields, EITHER, "fraction, not said")


def _percent_said(rng: random.Random, number: int) -> list[Line]:
    return _one(trade(rng, number) | {"pnl_unit": "percent"}, ACCEPT, "percent, said")


def _unit_unknown(rng: random.Random, number: int) -> list[Line]:
    unit = rng.choice(["bps", "", None, 1, "Percent", "PERCENT", "pct", ["percent"]])
    return _one(trade(rng, number) | {"pnl_unit": unit}, EITHER, "unit unknown")


def _text_figure(rng: random.Random, number: int) -> list[Line]:
    fields = trade(rng, number)
    text = str(fields["pnl_pct"])
    way, expect = rng.choice(
        [("{}%", ACCEPT), ("{} %", EITHER), (" {}", EITHER), ("{} ", EITHER), ("{}", EITHER), ("{}%%", REFUSE),
         ("{}％", EITHER), ("+{}%", EITHER), ("{}\u00a0%", EITHER), ("%{}", REFUSE), ("{}pct", REFUSE)]
    )  # fmt: skip
    return _one(fields | {"pnl_pct": way.format(text)}, expect, f"text {way}")


def _other_digits(rng: random.Random, number: int) -> list[Line]:
    text = rng.choice(["１５", "٠.١٥", "१५", "1５", "１５%", "𝟏𝟓", "²", "Ⅷ", "−15", "‒3%"])
    return _one(trade(rng, number) | {"pnl_pct": text}, EITHER, "other digits")


def _contradicts_prices(rng: random.Random, number: int) -> list[Line]:
    fields = trade(rng, number)
    return _one(fields | {"pnl_pct": Raw(rng.choice(EDGES))}, EITHER, "other P&L than the prices say")


def _no_pnl(rng: random.Random, number: int) -> list[Line]:
    """The prices must do; where they cannot, the line is refused."""
    fields = trade(rng, number, pnl=f"{rng.uniform(-30, 30):.4f}")
    fields.pop("pnl_pct")
    return _one(fields, REFUSE if fields["direction"] == "SHORT_CALL" else ACCEPT, "no P&L")


def _no_exit_price(rng: random.Random, number: int) -> list[Line]:
    fields = trade(rng, number)
    fields.pop("exit_price")
    return _one(fields, ACCEPT, "no exit price")


def _key_twice(rng: random.Random, number: int) -> list[Line]:
    raw = dump(trade(rng, number))
    again = rng.choice([b'"pnl_pct": 1', b'"status": "CLOSED"', b'"trade_id": "x"', b'"pnl\\u005fpct": 99'])
    return [Line(raw[:-1] + b", " + again + b"}", REFUSE, "key twice")]


def _nested_key_twice(rng: random.Random, number: int) -> list[Line]:
    return _one(trade(rng, number) | {"extra": Raw('{"a": 1, "a": 2}')}, EITHER, "nested key twice")


def _deep(rng: random.Random, number: int) -> list[Line]:
    depth = rng.choice([900, 5_000, 100_000])
    opening, closing = rng.choice([("[", "]"), ('{"a":', "}")])
    inner = "1" if opening != "[" else ""
    name = rng.choice(["extra", "decision_context", "path"])
    nested = Raw(opening * depth + inner + closing * depth)
    return _one(trade(rng, number) | {name: nested}, REFUSE if depth > 2000 else EITHER, f"depth {depth}")


def _huge_int(rng: random.Random, number: int) -> list[Line]:
    name = rng.choice(["pnl_pct", "entry_price", "exit_price", "size", "fee", "extra"])
    huge = Raw("9" * rng.choice([20, 310, 5000]))
    return _one(trade(rng, number) | {name: huge}, EITHER, "huge integer")


def _marks(rng: random.Random, number: int) -> list[Line]:
    """Bytes that editors and other systems leave."""
    raw = dump(trade(rng, number))
    way: tuple[bytes, str, str] = rng.choice(
        [(raw + b"\r", ACCEPT, "CRLF"), (b"  " + raw + b"\t", ACCEPT, "blanks"), (b"\xef\xbb\xbf" + raw, EITHER, "BOM"),
         (raw.replace(b'"LONG"', b'"LONG\x00"').replace(b"{", b"{\x00", 1), REFUSE, "NUL"),
         (raw + b"\x00", REFUSE, "NUL"),
         (raw.decode().encode("utf-16"), REFUSE, "UTF-16"), (b"\xff" + raw, REFUSE, "not UTF-8")]
    )  # fmt: skip
    return [Line(way[0].replace(b"\n", b" "), way[1], way[2])]


def _surrogate(rng: random.Random, number: int) -> list[Line]:
    name = rng.choice(["symbol", "reasoning", "trade_id", "model_id", "extra"])
    odd = rng.choice([Raw('"a\\ud800b"'), Raw('"\\udfff"'), "a\ud800b"])
    return _one(trade(rng, number) | {name: odd}, REFUSE, "lone surrogate")


def _control_text(rng: random.Random, number: int) -> list[Line]:
    name = rng.choice(["symbol", "trade_id", "reasoning", "model_id", "exit_reason", "market"])
    odd = rng.choice(["\u0000", "a\nb", "\u2028x", "\x1b[31m", "", " ", "x" * 3000, "a\tb", "\u202e"])
    return _one(trade(rng, number) | {name: odd}, EITHER, "odd text")


_TIMES: tuple[tuple[Any, str], ...] = (
    ("2024-01-01T00:00:00", REFUSE), ("2024-01-01", REFUSE), ("not a time", REFUSE), ("", REFUSE), (None, REFUSE),
    ("9999-12-31T23:59:59+00:00", EITHER), ("0001-01-01T00:00:00Z", EITHER), ("2024-13-01T00:00:00Z", REFUSE),
    ("2024-02-30T00:00:00Z", REFUSE), (1_704_067_200, EITHER), (1_704_067_200_000, EITHER),
    (Raw("1704067200.5"), EITHER),
    (1_704_067_200_000_000_000, EITHER), (-1, EITHER), (0, EITHER), (Raw("1e300"), REFUSE), (Raw("1e999"), REFUSE),
    (True, REFUSE), ("NaT", REFUSE), ("now", REFUSE), ("today", REFUSE), ("2024-01-01T00:00:00+25:00", REFUSE),
    ("2024-01-01T00:00:00 Europe/Berlin", EITHER), ("2024-W01-1T00:00:00Z", EITHER), ("20240101T000000Z", EITHER),
    ("1704067200", EITHER), ([], REFUSE), ({}, REFUSE), (Raw("NaN"), REFUSE), ("2024-01-01T24:00:00Z", EITHER),
    ("2024-01-01T00:00:60Z", EITHER), ("２０２４-01-01T00:00:00Z", EITHER), (10**30, REFUSE),
)  # fmt: skip


def _odd_time(rng: random.Random, number: int) -> list[Line]:
    name = rng.choice(["entry_ts", "exit_ts"])
    value, expect = rng.choice(_TIMES)
    return _one(trade(rng, number) | {name: value}, expect, f"{name} is {value!r}")


def _epoch(rng: random.Random, number: int) -> list[Line]:
    scale = rng.choice([1, 1000])
    fields = trade(rng, number)
    times = {n: int(datetime.fromisoformat(fields[n]).timestamp()) * scale for n in ("entry_ts", "exit_ts")}
    return _one(fields | times, ACCEPT, f"epoch x {scale}")


def _exit_before_entry(rng: random.Random, number: int) -> list[Line]:
    fields = trade(rng, number)
    return _one(
        fields | {"exit_ts": fields["entry_ts"], "entry_ts": fields["exit_ts"]}, EITHER, "exit before entry"
    )


def _unknown_fields(rng: random.Random, number: int) -> list[Line]:
    extra = {
        f"extra_{i}": rng.choice([1, "x", None, True, {"a": [1]}, Raw("1.5e3")])
        for i in range(rng.randint(1, 4))
    }
    fields = list((trade(rng, number) | extra).items())
    rng.shuffle(fields)
    return _one(dict(fields), ACCEPT, "unknown fields, any order")


def _lacks_required(rng: random.Random, number: int) -> list[Line]:
    fields = trade(rng, number)
    name = rng.choice([*REQUIRED, "exit_ts"])
    fields.pop(name)
    return _one(fields, REFUSE, f"no {name}")


def _lacks_optional(rng: random.Random, number: int) -> list[Line]:
    fields = trade(rng, number, plain=False)
    for name in rng.sample(OPTIONAL, rng.randint(1, 8)):
        fields.pop(name, None)
    return _one(fields, ACCEPT, "without optional fields")


_SIDES = (
    ("long", ACCEPT), ("Long", ACCEPT), ("buy", ACCEPT), ("BUY", ACCEPT), ("sell", ACCEPT), ("Short", ACCEPT),
    ("short_call", ACCEPT), (" LONG", EITHER), ("HOLD", REFUSE), ("", REFUSE), ("LONGS", REFUSE), ("ＬＯＮＧ", EITHER),
    ("SHORT CALL", EITHER), ("ſhort", EITHER),
)  # fmt: skip


def _side(rng: random.Random, number: int) -> list[Line]:
    """Another way to write the direction; without an exit price, so that prices cannot contradict it."""
    fields = trade(rng, number)
    fields.pop("exit_price")
    text, expect = rng.choice(_SIDES)
    return _one(fields | {"direction": text}, expect, f"direction {text!r}")


def _status(rng: random.Random, number: int) -> list[Line]:
    text = rng.choice(["closed", "Open", "DONE", "", None, 1, "FAILED", "CLOSED "])
    return _one(trade(rng, number) | {"status": text}, EITHER, f"status {text!r}")


def _said_twice(rng: random.Random, number: int) -> list[Line]:
    """Whatever comes after CLOSED is refused, and so is a second OPEN."""
    fields = trade(rng, number)
    way = rng.choice(["closed closed", "closed open", "open open", "open closed closed"])
    raw = {"open": dump(opened(fields)), "closed": dump(fields)}
    told = way.split()
    first = 2 if told[:2] == ["open", "closed"] else 1
    return [Line(raw[w], ACCEPT if i < first else REFUSE, way) for i, w in enumerate(told)]


def _contradicted(rng: random.Random, number: int) -> list[Line]:
    """A CLOSED that is not of the trade that was opened."""
    fields = trade(rng, number)
    fields.pop("exit_price")
    other = {"symbol": "OTHER", "entry_price": Raw("0.0126"), "entry_ts": "2023-05-05T00:00:00+00:00"}
    other["direction"] = "SHORT" if fields["direction"] == "LONG" else "LONG"
    name = rng.choice(list(other))
    return [
        Line(dump(opened(fields)), ACCEPT, "opened"),
        Line(dump(fields | {name: other[name]}), REFUSE, f"closed with another {name}"),
    ]


def _same_price_in_other_words(rng: random.Random, number: int) -> list[Line]:
    fields = trade(rng, number, pnl="3.25")
    fields["entry_price"] = Raw("100.0") if fields["direction"] != "SHORT_CALL" else Raw("0.0125")
    again = Raw("1.0e2") if fields["direction"] != "SHORT_CALL" else Raw("1.25e-2")
    return [
        Line(dump(opened(fields)), ACCEPT, "opened"),
        Line(
            dump(fields | {"entry_price": again}), ACCEPT, "closed at the same price, written in another way"
        ),
    ]


def _odd_context(rng: random.Random, number: int) -> list[Line]:
    """What was seen, half of it missing or of another type."""
    fields = trade(rng, number, plain=False)
    seen = json.loads(json_of(fields["decision_context"]))
    inner = seen if rng.random() < 0.5 else seen["features"]
    name = rng.choice(list(inner))
    if rng.random() < 0.4:
        inner.pop(name)
    else:
        inner[name] = rng.choice(_ODD)
    whole = rng.choice([seen, seen, seen, seen, json_of(seen), "{}", {}, [], None, "x", 1])
    return _one(fields | {"decision_context": whole}, EITHER, f"context: {name}")


def _odd_path(rng: random.Random, number: int) -> list[Line]:
    fields = trade(rng, number, plain=False)
    went = json.loads(json_of(fields["path"]))
    inner = went if rng.random() < 0.7 else went["legs"][0]
    name = rng.choice(list(inner))
    if rng.random() < 0.4:
        inner.pop(name)
    else:
        inner[name] = rng.choice([*_ODD, Raw("-5.0"), 1e12, "2024-01-01T00:00:00"])
    whole = rng.choice([went, went, went, went, json_of(went), "{}", {}, [], None, "x", 1])
    return _one(fields | {"path": whole}, EITHER, f"path: {name}")


def _not_an_object(rng: random.Random, number: int) -> list[Line]:
    raw = rng.choice(
        [
            b"[]",
            b"1",
            b'"x"',
            b"null",
            b"true",
            b"{}",
            b"[{}]",
            b"{",
            b"}",
            b"NaN",
            b"\xe2\x80\xa8",
            b"{'a': 1}",
        ]
    )
    return [Line(raw, REFUSE, "not a trade")]


def _odd_event(rng: random.Random, number: int) -> list[Line]:
    event = rng.choice(["STOP", "", None, 1, "tick", ["TICK"]])
    return _one({"event": event, "book": "BTC_5m/spot"}, EITHER, f"event {event!r}")


MUTATIONS: dict[str, Callable[[random.Random, int], list[Line]]] = {
    made.__name__.strip("_"): made
    for made in (
        _whole, _open_and_closed, _events, _blank, _byte_flip, _cut, _glued, _other_type, _not_a_number,
        _edge, _fraction, _percent_said, _unit_unknown, _text_figure, _other_digits, _contradicts_prices,
        _no_pnl, _no_exit_price, _key_twice, _nested_key_twice, _deep, _huge_int, _marks, _surrogate,
        _control_text, _odd_time, _epoch, _exit_before_entry, _unknown_fields, _lacks_required,
        _lacks_optional, _side, _status, _said_twice, _contradicted, _same_price_in_other_words, _odd_context,
        _odd_path, _not_an_object, _odd_event,
    )
}  # fmt: skip
