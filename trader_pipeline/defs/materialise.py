"""What every table asset has in common: its Dagster arguments from the schema, its metadata, its check results."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
import pandas as pd

from trader_pipeline.defs.types import column_schema, dataframe_type
from trader_pipeline.schema import Table, conform
from trader_pipeline.store import content_hash

Findings = Mapping[str, Sequence[str]]
"""Check name to what it found wrong; an empty list is a pass."""

Warnings = Mapping[str, pd.DataFrame]
"""Check name to the rows that it warns about; an empty frame is a pass. A warning stops nothing."""

FAILED_CHECKS = "failed_checks"
"""Metadata by which the IO manager learns which blocking checks found something."""

_PREVIEW_ROWS = 5
_SHOWN_FINDINGS = 20
_SHOWN_ROWS = 200


CHECKS = {
    "bid_below_mark_below_ask": "No quote is crossed; modelled marks lie between bid and ask.",
    "candidates_quoted_in_chain": "Every candidate is listed in the chain of its decision, at the same volatility.",
    "corpus_passes_audit": "No readable answer, no shortcut above its bound, no duplicate or overlap across splits.",
    "datasets_agree": "Chain-level and candidate-level rows of a decision say the same.",
    "every_closed_trade_judged": "Each closed trade has a verdict, and no other.",
    "few_bars_are_missing": "At most klines.max_gap_share_pct percent of the market's candles are missing.",
    "forgetting_within_budget": "A warning: held-out stable instructions lose at most forgetting.budget_pct percent.",
    "masks_are_right": "The loss covers the answer and its end of turn, token by token.",
    "no_bar_is_missing": "A warning: candles that the market lacks, gap by gap. It stops nothing.",
    "oracle_beats_teacher": "No choice of the teacher made more than the best choice in hindsight.",
    "validation_loss_fell": "The loss on validation records is lower after training than before.",
    "windows_are_contiguous": "The dated windows leave no hole between them.",
}
"""What each check says."""


def table_asset(
    table: Table,
    *,
    name: str = "",
    settings: Sequence[str] = (),
    checks: Sequence[str] = (),
    warnings: Sequence[str] = (),
) -> dict[str, Any]:
    """Arguments of `@dg.asset` for an asset that returns a frame of `table`.

    `settings` are the profile sections that steer it (their hashes count as parents); `checks` are blocking, `warnings`
    are not.
    """
    key = name or table.name
    return {
        "name": key,
        "group_name": table.stage,
        "description": table.description,
        "dagster_type": dataframe_type(table),
        "metadata": _definition_metadata(table, settings),
        "check_specs": check_specs(key, checks) + check_specs(key, warnings, blocking=False),
        "kinds": {"parquet"},
    }


def table_out(table: Table, *, name: str = "", settings: Sequence[str] = ()) -> dg.AssetOut:
    """The same for one output of a `@dg.multi_asset`."""
    return dg.AssetOut(
        key=name or table.name,
        group_name=table.stage,
        description=table.description,
        dagster_type=dataframe_type(table),
        metadata=_definition_metadata(table, settings),
        kinds={"parquet"},
    )


def check_specs(asset: str, checks: Sequence[str], *, blocking: bool = True) -> list[dg.AssetCheckSpec]:
    return [
        dg.AssetCheckSpec(name, asset=asset, description=CHECKS[name], blocking=blocking) for name in checks
    ]


def materialised(
    frame: pd.DataFrame,
    table: Table,
    *,
    name: str = "",
    findings: Findings | None = None,
    warnings: Warnings | None = None,
    metadata: Mapping[str, Any] | None = None,
    of: str = "",
    check_results: Sequence[dg.AssetCheckResult] = (),
) -> dg.MaterializeResult:
    """The frame with its data version (content hash), the metadata a person looks at, and the check results.

    Dagster shows the last result of a check, whatever the partition: `of` names it in the result. `check_results` are
    results that say more than findings or rows; they are taken as they are.

    Raises:
        SchemaError: the frame breaks the table's definition; nothing is written.
    """
    arrow = conform(frame, table)
    key = name or table.name
    return dg.MaterializeResult(
        asset_key=key,
        value=frame,
        data_version=dg.DataVersion(content_hash(arrow)),
        metadata={
            "dagster/row_count": arrow.num_rows,
            **_time_range(frame, table),
            "preview": dg.MetadataValue.md(markdown_table(arrow.slice(0, _PREVIEW_ROWS).to_pandas())),
            FAILED_CHECKS: dg.MetadataValue.json(
                [check for check, found in (findings or {}).items() if found]
            ),
            **(metadata or {}),
        },
        check_results=[
            *(_check_result(key, check, found, of) for check, found in (findings or {}).items()),
            *(_warning(key, check, rows, of) for check, rows in (warnings or {}).items()),
            *check_results,
        ],
    )


def _named(of: str, text: str) -> str:
    return f"{of}: {text}" if of else text


def _check_result(asset: str, check: str, found: Sequence[str], of: str) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        asset_key=asset,
        check_name=check,
        passed=not found,
        severity=dg.AssetCheckSeverity.ERROR,
        description=_named(of, f"{len(found)} findings" if found else "nothing found"),
        metadata={
            "findings": dg.MetadataValue.md("\n".join(f"- {f}" for f in found[:_SHOWN_FINDINGS]) or "none")
        },
    )


def _warning(asset: str, check: str, rows: pd.DataFrame, of: str) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        asset_key=asset,
        check_name=check,
        passed=rows.empty,
        severity=dg.AssetCheckSeverity.WARN,
        description=_named(of, "nothing found" if rows.empty else f"{len(rows)} rows"),
        metadata={"rows": len(rows), "table": dg.MetadataValue.md(markdown_table(rows.head(_SHOWN_ROWS)))},
    )


def _definition_metadata(table: Table, settings: Sequence[str]) -> dict[str, Any]:
    return {"table": table.name, "settings": list(settings), "dagster/column_schema": column_schema(table)}


def _time_range(frame: pd.DataFrame, table: Table) -> dict[str, str]:
    times = [c.name for c in table.columns if c.name in ("open_time", "decision_time", "entry_ts", "start")]
    if not times or frame.empty or frame[times[0]].isna().all():
        return {}
    return {"first": str(frame[times[0]].min()), "last": str(frame[times[0]].max())}


def markdown_table(frame: pd.DataFrame) -> str:
    """A frame as a markdown table; floats with 6 significant digits."""
    header = f"| {' | '.join(frame.columns)} |\n|{'---|' * len(frame.columns)}\n"
    return header + "\n".join(
        f"| {' | '.join(_cell(v) for v in row)} |" for row in frame.itertuples(index=False)
    )


def _cell(value: Any) -> str:
    """A value as text; a missing number, such as the base model's step, is an empty cell."""
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    text = str(value)
    return text.replace("|", "\\|").replace("\n", " ")[:120]
