"""Deribit's calls on BTC and ETH: listing calendar, pricing, volatility and spread model, fees, ticks, modelled chains.

Belongs here: everything about an option at one moment. What is done with it over time is in `backtest`. Importing
this package loads no numba: the names below are loaded on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from trader_pipeline.options.params import OptionParams, SurfaceParams, VolatilityParams

_LAZY = {
    "ask_on_tick": "venue",
    "atm_iv": "surface",
    "bid_on_tick": "venue",
    "build_delivery_prices": "recordings",
    "build_option_chain": "chain",
    "build_option_quotes": "recordings",
    "build_volatility_index": "recordings",
    "call_delta": "pricing",
    "call_price_coin": "pricing",
    "delivery_fee_coin": "venue",
    "gamma": "pricing",
    "implied_volatility": "pricing",
    "instrument_name": "calendar",
    "list_expiries": "calendar",
    "listed_at": "calendar",
    "load_quotes_file": "recordings",
    "load_volatility_index_file": "recordings",
    "option_delta": "pricing",
    "option_price_coin": "pricing",
    "price_and_delta": "pricing",
    "option_price_usd": "pricing",
    "parse_instrument": "calendar",
    "parse_option": "calendar",
    "parse_options": "calendar",
    "theta": "pricing",
    "trading_fee_coin": "venue",
    "vega": "pricing",
}
__all__ = ["OptionParams", "SurfaceParams", "VolatilityParams", *sorted(_LAZY)]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
