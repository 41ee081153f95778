"""A million records of trade-or-skip rendered and written as JSON lines, beside other ways to do it.

`python benchmarks/rendering.py [--records 1000000] [--rounds 3]`. Rows are candidates of a backtest on simulated
candles, repeated with differing figures. Every way starts from its own in-memory form of the same columns and ends with
a file that is flushed to disk; all files hold the same texts, which is checked. `iterrows` is timed on a part.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import click
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import _results
from benchmarks._rendering_ways import WAYS, prompt_of, record_of
from trader_pipeline.backtest import BacktestParams, run_backtest
from trader_pipeline.corpora.jsonl import write_corpus_jsonl
from trader_pipeline.corpora.render import PROMPT_COLUMNS, RenderParams, prompt_rows, render_trade_or_skip
from trader_pipeline.datasets import build_candidate_dataset
from trader_pipeline.klines import SampleParams, simulate_klines
from trader_pipeline.options import OptionParams
from trader_pipeline.schema import UNDERLYINGS, Market
from trader_pipeline.schema.columns import FEATURES

ITERROWS_RECORDS = 20_000
FAST = ("polars", "duckdb")
"""Timed in every round; the others, which take many times as long, in one."""
_JITTERED = ("spot", "delta", "premium_yield_pct", "ivrv_ratio", *FEATURES)


def candidate_rows(records: int) -> pa.Table:
    """So many rows of prompt columns and `chosen`; each repetition has its own figures and days."""
    frame = pd.concat([_simulated_candidates(u) for u in UNDERLYINGS], ignore_index=True)
    repeats = -(-records // len(frame))
    rows = pd.concat([frame] * repeats, ignore_index=True).iloc[:records].reset_index(drop=True)
    rows["decision_time"] += pd.to_timedelta(np.arange(records) // len(frame) * 371, unit="D")
    rng = np.random.default_rng(0)
    for name in _JITTERED:
        rows[name] *= rng.uniform(0.95, 1.05, records)
    return pa.Table.from_pandas(rows[[*PROMPT_COLUMNS, "chosen"]], preserve_index=False).combine_chunks()


def _simulated_candidates(underlying: str) -> pd.DataFrame:
    candles = simulate_klines(SampleParams(years=1))[underlying]
    market = Market(underlying, "1h")
    start = candles["open_time"].iloc[0].ceil("D") + pd.Timedelta(days=45)
    result = run_backtest(
        klines=candles,
        fine_klines=candles,
        market=market,
        start=start,
        end=start + pd.Timedelta(days=240),
        option_params=OptionParams(),
        params=BacktestParams(),
    )
    return build_candidate_dataset(result.steps, result.candidates, candles, step=market.step)


def ours(rows: pa.Table, path: Path) -> None:
    """The pipeline's own way: prompt rows, renderer, writer."""
    prompts = render_trade_or_skip(prompt_rows(rows), RenderParams())
    sold = pc.equal(rows["chosen"].combine_chunks(), 1)
    corpus = pa.table(
        {
            "system": prompts.system,
            "user": prompts.user,
            "assistant": pc.if_else(sold, prompts.sell, prompts.skip),
        }
    )
    write_corpus_jsonl(corpus, path, overwrite=True)


def iterrows(frame: pd.DataFrame, path: Path) -> None:
    """One row, one f-string, one `json.dumps` at a time."""
    with path.open("w", encoding="utf-8") as file:
        for _, row in frame.iterrows():
            file.write(json.dumps(record_of(prompt_of(row), row["chosen"]), ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def texts_hash(path: Path) -> str:
    """SHA-256 over the records' texts, however the JSON is spaced."""
    digest = hashlib.sha256()
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            messages = json.loads(line)["messages"]
            digest.update("\x1e".join(f"{m['role']}\x1f{m['content']}" for m in messages).encode() + b"\n")
    return digest.hexdigest()


def other_ways(rows: pa.Table, folder: Path) -> dict[str, Callable[[], object]]:
    """The ways whose library is installed, by name."""
    return {
        name: prepare(rows, folder / f"{name}.jsonl")
        for name, (module, prepare) in WAYS.items()
        if importlib.util.find_spec(module)
    }


@click.command(help=__doc__)
@click.option("--records", default=1_000_000, show_default=True)
@click.option("--rounds", default=3, show_default=True)
def main(records: int, rounds: int) -> None:
    rows = candidate_rows(records)
    part = min(records, ITERROWS_RECORDS)
    frame = rows.slice(0, part).to_pandas()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole = {"ours": lambda: ours(rows, folder / "ours.jsonl")}
        ways = other_ways(rows, folder)
        fast = _results.interleaved(whole | {k: w for k, w in ways.items() if k in FAST}, rounds)
        slow = _results.interleaved(whole | {k: w for k, w in ways.items() if k not in FAST}, 1)
        by_row = _results.interleaved(
            {"iterrows": lambda: iterrows(frame, folder / "iterrows.jsonl")}, rounds
        )
        hashes = {way: texts_hash(folder / f"{way}.jsonl") for way in ["ours", *ways]}
        ours(rows.slice(0, part), folder / "part.jsonl")
        same_part = (folder / "part.jsonl").read_bytes() == (folder / "iterrows.jsonl").read_bytes()
        size = (folder / "ours.jsonl").stat().st_size
    differing = [way for way, digest in hashes.items() if digest != hashes["ours"]]
    if differing or not same_part:
        raise SystemExit(f"the files differ: {', '.join([*differing, *([] if same_part else ['iterrows'])])}")
    scaled = [seconds * records / part for seconds in by_row["iterrows"]]
    compared = {way: (times, group["ours"]) for group in (slow, fast) for way, times in group.items()}
    compared["iterrows + json.dumps"] = (scaled, fast["ours"])
    _record(compared, records=records, size=size, part=part)


def _record(
    compared: dict[str, tuple[list[float], list[float]]], *, records: int, size: int, part: int
) -> None:
    """`compared`: each way's seconds, and ours of the same rounds."""
    body = [
        [
            way,
            _results.clock(times),
            _results.rounded(records / statistics.median(times)),
            _results.spread(_results.ratios(times, own)),
        ]
        for way, (times, own) in sorted(compared.items(), key=lambda item: statistics.median(item[1][0]))
    ]
    table = _results.table(["way", "time", "records a second", "over ours"], body)
    libraries = ("pyarrow", "polars", "duckdb", "orjson", "datasets")
    installed = ", ".join(f"{name} {version(name)}" for name in libraries if importlib.util.find_spec(name))
    _results.record(
        "rendering",
        f"{records:,} trade-or-skip records ({size / 1e6:,.0f} MB of JSON lines), from columns in memory to a file on"
        f" disk; the texts of all files are equal. The slow ways were timed once; iterrows over {part:,} records,"
        f" scaled.\n\n{table}\n\n{installed}.",
    )


if __name__ == "__main__":
    main()
