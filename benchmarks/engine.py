"""Speed and memory of the backtest engine: `python benchmarks/engine.py [--klines FOLDER]`.

Beside the bare kernel of `_yardstick`: every candidate of hourly decisions over five years. Then a policy's run in
sequence and sweeps of it, and the way from candle files to both datasets, in processes of its own. Without a folder of
real candles the simulator's are taken.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks._engine_job import (
    DAILY,
    HOURLY,
    MARKET,
    TIMEFRAMES,
    WHOLE,
    build_tables,
    epochs,
    load_candles,
    origin,
    run_hourly,
    sweep_settings,
)
from benchmarks._recorded import REPOSITORY, recorded
from benchmarks._results import clock, interleaved, ratios, record, seconds, spread, table
from benchmarks._yardstick import Yardstick, lay_out, plainly_settled
from trader_pipeline.backtest import (
    BacktestParams,
    prepare_market,
    run_backtest,
    run_prepared,
    sweep_backtests,
)
from trader_pipeline.options import OptionParams
from trader_pipeline.options.surface import atm_iv

MANY_ROUNDS, ROUNDS, CHILD_ROUNDS = 51, 5, 3


def build_yardstick(candles: pd.DataFrame) -> Yardstick:
    """The calls that the engine offers, under one exit: the kernel settles each under both."""
    offered = run_hourly(candles, threads=1).candidates
    offered = offered[offered["exit_style"] == offered["exit_style"].iloc[0]]
    yardstick = lay_out(
        close_time=epochs(candles["close_time"]), close=candles["close"].to_numpy(dtype=float),
        level=atm_iv(candles, OptionParams(), underlying=MARKET.underlying),
        decision=epochs(offered["decision_time"]), expiry=epochs(offered["expiry"]),
        strike=offered["strike"].to_numpy(dtype=float),
    )  # fmt: skip
    check_yardstick(yardstick)
    return yardstick


def check_yardstick(yardstick: Yardstick) -> None:
    """Hold a hundred calls against plain Python: a kernel that skips work is no yardstick."""
    results = yardstick.run(HOURLY.take_profit)
    for i in np.linspace(0, len(yardstick.calls.sold) - 1, 100).astype(int):
        plain = plainly_settled(yardstick, int(i), HOURLY.take_profit)
        np.testing.assert_allclose([figures[i] for figures in results], plain, rtol=1e-12)


def measure_candidates(candles: pd.DataFrame, klines: str) -> str:
    yardstick = build_yardstick(candles)
    times = interleaved(
        {
            "bare kernel, one core": lambda: yardstick.run(HOURLY.take_profit),
            "engine, one core": lambda: run_hourly(candles, threads=1),
            "engine with all tables, one core": lambda: build_tables(run_hourly(candles, threads=1)),
            "engine, two threads": lambda: run_hourly(candles, threads=2),
        },
        ROUNDS,
    )
    bare = next(iter(times.values()))
    rows = [
        [name, clock(t), spread([1e9 * s / yardstick.marks for s in t]),
         "1" if t is bare else spread(ratios(t, bare)) + " x"]
        for name, t in times.items()
    ]  # fmt: skip
    alone, both = times["engine, one core"], times["engine, two threads"]
    memory = {what: in_child(what, klines)["gigabytes"] for what in ("hourly", "tables")}
    count = f"{yardstick.count:,} calls, {yardstick.marks / 1e6:.0f} million marks"
    return f"""Every candidate, {HOURLY.max_candidates} a decision, of hourly decisions over five years under both
exits. BTC, {origin(klines)}; {count}. The bare kernel knows no ticks, spreads, fees, smile,
rolls and gaps; the engine, from the frame of candles on, has all of them. Target: at most 2.5 x the bare kernel, under
2 GB.

{table(("", "time", "ns a mark", "over the bare kernel"), rows)}

