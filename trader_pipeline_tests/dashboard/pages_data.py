"""Small frames for the pages Corpora, Training, Paper and Agents: records, trades, losses, a run of an agent.

Belongs here: what several test modules of this folder write into a data folder. Nothing here runs a model.
"""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd

from trader_pipeline.agents.params import AgentParams
from trader_pipeline.agents.run import run_agent
from trader_pipeline.agents.run_folder import open_run_folder, write_run
from trader_pipeline.schema import Table
from trader_pipeline.schema.tables import (
    FORGETTING,
    PAPER_REPLAY,
    REPLAY_EVALUATIONS,
    TRADE_OR_SKIP_CORPUS,
    TRAINING_LOG,
    WINDOW_KLINES,
)
from trader_pipeline.store import TableStore
from trader_pipeline_tests.agents.scripted import ScriptedAsker, hourly_candles, whole
from trader_pipeline_tests.dashboard.reading import children_of
from trader_pipeline_tests.evaluation.report_store import rows_of
from trader_pipeline_tests.paper.replay_lines import closed, trade

MARKUP = "<img src=x onerror=alert(1)>"
WINDOW = ("BTC_1h", "bull_20240101_20240131")
DAY = pd.Timedelta(days=1)
START = pd.Timestamp("2024-01-01", tz="UTC")


def words_of(tree: Any) -> str:
    """The text that a reader sees, part after part."""
    if isinstance(tree, list | tuple):
        return " ".join(filter(None, map(words_of, tree)))
    if isinstance(tree, str):
        return tree
    return words_of(children_of(tree))


def write_corpus(root: Path, *, records: int = 12) -> None:
    """Records `000...` on: every third one skips; the first one's user turn holds markup, the last is of split test."""
    numbers = range(records)
    frame = rows_of(
        TRADE_OR_SKIP_CORPUS,
        record_id=[f"{n:016x}" for n in numbers],
        kind=["trade_or_skip"] * records,
        split=["test" if n == records - 1 else "train" for n in numbers],
        user=[f"Spot price: {40_000 + n}. {MARKUP if n == 0 else 'Calm'} number{n}." for n in numbers],
        assistant=[f"Premium {n} is small.\nSKIP" if n % 3 == 0 else "SELL_CALL" for n in numbers],
        weight=[1.0] * records,
    )
    _write(root, frame, TRADE_OR_SKIP_CORPUS)


def write_training(root: Path) -> None:
    """Three steps of training, two measures of validation, and an adapter that forgot more than it may."""
    steps = {"split": ["train"] * 3 + ["val"] * 2, "step": [1, 2, 3, 0, 3], "loss": [2.0, 1.5, 1.2, 2.1, 1.4]}
    _write(root, rows_of(TRAINING_LOG, **steps, learning_rate=[1e-4] * 3 + [None] * 2), TRAINING_LOG)
    forgotten = rows_of(
        FORGETTING, model=["base model", "adapter"], step=[None, 3], loss=[2.0, 2.2], budget_pct=[5.0, 5.0],
        loss_change_pct=[None, 10.0], change_low_pct=[None, 8.0], change_high_pct=[None, 12.0],
    )  # fmt: skip
    _write(root, forgotten.astype({"step": "Int64"}), FORGETTING)


def paper_trades() -> pd.DataFrame:
    """A sold call closed with a gain, a long closed with a loss, and a long that is open."""
    call = closed(
        trade_id="call", direction="SHORT_CALL", symbol="BTC-26JAN24-48000-C", entry_price=0.02, exit_price=0.004,
        entry_ts=START + DAY, exit_ts=START + 5 * DAY, exit_style="tp_and_roll", pnl_pct=Decimal("1.5"),
        decision_context={"spot": 50_100.0, "strike": 52_000.0},
        path={"entry_spot": 50_200.0, "exit_spot": 51_000.0},
    )  # fmt: skip
    long = closed(trade_id="long", entry_ts=START + 2 * DAY, exit_ts=START + 8 * DAY, pnl_pct=Decimal(-4))
    still = trade(trade_id="open", entry_ts=START + 9 * DAY)
    return pd.DataFrame([t.to_row() for t in (call, long, still)])[PAPER_REPLAY.column_names]


def judged_trades() -> pd.DataFrame:
    """Verdicts of the two closed ones."""
    words = {"analysis": ["It kept the premium.", "It fell."], "improvement": ["Nothing.", "Not buying."]}
    return rows_of(
        REPLAY_EVALUATIONS, trade_id=["call", "long"], verdict=["OK", "BAD"], pnl_pct=[1.5, -4.0],
        direction=["SHORT_CALL", "LONG"], **words,
    )  # fmt: skip


def write_paper(root: Path) -> None:
    """The trades above with their window's candles."""
    _write(root, paper_trades(), PAPER_REPLAY, WINDOW)
    _write(root, judged_trades(), REPLAY_EVALUATIONS, WINDOW)
    missing = {"quote_volume": float("nan"), "trade_count": None, "volatility_index": float("nan")}
    candles = hourly_candles(24 * 31).assign(**missing).astype({"trade_count": "Int64"})
    _write(root, candles, WINDOW_KLINES, WINDOW)


def write_agent_run(
    root: Path, replies: list, *, name: str = "first", candles: int = 12, simulated: bool = True
) -> Path:
    """A run of an agent that answers `replies` in order, then holds."""
    klines = hourly_candles(candles)
    run = run_agent(klines, params=AgentParams(), asker=ScriptedAsker(replies), window=whole(klines))
    folder = root / "agents" / name
    open_run_folder(folder)
    write_run(run, folder, market="BTC_1h", window=whole(klines), simulated=simulated)
    return folder


def write_manifest(root: Path) -> None:
    """What an adapter says of itself, as far as the page reads it."""
    known = {
        "model": {"model_name": "tiny"}, "params": {"learning_rate": 0.0001, "start_from": None}, "dtype": "bfloat16",
        "steps": 3, "best_step": 2, "val_loss": 1.4, "val_loss_before": 2.1, "corpus_hash": "abcdef0123456789",
    }  # fmt: skip
    folder = root / "training" / "lora_adapter"
    folder.mkdir(parents=True)
    (folder / "adapter_manifest.json").write_text(json.dumps(known))


def _write(root: Path, frame: pd.DataFrame, table: Table, partition: tuple[str, ...] = ()) -> None:
    TableStore(str(root)).write(frame, table, partition=partition, simulated=True)
