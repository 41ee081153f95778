"""Speed and accuracy of our prices, deltas and implied volatilities beside numpy's and vollib's, on one core.

`python benchmarks/pricing.py` prints it and writes the section "Pricing" of `benchmarks/results.md`. The contracts are
the same for all: half calls, half puts, strikes from 0.7 to 1.5 times the forward, volatilities of 0.3 to 1, one hour
to half a year. Ours takes the option types as words and numpy as signs made beforehand. vollib takes one option at a
time and is given the first few thousand.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import click
import mpmath
import numpy as np
from scipy.special import ndtr

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks._results import clock, interleaved, ratios, record, spread, table
from trader_pipeline.options import pricing

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # vollib's own, on import
    from vollib.black import black
    from vollib.black.greeks.analytical import delta as vollib_delta
    from vollib.black.implied_volatility import implied_volatility as vollib_implied_volatility

FORWARD = 50_000.0
EXACT = 500
"""Contracts that are also priced with 50 digits."""
TARGETS = (
    ("numpy", "price and delta", 5),
    ("vollib", "price and delta", 500),
    ("vollib", "implied volatility", 300),
)


class Contracts(NamedTuple):
    """One row each; `sign` is 1 for a call and -1 for a put."""

    strike: np.ndarray
    iv: np.ndarray
    years: np.ndarray
    option_type: np.ndarray
    sign: np.ndarray

    def first(self, count: int) -> Contracts:
        return Contracts(*(column[:count] for column in self))

    def ours(self) -> dict[str, object]:
        return {
            "forward": FORWARD, "strike": self.strike, "years": self.years, "option_type": self.option_type,
        }  # fmt: skip

    def rows(self) -> list[tuple[str, float, float, float]]:
        """vollib's type, strike, years and volatility as Python's own numbers."""
        kinds = [kind[0] for kind in self.option_type.tolist()]
        return list(zip(kinds, self.strike.tolist(), self.years.tolist(), self.iv.tolist(), strict=True))


def contracts(count: int, seed: int = 1) -> Contracts:
    rng = np.random.default_rng(seed)
    strike = FORWARD * rng.uniform(0.7, 1.5, count)
    iv = rng.uniform(0.3, 1.0, count)
    years = np.exp(rng.uniform(np.log(1 / 8_760), np.log(0.5), count))
    option_type = rng.choice(["call", "put"], count)
    return Contracts(strike, iv, years, option_type, np.where(option_type == "call", 1.0, -1.0))


def numpy_price_and_delta(c: Contracts) -> tuple[np.ndarray, np.ndarray]:
    """The textbook formula in coin."""
    deviation = c.iv * np.sqrt(c.years)
    ratio = c.strike / FORWARD
    d1 = 0.5 * deviation - np.log(ratio) / deviation
    chance = ndtr(c.sign * d1)
    return c.sign * (chance - ratio * ndtr(c.sign * (d1 - deviation))), c.sign * chance


def vollib_price_and_delta(rows: list[tuple[str, float, float, float]]) -> list[tuple[float, float]]:
    return [(black(k, FORWARD, s, t, 0.0, v), vollib_delta(k, FORWARD, s, t, 0.0, v)) for k, s, t, v in rows]


def vollib_implied(rows: list[tuple[str, float, float, float]], prices: list[float]) -> list[float]:
    return [
        vollib_implied_volatility(price, FORWARD, strike, 0.0, years, kind)
        for price, (kind, strike, years, _) in zip(prices, rows, strict=True)
    ]


def tasks(many: Contracts, few: Contracts) -> dict[tuple[str, str], tuple[Callable[[], object], int]]:
    """What is timed, and for how many contracts."""
    rows, size = few.rows(), many.strike.size
    price = pricing.option_price_coin(**many.ours(), iv=many.iv)
    prices_usd = [price_usd for price_usd, _ in vollib_price_and_delta(rows)]
    return {
        ("ours", "price and delta"): (lambda: pricing.price_and_delta(**many.ours(), iv=many.iv), size),
        ("numpy", "price and delta"): (lambda: numpy_price_and_delta(many), size),
        ("vollib", "price and delta"): (lambda: vollib_price_and_delta(rows), len(rows)),
        ("ours", "implied volatility"): (
            lambda: pricing.implied_volatility(**many.ours(), price_coin=price),
            size,
        ),
        ("vollib", "implied volatility"): (lambda: vollib_implied(rows, prices_usd), len(rows)),
    }


def speeds(many: Contracts, few: Contracts, rounds: int) -> str:
    """A table of times per contract and of ratios."""
    timed = tasks(many, few)
    seconds = interleaved({name: task for name, (task, _) in timed.items()}, rounds)
    each = {name: [t / timed[name][1] for t in times] for name, times in seconds.items()}
    rows = [
        (f"{what}, {peer}", clock(each[peer, what]), clock(each["ours", what]),
         spread(ratios(each[peer, what], each["ours", what])), f"at least {target}")
        for peer, what, target in TARGETS
    ]  # fmt: skip
    return table(["per contract", "theirs", "ours", "ratio", "target"], rows)


def exact(kind: str, strike: float, years: float, iv: float) -> tuple[float, float]:
    """Price in coin and delta with 50 digits."""
    with mpmath.workdps(50):
        ratio, deviation = mpmath.mpf(strike) / FORWARD, mpmath.mpf(iv) * mpmath.sqrt(years)
        sign = 1 if kind == "c" else -1
        d1 = deviation / 2 - mpmath.log(ratio) / deviation
        chance = mpmath.ncdf(sign * d1)
        return float(sign * (chance - ratio * mpmath.ncdf(sign * (d1 - deviation)))), float(sign * chance)


def largest(found: np.ndarray, wanted: np.ndarray) -> str:
    return f"{np.max(np.abs(found - wanted)):.1e}"


def errors(many: Contracts, few: Contracts) -> str:
    """A table of the largest absolute errors: prices in coin, deltas, volatilities of 1.00."""
    price, delta = pricing.price_and_delta(**many.ours(), iv=many.iv)
    theirs = np.array(vollib_price_and_delta(few.rows())) / [FORWARD, 1.0]
    truth = np.array([exact(*row) for row in few.first(EXACT).rows()])
    rows = [
        (name, str(len(wanted)), largest(price[: len(wanted)], wanted[:, 0]),
         largest(delta[: len(wanted)], wanted[:, 1]))
        for name, wanted in (
            ("numpy", np.transpose(numpy_price_and_delta(many))), ("vollib", theirs), ("50 digits", truth),
        )
    ]  # fmt: skip
    return table(["against", "contracts", "price", "delta"], rows)


def volatility_errors(many: Contracts, few: Contracts) -> str:
    """As `errors`, where the price tells the volatility: its own rounding moves it by less than 1e-11."""
    price = pricing.option_price_coin(**many.ours(), iv=many.iv)
    vega = pricing.vega(forward=FORWARD, strike=many.strike, iv=many.iv, years=many.years) / FORWARD
    told = (price > 1e-300) & (np.finfo(float).eps * price < 1e-11 * vega)
    found = pricing.implied_volatility(**many.ours(), price_coin=price)
    few_told = told[: few.strike.size].nonzero()[0]
    every = few.rows()
    rows_told = [every[i] for i in few_told]
    theirs = np.array(vollib_implied(rows_told, (price[few_told] * FORWARD).tolist()))
    rows = [
        ("what the price was made of", str(told.sum()), largest(found[told], many.iv[told])),
        ("vollib", str(few_told.size), largest(found[few_told], theirs)),
    ]
    return table(["implied volatility against", "contracts", "error"], rows)


@click.command(help=__doc__)
@click.option("--count", default=1_000_000, show_default=True, help="contracts for us and numpy")
@click.option("--vollib-count", default=3_000, show_default=True, help="contracts for vollib")
@click.option("--rounds", default=15, show_default=True)
def main(count: int, vollib_count: int, rounds: int) -> None:
    many = contracts(count)
    few = many.first(vollib_count)
    parts = (
        f"{count:,} contracts ({vollib_count:,} for vollib), one core, {rounds} rounds.",
        speeds(many, few, rounds),
        "Largest absolute errors (target: at most 1e-10):",
        errors(many, few),
        volatility_errors(many, few),
    )
    record("Pricing", "\n\n".join(parts))


if __name__ == "__main__":
    main()
