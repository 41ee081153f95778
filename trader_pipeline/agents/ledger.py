"""What asking cost: tokens and money by model, and a budget that stops it.

Belongs here: prices, sums, the budget. Does not belong here: counting tokens (the host does), keeping answers
(`cache`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from trader_pipeline.agents.asking import AgentReply, AgentRequest, Asker, AskingError

_BUSY_SECONDS = 60.0


class ModelPrice(BaseModel):
    """What a host asks for a model's tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    prompt_usd: float = Field(ge=0, description="USD per million tokens read")
    completion_usd: float = Field(ge=0, description="USD per million tokens written")

    def cost(self, reply: AgentReply) -> float:
        """USD for the tokens of all attempts behind a reply."""
        return (
            reply.prompt_tokens * self.prompt_usd + reply.completion_tokens * self.completion_usd
        ) / 1_000_000


class BudgetSpentError(AskingError):
    """No further question is paid for. A command ends with exit status 3; what was answered is kept."""

    exit_code = 3


@dataclass(frozen=True)
class ModelCost:
    """One model's sums.

    Attributes:
        asked: questions put to the host; `cached`: those answered by the cache, at no cost.
        prompt_tokens, completion_tokens: of the questions put, over all attempts.
        cost_usd: None where the model's price is not known.
    """

    model: str
    asked: int
    cached: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None

    def sentence(self) -> str:
        """The sums as one line."""
        money = "price unknown" if self.cost_usd is None else f"{self.cost_usd:.4f} USD"
        return (
            f"{self.model}: {self.asked} asked, {self.cached} from the cache, {self.prompt_tokens} tokens read,"
            f" {self.completion_tokens} written, {money}"
        )


class CostLedger:
    """A row per question in SQLite; several processes may share one file, and so one budget."""

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        prices: Mapping[str, ModelPrice] | None = None,
        max_cost_usd: float | None = None,
    ) -> None:
        """Open the ledger at `path`, with what it holds; None keeps one in memory, for this object alone.

        Args:
            prices: by model, as it is named to the host. Of a model without a price only tokens are counted.
            max_cost_usd: no question is put once this much is spent. The last one may go beyond it.
        """
        self.prices = dict(prices or {})
        self.max_cost_usd = max_cost_usd
        self._path = path
        # One in memory lives as long as its connection; one on disk is opened anew, so that none crosses a fork.
        self._memory = sqlite3.connect(":memory:", check_same_thread=False) if path is None else None
        if path is not None:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        self._execute(
            "CREATE TABLE IF NOT EXISTS questions (model TEXT NOT NULL, cached INTEGER NOT NULL,"
            " prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, cost_usd REAL)"
        )

    def add(self, model: str, reply: AgentReply) -> AgentReply:
        """Book a reply; returns it with its cost."""
        price = self.prices.get(model)
        cost = 0.0 if reply.cached else None if price is None else price.cost(reply)
        tokens = (0, 0) if reply.cached else (reply.prompt_tokens, reply.completion_tokens)
        self._execute("INSERT INTO questions VALUES (?, ?, ?, ?, ?)", (model, reply.cached, *tokens, cost))
        return replace(reply, cost_usd=cost)

    def check_budget(self, model: str) -> None:
        """Refuse a further question once the budget is spent.

        Raises:
            BudgetSpentError: it is spent.
            AskingError: there is a budget but no price for `model`, so it could never be kept.
        """
        if self.max_cost_usd is None:
            return
        if model not in self.prices:
            raise AskingError(
                f"the budget of {self.max_cost_usd:g} USD cannot be kept: no price is known for {model!r}; give its"
                " price with --price, or no budget"
            )
        spent = self.spent_usd()
        if spent >= self.max_cost_usd:
            raise BudgetSpentError(
                f"{spent:.4f} USD are spent, the budget is {self.max_cost_usd:g}: raise --max-cost-usd and give the"
                " same command again; what was answered is kept and costs nothing"
            )

    def spent_usd(self) -> float:
        """All that was paid, of every model whose price is known."""
        return float(self._execute("SELECT coalesce(sum(cost_usd), 0) FROM questions")[0][0])

    def totals(self) -> list[ModelCost]:
        """The sums of each model, by name."""
        rows = self._execute(
            "SELECT model, sum(1 - cached), sum(cached), sum(prompt_tokens), sum(completion_tokens),"
            " CASE WHEN sum(cost_usd IS NULL) THEN NULL ELSE sum(cost_usd) END"
            " FROM questions GROUP BY model ORDER BY model"
        )
        return [ModelCost(*row) for row in rows]

    def _execute(self, statement: str, values: tuple[object, ...] = ()) -> list[Any]:
        if self._memory is not None:
            with self._memory:
                return self._memory.execute(statement, values).fetchall()
        with closing(sqlite3.connect(str(self._path), timeout=_BUSY_SECONDS)) as database, database:
            return database.execute(statement, values).fetchall()


class PaidAsker:
    """Asks as long as the budget lasts, and books what it cost. Stands behind the cache: kept answers are free."""

    def __init__(self, asker: Asker, ledger: CostLedger, *, model: str) -> None:
        self._asker, self._ledger, self._model = asker, ledger, model

    def ask(self, request: AgentRequest) -> AgentReply:
        """The reply with its cost.

        Raises:
            BudgetSpentError: the ledger's budget is spent.
        """
        self._ledger.check_budget(self._model)
        return self._ledger.add(self._model, self._asker.ask(request))
