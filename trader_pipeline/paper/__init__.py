"""Paper trading: the policy replayed as trades, the JSONL replay buffer, and the judgement of each closed trade.

Belongs here: trade records, their text form, verdicts. Does not belong here: fills and exits (`backtest`), instructions
made from trades (`corpora`). No order is ever sent.
"""

from trader_pipeline.paper.buffer import read_replay, write_replay
from trader_pipeline.paper.evaluator import EvaluatorParams, evaluate_trades, summarise_evaluations
from trader_pipeline.paper.replay import PaperParams, replay_paper_trades

__all__ = [
    "EvaluatorParams",
    "PaperParams",
    "evaluate_trades",
    "read_replay",
    "replay_paper_trades",
    "summarise_evaluations",
    "write_replay",
]
