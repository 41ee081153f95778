"""The data dictionary in markdown, derived from the tables: `python -m trader_pipeline.schema.dictionary`."""

from __future__ import annotations

import sys

from trader_pipeline.schema.table import Column, Table
from trader_pipeline.schema.tables import TABLES

_HEADER = """# Data dictionary

Written by `python -m trader_pipeline.schema.dictionary > docs/data-dictionary.md`; a test holds it against the schema.
Times are UTC. Where coin and dollar meet, the unit is in the name. Null is allowed only where it says so.
"""


def render_dictionary() -> str:
    """Every table with its key and columns."""
    return _HEADER + "".join(_render_table(table) for table in TABLES)


def _render_table(table: Table) -> str:
    rows = "\n".join(_render_row(column) for column in table.columns)
    return (
        f"\n## `{table.name}`\n\n{table.description} Stage `{table.stage}`; key `{', '.join(table.key)}`.\n\n"
        f"| column | type | unit | values | meaning |\n|---|---|---|---|---|\n{rows}\n"
    )


def _render_row(column: Column) -> str:
    values = column.bounds.replace("|", "\\|") + (" or null" if column.nullable else "")
    return f"| `{column.name}` | {column.dtype} | {column.unit} | {values.strip()} | {column.meaning} |"


if __name__ == "__main__":
    sys.stdout.write(render_dictionary())
