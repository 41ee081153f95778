"""Stage 2: the Deribit chain at each decision time, modelled or from recorded quotes."""

import dagster as dg
import pandas as pd

from trader_pipeline.defs.materialise import materialised, table_asset
from trader_pipeline.defs.partitions import finest_market, market_regime_partitions, own_and_finest_candles
from trader_pipeline.defs.plots import histogram_plot
from trader_pipeline.defs.resources import PipelineResource
from trader_pipeline.options import build_option_chain
from trader_pipeline.options.recorded_chain import slice_quotes
from trader_pipeline.schema import Market, parse_regime
from trader_pipeline.schema.tables import KLINES, OPTION_CHAIN, WINDOW_QUOTES

candles_by_market = dg.AssetIn(
    "window_klines", partition_mapping=own_and_finest_candles, metadata={"by_market": True}
)


@dg.asset(**table_asset(WINDOW_QUOTES, settings=("options",)), partitions_def=market_regime_partitions)
def window_quotes(
    context: dg.AssetExecutionContext, pipeline: PipelineResource, option_quotes: pd.DataFrame
) -> dg.MaterializeResult:
    keys, params = context.partition_key.keys_by_dimension, pipeline.profile.options
    frame = cut_quotes(pipeline, option_quotes, market=keys["market"], regime=keys["regime"])
    snapshots = int(frame["quote_time"].nunique())
    return materialised(frame, WINDOW_QUOTES, metadata={"source": params.source, "snapshots": snapshots})


@dg.asset(
    **table_asset(OPTION_CHAIN, settings=("options", "backtest"), checks=("bid_below_mark_below_ask",)),
    partitions_def=market_regime_partitions,
    ins={"candles": candles_by_market},
)
def option_chain(
    context: dg.AssetExecutionContext,
    pipeline: PipelineResource,
    candles: dict[str, pd.DataFrame],
    window_quotes: pd.DataFrame,
) -> dg.MaterializeResult:
    market, start, end = window_of(context)
    params, backtest = pipeline.profile.options, pipeline.profile.backtest
    frame = build_option_chain(
        fine_klines=candles[finest_market(market).key],
        market=market,
        start=start,
        end=end,
        option_params=params,
        decision_every_hours=backtest.decision_every_hours,
        decision_offset_hours=backtest.decision_offset_hours,
        quotes=window_quotes,
    )
    title = f"{'recorded' if params.source == 'recorded' else 'modelled'} IV, {context.partition_key}"
    return materialised(
        frame,
        OPTION_CHAIN,
        findings={"bid_below_mark_below_ask": crossed_quotes(frame, recorded=params.source == "recorded")},
        metadata={"source": params.source, "plot": histogram_plot(frame["iv"], title, "annualised")},
    )


def cut_quotes(
    pipeline: PipelineResource, option_quotes: pd.DataFrame, *, market: str, regime: str
) -> pd.DataFrame:
    """The recorded calls of one market and window.

    Raises:
        ValueError: the candles are simulated and the profile asks for recorded quotes.
    """
    params = pipeline.profile.options
    if params.source == "recorded" and pipeline.is_simulated(KLINES, market):
        raise ValueError("options.source is recorded: real quotes cannot be traded on simulated candles")
    _, start, end = parse_regime(regime)
    tail = pd.Timedelta(days=pipeline.profile.windows.tail_days)  # chains begun in the window roll after it
    underlying = Market.parse(market).underlying
    return slice_quotes(option_quotes, underlying=underlying, start=start, end=end + tail, params=params)


def crossed_quotes(chain: pd.DataFrame, *, recorded: bool) -> list[str]:
    """Instruments whose mark does not lie between bid and ask; of recorded ones, those whose bid is above the ask.

    The venue's mark comes from its own model and may lie outside its quotes.
    """
    crossed = chain["bid_price"] > chain["ask_price"]
    if not recorded:
        crossed |= (chain["bid_price"] > chain["mark_price"]) | (chain["mark_price"] > chain["ask_price"])
    return chain.loc[crossed, "instrument"].tolist()


def window_of(context: dg.AssetExecutionContext) -> tuple[Market, pd.Timestamp, pd.Timestamp]:
    """Market, first moment and first moment after the window of a market x regime partition."""
    keys = context.partition_key.keys_by_dimension
    _, start, end = parse_regime(keys["regime"])
    return Market.parse(keys["market"]), start, end
