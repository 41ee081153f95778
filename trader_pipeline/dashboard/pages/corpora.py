"""The page Corpora: records as chats, what the audit found, how long records are in tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from dash import Dash, html
from dash.development.base_component import Component

from trader_pipeline.corpora.render import answer_of
from trader_pipeline.dashboard import parts
from trader_pipeline.dashboard.corpus_views import (
    CORPORA,
    MOST_COUNTED,
    answer_column,
    chat,
    findings_frame,
    lengths_figure,
    read_audit,
    text_columns,
    token_figures,
)
from trader_pipeline.dashboard.deferred import fill_later, later
from trader_pipeline.dashboard.hints import run_command
from trader_pipeline.dashboard.page import BadChoiceError, Context, Page, State, chosen, href, number
from trader_pipeline.dashboard.tables import Where
from trader_pipeline.schema import Table

PATH = "/corpora"
_SIZE = 10
_MOST_ANSWERS = 30
_LONGEST_ANSWER = 24
"""Characters up to which an answer is a label to filter by; longer ones are texts of their own."""
_ALL = "all"
_VIEWS = (("records", "Records"), ("audit", "Audit"), ("lengths", "Token lengths"))
_RESETS = ("page", "record", "answer")


def layout(state: State, context: Context) -> list[Any]:
    held = [table for table in CORPORA if context.tables.exists(table)]
    if not held:
        return [parts.empty("No corpus has been made yet.", run_command(context))]
    table = _corpus(state, held)
    view = chosen(state, "view", [name for name, _ in _VIEWS])
    manifest = context.tables.manifest(table)
    return [
        parts.simulated_badge(manifest is not None and manifest.simulated),
        parts.text(f"{table.description} {0 if manifest is None else manifest.rows:,} records."),
        parts.controls(
            parts.choice(
                "corpus", "Corpus", [t.name for t in held], table.name, resets=(*_RESETS, "kind", "split")
            ),
            parts.choice("view", "Show", _VIEWS, view, resets=_RESETS),
        ),
        *_SHOWN[view](state, context, table),
    ]


def _corpus(state: State, held: list[Table]) -> Table:
    """The chosen corpus; at first the one that the adapter is trained on."""
    names = [table.name for table in held]
    first = "mixed_corpus" if "mixed_corpus" in names else names[0]
    return held[names.index(chosen(state, "corpus", names, first))]


def _records(state: State, context: Context, table: Table) -> list[Any]:
    if "record" in state:
        return _one_record(state, context, table)
    where = _conditions(state, context, table)
    rows = context.tables.count(table, where)
    pages = parts.page_count(rows, _SIZE)
    page = number(state, "page", 1, maximum=pages)
    found = context.tables.page(
        table, where=where, order=("record_id",), limit=_SIZE, offset=_SIZE * (page - 1)
    )
    shown = [_article(row, table, state) for row in found.to_dict("records")]
    if not shown:
        drop = parts.link("Show all records", href(PATH, {"corpus": table.name}))
        shown = [parts.empty("No record fits these filters."), html.P(drop)]
    counted = f"{rows:,} records, {_SIZE} a page, in the order of their ids."
    return [
        _filters(state, context, table),
        parts.section(
            "Records", parts.note(counted), *shown, parts.paging("records", state, PATH, page, pages)
        ),
    ]


def _one_record(state: State, context: Context, table: Table) -> list[Any]:
    found = context.tables.page(table, where=[Where("record_id", "=", state["record"])], limit=1)
    back = html.P(parts.link("All records of this corpus", href(PATH, state, record=None)))
    if found.empty:
        words = (
            f"No record {state['record']} is in {table.name}; it was made again, or it is in another corpus."
        )
        return [parts.problem(words), back]
    return [parts.section("Record", _article(found.to_dict("records")[0], table, state), back)]


def _conditions(state: State, context: Context, table: Table) -> list[Where]:
    """The filters that the URL holds.

    Raises:
        BadChoiceError: an answer that no record has.
    """
    where = [Where(name, "=", state[name]) for name in ("split", "kind") if state.get(name, _ALL) != _ALL]
    wanted = state.get("answer", _ALL)
    if wanted != _ALL:
        texts = _answers(context, table, where).get(wanted)
        if texts is None:
            raise BadChoiceError(
                f"answer {wanted!r} is in no record of {table.name} here; choose another one"
            )
        where.append(Where(answer_column(table), "in", texts))
    return where + [Where("user", "contains", word) for word in state.get("words", "").split()]


def _answers(context: Context, table: Table, where: list[Where]) -> dict[str, list[str]]:
    """Answers short enough to be labels, the most frequent first, each with the whole turns that end in it."""
    column = answer_column(table)
    counted = context.tables.groups(table, (column,), {"records": ("count", "*")}, where=where)
    counted["answer"] = counted[column].map(answer_of)
    counted = counted[counted["answer"].str.len() <= _LONGEST_ANSWER]
    most = counted.groupby("answer")["records"].sum().sort_values(ascending=False, kind="stable")
    texts = counted.groupby("answer")[column].agg(list)
    return {str(name): texts[name] for name in most.index[:_MOST_ANSWERS]}


def _filters(state: State, context: Context, table: Table) -> Component:
    where = [Where(name, "=", state[name]) for name in ("split", "kind") if state.get(name, _ALL) != _ALL]
    fields = [
        parts.choice(
            name, title, [_ALL, *_values(context, table, name)], state.get(name, _ALL), resets=_RESETS
        )
        for name, title in (("split", "Split"), ("kind", "Kind"))
    ]
    answers = [_ALL, *_answers(context, table, where)]
    fields.append(parts.choice("answer", "Answer", answers, state.get("answer", _ALL)))
    words = parts.text_field(
        "words", "Words in the user's turn", state.get("words", ""), placeholder="delta 0.2"
    )
    return parts.controls(*fields, words)


def _values(context: Context, table: Table, column: str) -> list[str]:
    return list(context.tables.groups(table, (column,), {"records": ("count", "*")})[column])


def _article(record: Mapping[Any, Any], table: Table, state: State) -> Component:
    identity = record["record_id"]
    address = href(PATH, {"corpus": table.name, "record": identity})
    facts = [f"{record['kind']}, {record['split']}"]
    facts += [
        parts.shown_value(record[name])
        for name in ("underlying", "decision_time", "exit_style", "instrument")
        if pd.notna(record.get(name))
    ]
    if record["weight"] != 1:
        facts.append(f"weight {record['weight']:.3g}")
    origin = parts.link("Where it comes from", href("/lineage", of="record", record=identity))
    head = html.H3(["Record ", parts.link(identity, address)])
    turns = chat({name: record[name] for name in text_columns(table)})
    return html.Article(
        [head, html.P([" · ".join(facts), " · ", origin], className="note"), turns], className="record"
    )


_READ_FIGURES = (
    "A figure is the share that a shortcut gets right without reading, unless it counts records. > stands where a bound"
    " is broken, ≈ where a figure is above it but too few records say so."
)


def _audit(state: State, context: Context, table: Table) -> list[Any]:
    report = read_audit(context.data_root, table)
    if report is None:
        command = run_command(context)
        return [
            parts.empty(f"{table.name} has no audit in {context.data_root / 'corpora' / 'audits'}.", command)
        ]
    manifest = context.tables.manifest(table)
    notes = [parts.note(line) for line in report.lines()[1:] if line.startswith(("not checked", "looser"))]
    verdict = "it may be trained on" if report.passed else "nothing is trained on it"
    tiles = [
        ("Verdict", "passed" if report.passed else "not passed", verdict),
        ("Findings", f"{len(report.findings):,}", "broken rules"),
        (
            "Records audited",
            f"{report.records:,}",
            f"{0 if manifest is None else manifest.rows:,} are there now",
        ),
    ]
    figures = parts.data_table(report.table(), caption="Figures by kind, with their bounds")
    shown = [parts.tiles(tiles), *notes, *_findings(report, table), figures, parts.note(_READ_FIGURES)]
    return [parts.section("Audit", *shown)]


def _findings(report: Any, table: Table) -> list[Component]:
    if report.passed:
        return [parts.text("No rule is broken.")]
    links = {
        "record_id": lambda row: (
            href(PATH, {"corpus": table.name, "record": row["record_id"]}) if row["record_id"] else ""
        )
    }
    titles = {"record_id": "record that shows it"}
    return [
        parts.data_table(findings_frame(report), caption="Rules that are broken", links=links, titles=titles)
    ]


def _lengths(state: State, context: Context, table: Table) -> list[Any]:
    model = context.profile.model.model_name
    words = (
        f"Counting tokens with the tokenizer of {model}. The first time it has to be loaded: a few seconds."
    )
    return [later("corpus-lengths", {"corpus": table.name}, words=words)]


def _count_lengths(state: State, context: Context) -> Any:
    table = _corpus(state, [t for t in CORPORA if context.tables.exists(t)])
    manifest, most = context.tables.manifest(table), context.profile.finetune.max_length
    if manifest is None or not manifest.rows:
        return parts.empty(f"{table.name} holds no record.")
    columns = ["record_id", *text_columns(table)]
    figures = token_figures(
        lambda: context.tables.page(table, columns, order=("record_id",), limit=MOST_COUNTED),
        content_hash=manifest.content_hash,
        model=context.profile.model.model_copy(update={"cache_dir": context.data_root.parent / "models"}),
        max_length=most,
    )
    counted = min(manifest.rows, MOST_COUNTED)
    seen = f"{counted:,} of {manifest.rows:,} records"
    tiles = [
        ("Mean", f"{figures['tokens_mean']:,.0f}", "tokens a record"),
        ("95th percentile", f"{figures['tokens_p95']:,}", "tokens"),
        ("Longest", f"{figures['tokens_max']:,}", f"training takes {most:,}"),
        ("Too long", f"{figures['truncated']:,}", "records that training would refuse"),
    ]
    described = (
        f"{seen}, counted with the tokenizer of {context.profile.model.model_name}: mean"
        f" {figures['tokens_mean']:,.0f}, longest {figures['tokens_max']:,} tokens."
    )
    chart = parts.figure(
        lengths_figure(figures, max_length=most), title="Records by length", described=described
    )
    return parts.section("Token lengths", parts.tiles(tiles), chart)


_SHOWN = {"records": _records, "audit": _audit, "lengths": _lengths}


def register(app: Dash, context: Context) -> None:
    fill_later(app, "corpus-lengths", lambda state: _count_lengths(state, context), context)


PAGE = Page(PATH, "Corpora", layout, register, summary="training records as chats, audits, token lengths")
