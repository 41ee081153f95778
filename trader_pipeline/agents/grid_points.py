"""The points of a grid of agents: which settings are tried, on which windows, and what decides each result.

Belongs here: settings, points and their identities. Does not belong here: running them (`grid`), judging them
(`grid_figures`).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Literal, Self

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from trader_pipeline.agents.cache import OWN_SERVER
from trader_pipeline.agents.params import AgentParams
from trader_pipeline.agents.prompts import SPOT_PROMPTS, instructions_of

WindowName = Literal["validation", "test"]
WINDOWS: tuple[WindowName, ...] = ("validation", "test")


class GridParams(BaseModel):
    """Agents that are tried, and the windows on which they are compared and then reported.

    Windows are half open: from the first moment, up to and without the second.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    prompts: tuple[str, ...] = Field(default=SPOT_PROMPTS, min_length=1, description="names of instructions")
    models: tuple[str, ...] = Field(default=("local",), min_length=1, description="models at the endpoint")
    window_sizes: tuple[int, ...] = Field(
        default=(48,), min_length=1, description="most candles that an agent may look at (candles)"
    )
    balances: tuple[float, ...] = Field(
        default=(10_000.0,), min_length=1, description="cash at the start (USD)"
    )
    validation: tuple[pd.Timestamp, pd.Timestamp] = Field(description="window by which the best is chosen")
    test: tuple[pd.Timestamp, pd.Timestamp] = Field(description="later window on which it is reported")
    choose_by: Literal["sharpe", "accumulated_return", "apy", "max_drawdown"] = Field(
        default="sharpe", description="figure of the validation window whose largest value is chosen"
    )
    agent: AgentParams = Field(default=AgentParams(), description="what all points share")
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="level of the reported interval")
    bootstrap_samples: int = Field(default=2000, ge=100, description="resamples of the test window")
    bootstrap_block: int | None = Field(
        default=None, ge=1, description="mean length of a resampled block (candles); none: from the data"
    )
    most_faults: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="share of decisions without an answer above which a point is not judged",
    )
    seed: int = Field(default=11, description="seed of the bootstrap")

    @field_validator("validation", "test", mode="before")
    @classmethod
    def _utc(cls, window: Any) -> Any:
        first, last = (pd.Timestamp(moment) for moment in window)
        return tuple(m.tz_localize("UTC") if m.tzinfo is None else m.tz_convert("UTC") for m in (first, last))

    @field_validator("prompts", "models", "window_sizes", "balances")
    @classmethod
    def _each_once(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if twice := sorted({str(v) for v in values if values.count(v) > 1}):
            raise ValueError(f"{', '.join(twice)} is given twice; once is enough")
        return values

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        for name in WINDOWS:
            start, end = self.window(name)
            if not start < end:
                raise ValueError(f"the {name} window ends ({end}) before it begins ({start}); swap the two")
        if self.test[0] < self.validation[1]:
            raise ValueError(
                f"the test window begins at {self.test[0]}, before the validation window ends at {self.validation[1]}:"
                " nothing would be held out; begin it there or later"
            )
        grid_points(self)  # each setting by itself
        return self

    def window(self, name: WindowName) -> tuple[pd.Timestamp, pd.Timestamp]:
        """First moment and end (exclusive) of a window, in UTC."""
        return self.validation if name == "validation" else self.test


@dataclass(frozen=True)
class Task:
    """One agent over one window, who answers it, and the hash of everything that decides its result."""

    number: int
    params: AgentParams
    window_name: WindowName
    window: tuple[pd.Timestamp, pd.Timestamp]
    key: str
    address: str = OWN_SERVER

    @property
    def name(self) -> str:
        """How tables and messages call it."""
        p = self.params
        return f"{p.prompt}, {p.model}, {p.window_size} candles, {p.initial_balance:g} USD"


def grid_points(params: GridParams) -> list[AgentParams]:
    """Every combination, in an order that the settings alone decide.

    Raises:
        ValueError: a value that an agent does not take.
    """
    from sklearn.model_selection import ParameterGrid

    values = {
        "prompt": params.prompts,
        "model": params.models,
        "window_size": params.window_sizes,
        "initial_balance": params.balances,
    }
    shared = params.agent.model_dump()
    return [AgentParams.model_validate(shared | point) for point in ParameterGrid(values)]


def tasks_of(
    params: GridParams, window_name: WindowName, klines: pd.DataFrame, *, address: str = OWN_SERVER
) -> list[Task]:
    """One task a point, on the candles up to the window's end."""
    window = params.window(window_name)
    candles = candles_hash(known_candles(klines, window[1]))
    return [
        Task(n, point, window_name, window, task_key(point, window, candles, address), address)
        for n, point in enumerate(grid_points(params))
    ]


def task_key(
    point: AgentParams, window: tuple[pd.Timestamp, pd.Timestamp], candles: str, address: str
) -> str:
    """SHA-256 over the settings, who is asked, the text of the instructions, the window and the candles.

    How patiently a model is asked (retries, time-out) is among the settings: it decides which decisions become hold.
    """
    decides = {
        "address": address,
        "agent": point.model_dump(mode="json"),
        "instructions": instructions_of(point.prompt),
        "window": [moment.isoformat() for moment in window],
        "candles": candles,
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def known_candles(klines: pd.DataFrame, end: pd.Timestamp) -> pd.DataFrame:
    """The candles that have closed by `end`: a run over a window is given no later ones."""
    return klines[klines["close_time"] <= end].reset_index(drop=True)


def candles_hash(klines: pd.DataFrame) -> str:
    """SHA-256 of the candles, row by row."""
    digest = hashlib.sha256()
    for name in ("open_time", "close_time"):
        digest.update(klines[name].dt.as_unit("ns").astype("int64").to_numpy().tobytes())
    digest.update(klines[["open", "high", "low", "close", "volume"]].to_numpy(dtype="float64").tobytes())
    return digest.hexdigest()
