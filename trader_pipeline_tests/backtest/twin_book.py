"""The twin's sequential book: which decisions find it free, what they come to, and its value at every close."""

from __future__ import annotations

from typing import NamedTuple

from trader_pipeline_tests.backtest.twin import Chain, Twin


class Step(NamedTuple):
    """A decision; `chain` is None where nothing came of it."""

    time: int
    reason: str
    chain: Chain | None


def decided(twin: Twin, time: int, exit_style: str, *, declined: str) -> Step:
    """What the policy does at `time`, and what comes of it; `declined` is the reason for answering nothing."""
    if not twin.listing(time):
        return Step(time, "no_candidates", None)
    call = twin.decide(time)
    if call is None:
        return Step(time, declined, None)
    chain = twin.run(time, call, exit_style)
    return Step(time, "sold" if chain else "trade_simulation_failed", chain)


def run_book(twin: Twin, times: list[int], exit_style: str, *, declined: str) -> list[Step]:
    """The decisions of one book, in order: none is made while a chain is open."""
    steps, free_from = [], 0
    for time in times:
        if time >= free_from:
            step = decided(twin, time, exit_style, declined=declined)
            steps.append(step)
            free_from = step.chain.label_end_time if step.chain else free_from
    return steps


def equity_curve(twin: Twin, steps: list[Step], first: int, last: int) -> dict[int, float]:
    """USD value of the book at every close from `first` to `last`.

    A book that has lost coins sells only as many calls as it has coins; one that has gained some sells no more.
    """
    chains = [step.chain for step in steps if step.chain]
    moments = [n for n, time in enumerate(twin.close_time) if first <= time <= last]
    return {twin.close_time[n]: coins(twin, chains, n) * twin.close[n] for n in moments}


def coins(twin: Twin, chains: list[Chain], n: int) -> float:
    """Coins at the close of candle `n`: held, plus cash, less the mark of the open call."""
    size, now = twin.params.size, twin.close_time[n]
    held = size
    for chain in chains:
        share = min(1.0, held / size)
        for leg in chain.legs:
            if leg.exit_time <= now:
                held += share * leg.cash
            elif leg.entry_time < now:
                part = twin.slice(n, now, leg.call.expiry)
                mark = twin.price(part, twin.close[n], leg.call.strike)[0]
                return held + share * (leg.premium - leg.entry_fee - size * mark)
            else:
                return held
    return held
