"""The same weekly job in our engine and in other backtest libraries: `python benchmarks/peers.py [--klines FOLDER]`.

What the job is, and what the others are handed, is told in `_peer_job`. Not timed, for us and for them: reading candles
and laying data out. Every library has to end with the coins that ours ends with, or the script stops.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks._engine_job import MARKET, load_candles, origin
from benchmarks._peer_job import BASE, DELTAS, Job, build_job
from benchmarks._peer_libraries import PEERS, Optopsy, Peer
from benchmarks._peer_ours import Ours, Slow
from benchmarks._recorded import recorded
from benchmarks._results import clock, interleaved, ratios, record, spread, table

ALL = range(len(DELTAS))
FEW = range(0, len(DELTAS), len(DELTAS) // 4)
QUICK_ROUNDS, SLOW_ROUNDS = 21, 3


def installed_peers(job: Job) -> list[Peer]:
    """The libraries that are there, laid out; a line for each that is not."""
    found = []
    for peer in PEERS:
        if find_spec(peer.module) is None:
            print(f"{peer.package} is not installed and passed over: pip install -e '.[bench]' brings it")
            continue
        found.append(peer(job, ALL if peer.quick else [BASE, *FEW]))
    return found


def check(name: str, got: float, wanted: float) -> None:
    """Stop where a library did another job than ours."""
    if abs(got - wanted) > 1e-5:
        raise SystemExit(
            f"{name} ends with {got:.8f} coins instead of {wanted:.8f}: that is not the same job"
        )


def measured(ours: Ours, peer: Peer) -> list[str]:
    """One row: the peer's run and sweep, each timed in turn with ours, and how many times longer they took."""
    rounds = QUICK_ROUNDS if peer.quick else SLOW_ROUNDS
    settings = ALL if peer.quick else FEW
    runs = interleaved({"ours": lambda: ours.run(BASE), "theirs": lambda: peer.run(BASE)}, rounds)
    sweeps = interleaved({"ours": lambda: ours.sweep(ALL), "theirs": lambda: peer.sweep(settings)}, rounds)
    run = [t / peer.share for t in runs["theirs"]]
    sweep = [t / peer.share * len(ALL) / len(settings) for t in sweeps["theirs"]]
    note = (
        peer.note if peer.quick else f"{peer.note}; {len(FEW)} settings timed, times {len(ALL) // len(FEW)}"
    )
    return [
        peer.name, clock(run), spread(ratios(run, runs["ours"])) + " x", clock(sweep),
        spread(ratios(sweep, sweeps["ours"])) + " x", note + averaged(peer),
    ]  # fmt: skip


def own_row(ours: Ours) -> list[str]:
    times = interleaved({"run": lambda: ours.run(BASE), "sweep": lambda: ours.sweep(ALL)}, QUICK_ROUNDS)
    return ["**ours**", clock(times["run"]), "1", clock(times["sweep"]), "1", ours.note]


def averaged(peer: Peer) -> str:
    """What optopsy also offers, which is not the job: averages over all calls of the sweep."""
    if not isinstance(peer, Optopsy):
        return ""
    times = interleaved({"averages": peer.averages}, QUICK_ROUNDS)["averages"]
    return (
        f". It averages all calls of the sweep by distance in {clock(times)}, which gives no setting's figure"
    )


def described(job: Job, rows: Sequence[Sequence[str]], candles: str) -> str:
    legs = job.trades[BASE]
    distance = (legs["strike"] / legs["entry_spot"] - 1).median()
    head = (
        "library",
        "a run",
        "times ours",
        f"{len(ALL)} settings",
        "times ours",
        "in its most favourable form",
    )
    first, last = job.close_time[[0, -1]]
    return f"""BTC, hourly {candles}, {first:%F} .. {last:%F}. Every Friday a call of seven days is sold and held to its
expiry, without fees and spread: {len(legs)} calls, {distance:.1%} above spot in the median. A sweep takes {len(ALL)}
strike distances (deltas from {DELTAS[0]} to {DELTAS[-1]}). One core, one process, each library in turn with ours. Not
timed: candles, feeds, orders, and for all but ours and the twin the option prices, which they are handed for every
hour. All end with the same coins, to 1e-5.

{table(head, rows)}"""


@click.command(help=__doc__)
@click.option("--klines", default=recorded("klines") or "", help="folder with hourly BTC candles")
def main(klines: str) -> None:
    candles = load_candles(klines)
    job = build_job(candles, MARKET)
    ours = Ours(candles, MARKET)
    peers = [*installed_peers(job), Slow(job, candles, MARKET, [BASE, *FEW])]
    check("ours", ours.run(BASE), float(job.coins[BASE]))
    check("our sweep", ours.sweep(ALL)[BASE], float(job.coins[BASE]))
    for peer in peers:
        check(peer.name, peer.run(BASE), peer.expected(job, BASE))
    rows = [own_row(ours), *(measured(ours, peer) for peer in peers)]
    record("Beside other libraries", described(job, rows, origin(klines)))


if __name__ == "__main__":
    main()
