"""Deribit's calls on BTC and ETH: listing calendar, pricing, volatility and spread model, fees, ticks, modelled chains.

Belongs here: everything about an option at one moment. What is done with it over time is in `backtest`. Importing
this package loads no numba: the names below are loaded on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from trader_pipeline.options.params import OptionParams, SpreadParams, VolatilityParams

_LAZY = {
    "ask_on_tick": "venue",
    "atm_iv": "surface",
    "bid_on_tick": "venue",
    "build_option_chain": "chain",
    "call_delta": "pricing",
    "call_price_coin": "pricing",
    "delivery_fee_coin": "venue",
    "implied_volatility": "pricing",
    "instrument_name": "calendar",
    "list_expiries": "calendar",
    "listed_at": "calendar",
    "parse_instrument": "calendar",
    "trading_fee_coin": "venue",
}
__all__ = ["OptionParams", "SpreadParams", "VolatilityParams", *sorted(_LAZY)]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
