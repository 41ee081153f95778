"""Settling every candidate of every decision: all chains advance one leg at a time, those of the same call together.

Belongs here: the arrays of such chains and their waves. A call's marks are computed once for all who sell it in a wave,
whatever the decision and the exit style; what a leg does is in `kernels`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from trader_pipeline.backtest import kernels
from trader_pipeline.backtest.answers import Answers
from trader_pipeline.backtest.legs import BOUGHT, LEG_FIELDS, OPEN, SETTLED
from trader_pipeline.backtest.offers import Offers
from trader_pipeline.backtest.outcomes import Outcomes, Sold, StyleRun
from trader_pipeline.backtest.world import Run
from trader_pipeline.options.parallel import run_parts


@dataclass(frozen=True)
class _Wave:
    """All chains: every row of the offers in the order of calls, under each exit style in turn.

    Chain `n * rows + i` is that of row `row[i]` under style n. `plane` >= 0 keeps a chain's legs.
    """

    row: np.ndarray
    calls: kernels.Calls
    sales: kernels.Sales
    chains: kernels.Chains
    plane: np.ndarray


def settle_offers(
    run: Run, offers: Offers, answers: Sequence[Answers], *, threads: int,
    on_progress: Callable[[float], None] | None = None,
) -> list[StyleRun]:  # fmt: skip
    """Outcomes of every candidate under each exit style, and the chosen ones with their legs."""
    chosen = [_chosen_rows(offers, style) for style in answers]
    wave = _first_wave(run, offers, [style.exit_style == "tp_and_roll" for style in answers])
    rows, position = len(wave.row), np.empty_like(wave.row)
    position[wave.row] = np.arange(rows)
    for n, picked in enumerate(chosen):
        wave.plane[n * rows + position[picked]] = 1
    legs = _play_all(run, wave, answers, threads=threads, on_progress=on_progress)
    every, free = _outcomes(wave.chains), np.ones(len(offers.moment), dtype=bool)
    styles = []
    for n, (style, picked) in enumerate(zip(answers, chosen, strict=True)):
        offered = every.at(n * rows + position)
        sold = _sold(offers, picked, offered.at(picked), legs, n * rows)
        styles.append(StyleRun(style.exit_style, free, sold, offered))
    return styles


def _chosen_rows(offers: Offers, answers: Answers) -> np.ndarray:
    """The row that the policy picked at each decision at which it sells."""
    steps = np.flatnonzero(answers.sells(offers.moment))
    moment = offers.moment[steps]
    return offers.rows_of(steps, answers.picks.expiry[moment], answers.picks.strike[moment])


def _first_wave(run: Run, offers: Offers, takes_profit: list[bool]) -> _Wave:
    listing, decisions, styles = offers.listing, run.decisions, len(takes_profit)
    fields = (listing.expiry, listing.quotes[:, 0], listing.iv_ratio, listing.bid_share, listing.basis)
    row, _ = _grouped(kernels.Calls(*fields), np.arange(len(listing.expiry)))
    step, count = offers.step_of_row[row], len(row) * styles

    def each(values: np.ndarray) -> np.ndarray:
        return np.tile(values, styles)

    known = each(decisions.known[step])
    sales = kernels.Sales(
        each(decisions.time[step]), known, each(decisions.candle[step]), each(offers.ends[row])
    )
    chains = kernels.Chains(
        status=np.full(count, OPEN, dtype=np.int64),
        candle=np.full(count, -1, dtype=np.int64),
        end_time=np.zeros(count, dtype=np.int64),
        end_price=np.full(count, np.nan),
        cash=np.zeros(count),
        fees=np.zeros(count),
        peak=run.params.size * run.world.candles.close[known],
        drawdown=np.zeros(count),
        takes_profit=np.repeat(np.array(takes_profit), len(row)),
        legs=np.zeros(count, dtype=np.int64),
    )
    calls = kernels.Calls(*(each(values[row]) for values in fields))
    return _Wave(row, calls, sales, chains, np.full(count, -1, dtype=np.int64))


def _begun(wave: _Wave) -> tuple[np.ndarray, int]:
    """The chains of the first wave, and how far from each its partner is: held to expiry beside who takes profit."""
    rows = len(wave.row)
    if rows == 0 or len(wave.plane) == rows:
        return np.arange(rows), 0
    first, held = (0, 1) if wave.chains.takes_profit[0] else (1, 0)
    return np.arange(first * rows, (first + 1) * rows), (held - first) * rows


def _play_all(
    run: Run, wave: _Wave, answers: Sequence[Answers], *, threads: int, on_progress: Callable[[float], None] | None
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Play waves until no chain rolls on.

    Returns `n * rows + row` of the chain of each leg that was kept, ascending, and the legs, those of a chain in order.
    """
    (going, partner), kept, legs = _begun(wave), [], []
    for leg in range(run.params.max_rolls + 1):
        players = np.concatenate([going, going + partner]) if partner else going
        keeps = players[wave.plane[players] >= 0]
        wave.plane[keeps] = np.arange(len(keeps))
        written = np.full((len(keeps), len(LEG_FIELDS)), np.nan)
        order, groups = _grouped(wave.calls, going)
        played = partial(_play, run, wave, order, groups, partner, written)
        run_parts(played, np.diff(groups), threads=threads, on_progress=on_progress if leg == 0 else None)
        sold = ~np.isnan(written[:, 0])
        kept.append(keeps[sold])
        legs.append(written[sold])
        going, partner = _roll(run, wave, going[wave.chains.status[going] == BOUGHT], answers, threads), 0
        if not len(going):
            break
    rows = max(1, len(wave.row))
    chain, leg_rows = np.concatenate(kept), np.concatenate(legs)
    chain = chain - chain % rows + wave.row[chain % rows]
    order = np.argsort(chain, kind="stable")
    return chain[order], leg_rows[order]


