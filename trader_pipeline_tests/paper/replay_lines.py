"""Numbered ticks of a made-up spot book: tick n is always the same lines, so that a lost or doubled one is seen."""

from decimal import Decimal

import pandas as pd

from trader_pipeline.paper.records import Start, Tick, TradeRecord

BOOK = "BTC_5m/spot"
FIRST = pd.Timestamp("2024-01-01", tz="UTC")
STEP = pd.Timedelta(minutes=5)
START = Start(
    book=BOOK,
    market="BTC_5m",
    desk="spot",
    first_candle=FIRST,
    frame_from=FIRST - pd.Timedelta(days=1),
    settings={"size": 1.0},
    simulated=True,
)


def trade(**changes: object) -> TradeRecord:
    """A long that was opened at 100 and is open."""
    values: dict = {
        "trade_id": "t1",
        "timestamp": FIRST + STEP,
        "symbol": "BTC/USDT",
        "direction": "LONG",
        "entry_price": 100.0,
        "entry_ts": FIRST + STEP,
        "size": 1.0,
        "fee": 0.25,
        "status": "OPEN",
        "reasoning": "Spot rose.",
        "model_id": "trend",
        "source_hash": "ab",
        "market": "BTC_5m",
        "book": BOOK,
        "decision_context": {"spot": 99.5, "features": {"return_7d_pct": 1.0}},
    }
    return TradeRecord(**{**values, **changes})


def closed(**changes: object) -> TradeRecord:
    """The same, closed at 110 with 0.5 paid in fees: 9.5 %."""
    values = {
        "status": "CLOSED",
        "timestamp": FIRST + 3 * STEP,
        "exit_ts": FIRST + 3 * STEP,
        "exit_price": 110.0,
        "fee": 0.5,
        "pnl_pct": Decimal("9.5"),
        "exit_reason": "signal",
        "path": {"bars": 2, "high": 111.0},
    }
    return trade(**{**values, **changes})


def tick(n: int, *, book: str = BOOK, action: str = "HOLD", **changes: object) -> Tick:
    """The tick of candle n, without trades."""
    opened = FIRST + n * STEP
    return Tick(book=book, candle=opened, close_time=opened + STEP, action=action, **changes)  # type: ignore[arg-type]


def numbered(n: int, *, padding: int = 0) -> list[bytes]:
    """Lines of tick n: every second candle closes a long of 1 % and opens the next one."""
    trades: list[TradeRecord] = []
    at = FIRST + n * STEP
    opening = {"reasoning": "x" * padding, "entry_ts": at, "timestamp": at, "trade_id": f"t{n}"}
    if n % 2 == 1:
        if n > 1:
            entered = FIRST + (n - 2) * STEP
            trades.append(
                closed(
                    trade_id=f"t{n - 2}",
                    entry_ts=entered,
                    exit_ts=at,
                    timestamp=at,
                    exit_price=101.0,
                    fee=0.0,
                    pnl_pct=Decimal(1),
                )
            )
        trades.append(trade(**opening))
    return [*(t.to_line() for t in trades), tick(n, reasoning="y" * padding).to_line()]


def numbered_file(ticks: int) -> list[bytes]:
    """START and the first `ticks` ticks, line by line."""
    return [START.to_line(), *(line for n in range(ticks) for line in numbered(n))]
