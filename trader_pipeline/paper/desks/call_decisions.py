"""What a covered-call book is told at a moment: the policy's answer or the recorded one, and what was seen then.

Belongs here: answers, their reasons and the context kept with them. Nothing in them was known after the decision. What
becomes of a sale is in `chain_walk`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import pandas as pd

from trader_pipeline.backtest.policy import CANDIDATE_COLUMNS, DecisionStep, Policy
from trader_pipeline.datasets import market_features, option_features
from trader_pipeline.datasets.features import enough_history
from trader_pipeline.paper.records import Tick, TradeRecord, json_text
from trader_pipeline.schema import Market
from trader_pipeline.schema.columns import FEATURES

SEEN = [
    "underlying", "exit_style", "spot", "decision_time", "instrument", "strike", "dte", "delta", "iv",
    "premium_yield_pct", "ivrv_ratio", "distance_to_strike_atr", "score",
]  # fmt: skip
"""What was seen of the option and the moment; with `features` these are the keys of `decision_context`."""


@dataclass(frozen=True)
class CallDecision:
    """The answer at one moment: the call to sell or None, why, who decided, and what was seen where it sells."""

    symbol: str | None
    reasoning: str
    model_id: str
    context: Mapping[str, Any] | None = None

    @property
    def action(self) -> Literal["SELL_CALL", "DO_NOTHING"]:
        return "DO_NOTHING" if self.symbol is None else "SELL_CALL"


@dataclass(frozen=True)
class Answering:
    """A policy that is asked once per moment: answers on record are given again. `step` is the market's timeframe.

    Moments are epoch seconds. `made` fills as answers are given.
    """

    policy: Policy
    step: pd.Timedelta
    recorded: Mapping[int, CallDecision] = field(default_factory=dict)
    made: dict[int, CallDecision] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.policy.name

    def decide(self, step: DecisionStep) -> str | None:
        """The recorded answer, else the policy's.

        Raises:
            ValueError: the call on record is not offered.
        """
        moment = int(step.decision_time.timestamp())
        if known := self.recorded.get(moment):
            if known.symbol is not None and known.symbol not in set(step.candidates["instrument"]):
                raise ValueError(_not_offered(known.symbol, step.decision_time))
            return known.symbol
        shown = step.candidates.copy()  # a policy may turn its frame around
        answer = self.policy.decide(step)
        self.made[moment] = _decision(step, shown, answer, model_id=self.name, timeframe=self.step)
        return answer

    def answer_at(self, moment: int, *, sells: bool) -> CallDecision:
        """What was answered at a moment that has been asked, where the book then `sells` or not.

        Without any call offered a policy is not asked.

        Raises:
            ValueError: a sale is on record where no call is offered.
        """
        known = self.recorded.get(moment) or self.made.get(moment)
        if known is None:
            return self.made.setdefault(moment, CallDecision(None, "No call is offered.", self.name))
        if known.symbol is not None and not sells:
            raise ValueError(_not_offered(known.symbol, pd.Timestamp(moment, unit="s", tz="UTC")))
        return known


def _not_offered(symbol: str, moment: pd.Timestamp) -> str:
    return (
        f"{symbol}, sold at {moment.isoformat()} by the record, is not offered on these candles: they or the settings"
        " have changed since; restore them, or begin a new buffer"
    )


def decisions_on_record(ticks: Iterable[Tick], open_trade: TradeRecord | None) -> dict[int, CallDecision]:
    """Answers by moment, from TICK lines and the trade that is open."""
    recorded: dict[int, CallDecision] = {}
    if open_trade is not None:
        recorded[decided_at(open_trade)] = CallDecision(
            open_trade.symbol, open_trade.reasoning, open_trade.model_id, open_trade.decision_context
        )
    for tick in ticks:
        symbol = tick.symbol if tick.action == "SELL_CALL" else None
        moment = int(tick.close_time.timestamp())
        recorded[moment] = CallDecision(symbol, tick.reasoning, tick.model_id, tick.context)
    return recorded


def decided_at(trade: TradeRecord) -> int:
    """When a trade of a desk was decided, epoch seconds."""
    return int(pd.Timestamp(trade.decision_context["decision_time"]).timestamp())


def _decision(
    step: DecisionStep, shown: pd.DataFrame, answer: str | None, *, model_id: str, timeframe: pd.Timedelta
) -> CallDecision:
    if answer is None:
        said = (
            f"None of the {len(shown)} calls offered is sold; the best scores {shown['score'].max():.1f} of 10."
            if len(shown) > 1
            else f"The one call offered is not sold; it scores {shown['score'].max():.1f} of 10."
        )
        return CallDecision(None, said, model_id)
    row = shown[shown["instrument"] == answer]
    if row.empty:  # refused by who asked, with the names of those offered
        return CallDecision(None, "", model_id)
    context = context_of(step, row.iloc[0], timeframe=timeframe)
    return CallDecision(answer, reasoning_of(context), model_id, context)


def context_of(step: DecisionStep, call: pd.Series, *, timeframe: pd.Timedelta) -> dict[str, Any]:
    """What was seen at a decision to sell `call` (a row of the candidates): the keys `SEEN`, and `features`.

    Features are those of `datasets.market_features` over the step's history; all are None where it is too short or too
    sparse for them, and so is the distance to the strike.
    """
    moment = step.decision_time
    features, distance = _features(step, float(call["strike"]), timeframe)
    figures = ("strike", "dte", "delta", "iv", "premium_yield_pct", "ivrv_ratio", "score")
    seen = {
        "underlying": step.underlying,
        "exit_style": step.exit_style,
        "spot": float(step.spot),
        "decision_time": moment.isoformat(),
        "instrument": str(call["instrument"]),
        "distance_to_strike_atr": distance,
        **{name: float(call[name]) for name in figures},
    }
    return {**{name: seen[name] for name in SEEN}, "features": features}


def _features(
    step: DecisionStep, strike: float, timeframe: pd.Timedelta
) -> tuple[dict[str, float | None], float | None]:
    """Features of the moment, and the distance to the strike in average true ranges; None where they are not known."""
    at = pd.DatetimeIndex([step.decision_time])
    if not enough_history(step.history, at, step=timeframe)[0]:
        return dict.fromkeys(FEATURES), None
    row = market_features(step.history, at, step=timeframe).iloc[0]
    features: dict[str, float | None] = {name: float(row[name]) for name in FEATURES}
    if not row["atr_14d_pct"] > 0:
        return features, None
    call = {"strike": [strike], "spot": [step.spot], "atr_14d_pct": [row["atr_14d_pct"]]}
    return features, float(option_features(pd.DataFrame(call))["distance_to_strike_atr"].iloc[0])


def reasoning_of(context: Mapping[str, Any]) -> str:
    """Why this call, from the decision's context alone."""
    distance, week = context["distance_to_strike_atr"], context["features"]["return_7d_pct"]
    far = "" if distance is None else f", strike {distance:.1f} average true ranges from spot"
    moved = "" if week is None else f"; spot moved {week:+.1f} % in 7 days"
    return (
        f"Sell {context['instrument']}, bid at {context['premium_yield_pct']:.2f} % of a coin:"
        f" {context['dte']:.1f} days to expiry, delta {context['delta']:.2f}{far}."
        f" Implied volatility {context['iv']:.2f} is {context['ivrv_ratio']:.2f} times the realised one{moved}."
        f" Score {context['score']:.1f} of 10."
    )