def _play(
    run: Run, wave: _Wave, order: np.ndarray, groups: np.ndarray, partner: int, legs: np.ndarray, begin: int,
    end: int,
) -> None:  # fmt: skip
    scratch = kernels.make_scratch(run.world, 0)
    kernels.play_legs(
        order, groups, partner, begin, end, wave.calls, wave.sales, wave.chains, wave.plane, legs, scratch, run.world,
        run.rules,
    )  # fmt: skip


def _grouped(calls: kernels.Calls, going: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Chains in the order of the call that they sell next, and where each call's chains begin."""
    fields = [v[going] for v in (calls.expiry, calls.strike, calls.iv_ratio, calls.basis, calls.bid_share)]
    used = [v for v in fields if len(v) and not _constant(v)]
    order = np.lexsort(used[::-1]) if used else np.arange(len(going))
    begins = np.zeros(len(going), dtype=bool)
    begins[:1] = True
    for values in used:
        ordered = values[order]
        begins[1:] |= ~((ordered[1:] == ordered[:-1]) | (np.isnan(ordered[1:]) & np.isnan(ordered[:-1])))
    return going[order], np.append(np.flatnonzero(begins), len(going))


def _constant(values: np.ndarray) -> bool:
    return bool((values == values[0]).all() or np.isnan(values).all())


def _roll(run: Run, wave: _Wave, bought: np.ndarray, answers: Sequence[Answers], threads: int) -> np.ndarray:
    """Ask where chains were bought back, and set up the next leg of those that sell again."""
    chains, rows, going = wave.chains, len(wave.row), []
    for n, style in enumerate(answers):
        mine = bought[(bought >= n * rows) & (bought < (n + 1) * rows)]
        candle = chains.candle[mine]
        style.ask(candle, threads=threads)
        sells = style.sells(candle)
        chains.status[mine[~sells]] = SETTLED
        mine, candle = mine[sells], candle[sells]
        for field, values in zip(wave.calls, style.picks[1:6], strict=True):
            field[mine] = values[candle]
        wave.sales.time[mine] = chains.end_time[mine]
        wave.sales.known[mine], wave.sales.candle[mine] = candle, candle + 1
        going.append(mine)
    return np.concatenate(going)


def _outcomes(chains: kernels.Chains) -> Outcomes:
    return Outcomes(
        chains.status, chains.end_time, chains.legs, chains.end_price, chains.cash, chains.fees, 100.0 * chains.drawdown
    )  # fmt: skip


def _sold(
    offers: Offers, picked: np.ndarray, outcomes: Outcomes, legs: tuple[np.ndarray, np.ndarray], shift: int
) -> Sold:
    """The chosen chains; a chain that failed has no legs."""
    listing, step, (chain, rows) = offers.listing, offers.step_of_row, legs
    settled = np.zeros(len(step), dtype=bool)
    settled[picked[outcomes.settled]] = True
    mine = (chain >= shift) & (chain < shift + len(step))
    mine[mine] = settled[chain[mine] - shift]
    outcomes = Outcomes(**{**vars(outcomes), "legs": np.where(outcomes.settled, outcomes.legs, 0)})
    return Sold(step[picked], listing.expiry[picked], listing.quotes[picked, 0], outcomes, rows[mine])
