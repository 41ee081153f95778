"""Paper trading: decisions become trades in a replay buffer, and each closed trade is judged. No order is ever sent.

Belongs here: desks, the executor, trade records and their file, verdicts. Does not belong here: pricing and the state
machine of chains (`backtest`), instructions made from trades (`corpora`).

    records, params   what a line of the buffer says; settings
    buffer/           the file, its lock, a torn end, the state that its lines add up to
    reading/          replay files of anyone, accepted or refused line by line
    desks/            spot: BUY, SELL, HOLD as long and short trades; covered_calls: chains, by the backtest's engine
    ticking/          executor: one closed candle after the other, once each; live on an exchange's candles, or a
                      stretch of history at once; how the books stand
    verdicts/         GOOD, OK or BAD, and why: evaluator, and the figures and sentences that it draws from a trade
"""

from trader_pipeline.paper.buffer.replay_buffer import ReplayBuffer
from trader_pipeline.paper.params import LiveParams, PaperParams, SpotParams
from trader_pipeline.paper.reading.replay_reader import ReplayFile, read_replay, trades_of, write_trades
from trader_pipeline.paper.records import TradeRecord
from trader_pipeline.paper.ticking.executor import (
    PaperExecutor,
    PaperTradeOnceResult,
    catch_up,
    paper_trade_once,
)
from trader_pipeline.paper.verdicts.evaluator import (
    Evaluations,
    EvaluatorParams,
    TradeEvaluator,
    evaluate_trades,
)

__all__ = [
    "Evaluations",
    "EvaluatorParams",
    "LiveParams",
    "PaperExecutor",
    "PaperParams",
    "PaperTradeOnceResult",
    "ReplayBuffer",
    "ReplayFile",
    "SpotParams",
    "TradeEvaluator",
    "TradeRecord",
    "catch_up",
    "evaluate_trades",
    "paper_trade_once",
    "read_replay",
    "trades_of",
    "write_trades",
]
