"""Chains: a call sold and the calls it was rolled into, from decision to end, as objects and as a frame.

Belongs here: joining the frames of steps and legs. What a chain is worth is computed in `kernels`, not here.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, fields

import pandas as pd

_KEY = ["decision_time", "exit_style"]


@dataclass(frozen=True, slots=True)
class Leg:
    """One call of a chain: how it was entered, how it was left and why.

    Amounts in coin are for all calls sold; spots are USD per coin, `entry_iv` is an annualised decimal. `exit_reason`
    is `expired` (`exit_spot` is the delivery price, `exit_cost_coin` the payoff) or `take_profit` (bought back at that
    cost).
    """

    instrument: str
    strike: float
    expiry: pd.Timestamp
    entry_time: pd.Timestamp
    entry_spot: float
    entry_iv: float
    premium_coin: float
    entry_fee_coin: float
    exit_time: pd.Timestamp
    exit_reason: str
    exit_spot: float
    exit_cost_coin: float
    exit_fee_coin: float

    @property
    def pnl_coin(self) -> float:
        """Premium minus fees and what leaving cost, coin."""
        return self.premium_coin - self.entry_fee_coin - self.exit_cost_coin - self.exit_fee_coin


@dataclass(frozen=True, slots=True)
class Chain:
    """What one decision to sell led to: its legs in order of time, and the outcome of them together.

    `spot` is known at the decision; `reward` and `pnl_vs_hodl` are USD at `end_time`, rolls included.
    """

    decision_time: pd.Timestamp
    underlying: str
    exit_style: str
    spot: float
    reward: float
    pnl_vs_hodl: float
    pnl_coin: float
    fees_coin: float
    max_drawdown_pct: float
    end_time: pd.Timestamp
    legs: tuple[Leg, ...]


_LEG_COLUMNS = [f.name for f in fields(Leg)]
_STEP_COLUMNS = [f.name if f.name != "end_time" else "label_end_time" for f in fields(Chain)]
"""In the order of Chain's fields; the last one, `legs`, is a count in the frame of steps."""


def build_chains(steps: pd.DataFrame, legs: pd.DataFrame) -> list[Chain]:
    """The chains sold in `steps` (table BACKTEST_STEPS), in that order, with their `legs` (table BACKTEST_LEGS).

    Raises:
        ValueError: a chain lacks legs that its step counts: the frames are not of the same run.
    """
    legs_of = defaultdict(list)
    ordered = legs.sort_values([*_KEY, "leg"], kind="stable")
    for time, style, *leg in ordered[_KEY + _LEG_COLUMNS].itertuples(index=False, name=None):
        legs_of[time, style].append(Leg(*leg))
    chains = []
    for *values, count in _sold(steps)[_STEP_COLUMNS].itertuples(index=False, name=None):
        own = tuple(legs_of[values[0], values[2]])
        if len(own) != count:
            raise ValueError(
                f"the chain of {values[0]} ({values[2]}) has {count} legs in the steps and {len(own)} in the legs;"
                " give both frames of one run"
            )
        chains.append(Chain(*(*values, own)))
    return chains


def chains_frame(steps: pd.DataFrame, legs: pd.DataFrame) -> pd.DataFrame:
    """One row per chain: `instrument` and `strike` of its first leg, `exit_reason` of its last one, premiums added up.

    `steps` and `legs` as in `build_chains`; `end_time` is the steps' `label_end_time`.
    """
    ordered = legs.sort_values([*_KEY, "leg"], kind="stable")
    own = ordered.groupby(_KEY, sort=False).agg(
        premium_coin=("premium_coin", "sum"), exit_reason=("exit_reason", "last")
    )
    frame = _sold(steps).merge(own.reset_index(), on=_KEY, how="left", validate="one_to_one")
    frame = frame.rename(columns={"label_end_time": "end_time"})
    return frame[
        [
            "decision_time", "underlying", "exit_style", "spot", "instrument", "strike", "legs", "premium_coin",
            "exit_reason", "reward", "pnl_vs_hodl", "pnl_coin", "fees_coin", "max_drawdown_pct", "end_time",
        ]
    ]  # fmt: skip


def _sold(steps: pd.DataFrame) -> pd.DataFrame:
    return steps[steps["action"] == "SELL_CALL"]
