"""The layout with outcome lines, word for word, for study: training refuses such a corpus.

Belongs here: the text around the outcome. Its figures come from the caller, never from the prompt's own columns.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from trader_pipeline.corpora.plain_style import numbered_lines, reply, shortest
from trader_pipeline.corpora.presentation import Presentation
from trader_pipeline.corpora.prompt_rows import PromptTable
from trader_pipeline.corpora.render_params import RenderParams
from trader_pipeline.corpora.text_columns import TEXT, fixed, join, labelled, repeat, significant
from trader_pipeline.schema.columns import NO_TRADE

HINDSIGHT_MARKER = "Outcome (teacher hindsight"
OUTCOMES = ("reward", "pnl_vs_hodl", "max_drawdown_pct")
_CHOICE = ["underlying", "decision_time", "exit_style", "instrument"]
_IMITATING = {"teacher": ", imitating the teacher policy", "hindsight": ""}


def classic_trade_or_skip(
    rows: PromptTable, params: RenderParams, hindsight: pa.Table | None
) -> tuple[pa.Array, pa.Array]:
    """System and user turns about one candidate each; without `hindsight` no outcome lines."""
    outcome: str | pa.Array = ""
    if hindsight is not None:
        if hindsight.num_rows != rows.count:
            raise ValueError(f"hindsight has {hindsight.num_rows} rows for {rows.count} prompts")
        outcome = _outcome_lines(hindsight, about="this candidate")
    user = join(
        _market(rows, spot_name="Spot price"),
        "Candidate option: ",
        _candidate(rows),
        "\n",
        outcome,
        "\nQuestion: Before seeing the outcome, should the policy SELL_CALL or SKIP this candidate? ",
        reply("SELL_CALL or SKIP", params),
        rows=rows.count,
    )
    return _system(rows, params, pick=False), user


def classic_pick(
    steps: PromptTable,
    offers: PromptTable,
    shown: Presentation,
    params: RenderParams,
    hindsight: pa.Table | None,
) -> tuple[pa.Array, pa.Array]:
    """System and user turns that list the candidates of a step; without `hindsight` no outcome lines."""
    outcome: str | pa.Array = "" if hindsight is None else _outcome_of_choice(offers, shown, hindsight)
    replies = labelled(
        pa.array(shown.sizes),
        lambda keys: [reply(f"1, 2, ..., {n}, or {NO_TRADE}", params) for n in keys.to_pylist()],
    )
    user = join(
        _market(steps, spot_name="Spot"),
        "Candidates:\n",
        numbered_lines(_candidate(offers), shown),
        "\n",
        outcome,
        "\nQuestion: Before seeing the outcome, which candidate index should the policy choose to SELL_CALL? ",
        replies,
        rows=steps.count,
    )
    return _system(steps, params, pick=True), user


def _system(rows: PromptTable, params: RenderParams, *, pick: bool) -> pa.Array:
    """The system turn, with the underlying's name; a system turn that is set takes its place."""
    own = params.pick_system if pick else params.trade_or_skip_system
    if own is not None:
        return repeat(own, rows.count)
    task = (
        "you see multiple candidate options and may either pick exactly one to SELL_CALL or decide NO_TRADE."
        " Choose the single best candidate index"
        if pick
        else "you see one candidate option and may either SELL_CALL or SKIP it. Decide about this candidate"
    )
    end = f" covered-call strategy. At each decision, {task}{_IMITATING[params.labels]}."
    return join("You are an automated ", rows.texts("underlying"), end, rows=rows.count)


def _market(rows: PromptTable, *, spot_name: str) -> pa.Array:
    """The four lines before the candidates, with the last one's end."""
    return join(
        "Decision time: ",
        labelled(rows.moments(), lambda keys: [t.isoformat() for t in keys.to_pylist()]),
        "\nUnderlying: ",
        rows.texts("underlying"),
        f"\n{spot_name}: ",
        fixed(rows.numbers("spot"), 2),
        "\nTeacher policy: ",
        rows.texts("exit_style"),
        "\n",
        rows=rows.count,
    )


def _candidate(rows: PromptTable) -> pa.Array:
    """`BTC-... — Strike: 4000, DTE: 7, Delta: 0.2316, Score: 3.1327`."""
    return join(
        rows.texts("instrument"),
        " — Strike: ",
        significant(rows.numbers("strike"), 10),
        ", DTE: ",
        shortest(rows.numbers("dte"), 1),
        ", Delta: ",
        fixed(rows.numbers("delta"), 4),
        ", Score: ",
        fixed(rows.numbers("score"), 4),
        rows=rows.count,
    )


def _outcome_of_choice(offers: PromptTable, shown: Presentation, hindsight: pa.Table) -> pa.Array:
    """Outcome lines of each step's chosen candidate, and none for the steps that `hindsight` does not name."""
    places = (
        offers.table.select(_CHOICE).to_pandas().assign(position=shown.positions, step=shown.step_of_place)
    )
    named = hindsight.select([*_CHOICE, *OUTCOMES]).to_pandas()
    named = named.astype({"decision_time": places["decision_time"].dtype})
    found = named.merge(places, on=_CHOICE, how="left", validate="one_to_one")
    if found["step"].isna().any():
        lost = found[found["step"].isna()].iloc[0]
        raise ValueError(
            f"hindsight names {lost.instrument} at {lost.decision_time}, which is not among the rows"
        )
    if found["step"].duplicated().any():
        twice = found[found["step"].duplicated()].iloc[0]
        raise ValueError(f"hindsight names two choices of {twice.underlying} at {twice.decision_time}")
    by_step = found.set_index("step").reindex(range(shown.steps))
    table = pa.Table.from_pandas(pd.DataFrame(by_step[list(OUTCOMES)]), preserve_index=False)
    index = pa.array(by_step["position"].fillna(0).astype(int).astype(str), TEXT)
    return _outcome_lines(table, about="the chosen candidate only", index=index)


def _outcome_lines(outcomes: pa.Table, *, about: str, index: pa.Array | None = None) -> pa.Array:
    """The block of outcome lines of each row, with the empty line before it; nothing where the outcome is null."""
    rows = outcomes.num_rows
    known = np.ones(rows, dtype=bool)
    columns = []
    for name in OUTCOMES:
        values = pc.fill_null(outcomes[name].cast(pa.float64()), np.nan).to_numpy()
        known &= np.isfinite(values)
        columns.append(values)
    reward, pnl, drawdown = (fixed(np.where(known, values, 0.0), 2) for values in columns)
    chosen: list[str | pa.Array] = [] if index is None else ["  - Chosen candidate index: ", index, "\n"]
    block = join(
        f"\n{HINDSIGHT_MARKER} for {about}):\n",
        *chosen,
        "  - Reward (USD): ",
        reward,
        "\n  - PnL vs HODL (USD): ",
        pnl,
        "\n  - Max drawdown (%): ",
        drawdown,
        "\n",
        rows=rows,
    )
    return pc.if_else(pa.array(known), block, pa.scalar("", block.type))
