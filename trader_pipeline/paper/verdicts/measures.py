"""The figures of a closed trade, drawn from its own record.

Belongs here: what is read from which field, and setting aside what the record contradicts. Nothing is guessed: a field
that is missing or no number gives None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from trader_pipeline.paper.records import TradeRecord
from trader_pipeline.paper.verdicts.figures import (
    LARGEST_RESULT,
    days_between,
    mapping_of,
    moment_of,
    number_of,
    positive_of,
)
from trader_pipeline.paper.verdicts.trade_path import (
    HUNDRED,
    CallFigures,
    EntryTiming,
    Excursion,
    SpotFigures,
    TradePath,
    VolatilityState,
    agree,
    favour,
)

_SLIPPAGE = Decimal("0.05")
"""How far a fill may lie beyond the candles' range, as a share: slippage moves it against the trade alone."""
_PATH, _PRICES, _RETURNS, _LEGS = "its path", "prices and result", "path and returns", "legs and result"
_RESULT = "a result out of all bounds"
"""What can contradict itself in a record."""
_SAME_COIN = Decimal("1e-6")


def measure(trade: TradeRecord) -> TradePath:
    """The figures of a closed trade.

    Call it within `decimal.localcontext(figures.EXACT)`; its divisions are rounded to the context's digits.

    Raises:
        ValueError: the trade is open, or has no finite `pnl_pct`.
    """
    if trade.status != "CLOSED" or trade.exit_ts is None:
        raise ValueError(
            f"trade {trade.trade_id} is {trade.status}; only closed trades have a path to measure"
        )
    if trade.pnl_pct is None or not trade.pnl_pct.is_finite():
        raise ValueError(f"trade {trade.trade_id}: pnl_pct is {trade.pnl_pct}; a closed trade needs a number")
    return _Measurer(trade).path()


