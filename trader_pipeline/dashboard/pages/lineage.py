"""Lineage: any table or record back to candles, with hashes, and what changed since or between two versions.

Belongs here: the page. What hangs on what is found by `trader_pipeline.lineage`; the versions of a table are compared
in `version_views`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from dash import html
from dash.development.base_component import Component

from trader_pipeline.dashboard import parts
from trader_pipeline.dashboard.components import Markup
from trader_pipeline.dashboard.damage import DamagedTableError
from trader_pipeline.dashboard.damage_views import damage_told, what_to_do
from trader_pipeline.dashboard.hints import run_command
from trader_pipeline.dashboard.markup import Html, element
from trader_pipeline.dashboard.page import BadChoiceError, Context, Page, State, chosen, href, number
from trader_pipeline.dashboard.version_views import (
    compare_versions,
    folded,
    other_folders,
    parents_frame,
    settings_now,
    table_tree,
)
from trader_pipeline.lineage import Location, Node, trace_line, verdict
from trader_pipeline.lineage.location import find_record
from trader_pipeline.schema import Table
from trader_pipeline.schema.tables import TABLES
from trader_pipeline.store import Manifest, Partition

PATH = "/lineage"
_CLASSES = {"current": "good", "changed since": "bad", "missing": "bad", "not checked": "note"}


def layout(state: State, context: Context) -> list[Any]:
    """A record where the URL names one, else a table."""
    held = [t for t in TABLES if context.tables.exists(t)]
    if not held:
        command = run_command(context)
        return [parts.empty("No table exists yet, so nothing has an origin.", command)]
    by_record = state.get("of") == "record"
    switch = html.P(
        [
            parts.link("Of a table", href(PATH), current=not by_record),
            " · ",
            parts.link("Of a record", href(PATH, of="record"), current=by_record),
        ]
    )
    return [switch, *(_of_record(state, context) if by_record else _of_table(state, context, held))]


def _of_table(state: State, context: Context, held: list[Table]) -> list[Any]:
    name = chosen(state, "table", [t.name for t in held], held[-1].name)
    table = next(t for t in held if t.name == name)
    damaged = context.tables.damaged(table)
    keys = ["/".join(p) or "all" for p in (*context.tables.partitions(table), *damaged)]
    key = chosen(state, "partition", keys)
    partition: Partition = () if key == "all" else tuple(key.split("/"))
    choices = parts.controls(
        parts.choice("table", "Table", [t.name for t in held], name, resets=("partition", "against", "page")),
        parts.choice("partition", "Partition", keys, key, resets=("page",)),
    )
    if partition in damaged:
        return [choices, parts.problem(damaged[partition]), what_to_do(context)]
    manifest = context.tables.manifest(table, partition)
    if manifest is None:
        raise BadChoiceError(f"{name} {key} is not there any more")
    tree = table_tree(table, partition, context)
    return [
        parts.simulated_badge(manifest.simulated),
        *damage_told(context, table),
        choices,
        _identity(table, manifest),
        parts.section("What it was made from", *_parents(table, partition, manifest, context)),
        parts.section("Back to candles", html.P(_conclusion(verdict(tree))), _tree(folded(tree))),
        parts.section("Two versions", *_versions(state, table, partition, manifest, context)),
    ]


def _identity(table: Table, manifest: Manifest) -> Component:
    failed = ", ".join(manifest.failed_checks) or "all passed"
    rows: list[tuple[str, Any]] = [
        ("Meaning", table.description),
        ("Rows", f"{manifest.rows:,}"),
        ("Content hash", html.Code(manifest.content_hash)),
        ("Schema hash", html.Code(manifest.schema_hash)),
        ("Checks", failed),
    ]
    return parts.section("This version", _definitions(rows))


def _definitions(rows: list[tuple[str, Any]]) -> Component:
    body = [html.Tr([html.Th(name, scope="row"), html.Td(value)]) for name, value in rows]
    return html.Div(
        html.Table(html.Tbody(body)), className="scroll wrapping", tabIndex=0, role="region",
        **parts.aria(label="Facts of this version"),
    )  # fmt: skip


def _parents(table: Table, partition: Partition, manifest: Manifest, context: Context) -> list[Any]:
    frame = parents_frame(manifest, context)
    if frame.empty:
        return [parts.note("Its manifest names nothing: it was made from no other table.")]
    changed = frame[~frame["state"].isin(["current", "not checked"])]
    words = (
        "All of it is still what this version was made from."
        if changed.empty
        else f"Other now: {', '.join(changed['parent'])}. The next run makes this table again, unless only a"
        " part that it does not use is another."
    )
    links = {"parent": lambda row: _parent_address(str(row["parent"]))}
    return [
        html.P(words, className="good" if changed.empty else "bad"),
        parts.data_table(frame, caption="Parents: their hash then, and now", links=links),
    ]


def _parent_address(name: str) -> str:
    table, _, partition = name.partition("/")
    if table not in {t.name for t in TABLES}:
        return ""
    return href(PATH, table=table, partition=partition)


def _versions(
    state: State, table: Table, partition: Partition, manifest: Manifest, context: Context
) -> list[Any]:
    folders = other_folders(context)
    if not folders:
        where = html.Code(str(context.data_root.parent))
        return [
            parts.note(
                ["No other data folder lies in ", where, ", so there is no other version to compare with."]
            )
        ]
    against = chosen(state, "against", ["", *folders], "")
    choice = parts.choice(
        "against", "Compare with", [("", "choose a folder"), *((f, f) for f in folders)], against
    )
    if not against:
        return [parts.controls(choice)]
    try:
        frame, words = compare_versions(table, partition, manifest, context.data_root.parent / against)
    except DamagedTableError as error:
        return [parts.controls(choice), parts.problem(error)]
    shown = [] if frame is None else [parts.data_table(frame, caption=f"Here, and in {against}")]
    return [parts.controls(choice), html.P(words), *shown]


def _of_record(state: State, context: Context) -> list[Any]:
    files = record_files(context)
    if not files:
        command = run_command(context)
        return [parts.empty("No corpus or export has been written yet.", command)]
    name = chosen(state, "file", list(files))
    line = number(state, "line", 1)
    record = state.get("record", "")
    choices = parts.controls(
        parts.choice("file", "File", list(files), name, resets=("line", "record")),
        parts.text_field("line", "Line (from 1)", str(line), resets=("record",)),
        parts.text_field("record", "Or a record id", record, placeholder="16 hex digits", resets=("line",)),
    )
    try:
        node = _trace(record or f"{files[name]}:{line}", context)
    except (ValueError, OSError) as error:
        return [choices, parts.problem(error)]
    simulated = any(n.simulated for n in node.walk())
    tree = [html.P(_conclusion(verdict(node))), _tree(node)]
    return [parts.simulated_badge(simulated), choices, parts.section(node.name, *tree)]


def record_files(context: Context) -> dict[str, Path]:
    """Corpora and exports of the data folder, by name. A URL chooses among these and opens no other file."""
    jsonl = sorted((context.data_root / "corpora" / "jsonl").glob("*.jsonl"))
    exports = [p for s in ("csv", "jsonl") for p in sorted(context.exports_dir.glob(f"training_*.{s}"))]
    return {p.name: p for p in (*jsonl, *exports)}


def _trace(text: str, context: Context) -> Node:
    where = _location(text, context)
    return trace_line(
        where,
        data=context.data_root,
        settings=settings_now(context),
        volatility=context.profile.options.volatility,
    )


def _location(text: str, context: Context) -> Location:
    """A record's id or `FILE:LINE` of the data folder. Nothing else is looked for on the disk.

    Raises:
        ValueError: it is neither.
    """
    if re.fullmatch(r"[0-9a-f]{16}", text):
        return find_record(text, context.data_root)
    name, _, line = text.rpartition(":")
    own = [path for path in record_files(context).values() if str(path) == name]
    if not own or not re.fullmatch(r"[1-9][0-9]{0,9}", line):
        shown = text if len(text) <= 200 else f"{text[:200]}..."
        raise ValueError(f"{shown!r} is no record of {context.data_root}; a record's id has 16 hex digits")
    return Location(own[0], int(line))


def _conclusion(words: str) -> str:
    words = words.replace("this line", "it")
    return f"{words[:1].upper()}{words[1:]}."


def _tree(node: Node) -> Component:
    """In one piece: ancestors are many, and each has several parts."""
    tree = element("ul", _branch(node), class_="tree")
    return Markup(element("div", tree, class_="scroll", tabindex=0, role="region", aria_label="Ancestry"))


def _branch(node: Node) -> Html:
    to = _parent_address(node.name)
    name = element("a", node.name, href=to) if to else node.name
    head = [
        element("strong", name),
        *([" ", element("code", node.hash[:12], title=node.hash)] if node.hash else []),
        *([element("span", node.state, class_=f"state {_CLASSES[node.state]}")] if node.state else []),
        *([element("span", "simulated", class_="state note")] if node.simulated else []),
        f" {node.note}" if node.note else "",
    ]
    details = [element("div", line, class_="details") for line in node.details()]
    below = [element("ul", *(_branch(n) for n in node.branches))] if node.branches else []
    return element("li", *head, *details, *below)


PAGE = Page(PATH, "Lineage", layout, summary="from any table or record back to candles, and what changed")
