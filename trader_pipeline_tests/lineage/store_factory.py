"""A small data folder written by hand: every table behind two decisions, with parents as a run would name them."""

import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from trader_pipeline.schema import Column, Table
from trader_pipeline.schema import tables as t
from trader_pipeline.store import TableStore, file_sha256, reference

REGIME, OTHER_REGIME = "bull_20210301_20210420", "dump_20210421_20210530"
MOMENT = pd.Timestamp("2021-03-15", tz="UTC")
LATER = MOMENT + pd.Timedelta(days=1)
END = MOMENT + pd.Timedelta(days=10, hours=8)
FIRST, LAST = pd.Timestamp("2021-01-15", tz="UTC"), pd.Timestamp("2021-06-01", tz="UTC")
CALLS = ("BTC-26MAR21-60000-C", "BTC-26MAR21-64000-C")
OWN, FINE = ("BTC_4h", REGIME), ("BTC_1h", REGIME)
SETTINGS = {"options": "1" * 16, "backtest": "2" * 16}


def frame_of(table: Table, rows: list[dict]) -> pd.DataFrame:
    """Rows of a table from the columns that matter; the others get a value that the table allows."""
    columns = {c.name: [row.get(c.name, _value(c)) for row in rows] for c in table.columns}
    frame = pd.DataFrame(columns)
    for column in table.columns:
        if column.dtype == "timestamp":
            frame[column.name] = pd.to_datetime(frame[column.name], utc=True)
        elif column.dtype == "float64":
            frame[column.name] = frame[column.name].astype("float64")
    return frame


def _value(column: Column) -> object:
    if column.nullable:
        return None
    if column.allowed:
        return column.allowed[0]
    return {"float64": 0.5, "int64": 1, "string": "x", "timestamp": MOMENT, "bool": False}[column.dtype]


def candles(step: str, first: pd.Timestamp = FIRST, last: pd.Timestamp = LAST) -> pd.DataFrame:
    opens = pd.date_range(first, last, freq=step, inclusive="left")
    close = 50_000.0 + pd.Series(range(len(opens))) % 97
    return frame_of(
        t.KLINES,
        [
            {
                "open_time": o,
                "close_time": o + pd.Timedelta(step),
                "open": c,
                "high": c + 5,
                "low": c - 5,
                "close": c,
            }
            for o, c in zip(opens, close, strict=True)
        ],
    )


@dataclass
class Writer:
    """Writes tables with the hashes of their parents, as the IO manager does."""

    store: TableStore

    def put(
        self,
        table: Table,
        frame: pd.DataFrame,
        partition: tuple[str, ...] = (),
        *,
        of: tuple = (),
        **others: str,
    ) -> None:
        parents = {"code/trader_pipeline": "0.1.0", **{f"settings/{s}": d for s, d in others.items()}}
        for parent, own in of:
            manifest = self.store.manifest(parent, own)
            assert manifest is not None
            parents[reference(parent, own)] = manifest.content_hash
        self.store.write(frame, table, partition=partition, parents=parents, simulated=False)

    def put_from_file(
        self, table: Table, frame: pd.DataFrame, partition: tuple[str, ...], **sources: str
    ) -> None:
        parents = {f"source/{name}": digest for name, digest in sources.items()}
        self.store.write(frame, table, partition=partition, parents=parents, simulated=False)


def write_folder(root: Path, klines_file: Path) -> TableStore:
    """All tables of BTC_4h, marked with BTC_1h, over two windows; the first one holds the decisions."""
    store = TableStore(str(root))
    writer = Writer(store)
    write_inputs(writer, klines_file)
    for regime in (REGIME, OTHER_REGIME):
        write_window(writer, regime)
    write_corpora(writer)
    write_jsonl(root)
    return store


def write_inputs(writer: Writer, klines_file: Path, hourly: pd.DataFrame | None = None) -> None:
    sources = {klines_file.name: file_sha256(klines_file)}
    writer.put_from_file(t.KLINES, candles("1h") if hourly is None else hourly, ("BTC_1h",), **sources)
    writer.put_from_file(t.KLINES, candles("4h"), ("BTC_4h",), **sources)
    writer.put(t.OPTION_QUOTES, t.OPTION_QUOTES.empty())
    writer.put(t.VOLATILITY_INDEX, t.VOLATILITY_INDEX.empty())