class _Measurer:
    """One trade's record while its figures are drawn from it."""

    def __init__(self, trade: TradeRecord) -> None:
        assert trade.exit_ts is not None
        assert trade.pnl_pct is not None
        self.trade, self.pnl, self.exit_ts = trade, trade.pnl_pct, trade.exit_ts
        self.record: Mapping[str, Any] = vars(trade)
        self.seen = mapping_of(self.record, "decision_context")
        self.way = mapping_of(self.record, "path")
        self.is_call = trade.direction == "SHORT_CALL"
        self.contradiction: str | None = None

    def path(self) -> TradePath:
        path = TradePath(
            direction=self.trade.direction,
            pnl_pct=self.pnl,
            covered_return_pct=number_of(self.record, "covered_return_pct"),
            days=days_between(self.trade.entry_ts, self.exit_ts),
            exit_reason=self.trade.exit_reason,
            has_path=bool(self.way),
            volatility=self._volatility(),
            spot=None if self.is_call else self._spot(),
            call=self._call() if self.is_call else None,
        )
        high, low = self._extremes()
        best, worst = self._excursions(high, low)
        timing = self._timing()
        if self._beyond(best):
            self.contradiction = _PRICES
        if abs(self.pnl) > LARGEST_RESULT:
            return replace(path, spot=None, call=None, contradiction=_RESULT)
        if self.contradiction:
            return _without_path(path, self.contradiction)
        return replace(path, high=high, low=low, best=best, worst=worst, timing=timing)

    def _spot(self) -> SpotFigures | None:
        entry, leave = positive_of(self.record, "entry_price"), number_of(self.record, "exit_price")
        if entry is None:
            return None
        fee_pct = self._fee_share(entry)
        if leave is None or leave < 0:
            return SpotFigures(
                entry=entry, exit=None, move_pct=None, cost_pct=fee_pct or Decimal(0), fee_pct=fee_pct
            )
        move = favour(self.trade.direction, entry, leave)
        if min(abs(move - self.pnl), abs(move - (fee_pct or 0) - self.pnl)) > _slack(move):
            self.contradiction = _PRICES
            return None
        return SpotFigures(entry=entry, exit=leave, move_pct=move, cost_pct=move - self.pnl, fee_pct=fee_pct)

    def _fee_share(self, price: Decimal) -> Decimal | None:
        """Fees over the entry's value in %, of whatever unit the price is in."""
        size, fee = positive_of(self.record, "size"), number_of(self.record, "fee")
        return HUNDRED * fee / (size * price) if size and fee is not None and fee >= 0 else None

    def _reference(self) -> Decimal | None:
        """The USD price at the entry: the fill, or the spot at which the first call was sold."""
        if self.is_call:
            return positive_of(self.way, "entry_spot")
        return positive_of(self.record, "entry_price")

    def _timing(self) -> EntryTiming | None:
        price, high, low = (
            self._reference(),
            positive_of(self.way, "before_high"),
            positive_of(self.way, "before_low"),
        )
        if price is None or high is None or low is None:
            return None
        if high < low:
            self.contradiction = _PATH
            return None
        return EntryTiming(price=price, high=high, low=low)

    def _extremes(self) -> tuple[Excursion | None, Excursion | None]:
        price, high, low = self._reference(), positive_of(self.way, "high"), positive_of(self.way, "low")
        if price is None or high is None or low is None:
            return None, None
        if not _holds(price, high, low, direction=self.trade.direction):
            self.contradiction = _PATH
            return None, None
        return tuple(  # type: ignore[return-value]
            Excursion(pct=HUNDRED * (p / price - 1), price=p, days=self._when(f"{name}_ts"))
            for name, p in (("high", high), ("low", low))
        )

    def _excursions(
        self, high: Excursion | None, low: Excursion | None
    ) -> tuple[Excursion | None, Excursion | None]:
        best, worst = number_of(self.way, "best_pct"), number_of(self.way, "worst_pct")
        if best is not None and worst is not None and not best >= 0 >= worst:
            self.contradiction = _PATH
            return None, None
        if self.is_call or high is None or low is None:
            return self._as_recorded(best, "best_ts"), self._as_recorded(worst, "worst_ts")
        return self._from_prices(best, worst, high, low)

    def _beyond(self, best: Excursion | None) -> bool:
        """Whether a LONG or SHORT made more than its best price gave, with no exit's price that would explain it."""
        return (
            best is not None
            and not self.is_call
            and number_of(self.record, "exit_price") is None
            and self.pnl > best.pct + _slack(best.pct)
        )

    def _as_recorded(self, pct: Decimal | None, when: str) -> Excursion | None:
        if pct is None:
            return None
        return Excursion(pct=pct, days=self._when(when) if pct else None)

    def _from_prices(
        self, best: Decimal | None, worst: Decimal | None, high: Excursion, low: Excursion
    ) -> tuple[Excursion | None, Excursion | None]:
        """Excursions of a LONG or SHORT follow from its extreme prices; recorded ones must agree with them."""
        ahead, behind = (high, low) if self.trade.direction == "LONG" else (low, high)
        sign = 1 if self.trade.direction == "LONG" else -1
        up, down = max(sign * ahead.pct, Decimal(0)), min(sign * behind.pct, Decimal(0))
        for recorded, computed in ((best, up), (worst, down)):
            if recorded is not None and not agree(recorded, computed):
                self.contradiction = _PATH
                return None, None
        return (
            Excursion(pct=up, price=ahead.price, days=ahead.days),
            Excursion(pct=down, price=behind.price, days=behind.days),
        )

    def _when(self, name: str) -> Decimal | None:
        """Days from the entry to a moment of the path; None where it lies outside of the trade."""
        moment = moment_of(self.way, name)
        if moment is None or not self.trade.entry_ts <= moment <= self.exit_ts:
            return None
        return days_between(self.trade.entry_ts, moment)

    def _volatility(self) -> VolatilityState:
        features = mapping_of(self.seen, "features")
        return VolatilityState(
            days_7=positive_of(features, "realised_volatility_7d"),
            days_30=positive_of(features, "realised_volatility_30d"),
            iv=positive_of(self.seen, "iv") if self.is_call else None,
            ivrv_ratio=positive_of(self.seen, "ivrv_ratio") if self.is_call else None,
        )

    def _call(self) -> CallFigures | None:
        premium = positive_of(self.record, "entry_price")
        if premium is None:
            return None
        spot_pct = self._spot_move()
        atr = positive_of(mapping_of(self.seen, "features"), "atr_14d_pct")
        exit_cost = number_of(self.record, "exit_price")
        legs = self.way.get("legs")
        return CallFigures(
            premium=premium,
            exit_cost=exit_cost if exit_cost is not None and exit_cost >= 0 else None,
            fee_pct=self._fee_share(premium),
            spot_pct=spot_pct,
            kept_pct=self._kept(premium, spot_pct),
            strike_atr=number_of(self.seen, "distance_to_strike_atr"),
            spot_atr=spot_pct / atr if spot_pct is not None and atr else None,
            legs=len(legs) if isinstance(legs, list | tuple) and legs else None,
            entry_spot=positive_of(self.way, "entry_spot"),
            exit_spot=positive_of(self.way, "exit_spot"),
            strike=positive_of(self.seen, "strike"),
            dte=positive_of(self.seen, "dte"),
            drawdown_pct=number_of(self.way, "max_drawdown_pct"),
        )

    def _spot_move(self) -> Decimal | None:
        """Spot from the entry to the exit in %: by the path, or what the coins did to the covered position."""
        start, end = positive_of(self.way, "entry_spot"), positive_of(self.way, "exit_spot")
        covered = number_of(self.record, "covered_return_pct")
        by_path = HUNDRED * (end / start - 1) if start and end else None
        by_returns = covered - self.pnl if covered is not None else None
        if by_path is not None and by_returns is not None and not agree(by_path, by_returns):
            self.contradiction = _RETURNS
            return None
        return by_path if by_path is not None else by_returns

    def _kept(self, premium: Decimal, spot_pct: Decimal | None) -> Decimal | None:
        """`pnl_pct` is the coin kept, at the exit's spot, over the entry's spot; legs on record must add up to it."""
        if spot_pct is None or spot_pct <= -100:
            return None
        coin = self.pnl / HUNDRED / (1 + spot_pct / HUNDRED)
        by_legs = self._coin_of_legs()
        if by_legs is not None and abs(by_legs - coin) > _SAME_COIN + abs(coin) / HUNDRED:
            self.contradiction = _LEGS
            return None
        return HUNDRED * coin / premium

    def _coin_of_legs(self) -> Decimal | None:
        legs, size = self.way.get("legs"), positive_of(self.record, "size")
        if not isinstance(legs, list | tuple) or not legs or size is None:
            return None
        parts = [[number_of(leg, f"{name}_coin") for name in ("premium", "exit_cost", "fee")] for leg in legs]
        total = Decimal(0)
        for premium, exit_cost, fee in parts:
            if premium is None or exit_cost is None or fee is None:
                return None
            total += premium - exit_cost - fee
        return total / size


def _without_path(path: TradePath, contradiction: str) -> TradePath:
    """The trade as it would read without its path: nothing is said from figures that contradict each other."""
    call = path.call and replace(
        path.call, spot_pct=None, spot_atr=None, kept_pct=None, legs=None, entry_spot=None, exit_spot=None,
        drawdown_pct=None,
    )  # fmt: skip
    covered = None if contradiction == _RETURNS else path.covered_return_pct
    return replace(path, call=call, covered_return_pct=covered, contradiction=contradiction)


def _slack(pct: Decimal) -> Decimal:
    """How far a result may lie from what the prices say: costs that the record does not tell, and rounding."""
    return 1 + Decimal("0.05") * abs(pct)


def _holds(price: Decimal, high: Decimal, low: Decimal, *, direction: str) -> bool:
    """Whether candles from `low` to `high` can hold an entry at `price`: slippage moves a fill against the trade."""
    above = _SLIPPAGE if direction != "SHORT" else Decimal(0)
    below = _SLIPPAGE if direction != "LONG" else Decimal(0)
    return low * (1 - below) <= price <= high * (1 + above) and low <= high