Two threads are {spread(ratios(alone, both))} x as fast as one. Peak memory of a process, candles and libraries
included: {memory["hourly"]:.2f} GB for the run, {memory["tables"]:.2f} GB with all tables."""


def in_child(what: str, klines: str, cache: str | None = None) -> dict[str, Any]:
    """Run a part in a fresh process; kernels are compiled into `cache`, where one is given."""
    command = [sys.executable, str(REPOSITORY / "benchmarks" / "_engine_child.py"), what, klines]
    extra = {"NUMBA_CACHE_DIR": cache} if cache else {}
    done = subprocess.run(command, env=os.environ | extra, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def time_runs(market: dict[str, Any], settings: list[BacktestParams]) -> dict[str, list[float]]:
    prepared = prepare_market(**market, settings=settings)
    return interleaved(
        {
            "a run of both exits, market prepared": lambda: run_prepared(prepared, DAILY, mode="sequential"),
            "its equity curve as a table too": lambda: (
                run_prepared(prepared, DAILY, mode="sequential").equity
            ),
            "with the market prepared anew": lambda: run_backtest(**market, params=DAILY, mode="sequential"),
        },
        MANY_ROUNDS,
    )


def time_sweeps(market: dict[str, Any], settings: list[BacktestParams]) -> dict[str, list[float]]:
    return interleaved(
        {
            "one thread": lambda: sweep_backtests(**market, settings=settings),
            "two threads": lambda: sweep_backtests(**market, settings=settings, threads=2),
        },
        CHILD_ROUNDS,
    )


def measure_books(candles: pd.DataFrame, klines: str) -> str:
    """One policy in sequence, and sweeps of its settings."""
    start, end = WHOLE
    market = {"klines": candles, "market": MARKET, "start": start, "end": end}
    settings = sweep_settings()
    rows = [[name, clock(t)] for name, t in time_runs(market, settings).items()]
    sweeps = time_sweeps(market, settings)
    what = f"{len(settings):,} settings, both exits, from the candles on"
    rows += [[f"{what}, {name}", clock(t)] for name, t in sweeps.items()]
    return f"""The teacher's book in sequence: daily decisions, hourly {origin(klines)}, {start:%F} .. {end:%F}, BTC.
The settings of the sweep differ in five keys, three of which change the calls that are offered. Targets: under 10 ms a
run, under 10 s a sweep on one core, and at least 1.7 x faster on two.

{table(("", "time"), rows)}

Two threads are {spread(ratios(sweeps["one thread"], sweeps["two threads"]))} x as fast as one."""


def measure_datasets(klines: str) -> str:
    times: dict[str, list[float]] = {"cold": [], "warm": []}
    rows = 0
    for _ in range(CHILD_ROUNDS):
        with tempfile.TemporaryDirectory() as cache:
            for name in times:
                times[name].append(seconds(lambda cache=cache: in_child("datasets", klines, cache)))
            rows = in_child("datasets", klines, cache)["rows"]
    start, end = WHOLE
    what = "files of candles" if klines else "simulating candles"
    frames = ", ".join(TIMEFRAMES)
    names = {"cold": "cold: no kernel is compiled yet", "warm": "warm: kernels lie in the cache"}
    table_rows = [[names[name], clock(t)] for name, t in times.items()]
    return f"""From {what} to the exported chain-level and candidate-level datasets: BTC, {frames}, daily
decisions, {start:%F} .. {end:%F}, {rows:,} rows. Whole processes, start and imports included.
Targets: under 20 s cold, under 5 s warm.

{table(("process", "time"), table_rows)}"""


@click.command(help=__doc__)
@click.option("--klines", default=recorded("klines") or "", help="folder with hourly BTC candles")
def main(klines: str) -> None:
    candles = load_candles(klines)
    record("Engine: every candidate", measure_candidates(candles, klines))
    record("Engine: one book, and sweeps", measure_books(candles, klines))
    record("Engine: from files to datasets", measure_datasets(klines))


if __name__ == "__main__":
    main()
