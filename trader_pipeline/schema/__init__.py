"""What every column and table means: names, dtypes, units, bounds, keys, and the check of a frame against them.

Belongs here: column and table definitions, markets (underlying x timeframe), validation, the data dictionary.
Does not belong here: reading or writing files (`store`), or any computation on the values.
"""

from trader_pipeline.schema.markets import MARKETS, TIMEFRAMES, UNDERLYINGS, Market, parse_regime, regime_key
from trader_pipeline.schema.table import Column, SchemaError, Table, conform, validate

__all__ = [
    "MARKETS",
    "TIMEFRAMES",
    "UNDERLYINGS",
    "Column",
    "Market",
    "SchemaError",
    "Table",
    "conform",
    "parse_regime",
    "regime_key",
    "validate",
]
