"""The one prompt renderer: corpora, training and inference all get their text here, so it cannot drift apart.

Belongs here: whole prompts and their answers, for tables of candidates (`prompt_rows`), a column at a time; one step is
a table of a few rows. Does not belong here: labels, splits, sampling. A prompt is made of `PROMPT_COLUMNS` alone, and
those hold nothing later than their decision; outcome lines, for study, are a table of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from trader_pipeline.corpora.classic_layout import HINDSIGHT_MARKER, classic_pick, classic_trade_or_skip
from trader_pipeline.corpora.plain_style import candidate_text, market_lines, numbered_lines, reply
from trader_pipeline.corpora.presentation import Presentation, present
from trader_pipeline.corpora.prompt_rows import PROMPT_COLUMNS, PromptTable, prompt_rows, prompt_rows_of
from trader_pipeline.corpora.rationale import no_trade_rationale, sell_rationale, skip_rationale
from trader_pipeline.corpora.render_params import RenderParams, TradingKind
from trader_pipeline.corpora.report_style import market_note, option_note
from trader_pipeline.corpora.steps import (
    Hindsight,
    LabelledStep,
    PromptCandidate,
    PromptStep,
    build_prompt_step,
    candidate_order,
    prompt_steps,
)
from trader_pipeline.corpora.text_columns import fixed, in_slices, join, labelled, repeat
from trader_pipeline.schema.columns import NO_TRADE, VERDICTS

__all__ = [
    "HINDSIGHT_MARKER",
    "PROMPT_COLUMNS",
    "SELL_CALL",
    "SKIP",
    "Hindsight",
    "LabelledStep",
    "PickPrompts",
    "PromptCandidate",
    "PromptStep",
    "Prompts",
    "RenderParams",
    "allowed_answers",
    "answer_of",
    "build_prompt_step",
    "candidate_order",
    "contains_hindsight",
    "prompt_rows",
    "prompt_rows_of",
    "prompt_steps",
    "render_pick",
    "render_replay",
    "render_trade_facts",
    "render_trade_or_skip",
]

SELL_CALL, SKIP = "SELL_CALL", "SKIP"


@dataclass(frozen=True)
class Prompts:
    """One entry a row: system and user turn, and the whole assistant turn of either answer."""

    system: pa.Array
    user: pa.Array
    sell: pa.Array
    skip: pa.Array


@dataclass(frozen=True)
class PickPrompts:
    """One entry a step, in order of (decision_time, underlying, exit_style).

    `instruments` are the candidates in order of presentation; `answers` the whole assistant turns, aligned with them,
    NO_TRADE last.
    """

    system: pa.Array
    user: pa.Array
    instruments: pa.LargeListArray
    answers: pa.LargeListArray
    underlying: pa.Array
    decision_time: pa.Array
    exit_style: pa.Array


def render_trade_or_skip(
    rows: pa.Table, params: RenderParams, *, hindsight: pa.Table | None = None
) -> Prompts:
    """Prompts that ask about one candidate each: sell it or skip it.

    Args:
        rows: from `prompt_rows`.
        hindsight: `reward, pnl_vs_hodl, max_drawdown_pct` row by row, used where `params.hindsight` is on; a row with
            nulls gets no outcome lines.

    Raises:
        ValueError: a figure that is shown is null or not finite, or `hindsight` has other rows; names row and column.
    """
    seen = PromptTable(rows)
    if params.hindsight:
        system, user = classic_trade_or_skip(seen, params, hindsight)
        return Prompts(system, user, *(repeat(answer, seen.count) for answer in (SELL_CALL, SKIP)))
    return _about_one(seen, params, "trade_or_skip", asked="Candidate option: ")


def render_replay(rows: pa.Table, params: RenderParams) -> Prompts:
    """Prompts about proposed paper trades: what was seen at the decision, never what came of it.

    Raises:
        ValueError: a figure that is shown is null or not finite; names row and column.
    """
    return _about_one(PromptTable(rows), params, "replay", asked="Proposed trade: sell ")


def render_trade_facts(rows: pa.Table, params: RenderParams, *, asked: str) -> pa.Array:
    """What `render_replay` shows, without its last line, which asks: the market, and the call after the words `asked`.

    Raises:
        ValueError: as `render_replay`.
    """
    seen = PromptTable(rows)
    return join(*_asked(seen, params, asked), rows=seen.count)


def render_pick(
    rows: pa.Table,
    params: RenderParams,
    *,
    shuffle: int = 0,
    seed: int = 0,
    hindsight: pa.Table | None = None,
) -> PickPrompts:
    """Prompts that list all candidates of a step; the answer is the 1-based position of one, or NO_TRADE.

    Args:
        rows: from `prompt_rows`, in any order; the candidates of a step are shown in the order of `candidate_order`.
        shuffle, seed: which order.
        hindsight: `underlying, decision_time, exit_style, instrument` (the one chosen) and `reward, pnl_vs_hodl,
            max_drawdown_pct`, used where `params.hindsight` is on; steps without a row get no outcome lines.

    Raises:
        ValueError: a figure that is shown is null or not finite, an instrument twice in a step, or two markets in one.
    """
    seen = PromptTable(rows)
    shown = present(seen, shuffle=shuffle, seed=seed)
    steps = PromptTable(rows.take(pa.array(shown.first_rows)))
    offers = PromptTable(rows.take(pa.array(shown.rows)))
    system, user = (
        classic_pick(steps, offers, shown, params, hindsight)
        if params.hindsight
        else _usual_pick(steps, offers, shown, params)
    )
    return PickPrompts(
        system=system,
        user=user,
        instruments=shown.lists(offers.texts("instrument")),
        answers=_pick_answers(steps, offers, shown, params),
        underlying=steps.texts("underlying"),
        decision_time=steps.moments(),
        exit_style=steps.texts("exit_style"),
    )


def allowed_answers(kind: str, candidates: int = 1) -> list[str]:
    """The exact answers that a prompt of `kind` with this many candidates may get.

    >>> allowed_answers("pick_candidate", 3)
    ['1', '2', '3', 'NO_TRADE']
    """
    if kind in ("trade_or_skip", "replay"):
        return [SELL_CALL, SKIP]
    if kind == "review":
        return list(VERDICTS)
    if kind == "pick_candidate":
        return [*(str(i) for i in range(1, candidates + 1)), NO_TRADE]
    raise ValueError(
        f"kind {kind!r} has no closed set of answers; known: trade_or_skip, pick_candidate, replay, review"
    )


def answer_of(assistant_text: str) -> str:
    """The bare answer of a whole assistant turn: its last line.

    >>> answer_of("The premium is small.\\nSKIP")
    'SKIP'
    """
    return assistant_text.rsplit("\n", maxsplit=1)[-1]


def contains_hindsight(user: str) -> bool:
    """Whether a user turn holds the hindsight lines; training refuses those."""
    return HINDSIGHT_MARKER in user


def _about_one(seen: PromptTable, params: RenderParams, kind: TradingKind, *, asked: str) -> Prompts:
    last_line = reply(f"{SELL_CALL} or {SKIP}", params)

    def rendered(start: int, length: int) -> list[pa.Array]:
        rows = PromptTable(seen.table.slice(start, length), first_row=start)
        user = join(*_asked(rows, params, asked), f"\n{last_line}", rows=length)
        return [user, *_answers(rows, params)]

    user, sell, skip = in_slices(seen.count, rendered)
    return Prompts(repeat(params.system(kind), seen.count), user, sell, skip)


def _asked(rows: PromptTable, params: RenderParams, asked: str) -> list[str | pa.Array]:
    if params.style == "report":
        return [*market_note(rows, params), asked, *option_note(rows, params)]
    market = market_lines(rows, params, spot_name="Spot price")
    return [*market, asked, *candidate_text(rows, params.candidate_columns, params)]


def _answers(rows: PromptTable, params: RenderParams) -> tuple[pa.Array, pa.Array]:
    sell, skip = repeat(SELL_CALL, rows.count), repeat(SKIP, rows.count)
    if not params.rationale:
        return sell, skip
    sold, skipped = sell_rationale(rows, params), skip_rationale(rows, params)
    return join(sold, "\n", sell, rows=rows.count), join(skipped, "\n", skip, rows=rows.count)


def _usual_pick(
    steps: PromptTable, offers: PromptTable, shown: Presentation, params: RenderParams
) -> tuple[pa.Array, pa.Array]:
    market = (
        market_note(steps, params, shown=(offers, shown))
        if params.style == "report"
        else _plain_market(steps, offers, shown, params)
    )
    listed = join(*candidate_text(offers, params.pick_columns, params), rows=offers.count)
    user = join(
        *market,
        "Candidates:\n",
        numbered_lines(listed, shown),
        "\n",
        labelled(pa.array(shown.sizes), lambda keys: [reply(_choices(n), params) for n in keys.to_pylist()]),
        rows=steps.count,
    )
    return repeat(params.system("pick_candidate"), steps.count), user


def _plain_market(
    steps: PromptTable, offers: PromptTable, shown: Presentation, params: RenderParams
) -> list[str | pa.Array]:
    ratios = offers.numbers("ivrv_ratio")
    return [
        *market_lines(steps, params, spot_name="Spot"),
        "IV/RV: ",
        fixed(shown.per_step(np.minimum, ratios), 2),
        " to ",
        fixed(shown.per_step(np.maximum, ratios), 2),
        "\n",
    ]


def _pick_answers(
    steps: PromptTable, offers: PromptTable, shown: Presentation, params: RenderParams
) -> pa.LargeListArray:
    """Each step's whole assistant turns: one a candidate in order of presentation, then NO_TRADE."""
    sold = labelled(pa.array(shown.positions), lambda keys: [str(n) for n in keys.to_pylist()])
    held = repeat(NO_TRADE, steps.count)
    if params.rationale:
        sold = join(sell_rationale(offers, params), "\n", sold, rows=offers.count)
        held = join(no_trade_rationale(steps, offers, shown, params), "\n", held, rows=steps.count)
    order = np.argsort(np.concatenate([shown.step_of_place, np.arange(shown.steps)]), kind="stable")
    starts = shown.starts + np.arange(shown.steps + 1)
    answers = pa.concat_arrays([sold, held]).take(pa.array(order))
    return pa.LargeListArray.from_arrays(pa.array(starts, pa.int64()), answers)


def _choices(candidates: int) -> str:
    if candidates <= 2:
        return ", ".join([*(str(i) for i in range(1, candidates + 1)), f"or {NO_TRADE}"])
    return f"1, 2, ..., {candidates}, or {NO_TRADE}"
