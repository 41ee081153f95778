"""What a spot fill costs and how many coins it moves: price with slippage, fee, size.

Belongs here: pure formulas of one fill. When something is filled is in `spot`.
"""

from __future__ import annotations

from typing import Literal

from trader_pipeline.paper.params import SpotParams

Side = Literal["buy", "sell"]
LEAST_SALE_SHARE = 0.01
"""A sale gets at least this share of the open, however wide the candle was that slippage is measured by."""


def fill_price(*, open_price: float, side: Side, decision_range: float, params: SpotParams) -> float:
    """Price paid or received, USD per coin: the open, worsened by slippage.

    Args:
        open_price: open of the candle that fills the order, USD.
        decision_range: high minus low of the candle at whose close it was decided, USD; used by model `range`.

    >>> fill_price(open_price=100.0, side="buy", decision_range=4.0, params=SpotParams(slippage_model="range"))
    100.4
    """
    if params.slippage_model == "bps":
        slippage = open_price * params.slippage_bps / 10_000
    else:
        slippage = decision_range * params.slippage_range_share
    if side == "buy":
        return open_price + slippage
    return max(open_price - slippage, open_price * LEAST_SALE_SHARE)


def fill_fee(*, price: float, size: float, params: SpotParams) -> float:
    """Fee of one fill, USD: `fee_bps` of its value.

    >>> fill_fee(price=50_000.0, size=0.5, params=SpotParams(fee_bps=10))
    25.0
    """
    return price * size * params.fee_bps / 10_000


def trade_size(
    *, price: float, spot: float, average_true_range_pct: float | None, params: SpotParams
) -> float | None:
    """Coins of a new trade; None where risk is to be measured and no average true range is known yet.

    Args:
        price: fill, USD per coin; used by size model `usd`.
        spot: close at the decision, USD; used by `risk`.
        average_true_range_pct: feature `atr_14d_pct` at the decision, % of spot; used by `risk`.

    >>> trade_size(price=101.0, spot=100.0, average_true_range_pct=4.0, params=SpotParams(size_model="risk", size=8))
    2.0
    """
    if params.size_model == "coins":
        return params.size
    if params.size_model == "usd":
        return params.size / price
    if not average_true_range_pct:
        return None  # unknown, or a market that did not move: no distance to measure risk in
    return params.size / (average_true_range_pct / 100.0 * spot)


def spot_pnl_pct(*, direction: str, size: float, entry_price: float, exit_price: float, fee: float) -> float:
    """Gain of a spot trade after the fees of both fills, % of the entry's value.

    >>> spot_pnl_pct(direction="SHORT", size=2.0, entry_price=100.0, exit_price=90.0, fee=1.0)
    9.5
    """
    move = exit_price - entry_price if direction == "LONG" else entry_price - exit_price
    return 100.0 * (size * move - fee) / (size * entry_price)
