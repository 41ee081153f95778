"""The two partition dimensions, and how partitions of one table lead to those of the next.

`market` is static (underlying x timeframe). `regime` is dynamic: a window becomes a partition when it is dated.
"""

from collections.abc import Mapping

import dagster as dg

from trader_pipeline.schema import MARKETS, Market

REFERENCE_MARKET = "BTC_1h"
"""Windows are dated once, on BTC, for all markets: every market x regime is then a valid, comparable partition."""

FINEST_TIMEFRAME = "1h"

market_partitions = dg.StaticPartitionsDefinition(list(MARKETS))
regime_partitions = dg.DynamicPartitionsDefinition(name="regime")
market_regime_partitions = dg.MultiPartitionsDefinition(
    {"market": market_partitions, "regime": regime_partitions}
)

market_of_window = dg.MultiToSingleDimensionPartitionMapping(partition_dimension_name="market")


def _own_and_finest() -> Mapping[str, list[str]]:
    """Per market, the markets that need its candles: itself, and all of its underlying if it is the finest."""
    parsed = [Market.parse(m) for m in MARKETS]
    return {
        m.key: [
            n.key
            for n in parsed
            if n == m or (m.timeframe == FINEST_TIMEFRAME and n.underlying == m.underlying)
        ]
        for m in parsed
    }


own_and_finest_candles = dg.MultiPartitionMapping(
    {
        "market": dg.DimensionPartitionMapping("market", dg.StaticPartitionMapping(_own_and_finest())),
        "regime": dg.DimensionPartitionMapping("regime", dg.IdentityPartitionMapping()),
    }
)


def finest_market(market: Market) -> Market:
    """The market of the same underlying whose candles mark and settle."""
    return Market(market.underlying, FINEST_TIMEFRAME)


def window_key(market: str, regime: str) -> dg.MultiPartitionKey:
    return dg.MultiPartitionKey({"market": market, "regime": regime})


def partition_path(key: str | None) -> tuple[str, ...]:
    """A Dagster partition key as the store's partition: `BTC_1h|bull_...` is `(BTC_1h, bull_...)`."""
    return tuple(str(key).split("|")) if key else ()
