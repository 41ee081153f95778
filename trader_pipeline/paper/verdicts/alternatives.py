"""What a trade would have made with one thing changed, in hindsight.

Belongs here: the changes that a trade's own record lets one compute, and the best of them. The words are in
`sentences`.

Every change keeps the rest of the trade as it was, costs included. The figures are those of the best price in reach:
what could have been had, not what anybody could have known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from trader_pipeline.paper.records import decimal_of
from trader_pipeline.paper.verdicts.figures import rounded
from trader_pipeline.paper.verdicts.trade_path import (
    HUNDRED,
    CallFigures,
    Excursion,
    SpotFigures,
    TradePath,
    favour,
)

Change = Literal["no_trade", "best_exit", "later_entry", "earlier_entry", "buy_back", "strike"]
_YEAR = Decimal(365)
_BEFORE_THE_END = Decimal("0.9")
"""A chain's best mark counts as an earlier exit within this share of the time in trade."""
_LIKE_THE_MODEL = Decimal(3)
"""The premium received is within this factor of Black-76's, else the record's volatility does not explain it."""


@dataclass(frozen=True, kw_only=True)
class Alternative:
    """One change and the `pnl_pct` that it leads to; `price` is a USD price or strike, `days` counts from the entry."""

    change: Change
    pnl_pct: Decimal
    price: Decimal | None = None
    days: Decimal | None = None


def best_alternative(path: TradePath) -> Alternative | None:
    """The single change with the largest result, or None where none is better as written, with two decimals.

    Not trading is better than any loss, however small: no price that could be off has a part in it.
    """
    options = list(alternatives(path))
    if not any(_is_better(option, path) for option in options):
        return None
    return max(options, key=lambda option: option.pnl_pct)  # the first one where several tie


def any_better(path: TradePath) -> bool:
    """Whether a change leads to a larger result at all, though by less than is written."""
    return any(option.pnl_pct > path.pnl_pct for option in alternatives(path))


def _is_better(option: Alternative, path: TradePath) -> bool:
    if option.change == "no_trade":
        return option.pnl_pct > path.pnl_pct
    return rounded(option.pnl_pct, 2) > rounded(path.pnl_pct, 2)


def alternatives(path: TradePath) -> Iterator[Alternative]:
    """All changes that can be computed, not trading first."""
    yield Alternative(change="no_trade", pnl_pct=Decimal(0))
    if path.spot is not None:
        yield from _of_spot(path, path.spot)
    if path.call is not None:
        yield from _of_call(path, path.call)


def _of_spot(path: TradePath, spot: SpotFigures) -> Iterator[Alternative]:
    ahead, behind = (path.high, path.low) if path.direction == "LONG" else (path.low, path.high)
    if ahead is not None and ahead.price is not None:
        pnl = favour(path.direction, spot.entry, ahead.price) - spot.cost_pct
        yield Alternative(change="best_exit", pnl_pct=pnl, price=ahead.price, days=ahead.days)
    elif path.best is not None:
        pnl = path.best.pct - spot.cost_pct
        yield Alternative(change="best_exit", pnl_pct=pnl, days=path.best.days)
    if behind is not None:
        yield from _entered(path, spot, "later_entry", at=behind)
    if path.timing is not None:
        before = path.timing.low if path.direction == "LONG" else path.timing.high
        yield from _entered(path, spot, "earlier_entry", at=Excursion(pct=Decimal(0), price=before))


def _entered(path: TradePath, spot: SpotFigures, change: Change, *, at: Excursion) -> Iterator[Alternative]:
    """The trade with another entry, the same exit, and the same costs in USD."""
    if at.price is None or spot.exit is None:
        return
    cost_pct = spot.cost_pct * spot.entry / at.price
    pnl = favour(path.direction, at.price, spot.exit) - cost_pct
    yield Alternative(change=change, pnl_pct=pnl, price=at.price, days=at.days)


def _of_call(path: TradePath, call: CallFigures) -> Iterator[Alternative]:
    if path.best is not None and _clearly_earlier(path.best, path):
        yield Alternative(change="buy_back", pnl_pct=path.best.pct, days=path.best.days)
    if path.exit_reason == "expired" and call.legs == 1 and (strike := _other_strike(path, call)):
        yield strike


def _clearly_earlier(best: Excursion, path: TradePath) -> bool:
    """Marks are free of the spread that leaving pays, so the last ones before any exit look better than it."""
    return best.days is None or path.days is None or best.days <= _BEFORE_THE_END * path.days


def _other_strike(path: TradePath, call: CallFigures) -> Alternative | None:
    """A single call held to its expiry, at the strike that would have paid the most: the one where spot ended.

    Not below spot at the entry: calls are sold at or out of the money. Its premium is the one received, times the ratio
    of the two strikes' Black-76 prices at the implied volatility seen at the decision.
    """
    iv, strike, dte = path.volatility.iv, call.strike, call.dte
    entry, end = call.entry_spot, call.exit_spot
    if iv is None or strike is None or dte is None or entry is None or end is None:
        return None
    if call.fee_pct is None or call.exit_cost is None or not _payoff_agrees(call.exit_cost, strike, end):
        return None
    other = max(end, entry)
    was, would_be = (_price(entry, k, iv, dte) for k in (strike, other))
    if not was or not 1 / _LIKE_THE_MODEL <= call.premium / was <= _LIKE_THE_MODEL:
        return None
    premium = call.premium * would_be / was
    fee = call.premium * call.fee_pct / HUNDRED
    return Alternative(change="strike", pnl_pct=HUNDRED * (premium - fee) * end / entry, price=other)


def _payoff_agrees(exit_cost: Decimal, strike: Decimal, end: Decimal) -> bool:
    payoff = max(Decimal(0), end - strike) / end
    return abs(payoff - exit_cost) <= Decimal("1e-6") + payoff / HUNDRED


def _price(spot: Decimal, strike: Decimal, iv: Decimal, dte: Decimal) -> Decimal:
    """Black-76 in coin; zero where the volatility or the time lie outside of what a market has."""
    if iv > 10 or dte > 3 * _YEAR or not Decimal("0.1") < strike / spot < 10:
        return Decimal(0)
    from trader_pipeline.options import call_price_coin  # loads numba, which settings and imports do without

    price = call_price_coin(forward=float(spot), strike=float(strike), iv=float(iv), years=float(dte / _YEAR))
    return decimal_of(float(price))