class Decided(Protocol):
    """What decisions were made on which offers: tables `backtest_steps` and `candidate_outcomes`."""

    @property
    def steps(self) -> pd.DataFrame: ...
    @property
    def candidates(self) -> pd.DataFrame: ...


def decision_contexts(
    decided: Decided, klines: pd.DataFrame, *, market: Market, exit_style: str
) -> list[str]:
    """`decision_context` of each sale among a backtest's steps, as JSON, in the order of the decisions.

    Args:
        klines: the market's candles, from at least 30 days before the first sale.

    Raises:
        ValueError: a sale without its candidate.
    """
    steps = decided.steps
    sold = steps[steps["exit_style"].eq(exit_style) & steps["action"].eq("SELL_CALL")]
    offered = decided.candidates[decided.candidates["exit_style"].eq(exit_style)]
    contexts = []
    for row in sold.sort_values("decision_time").to_dict("records"):
        moment, name = row["decision_time"], row["instrument"]
        shown = offered.loc[offered["decision_time"].eq(moment), list(CANDIDATE_COLUMNS)]
        call = shown[shown["instrument"].eq(name)]
        if call.empty:
            raise ValueError(f"{name}, sold at {moment}, is not among that step's candidates")
        history = klines[klines["close_time"] <= moment]
        step = DecisionStep(moment, row["underlying"], exit_style, row["spot"], shown, history)
        contexts.append(json_text(context_of(step, call.iloc[0], timeframe=market.step)))
    return contexts
