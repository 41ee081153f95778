"""Section about the model's other abilities: what training cost them, with the stable mix and without.

Belongs here: what the section shows and says. Does not belong here: how it is measured (`evaluation.forgetting`).
"""

from __future__ import annotations

import pandas as pd

from trader_pipeline.backtest.page.markup import Field, chart, paragraph, table
from trader_pipeline.backtest.page.plots import figure_json
from trader_pipeline.evaluation.forgetting import ADAPTER, BASE, UNMIXED, within_budget
from trader_pipeline.evaluation.report.plots import forgetting_figure
from trader_pipeline.evaluation.report.source import Source
from trader_pipeline.schema.tables import FORGETTING

_FIELDS = {
    "model": Field("model"),
    "step": Field("steps", ",.0f"),
    "loss": Field("loss, nats per token", ".4f"),
    "loss_change_pct": Field("change, %", "+.2f"),
    "interval": Field("interval, %", figures=True),
    "exact_share": Field("exact answers, %", ".1f"),
    "verdict": Field("budget"),
}
_COMPARE = "trader-pipeline run --set forgetting.compare_unmixed=true"


def forgetting_section(source: Source) -> str:
    measured = source.read(FORGETTING)
    if measured.empty:
        return paragraph("What the model forgot has not been measured: the table forgetting holds no rows.")
    order = [name for name in (BASE, ADAPTER, UNMIXED) if name in set(measured["model"])]
    rows = measured.set_index("model").loc[order].reset_index()
    adapters = rows[rows["model"] != BASE]
    caption = (
        "Change of the loss with its paired bootstrap interval over the instructions; right of the dashed line it is"
        " over budget."
    )
    figure = figure_json(forgetting_figure(adapters))
    return "".join(
        [
            paragraph(_lead(rows)),
            chart("forgetting", figure, height=110 + 44 * len(adapters), caption=caption),
            table(_shown(rows), _FIELDS, strong=ADAPTER),
            _notes(rows),
        ]
    )


def _lead(rows: pd.DataFrame) -> str:
    base, own = (rows[rows["model"] == name].to_dict("records")[0] for name in (BASE, ADAPTER))
    within = bool(within_budget(rows)[rows["model"] == ADAPTER].all())
    return (
        f"On {own['instructions']:,} general instructions that no training read ({own['answer_tokens']:,} answer"
        f" tokens) the loss is {own['loss']:.4f} with the adapter and {base['loss']:.4f} without:"
        f" {own['loss_change_pct']:+.2f} %. At most {own['budget_pct']:+g} % is allowed: the adapter is"
        f" {'within' if within else 'over'} its budget."
    )


def _shown(rows: pd.DataFrame) -> pd.DataFrame:
    ends = zip(rows["change_low_pct"], rows["change_high_pct"], strict=True)
    verdicts = within_budget(rows).map({True: "within", False: "over"})
    return rows.assign(
        interval=[f"{low:+.2f} .. {high:+.2f}" if pd.notna(low) else "–" for low, high in ends],
        exact_share=100 * rows["exact_share"],
        verdict=verdicts.where(rows["model"] != BASE, "–"),
    )


def _notes(rows: pd.DataFrame) -> str:
    """What the columns mean, and where a row is missing, how to get it."""
    notes = [
        "An exact answer is one that greedy decoding would give token by token, end of turn included. Steps are those"
        " behind the weights that were kept."
    ]
    if not rows.loc[rows["model"] == BASE, "exact_share"].any():
        notes.append("The base model gives none of these answers word for word, so there is none to lose.")
    if UNMIXED in set(rows["model"]):
        notes.append(
            "The last row is the same training without the stable records: same seed and planned steps."
        )
    else:
        notes.append(f"Not compared with a training without the stable mix; {_COMPARE} adds it.")
    return paragraph(" ".join(notes), "note")