def write_window(writer: Writer, regime: str) -> None:
    own, fine = ("BTC_4h", regime), ("BTC_1h", regime)
    for market, partition in (("BTC_1h", fine), ("BTC_4h", own)):
        cut = writer.store.read(t.KLINES, (market,))
        cut = cut[cut["open_time"] < MOMENT + pd.Timedelta(days=40)].assign(volatility_index=float("nan"))
        of = ((t.KLINES, (market,)), (t.VOLATILITY_INDEX, ()))
        writer.put(t.WINDOW_KLINES, cut, partition, of=of, windows="3" * 16)
    writer.put(t.WINDOW_QUOTES, t.WINDOW_QUOTES.empty(), own, of=((t.OPTION_QUOTES, ()),))
    write_backtest(writer, own, fine)
    write_datasets(writer, own)
    write_paper(writer, own, fine)


def write_backtest(writer: Writer, own: tuple[str, str], fine: tuple[str, str]) -> None:
    shown = [(t.WINDOW_KLINES, own), (t.WINDOW_KLINES, fine), (t.WINDOW_QUOTES, own)]
    chain = [
        {"decision_time": m, "underlying": "BTC", "instrument": i, "iv": 0.8}
        for m in (MOMENT, LATER)
        for i in (*CALLS, "BTC-26MAR21-70000-C")
    ]
    writer.put(t.OPTION_CHAIN, frame_of(t.OPTION_CHAIN, chain), own, of=tuple(shown), **SETTINGS)
    of = (*shown, (t.OPTION_CHAIN, own))
    steps = [
        {**key, "action": "SELL_CALL", "reason": "sold", "instrument": CALLS[1], "label_end_time": END}
        for key in decision_keys()
    ]
    writer.put(t.BACKTEST_STEPS, frame_of(t.BACKTEST_STEPS, steps), own, of=of, **SETTINGS)
    legs = [{**key, "leg": leg, "instrument": CALLS[leg]} for key in decision_keys() for leg in (0, 1)]
    writer.put(t.BACKTEST_LEGS, frame_of(t.BACKTEST_LEGS, legs), own, of=of, **SETTINGS)
    outcomes = frame_of(t.CANDIDATE_OUTCOMES, candidate_rows())
    writer.put(t.CANDIDATE_OUTCOMES, outcomes, own, of=of, **SETTINGS)


def write_datasets(writer: Writer, own: tuple[str, str], score: float = 5.0) -> None:
    of = ((t.BACKTEST_STEPS, own), (t.CANDIDATE_OUTCOMES, own), (t.WINDOW_KLINES, own))
    chain = [{**key, "instrument": CALLS[1]} for key in decision_keys()]
    writer.put(t.CHAIN_DATASET, frame_of(t.CHAIN_DATASET, chain), own, of=of)
    rows = [{**row, "score": score} for row in candidate_rows()]
    writer.put(
        t.CANDIDATE_DATASET, frame_of(t.CANDIDATE_DATASET, rows), own, of=(*of, (t.CHAIN_DATASET, own))
    )


def write_paper(writer: Writer, own: tuple[str, str], fine: tuple[str, str]) -> None:
    trades = [
        {
            "trade_id": f"trade{place}", "symbol": CALLS[1], "exit_style": "tp_and_roll", "entry_ts": moment,
            "exit_ts": END, "timestamp": END, "status": "CLOSED",
            "decision_context": json.dumps({"decision_time": moment.isoformat()}),
        }
        for place, moment in enumerate((MOMENT, LATER))
    ]  # fmt: skip
    shown = ((t.WINDOW_KLINES, own), (t.WINDOW_KLINES, fine), (t.WINDOW_QUOTES, own))
    writer.put(t.PAPER_REPLAY, frame_of(t.PAPER_REPLAY, trades), own, of=shown, paper="4" * 16)
    verdicts = [{"trade_id": trade["trade_id"], "verdict": "OK"} for trade in trades]
    writer.put(
        t.REPLAY_EVALUATIONS, frame_of(t.REPLAY_EVALUATIONS, verdicts), own, of=((t.PAPER_REPLAY, own),)
    )


def candle_windows() -> list[tuple[str, str]]:
    return [("BTC_4h", regime) for regime in (REGIME, OTHER_REGIME)]


def decision_keys() -> list[dict]:
    return [
        {"decision_time": moment, "underlying": "BTC", "exit_style": style}
        for moment in (MOMENT, LATER)
        for style in ("hold_to_expiry", "tp_and_roll")
    ]


