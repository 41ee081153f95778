"""Whether a written profit is percent or a fraction. This is the rule's only place.

The rule, in this order:

1. A text that ends in `%` is percent: "1.5 %" is 1.5 percent.
2. The record's own field `pnl_unit` decides: "percent", or "fraction" (0.015 is 1.5 percent).
3. The reader's option decides, unless it is "auto".
4. A record that names its `book` is the project's own and percent. Of a closed LONG or SHORT it must be within
   1 percentage point + 5 % of what its prices, size and fee come to, else the line is refused.
5. Of any other closed LONG or SHORT with an exit price, the move of the prices, in the direction of the trade, decides:
   before fees, and where the record holds both size and fee also after them, for nobody knows whether the fee is in.
   Of the two readings, percent and fraction, the one within 1 percentage point + 5 % of such a move is taken; the one
   nearest to a move, if both are; percent, if both are equally near. If neither is, the line is refused and all
   figures are named.
6. Else prices cannot tell (SHORT_CALL, no exit price), and it is percent.

`covered_return_pct` is in the unit that was found for `pnl_pct`, unless it ends in `%` itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_FLOOR, Context, Decimal
from fractions import Fraction
from typing import Literal

from trader_pipeline.paper.reading.strict_json import RefusedError

PnlUnit = Literal["auto", "percent", "fraction"]

_EXACT = Context(prec=400)  # products of numbers of at most 100 characters are exact in it
_DOWN = Context(prec=60, rounding=ROUND_FLOOR)  # never rounds a profit up to a verdict's threshold


@dataclass(frozen=True)
class Moved:
    """What a closed LONG or SHORT went through, in the units of its record.

    `costs_told`: the record itself holds size and fee, so the move after fees is known.
    """

    direction: str
    entry_price: Decimal
    exit_price: Decimal
    size: Decimal = Decimal(1)
    fee: Decimal = Decimal(0)
    costs_told: bool = False

    @property
    def gross(self) -> Fraction:
        """Move of the prices in the direction of the trade (%)."""
        rise = Fraction(self.exit_price) / Fraction(self.entry_price) - 1
        return 100 * (-rise if self.direction == "SHORT" else rise)

    @property
    def net(self) -> Fraction:
        """The same after fees: the definition of `pnl_pct` (%)."""
        return self.gross - 100 * Fraction(self.fee) / (Fraction(self.size) * Fraction(self.entry_price))

    @property
    def told(self) -> tuple[Fraction, ...]:
        """The moves that a written profit may mean (%): before fees, and after them where they are known."""
        return (self.gross, self.net) if self.costs_told and self.fee else (self.gross,)

    @property
    def net_pct(self) -> Decimal:
        """`net` as a decimal of at most 60 digits, rounded down.

        >>> Moved("SHORT", Decimal(100), Decimal(90), size=Decimal(2), fee=Decimal(1)).net_pct
        Decimal('9.5')
        """
        return _DOWN.divide(Decimal(self.net.numerator), Decimal(self.net.denominator))


def is_fraction(written: Decimal, *, moved: Moved | None, own: bool, unit: PnlUnit) -> bool:
    """Whether a profit written as a bare number is a fraction (rules 2 to 6).

    Args:
        written: the number.
        moved: the trade's figures; None where prices cannot tell.
        own: the record names its book.
        unit: the record's own unit, else the reader's option.

    Raises:
        RefusedError: no reading agrees with the figures.
    """
    if unit != "auto" or moved is None:
        return unit == "fraction"
    if own:
        _check_own(written, moved.net)
        return False
    percent, fraction = (_off(Fraction(written) * scale, moved) for scale in (1, 100))
    if percent is None and fraction is None:
        after = f" ({_figure(moved.net)} % after the fee)" if len(moved.told) > 1 else ""
        raise RefusedError(
            f"pnl_pct is {_figure(written)} % if it is percent, {_figure(as_percent(written))} % if it is a fraction;"
            f" neither agrees with the prices, which moved {_figure(moved.gross)} % in the trade's direction{after}."
            " Say which it is with pnl_unit"
        )
    return percent is None or (fraction is not None and fraction < percent)


def as_percent(fraction: Decimal) -> Decimal:
    """0.15 is 15 (%), to the last digit."""
    return _EXACT.multiply(fraction, Decimal(100))


def _off(reading: Fraction, moved: Moved) -> Fraction | None:
    """How far a reading lies from the nearest move that explains it (percentage points); None where none does."""
    near = (away for move in moved.told if (away := abs(reading - move)) <= _tolerance(move))
    return min(near, default=None)


def _tolerance(move: Fraction) -> Fraction:
    """1 percentage point + 5 % of the move."""
    return 1 + abs(move) / 20


def _check_own(written: Decimal, net: Fraction) -> None:
    if abs(Fraction(written) - net) > _tolerance(net):
        raise RefusedError(
            f"pnl_pct is {_figure(written)} %, while the record's prices, size and fee come to {_figure(net)} %"
        )


def _figure(value: Decimal | Fraction) -> str:
    return f"{float(value):.6g}"
