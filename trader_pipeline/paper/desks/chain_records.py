"""Trade records of covered-call chains: what is written when the first leg is filled, and when the chain is over.

Belongs here: figures of a record and of its `path`. When they are known is `chain_walk`'s.

    pnl_pct            = 100 * pnl_vs_hodl / (size * spot at the entry)
    covered_return_pct = 100 * ((size + coins kept) * price at the end / (size * spot at the entry) - 1)

`pnl_pct` is what selling calls added to holding the coins; `covered_return_pct` is the covered position's own return,
which is the coins' move plus `pnl_pct`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from trader_pipeline.backtest import kernels
from trader_pipeline.backtest.legs import LEG_FIELDS
from trader_pipeline.options.calendar import instrument_name
from trader_pipeline.paper.desks.chain_walk import CallBook, ChainSoFar, Walk
from trader_pipeline.paper.records import TradeRecord, book_key, decimal_of, trade_id_of

DESK = "covered_call"
_DAY_SECONDS = 86_400
_FIELD = {name: n for n, name in enumerate(LEG_FIELDS)}


@dataclass(frozen=True)
class ChainRecords:
    """Records of one book's chains over the candles of a walk."""

    book: CallBook
    walk: Walk
    candles: pd.DataFrame

    @cached_property
    def _high(self) -> np.ndarray:
        return self.candles["high"].to_numpy(dtype=float)

    @cached_property
    def _low(self) -> np.ndarray:
        return self.candles["low"].to_numpy(dtype=float)

    @property
    def _size(self) -> float:
        return float(self.book.params.size)

    def opened(self, chain: ChainSoFar, *, source_hash: str) -> TradeRecord:
        """The record of a first leg that was filled."""
        context = chain.decision.context
        symbol = chain.decision.symbol
        assert context is not None
        assert symbol is not None
        key = book_key(self.book.market.key, DESK)
        first = _named(chain.legs[0])
        entered = _moment(first["entry_time"])
        return TradeRecord(
            trade_id=trade_id_of(key, pd.Timestamp(context["decision_time"]), symbol, "SHORT_CALL"),
            timestamp=entered,
            symbol=symbol,
            direction="SHORT_CALL",
            entry_price=first["premium"] / self._size,
            entry_ts=entered,
            size=self._size,
            fee=first["entry_fee"],
            status="OPEN",
            reasoning=chain.decision.reasoning,
            model_id=chain.decision.model_id,
            source_hash=source_hash,
            market=self.book.market.key,
            book=key,
            decision_context=context,
            exit_style=self.book.exit_style,
        )

    def closed(self, chain: ChainSoFar, *, source_hash: str) -> TradeRecord:
        """The record of a chain that is over."""
        first, last = _named(chain.legs[0]), _named(chain.legs[-1])
        value = self._size * first["entry_spot"]
        after = (self._size + chain.cash) * chain.end_price
        pnl_pct = 100.0 * (chain.cash * chain.end_price) / value
        ended = _moment(chain.end_time)
        return replace(
            self.opened(chain, source_hash=source_hash),
            timestamp=ended,
            fee=chain.fees,
            status="CLOSED",
            exit_price=last["exit_cost"] / self._size,
            exit_ts=ended,
            pnl_pct=decimal_of(pnl_pct),
            covered_return_pct=decimal_of(100.0 * (after / value - 1.0)),
            exit_reason=self._exit_reason(chain.legs[-1]),
            path=self._path(chain, pnl_pct),
        )

    def _exit_reason(self, leg: np.ndarray) -> str:
        if leg[_FIELD["expired"]] == 0.0:
            return "take_profit"
        return "no_delivery_price" if int(leg[_FIELD["expiry"]]) in self.walk.unpriced else "expired"

    def _path(self, chain: ChainSoFar, pnl_pct: float) -> dict[str, Any]:
        candles, first = self.walk.run.world.candles, chain.candle
        last = int(np.searchsorted(candles.close_time, chain.end_time, side="right")) - 1
        known = int(np.searchsorted(candles.open_time, candles.close_time[first - 1] - _DAY_SECONDS))
        before = slice(known, first)
        high = first + int(self._high[first : last + 1].argmax())
        low = first + int(self._low[first : last + 1].argmin())
        return {
            "bars": last - first + 1,
            "entry_spot": float(chain.legs[0, _FIELD["entry_spot"]]),
            "exit_spot": chain.end_price,
            "high": float(self._high[high]),
            "high_ts": _text(candles.open_time[high]),
            "low": float(self._low[low]),
            "low_ts": _text(candles.open_time[low]),
            **self._excursions(chain, pnl_pct, last),
            "max_drawdown_pct": chain.drawdown_pct,
            "before_high": float(self._high[before].max()),
            "before_low": float(self._low[before].min()),
            "legs": [self._leg(leg) for leg in chain.legs],
        }

    def _excursions(self, chain: ChainSoFar, pnl_pct: float, last: int) -> dict[str, Any]:
        """Best and worst `pnl_pct` of a chain: 0 at the entry, marked at each close before its end, and at its end."""
        world, coins = self.walk.run.world, np.empty(last + 1)
        one = np.zeros(len(chain.legs), dtype=np.int64)
        kernels.mark_book(self._size, one, chain.legs, self.walk.scratch.path, world, coins)
        candles = world.candles
        held = slice(chain.candle, int(np.searchsorted(candles.close_time, chain.end_time)))
        value = self._size * chain.legs[0, _FIELD["entry_spot"]]
        marked = 100.0 * (coins[held] - self._size) * candles.close[held] / value
        pnl = np.concatenate([[0.0], marked, [pnl_pct]])
        entered = chain.legs[0, _FIELD["entry_time"]]
        times = np.concatenate([[entered], candles.close_time[held], [chain.end_time]])
        best, worst = int(pnl.argmax()), int(pnl.argmin())
        return {
            "best_pct": float(pnl[best]),
            "best_ts": _text(times[best]),
            "worst_pct": float(pnl[worst]),
            "worst_ts": _text(times[worst]),
        }

    def _leg(self, leg: np.ndarray) -> dict[str, Any]:
        named = _named(leg)
        expiry = self.walk.run.prepared.expiries[int(named["expiry"])].time
        return {
            "symbol": instrument_name(
                underlying=self.book.market.underlying, expiry=expiry, strike=named["strike"]
            ),
            "entry_ts": _text(named["entry_time"]),
            "exit_ts": _text(named["exit_time"]),
            "premium_coin": named["premium"],
            "exit_cost_coin": named["exit_cost"],
            "fee_coin": named["entry_fee"] + named["exit_fee"],
            "exit_reason": self._exit_reason(leg),
        }


def _named(leg: np.ndarray) -> dict[str, float]:
    return dict(zip(LEG_FIELDS, leg.tolist(), strict=True))


def _moment(seconds: float) -> pd.Timestamp:
    return pd.Timestamp(int(seconds), unit="s", tz="UTC")


def _text(seconds: float) -> str:
    return _moment(seconds).isoformat()