def candidate_rows() -> list[dict]:
    return [
        {**key, "instrument": i, "label_end_time": END, "iv": 0.8} for key in decision_keys() for i in CALLS
    ]


def record(kind: str, name: str, **columns: object) -> dict:
    origin = {
        "underlying": "BTC",
        "decision_time": MOMENT,
        "exit_style": "hold_to_expiry",
        "label_end_time": END,
    }
    text = {
        "system": f"You decide about {kind}.",
        "user": f"Spot: 50000\nCandidate number {name} of {kind}\nAnswer.",
    }
    always = {"record_id": name, "kind": kind, "split": "train", "weight": 1.0, "assistant": "SKIP"}
    return {**always, **text, **origin, **columns}


def stable_record(name: str) -> dict:
    lines = (
        Path(t.__file__).parents[1].joinpath("corpora", "stable_instructions.jsonl").read_text().splitlines()
    )
    first = json.loads(lines[6])
    nothing = dict.fromkeys(("underlying", "decision_time", "exit_style", "label_end_time"))
    return record("stable", name, user=first["instruction"], assistant=first["answer"], **nothing)


TRADE_OR_SKIP = [
    record("trade_or_skip", "sell1", instrument=CALLS[0], assistant="SELL_CALL"),
    record("trade_or_skip", "skip1", instrument=CALLS[1]),
    record("trade_or_skip", "skip2", instrument=CALLS[1], split="val", decision_time=LATER),
]
PICKS = [record("pick_candidate", "pick1", assistant="2", exit_style="tp_and_roll")]
REPLAYS = [record("replay", "replay1", decision_time=LATER, exit_style="tp_and_roll", assistant="SELL_CALL")]
PAIRS = [record("preference", "pair1", instrument=CALLS[0], chosen_answer="1", rejected_answer="NO_TRADE")]


def write_corpora(writer: Writer) -> None:
    windows = candle_windows()
    candidates = tuple((t.CANDIDATE_DATASET, w) for w in windows)
    trades = tuple((table, w) for table in (t.PAPER_REPLAY, t.REPLAY_EVALUATIONS) for w in windows)
    for table, rows, of in (
        (t.TRADE_OR_SKIP_CORPUS, TRADE_OR_SKIP, candidates),
        (t.PICK_CANDIDATE_CORPUS, PICKS, candidates),
        (t.PREFERENCE_CORPUS, PAIRS, candidates),
        (t.REPLAY_CORPUS, REPLAYS, (*candidates, *trades)),
        (t.STABLE_CORPUS, [stable_record("stable1")], ()),
    ):
        writer.put(table, frame_of(table, rows), of=of, render="5" * 16)
    mixed = [TRADE_OR_SKIP[0], stable_record("stable1"), PICKS[0], stable_record("stable1-again"), REPLAYS[0]]
    kinds = (t.TRADE_OR_SKIP_CORPUS, t.PICK_CANDIDATE_CORPUS, t.REPLAY_CORPUS, t.STABLE_CORPUS)
    writer.put(
        t.MIXED_CORPUS, frame_of(t.MIXED_CORPUS, mixed), of=tuple((k, ()) for k in kinds), mix="6" * 16
    )


CORPORA = {
    "mixed_corpus": t.MIXED_CORPUS, "trade_or_skip_corpus": t.TRADE_OR_SKIP_CORPUS,
    "replay_corpus": t.REPLAY_CORPUS, "preference_corpus": t.PREFERENCE_CORPUS,
}  # fmt: skip


def write_jsonl(root: Path) -> None:
    folder = root / "corpora" / "jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    store = TableStore(str(root))
    for name, table in CORPORA.items():
        for split, rows in store.read(table).groupby("split"):
            (folder / f"{name}_{split}.jsonl").write_text("".join(map(line_of, rows.to_dict("records"))))


def line_of(row: dict) -> str:
    prompt = [{"role": role, "content": row[role]} for role in ("system", "user")]
    if "chosen_answer" in row:
        pair = {
            name: [{"role": "assistant", "content": row[f"{name}_answer"]}] for name in ("chosen", "rejected")
        }
        return json.dumps({"prompt": prompt, **pair}) + "\n"
    return json.dumps({"messages": [*prompt, {"role": "assistant", "content": row["assistant"]}]}) + "\n"
