"""Speed of our prices and implied volatilities beside vollib's: `python benchmarks/pricing.py`, a markdown table.

Options of the same kind for both: half calls, half puts, strikes from 0.7 to 1.5 times the forward, volatilities of
0.3 to 1, one hour to half a year. In each round every row is timed once, one after the other, so that a busy machine
troubles all alike. vollib takes one option at a time and is given fewer of them.
"""

from __future__ import annotations

import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from trader_pipeline.options import pricing

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # vollib's own, on import
    from vollib.black import black
    from vollib.black.implied_volatility import implied_volatility as vollib_implied_volatility

FORWARD = 50_000.0


def options(count: int, seed: int = 1) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "strike": FORWARD * rng.uniform(0.7, 1.5, count),
        "iv": rng.uniform(0.3, 1.0, count),
        "years": np.exp(rng.uniform(np.log(1 / 8_760), np.log(0.5), count)),
        "option_type": rng.choice(["call", "put"], count),
    }


def tasks(
    ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]
) -> dict[str, tuple[Callable[[], object], int]]:
    """What is timed, and for how many options."""
    kinds = ours["option_type"]
    market = {"forward": FORWARD, "strike": ours["strike"], "years": ours["years"]}
    is_call = kinds == "call"
    price_coin = pricing.option_price_coin(**market, iv=ours["iv"], option_type=kinds)
    rows = [
        (kind[0], strike, years, iv)
        for kind, strike, years, iv in zip(
            theirs["option_type"].tolist(), theirs["strike"].tolist(), theirs["years"].tolist(),
            theirs["iv"].tolist(), strict=True,
        )
    ]  # fmt: skip
    prices = [black(kind, FORWARD, strike, years, 0.0, iv) for kind, strike, years, iv in rows]
    calls = {"forward": FORWARD, "strike": market["strike"][is_call], "years": market["years"][is_call]}
    return {
        "call price, ours": (
            lambda: pricing.call_price_coin(**calls, iv=ours["iv"][is_call]),
            int(is_call.sum()),
        ),
        "price, ours": (
            lambda: pricing.option_price_coin(**market, iv=ours["iv"], option_type=kinds),
            kinds.size,
        ),
        "price, vollib": (lambda: [black(k, FORWARD, s, t, 0.0, v) for k, s, t, v in rows], len(rows)),
        "implied volatility, ours": (
            lambda: pricing.implied_volatility(**market, price_coin=price_coin, option_type=kinds),
            kinds.size,
        ),
        "implied volatility, vollib": (
            lambda: [
                vollib_implied_volatility(p, FORWARD, s, 0.0, t, k)
                for p, (k, s, t, _) in zip(prices, rows, strict=True)
            ],
            len(rows),
        ),
    }


def seconds(task: Callable[[], object]) -> float:
    start = time.perf_counter()
    task()
    return time.perf_counter() - start


def processor() -> str:
    """Name of the processor; the architecture where the system does not tell."""
    info = Path("/proc/cpuinfo")
    names = [x for x in info.read_text().splitlines() if x.startswith("model name")] if info.exists() else []
    return names[0].split(":", 1)[1].strip() if names else platform.processor() or platform.machine()


@click.command(help=__doc__)
@click.option("--count", default=300_000, show_default=True, help="options for us")
@click.option("--vollib-count", default=3_000, show_default=True, help="options for vollib")
@click.option("--rounds", default=9, show_default=True)
def main(count: int, vollib_count: int, rounds: int) -> None:
    timed = tasks(options(count), options(vollib_count))
    for task, _ in timed.values():
        task()  # compiles, or loads what was compiled
    runs: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(rounds):
        for name, (task, size) in timed.items():
            runs[name].append(1e9 * seconds(task) / size)
    print(f"{processor()}, Python {platform.python_version()}, one core, {rounds} interleaved rounds\n")
    print("| | median ns per option | fastest .. slowest | million per second |")
    print("|---|---|---|---|")
    for name, times in runs.items():
        median = statistics.median(times)
        print(f"| {name} | {median:,.0f} | {min(times):,.0f} .. {max(times):,.0f} | {1e3 / median:.3f} |")


if __name__ == "__main__":
    main()
