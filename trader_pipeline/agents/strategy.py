"""The agent as a strategy of fractal-defi: at every closed candle a question, an order, a row of decisions.

Belongs here: what is asked and what an answer orders. Does not belong here: who answers (`asking`), how orders fill
(`exchange`), running over a stretch of candles (`run`).
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Context, Decimal
from functools import partial
from pathlib import Path

from fractal.core.base.action import Action
from fractal.core.base.observations import Observation, ObservationsStorage
from fractal.core.base.strategy import ActionToTake, BaseStrategy, BaseStrategyParams, NamedEntity
from fractal.core.base.strategy.logger import BaseLogger

from trader_pipeline.agents.asking import AgentReply, AgentRequest
from trader_pipeline.agents.decisions import Decision
from trader_pipeline.agents.exchange import KlineState, NextOpenSpotExchange
from trader_pipeline.agents.observations import SPOT, JsonObservationsStorage
from trader_pipeline.agents.prompts import instructions_of

Decide = Callable[[AgentRequest], AgentReply]
_ANY_FLOAT = Context(prec=400)
_COLUMNS = ("open_time", "open", "high", "low", "close", "volume")


@dataclass
class AgentTradingParams(BaseStrategyParams):
    """Settings in fractal-defi's form; `params.AgentParams` checks them and says what each means."""

    INITIAL_BALANCE: float = 10_000.0
    WINDOW_SIZE: int = 48
    MODEL: str = "local"
    PROMPT: str = "neutral"
    TRADING_FEE: float = 0.001


class AgentTradingStrategy(BaseStrategy[AgentTradingParams]):
    """Asks `decide` at the close of every candle; what it orders fills at the open of the next one.

    `decisions` has one row for each candle. A reply without an answer holds, with its fault kept.
    """

    _params: AgentTradingParams
    observations_storage: JsonObservationsStorage

    def __init__(
        self,
        *,
        decide: Decide,
        params: AgentTradingParams | None = None,
        observations_storage: ObservationsStorage | None = None,
        debug: bool = False,
        log_path: Path | None = None,
    ) -> None:
        """`observations_storage` may hold earlier candles, which the agent then sees too; by default it is empty.

        With `debug` every step is written to `log_path` (by default agent.log in the present folder).
        """
        self._decide = decide
        self._log_path = log_path or Path("agent.log")
        self.decisions: list[Decision] = []
        storage = observations_storage or JsonObservationsStorage()
        super().__init__(params=params, observations_storage=storage, debug=debug)

    def set_up(self) -> None:
        """Register the exchange and deposit the cash."""
        self.register_entity(NamedEntity(SPOT, NextOpenSpotExchange(self._params.TRADING_FEE)))
        self.book.action_deposit(self._params.INITIAL_BALANCE)

    @property
    def book(self) -> NextOpenSpotExchange:
        """Cash and coins."""
        return self.get_entity(SPOT)

    @property
    def now(self) -> dt.datetime:
        """The close of the candle that was seen last."""
        return dt.datetime.fromisoformat(self.book.global_state.close_time)

    def predict(self) -> list[ActionToTake]:
        """Note what became of the order before, ask, and order."""
        if self.book.last_fill is not None:
            self.decisions[-1].settle(self.book.last_fill)
        reply = self._decide(self.request())
        decision = Decision.of(self.now, reply)
        self.decisions.append(decision)
        if not decision.orders:
            return []
        unit = "amount_in_notional" if decision.action == "buy" else "amount_in_product"
        return [ActionToTake(SPOT, Action(decision.action, {unit: decision.amount_asked}))]

    def request(self) -> AgentRequest:
        """The question at this candle: the book as text, and the tool that returns candles.

        The tool keeps this moment: called late, by a thread that was given up, it still tells nothing of what came
        after it.
        """
        tool = partial(self.get_klines, now=self.now)
        return AgentRequest(instructions_of(self._params.PROMPT), self._message(), tool, kind="spot")

    def get_klines(self, limit: int, *, now: dt.datetime) -> str:
        """The tool: the last `limit` candles closed by `now` as JSON text, from 1 to WINDOW_SIZE, oldest first.

        It reads the storage alone, which holds what was observed and nothing later.
        """
        count = max(1, min(limit, self._params.WINDOW_SIZE))
        seen = self.observations_storage.last(count, end_time=now)
        rows = [_kline_row(observation.states[SPOT]) for observation in seen]
        return json.dumps({"columns": _COLUMNS, "rows": rows}, separators=(",", ":"))

    def _message(self) -> str:
        state, book = self.book.global_state, self.book.internal_state
        return (
            f"Time: {_minute(state.close_time)}. A candle has just closed at {_figures(state.close)} USD.\n"
            f"Cash: {_down(book.cash, 2)} USD. Coins: {_down(book.amount, 8)}."
            f" Both together: {_down(self.book.balance, 2)} USD.\n"
            f"get_klines returns at most {self._params.WINDOW_SIZE} candles. What do you do?"
        )

    def _validate_observation(self, observation: Observation) -> None:
        """Before anything changes: a candle stamped with its own close, later than the one before."""
        super()._validate_observation(observation)
        state = observation.states[SPOT]
        if dt.datetime.fromisoformat(state.close_time) != observation.timestamp:
            raise ValueError(
                f"the observation of {observation.timestamp} holds a candle that closes at {state.close_time};"
                " stamp each with its close"
            )
        if self.decisions and observation.timestamp <= self.decisions[-1].decision_time:
            raise ValueError(
                f"the candle of {observation.timestamp} comes after one that closed at"
                f" {self.decisions[-1].decision_time}; sort the candles by time"
            )

    def close_log(self) -> None:
        """End the log, if one is written."""
        if isinstance(self.logger, StepLog):
            self.logger.close()

    def _create_logger(self) -> BaseLogger:
        return StepLog(self._log_path)


class StepLog(BaseLogger):
    """Each step of a strategy as lines of one file, without the clock and the random folder of fractal-defi's own."""

    def __init__(self, path: Path) -> None:
        """Start the file anew."""
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("w", encoding="utf-8")

    def _init_base_path(self, *args: object, **kwargs: object) -> None:
        """Nothing to do: the path is given."""

    def _setup_logger(self, *args: object, **kwargs: object) -> None:
        """Nothing to do: the file is open."""

    def debug(self, message: str) -> None:
        """One line."""
        self._file.write(f"{message}\n")

    def close(self) -> None:
        """Write what is not written yet. May be called twice."""
        self._file.close()

    @property
    def base_artifacts_path(self) -> str:
        """The folder of the file."""
        return str(self._path.parent)

    @property
    def logs_path(self) -> str:
        """The folder of the file."""
        return str(self._path.parent)

    @property
    def datasets_path(self) -> str:
        """The folder of the file."""
        return str(self._path.parent)


def _kline_row(state: KlineState) -> list[str | float]:
    prices = (state.open, state.high, state.low, state.close, state.volume)
    return [_minute(state.open_time), *(float(_figures(p)) for p in prices)]


def _minute(stamp: str) -> str:
    return f"{stamp[:16]}Z"


def _down(value: float, digits: int) -> str:
    """Rounded down: who trades all that is shown never asks for more than there is."""
    exact = Decimal(repr(value))
    shown = exact.quantize(Decimal(1).scaleb(-digits), rounding=ROUND_FLOOR, context=_ANY_FLOAT)
    return f"{shown:f}"


def _figures(value: float) -> str:
    """At most 8 significant digits: more cost tokens and tell nothing."""
    return f"{value:.8g}"
