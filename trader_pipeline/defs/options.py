"""Stage 2: the modelled Deribit chain at each decision time."""

import dagster as dg
import pandas as pd

from trader_pipeline.defs.materialise import materialised, table_asset
from trader_pipeline.defs.partitions import finest_market, market_regime_partitions, own_and_finest_candles
from trader_pipeline.defs.plots import histogram_plot
from trader_pipeline.defs.resources import PipelineResource
from trader_pipeline.options import build_option_chain
from trader_pipeline.schema import Market, parse_regime
from trader_pipeline.schema.tables import OPTION_CHAIN

candles_by_market = dg.AssetIn(
    "window_klines", partition_mapping=own_and_finest_candles, metadata={"by_market": True}
)


@dg.asset(
    **table_asset(OPTION_CHAIN, settings=("options", "backtest"), checks=("bid_below_mark_below_ask",)),
    partitions_def=market_regime_partitions,
    ins={"candles": candles_by_market},
)
def option_chain(
    context: dg.AssetExecutionContext, pipeline: PipelineResource, candles: dict[str, pd.DataFrame]
) -> dg.MaterializeResult:
    market, start, end = window_of(context)
    frame = build_option_chain(
        fine_klines=candles[finest_market(market).key],
        market=market,
        start=start,
        end=end,
        option_params=pipeline.profile.options,
        decision_every_hours=pipeline.profile.backtest.decision_every_hours,
    )
    return materialised(
        frame,
        OPTION_CHAIN,
        findings={"bid_below_mark_below_ask": crossed_quotes(frame)},
        metadata={"plot": histogram_plot(frame["iv"], f"modelled IV, {context.partition_key}", "annualised")},
    )


def crossed_quotes(chain: pd.DataFrame) -> list[str]:
    """Instruments whose mark does not lie between bid and ask."""
    inside = (chain["bid_price"] <= chain["mark_price"]) & (chain["mark_price"] <= chain["ask_price"])
    return chain.loc[~inside, "instrument"].tolist()


def window_of(context: dg.AssetExecutionContext) -> tuple[Market, pd.Timestamp, pd.Timestamp]:
    """Market, first moment and first moment after the window of a market x regime partition."""
    keys = context.partition_key.keys_by_dimension
    _, start, end = parse_regime(keys["regime"])
    return Market.parse(keys["market"]), start, end
