"""Judges closed paper trades: GOOD, OK or BAD, with what happened and what would have been better.

Belongs here: thresholds, labels, and evaluations as JSON and as a table. Deterministic and computed from the trade's
own record: no model, no questions, no clock. Results are compared with the thresholds as exact decimals.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Any, Literal, Protocol, Self

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, field_serializer, model_validator

from trader_pipeline.paper.records import TradeRecord, decimal_of
from trader_pipeline.paper.verdicts import verdict_summary
from trader_pipeline.paper.verdicts.figures import EXACT
from trader_pipeline.paper.verdicts.measures import measure
from trader_pipeline.paper.verdicts.sentences import analysis, improvement
from trader_pipeline.paper.verdicts.verdict_summary import Judged
from trader_pipeline.schema.tables import REPLAY_EVALUATIONS

Label = Literal["GOOD", "OK", "BAD"]
FORMAT = 1


class EvaluatorParams(BaseModel):
    """What counts as a good trade. Thresholds are kept digit by digit: write 0.1 and it is 0.1."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    good_pct: Decimal = Field(
        default=Decimal(15), gt=0, description="GOOD from here on; OK from above ok_above_pct up to it (%)"
    )
    ok_above_pct: Decimal = Field(default=Decimal(0), description="BAD at or below it (%)")
    judged: Literal["pnl_pct", "covered_return_pct"] = Field(
        default="pnl_pct",
        description="the figure judged; covered_return_pct is the covered position's own return, and of a LONG or SHORT"
        " its pnl_pct",
    )

    @model_validator(mode="after")
    def _is_ordered(self) -> Self:
        if self.good_pct <= self.ok_above_pct:
            raise ValueError(f"good_pct {self.good_pct} must be above ok_above_pct {self.ok_above_pct}")
        return self

    @field_serializer("good_pct", "ok_above_pct", when_used="json")
    def _in_json(self, value: Decimal) -> float | str:
        return exact_json(value)


@dataclass(frozen=True)
class TradeEvaluation:
    """A closed trade's label and the sentences beside it. `pnl_pct` is percent; `reasoning` is the policy's own."""

    trade_id: str
    label: Label
    pnl_pct: Decimal
    direction: str
    analysis: str
    improvement: str
    reasoning: str


class Refused(Protocol):
    """A line of a replay file that was not taken as a trade."""

    @property
    def line(self) -> int: ...
    @property
    def why(self) -> str: ...


