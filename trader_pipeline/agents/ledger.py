"""What asking cost: tokens and money by model, and a budget that stops it.

Belongs here: prices, sums, the budget. Does not belong here: counting tokens (the host does), keeping answers
(`cache`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from trader_pipeline.agents.asking import AgentReply, AgentRequest, Asker, AskingError, close_asker
from trader_pipeline.agents.own_sqlite import OwnFile

_MARK = 0x7470_6C65
_TABLE = (
    "CREATE TABLE IF NOT EXISTS questions (model TEXT NOT NULL, cached INTEGER NOT NULL,"
    " prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, cost_usd REAL)"
)


class ModelPrice(BaseModel):
    """What a host asks for a model's tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    prompt_usd: float = Field(ge=0, description="USD per million tokens read")
    completion_usd: float = Field(ge=0, description="USD per million tokens written")

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """USD for so many tokens."""
        return (prompt_tokens * self.prompt_usd + completion_tokens * self.completion_usd) / 1_000_000


class BudgetSpentError(AskingError):
    """No further question is paid for. A command ends with exit status 3; what was answered is kept."""

    exit_code = 3


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
            max_cost_usd: no question is put once this much is spent. The last one of each process may go beyond it.

        Raises:
            ValueError: the file is no ledger; it is left as it is.
        """
        self.prices = dict(prices or {})
        self.max_cost_usd = max_cost_usd
        # One in memory lives as long as its connection; one on disk is opened anew, so that none crosses a fork.
        self._memory = sqlite3.connect(":memory:", check_same_thread=False) if path is None else None
        self._file = None if path is None else OwnFile(Path(path), "ledger of costs", _MARK)
        if self._file is not None:
            self._file.make(_TABLE)
        else:
            self._execute(_TABLE)

    def cost(self, model: str, reply: AgentReply) -> float | None:
        """What the tokens behind a reply cost at the price that is known, be they paid now or before."""
        price = self.prices.get(model)
        return None if price is None else price.cost(reply.prompt_tokens, reply.completion_tokens)

    def add(self, model: str, reply: AgentReply) -> None:
        """Book a reply: its tokens and their cost; nothing of a cached one, but that there was one."""
        paid = AgentReply() if reply.cached else reply
        values = (
            model, reply.cached, paid.prompt_tokens, paid.completion_tokens,
            0.0 if reply.cached else self.cost(model, reply),
        )  # fmt: skip
        self._execute("INSERT INTO questions VALUES (?, ?, ?, ?, ?)", values)

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
        """All that was paid, as far as prices are known; what was asked before one was known counts at that one."""
        rows = self._execute(
            "SELECT model, coalesce(sum(cost_usd), 0), sum(iif(cost_usd IS NULL, prompt_tokens, 0)),"
            " sum(iif(cost_usd IS NULL, completion_tokens, 0)) FROM questions GROUP BY model ORDER BY model"
        )
        return sum(booked + self._later(model, read, written) for model, booked, read, written in rows)

    def _later(self, model: str, read: int, written: int) -> float:
        """What tokens cost that were booked when no price was known."""
        price = self.prices.get(model)
        return 0.0 if price is None else price.cost(read, written)

    def _execute(self, statement: str, values: tuple[object, ...] = ()) -> list[Any]:
        if self._file is not None:
            with self._file.open() as database:
                return database.execute(statement, values).fetchall()
        assert self._memory is not None
        with self._memory:
            return self._memory.execute(statement, values).fetchall()


class PaidAsker:
    """Asks as long as the budget lasts, and books what was paid. Stands behind the cache: kept answers are free."""

    def __init__(self, asker: Asker, ledger: CostLedger, *, model: str) -> None:
        self._asker, self._ledger, self._model = asker, ledger, model

    def ask(self, request: AgentRequest) -> AgentReply:
        """The reply, booked; also where the model turns out not to be there after it was paid.

        Raises:
            BudgetSpentError: the ledger's budget is spent.
            AskingError: there is a budget, and the host does not count tokens.
        """
        self._ledger.check_budget(self._model)
        try:
            reply = self._asker.ask(request)
        except AskingError as error:
            read, written = error.tokens
            if read or written:
                self._ledger.add(self._model, AgentReply(prompt_tokens=read, completion_tokens=written))
            raise
        self._ledger.add(self._model, reply)
        self._refuse_uncounted(reply)
        return reply

    def _refuse_uncounted(self, reply: AgentReply) -> None:
        answered = reply.fault in (None, "malformed", "refusal")
        if self._ledger.max_cost_usd is not None and answered and not reply.prompt_tokens:
            raise AskingError(
                f"the budget of {self._ledger.max_cost_usd:g} USD cannot be kept: the host of {self._model!r} does not"
                " say how many tokens it reads; give no budget, or ask another host"
            )

    def close(self) -> None:
        close_asker(self._asker)


class PricedAsker:
    """Tells what each answer costs, and books those that were kept. Stands before the cache."""

    def __init__(self, asker: Asker, ledger: CostLedger, *, model: str) -> None:
        self._asker, self._ledger, self._model = asker, ledger, model

    def ask(self, request: AgentRequest) -> AgentReply:
        reply = self._asker.ask(request)
        if reply.cached:
            self._ledger.add(self._model, reply)
        return replace(reply, cost_usd=self._ledger.cost(self._model, reply))

    def close(self) -> None:
        close_asker(self._asker)
