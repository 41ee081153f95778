"""The proof of paper trading: what is decided, seen and asked may not move with the future; what comes of it must.

Belongs here: which bytes of ticks, trades and reviews are compared, and one decision with several futures. The
functions under test are in `paper_trading`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import pandas as pd

from trader_pipeline.leaks.cases import Case
from trader_pipeline.leaks.outputs import ROWS, Columns, text_bytes
from trader_pipeline.leaks.paper_trading import (
    PaperTrading,
    Review,
    as_last_recorded,
    spot_params,
    wrong_fills,
)
from trader_pipeline.leaks.prover import RULE, Leak, Tally, prove_futures
from trader_pipeline.leaks.world import Inputs, Settings, World
from trader_pipeline.paper.records import Tick, TradeRecord, json_text

RESPONSES = "response of a review"
VERDICTS = "verdict of a review"
"""What should move with the future, and in how many of the runs it did."""
FILLS = "fills"
_OF_TRADE = (
    "trade_id",
    "symbol",
    "direction",
    "reasoning",
    "model_id",
    "market",
    "book",
    "exit_style",
    "regime",
)


@dataclass(frozen=True)
class Traded:
    """What paper trading made around one decision: what must not move, and the reviews by direction."""

    outputs: dict[str, Columns]
    reviews: Mapping[str, Review] = field(default_factory=dict)
    wrong: tuple[str, ...] = ()

    def moved(self, other: Traded | None) -> Iterable[tuple[str, bool]]:
        """Whether responses and verdicts moved, trade by trade that both futures close."""
        others = other.reviews if other else {}
        for direction, own in self.reviews.items():
            if (its := others.get(direction)) is None:
                continue
            yield RESPONSES, own.response != its.response
            yield VERDICTS, own.verdict != its.verdict


def prove_paper_case(
    paper: PaperTrading, worlds: Sequence[World], case: Case, *, settings: Settings, wanted: tuple[str, ...] = ()
) -> Tally:  # fmt: skip
    """Paper trading around one decision with three other futures; fills are held against a rule stated by itself.

    Where a leak in one of the `wanted` outputs is all that is looked for, the first of them ends the case.
    """
    inputs = case.inputs(worlds, settings)
    try:
        base = trade_on_paper(paper, inputs)
    except ValueError as error:
        return Tally(refused=1, refusals=[f"paper trades at {case.moment}: {error}"])
    tally = Tally(runs=1, outputs=Counter(list(base.outputs)))
    for finding in base.wrong:
        tally.leaks.append(Leak(FILLS, finding, RULE, "", inputs.market.key, inputs.source, inputs.moment))
    prove_futures(partial(trade_on_paper, paper), inputs, base, tally, seed=case.seed, wanted=wanted)
    return tally


def trade_on_paper(paper: PaperTrading, inputs: Inputs) -> Traded:
    """Both desks around `inputs.moment`, and the reviews of the trades decided at it."""
    spot, calls = paper.spot_ticks(inputs), paper.call_ticks(inputs)
    spot_trades = paper.spot_trades(inputs)
    trades = [*spot_trades, *as_last_recorded(calls, decided_by=inputs.moment)]
    outputs = {
        "spot decisions": _ticks(spot, inputs.moment),
        "covered-call ticks": _ticks(calls, inputs.moment),
        **{f"decision context ({t.direction})": _opened(t) for t in trades},
    }
    reviews = {}
    for params in inputs.renders:
        for review in paper.reviews(inputs, trades, params):
            reviews[review.direction] = review
            outputs[f"review instruction ({review.direction})"] = {"instruction": review.instruction.encode()}
    wrong = wrong_fills(spot_trades, inputs.candles, params=spot_params(inputs))
    outputs[FILLS] = {"rule of the next open": text_bytes(wrong)}
    return Traded(outputs, reviews, tuple(wrong))


def _ticks(ticks: Sequence[Tick], moment: pd.Timestamp) -> Columns:
    """All that is written of the ticks up to a moment, the lines of their trades included."""
    known = [tick for tick in ticks if tick.close_time <= moment]
    return {
        ROWS: str(len(known)).encode(),
        **{
            name: text_bytes(getattr(tick, name) for tick in known)
            for name in ("candle", "action", "symbol", "reasoning")
        },
        "context": text_bytes(json_text(tick.context or {}) for tick in known),
        "trades": b"".join(trade.to_line() for tick in known for trade in tick.trades),
        "whole lines": b"".join(tick.to_line() for tick in known),
    }


def _opened(trade: TradeRecord) -> Columns:
    """What a trade keeps of its decision."""
    context = {name: json_text({name: value}).encode() for name, value in trade.decision_context.items()}
    return {**{name: str(getattr(trade, name)).encode() for name in _OF_TRADE}, **context}