@dataclass(frozen=True)
class Evaluations:
    """A batch judged: `rows` by exit, entry and `trade_id`; `open_trades`, which have no verdict, by entry and id."""

    params: EvaluatorParams
    rows: tuple[TradeEvaluation, ...]
    open_trades: tuple[TradeRecord, ...]
    summary: Mapping[str, Any]

    def to_json(
        self, source: Mapping[str, Any], *, refused: Iterable[Refused] = (), simulated: bool | None = False
    ) -> bytes:
        """The batch as JSON, keys sorted: the same trades and source give the same bytes, in whatever order they came.

        Args:
            source: what was read: `name`, `sha256`, `lines`.
            refused: lines that were passed over.
            simulated: whether any of the trades was made on simulated candles; None where nothing says.
        """
        report = {
            "format": FORMAT,
            "source": {**source, "simulated": simulated},
            "settings": self.params.model_dump(mode="json"),
            "summary": self.summary,
            "evaluations": [{**vars(row), "pnl_pct": exact_json(row.pnl_pct)} for row in self.rows],
            "open_trades": [_open_row(trade) for trade in self.open_trades],
            "refused": [{"line": one.line, "why": one.why} for one in refused],
        }
        text = json.dumps(report, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
        return text.encode(errors="backslashreplace")  # half a surrogate pair becomes its JSON escape

    def to_frame(self) -> pd.DataFrame:
        """Table `replay_evaluations`; `label` is its column `verdict`, and `pnl_pct` the nearest float."""
        if not self.rows:
            return REPLAY_EVALUATIONS.empty()
        rows = [{**vars(row), "verdict": row.label, "pnl_pct": float(row.pnl_pct)} for row in self.rows]
        return pd.DataFrame(rows)[REPLAY_EVALUATIONS.column_names]

    def summary_table(self) -> pd.DataFrame:
        """The summary as rows: all trades, then each direction, model and regime."""
        return verdict_summary.summary_table(self.summary)


class TradeEvaluator:
    """Judges trades one by one or in a batch."""

    def __init__(self, params: EvaluatorParams | None = None) -> None:
        self.params = params or EvaluatorParams()

    def evaluate(self, trade: TradeRecord) -> TradeEvaluation:
        """The verdict of one closed trade.

        Raises:
            ValueError: the trade is open, or lacks the figure that is judged.
        """
        with localcontext(EXACT):
            path = measure(trade)
            edges = (self.params.ok_above_pct, self.params.good_pct)
            return TradeEvaluation(
                trade_id=trade.trade_id,
                label=verdict(
                    self._judged(trade), good_pct=self.params.good_pct, ok_above_pct=self.params.ok_above_pct
                ),
                pnl_pct=path.pnl_pct,
                direction=trade.direction,
                analysis=analysis(path, edges=edges),
                improvement=improvement(path, edges=edges),
                reasoning=trade.reasoning,
            )

    def evaluate_batch(self, trades: Iterable[TradeRecord]) -> Evaluations:
        """All closed trades judged, the open ones listed; the order of `trades` does not matter.

        Raises:
            ValueError: a `trade_id` that occurs twice, or from `evaluate`.
        """
        trades = list(trades)
        _check_ids(trades)
        closed = sorted((t for t in trades if t.status == "CLOSED"), key=_closing_order)
        still = sorted((t for t in trades if t.status != "CLOSED"), key=lambda t: (t.entry_ts, t.trade_id))
        rows = [self.evaluate(trade) for trade in closed]
        judged = [Judged(trade, row.label) for trade, row in zip(closed, rows, strict=True)]
        with localcontext(EXACT):
            summary = verdict_summary.summarise(judged, still)
        return Evaluations(self.params, tuple(rows), tuple(still), summary)

    def _judges_pnl(self, trade: TradeRecord) -> bool:
        return self.params.judged == "pnl_pct" or trade.direction != "SHORT_CALL"

    def _judged(self, trade: TradeRecord) -> Decimal:
        value = trade.pnl_pct if self._judges_pnl(trade) else trade.covered_return_pct
        if value is None or not value.is_finite():
            raise ValueError(
                f"trade {trade.trade_id} has no {self.params.judged}, which the evaluator is set to judge;"
                " set `judged: pnl_pct`"
            )
        return value


def evaluate_trades(trades: Iterable[TradeRecord], *, params: EvaluatorParams) -> Evaluations:
    """`TradeEvaluator(params).evaluate_batch(trades)`."""
    return TradeEvaluator(params).evaluate_batch(trades)


def verdict(result_pct: Decimal, *, good_pct: Decimal, ok_above_pct: Decimal = Decimal(0)) -> Label:
    """GOOD at or above `good_pct`, OK above `ok_above_pct` and below it, BAD at or below `ok_above_pct`. All in %.

    >>> [verdict(Decimal(r), good_pct=Decimal(15)) for r in ("15", "14.9999999999999999999999", "-0.0")]
    ['GOOD', 'OK', 'BAD']
    """
    if result_pct >= good_pct:
        return "GOOD"
    return "OK" if result_pct > ok_above_pct else "BAD"


def exact_json(value: Decimal) -> float | str:
    """A number where JSON's float is exactly this decimal, else all digits as text; negative zero is 0.

    `Decimal(str(x))` of what a reader gets back is the decimal that was judged.

    >>> exact_json(Decimal("14.9")), exact_json(Decimal("14.9999999999999999999999"))
    (14.9, '14.9999999999999999999999')
    """
    nearest = float(value) or 0.0
    return nearest if decimal_of(nearest) == value else str(value)


def _check_ids(trades: Sequence[TradeRecord]) -> None:
    seen: set[str] = set()
    for trade in trades:
        if trade.trade_id in seen:
            raise ValueError(
                f"trade_id {trade.trade_id!r} occurs twice; give each trade once, as last recorded"
            )
        seen.add(trade.trade_id)


def _closing_order(trade: TradeRecord) -> tuple[pd.Timestamp, pd.Timestamp, str]:
    if trade.exit_ts is None:
        raise ValueError(f"trade {trade.trade_id} is CLOSED without exit_ts")
    return trade.exit_ts, trade.entry_ts, trade.trade_id


def _open_row(trade: TradeRecord) -> dict[str, Any]:
    return {
        "trade_id": trade.trade_id,
        "symbol": trade.symbol,
        "direction": trade.direction,
        "entry_ts": trade.entry_ts.tz_convert("UTC").isoformat(),
        "entry_price": trade.entry_price,
        "size": trade.size,
        "model_id": trade.model_id,
    }
