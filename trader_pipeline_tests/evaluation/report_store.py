"""A small store with every table that the report reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from trader_pipeline.klines import SampleParams, simulate_klines
from trader_pipeline.schema import Table
from trader_pipeline.schema.tables import (
    CANDIDATE_DATASET,
    CHAIN_DATASET,
    KLINES,
    MIXED_CORPUS,
    PAPER_REPLAY,
    POLICY_DECISIONS,
    POLICY_EQUITY,
    POLICY_METRICS,
    REGIME_WINDOWS,
    REPLAY_EVALUATIONS,
    TRAINING_LOG,
)
from trader_pipeline.store import TableStore

START = pd.Timestamp("2021-01-01", tz="UTC")
DAY = pd.Timedelta(days=1)
BULL, DUMP = "bull_20210101_20210115", "dump_20210116_20210131"
STYLES = ("hold_to_expiry", "tp_and_roll")


def rows_of(table: Table, **columns: Any) -> pd.DataFrame:
    """A frame of `table`: the given columns (sequences of one length), and values inside the bounds for the others."""
    length = len(next(iter(columns.values())))
    filler = {"timestamp": START, "float64": 0.5, "int64": 1, "bool": False, "string": "text"}
    frame = {c.name: [c.allowed[0] if c.allowed else filler[c.dtype]] * length for c in table.columns}
    return pd.DataFrame({**frame, **columns})


def policy_metrics(
    *,
    pnl: Mapping[str, float],
    accuracy: Mapping[str, float],
    intervals: Mapping[str, tuple[float, float, float]],
    books: Mapping[str, float] | None = None,
    decisions: int = 80,
    sold: float = 0.4,
) -> pd.DataFrame:
    """POLICY_METRICS of one exit style. `intervals`: adapter minus each, as mean, low and high."""
    rows: list[tuple[str, str, str, float]] = []
    for policy in pnl:
        rows += [
            (policy, "all", "mean_pnl_vs_hodl_pct", pnl[policy]),
            (policy, "all", "accuracy", accuracy[policy]),
            (policy, "all", "share_sold", sold),
        ]
    for other, values in intervals.items():
        names = ("mean", "low", "high")
        rows += [("adapter", "all", f"minus {other}: {n}", v) for n, v in zip(names, values, strict=True)]
    for policy, lead in (books or {}).items():
        figures = {"pnl_vs_hodl_pct": lead, "return_pct": 10 + lead, "hodl_return_pct": 10.0}
        figures |= {"max_drawdown_pct": 20.0, "hodl_max_drawdown_pct": 22.0, "trades": 3.0}
        rows += [(policy, "BTC", f"book_{name}", value) for name, value in figures.items()]
    frame = pd.DataFrame(rows, columns=["policy", "segment", "metric", "value"])
    return frame.assign(exit_style=STYLES[0], count=decisions)


def mixed_metrics() -> pd.DataFrame:
    """The adapter ties with HODL and is behind the largest premium."""
    return policy_metrics(
        pnl={"adapter": 0.1, "never (HODL)": 0.0, "largest premium": 0.6, "teacher": 0.2},
        accuracy={"adapter": 0.6, "never (HODL)": 0.7, "largest premium": 0.2, "teacher": 1.0},
        intervals={"never (HODL)": (0.1, -0.2, 0.4), "largest premium": (-0.5, -0.9, -0.1)},
        books={"adapter": 1.5, "never": 0.0, "always": 2.5},
    )


def write_store(
    root: Path, *, simulated: bool = True, days: int = 40, symbol: str = "BTC-29JAN21-40000-C"
) -> TableStore:
    """Every table the report reads, for market BTC_1h."""
    store = TableStore(str(root))
    klines = simulate_klines(SampleParams(years=days / 365))["BTC"]
    put(store, klines, KLINES, ("BTC_1h",), simulated=simulated)
    put(store, _windows(), REGIME_WINDOWS, simulated=simulated)
    for regime in (BULL, DUMP):
        market = ("BTC_1h", regime)
        put(store, _candidates(regime), CANDIDATE_DATASET, market, simulated=simulated)
        times = [START + i * DAY for i in range(4)]
        actions = ["SELL_CALL", "SELL_CALL", "SELL_CALL", "DO_NOTHING"]
        put(
            store,
            rows_of(CHAIN_DATASET, decision_time=times, action=actions),
            CHAIN_DATASET,
            market,
            simulated=simulated,
        )
    put(store, _trades(symbol), PAPER_REPLAY, ("BTC_1h", BULL), simulated=simulated)
    judged = rows_of(REPLAY_EVALUATIONS, trade_id=["a", "b"], verdict=["GOOD", "BAD"])
    put(store, judged, REPLAY_EVALUATIONS, ("BTC_1h", BULL), simulated=simulated)
    put(store, _corpus(), MIXED_CORPUS, simulated=simulated)
    log = rows_of(
        TRAINING_LOG, split=["train"] * 3 + ["val"] * 2, step=[1, 2, 3, 0, 3], loss=[2.0, 1.5, 1.2, 2.1, 1.4]
    )
    put(store, log, TRAINING_LOG, simulated=simulated)
    put(store, mixed_metrics(), POLICY_METRICS, simulated=simulated)
    held_out = [START + (25 + i) * DAY for i in range(5)]
    decided = rows_of(
        POLICY_DECISIONS, policy=["adapter"] * 5, underlying=["BTC"] * 5, decision_time=held_out
    )
    put(store, decided.assign(answer_log_probability=-0.1), POLICY_DECISIONS, simulated=simulated)
    put(store, _equity(klines), POLICY_EQUITY, simulated=simulated)
    return store


def put(
    store: TableStore, frame: pd.DataFrame, table: Table, partition: tuple[str, ...] = (), *, simulated: bool
) -> None:
    store.write(frame, table, partition=partition, simulated=simulated)


def _windows() -> pd.DataFrame:
    middle = START + 15 * DAY
    return rows_of(
        REGIME_WINDOWS,
        regime=[BULL, DUMP],
        label=["bull", "dump"],
        start=[START, middle],
        end=[middle, START + 31 * DAY],
        days=[15, 16],
        return_pct=[30.0, -20.0],
    )


def _candidates(regime: str) -> pd.DataFrame:
    """Two candidates a decision and exit style; the first is sold and makes 2 % of the coin (bull) or loses 1 %."""
    keys = list(product([START + i * DAY for i in range(4)], STYLES, ["first", "second"]))
    chosen = [int(key[2] == "first") for key in keys]
    pnl = 800.0 if regime == BULL else -400.0
    return rows_of(
        CANDIDATE_DATASET,
        decision_time=[key[0] for key in keys],
        exit_style=[key[1] for key in keys],
        instrument=[key[2] for key in keys],
        spot=[40_000.0] * len(keys),
        chosen=chosen,
        action=["SELL_CALL" if c else "SKIP" for c in chosen],
        pnl_vs_hodl=[pnl * c for c in chosen],
    )


def _trades(symbol: str) -> pd.DataFrame:
    return rows_of(
        PAPER_REPLAY,
        trade_id=["a", "b"],
        symbol=[symbol, symbol],
        entry_price=[0.0125, 0.01],
        entry_ts=[START + 3 * DAY, START + 9 * DAY],
        exit_ts=[START + 8 * DAY, START + 14 * DAY],
        pnl_pct=[1.25, -2.5],
        decision_context=[json.dumps({"strike": 40_000.0}), json.dumps({"strike": 42_000.0})],
    )


def _corpus() -> pd.DataFrame:
    return rows_of(
        MIXED_CORPUS,
        record_id=list("abcd"),
        kind=["pick_candidate"] * 3 + ["stable"],
        split=["train"] * 4,
        assistant=["1", "2", "NO_TRADE", "Paris"],
    )


def _equity(klines: pd.DataFrame) -> pd.DataFrame:
    own = klines[klines["close_time"] > START + 25 * DAY]
    growth = np.linspace(1, 1.02, len(own))
    books = {"adapter": growth, "never": np.ones(len(own))}
    parts = [
        rows_of(
            POLICY_EQUITY,
            policy=[policy] * len(own),
            underlying=["BTC"] * len(own),
            close_time=own["close_time"].to_list(),
            equity_usd=own["close"].to_numpy() * ratio,
            hodl_usd=own["close"].to_numpy(),
        )
        for policy, ratio in books.items()
    ]
    return pd.concat(parts, ignore_index=True)
