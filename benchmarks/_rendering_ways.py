"""Other ways to write the trade-or-skip prompts of plain style: the same texts, each as its library does them best.

A way is a function that takes the columns and a path, puts the columns into its own form, and returns the task that is
timed. Each ends with a file that is flushed to disk.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

SYSTEM = "You trade covered calls. Sell this call or skip it, as the teacher policy would."
_HEAD = '{"messages": [{"role": "system", "content": "' + SYSTEM + '"}, {"role": "user", "content": "'
_MIDDLE = '"}, {"role": "assistant", "content": "'
_TAIL = '"}]}'
_LAST = "Reply with exactly one token: SELL_CALL or SKIP."
_SHOWN = (
    "decision_time", "underlying", "spot", "exit_style", "return_1d_pct", "return_7d_pct", "return_30d_pct",
    "realised_volatility_30d", "drawdown_from_high_30d_pct", "instrument", "dte", "delta", "premium_yield_pct",
    "ivrv_ratio", "chosen",
)  # fmt: skip


def _moved(log_return_pct: float) -> str:
    return f"{round(100 * math.expm1(log_return_pct / 100)) + 0:+d}"


def prompt_of(row: Mapping[str, Any]) -> str:
    """The user turn, one row at a time."""
    spot = row["spot"]
    return (
        f"Decision time: {row['decision_time']:%Y-%m-%d %H:%M} UTC\nUnderlying: {row['underlying']}\n"
        f"Spot price: {f'{spot:.0f}' if spot >= 1000 else f'{spot:.6g}'}\nTeacher policy: {row['exit_style']}\n"
        f"Trend: 1d {_moved(row['return_1d_pct'])}%, 7d {_moved(row['return_7d_pct'])}%,"
        f" 30d {_moved(row['return_30d_pct'])}%\nVolatility 30d: {row['realised_volatility_30d'] * 100:.0f}%\n"
        f"Drawdown: {row['drawdown_from_high_30d_pct']:.0f}%\nCandidate option: {row['instrument']}"
        f" — DTE: {round(row['dte'], 1):g}, Delta: {row['delta']:.2f}, Yield: {row['premium_yield_pct']:.2f}%,"
        f" IV/RV: {row['ivrv_ratio']:.2f}\n{_LAST}"
    )


def record_of(user: str, chosen: int) -> dict[str, Any]:
    """The chat record of a user turn."""
    turns = (("system", SYSTEM), ("user", user), ("assistant", "SELL_CALL" if chosen else "SKIP"))
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


def polars_expressions(rows: pa.Table, path: Path) -> Callable[[], object]:
    """One string expression, written by the CSV writer without quotes."""
    import polars as pl

    frame = pl.from_arrow(rows.select(list(_SHOWN)))

    def whole(expression: Any) -> Any:
        return expression.round(0, mode="half_to_even").cast(pl.Int64)

    def hundredths(name: str) -> Any:
        scaled = whole(pl.col(name) * 100)
        return pl.concat_str(
            (scaled // 100).cast(pl.String), pl.lit("."), (scaled % 100).cast(pl.String).str.zfill(2)
        )

    def signed(name: str) -> Any:
        value = whole(100 * ((pl.col(name) / 100).exp() - 1))
        return pl.concat_str(
            pl.when(value >= 0).then(pl.lit("+")).otherwise(pl.lit("")), value.cast(pl.String)
        )

    spot, tenths = pl.col("spot"), whole(pl.col("dte") * 10)
    small = spot.round_sig_figs(6).cast(pl.String).str.strip_suffix(".0")
    dte = pl.concat_str((tenths // 10).cast(pl.String), pl.lit("."), (tenths % 10).cast(pl.String))
    line = pl.concat_str(
        pl.lit(f"{_HEAD}Decision time: "),
        pl.col("decision_time").dt.strftime("%Y-%m-%d %H:%M"),
        pl.lit(" UTC\\nUnderlying: "),
        pl.col("underlying"),
        pl.lit("\\nSpot price: "),
        pl.when(spot >= 1000).then(whole(spot).cast(pl.String)).otherwise(small),
        pl.lit("\\nTeacher policy: "),
        pl.col("exit_style"),
        pl.lit("\\nTrend: 1d "),
        signed("return_1d_pct"),
        pl.lit("%, 7d "),
        signed("return_7d_pct"),
        pl.lit("%, 30d "),
        signed("return_30d_pct"),
        pl.lit("%\\nVolatility 30d: "),
        whole(pl.col("realised_volatility_30d") * 100).cast(pl.String),
        pl.lit("%\\nDrawdown: "),
        whole(pl.col("drawdown_from_high_30d_pct")).cast(pl.String),
        pl.lit("%\\nCandidate option: "),
        pl.col("instrument"),
        pl.lit(" — DTE: "),
        dte.str.strip_suffix(".0"),
        pl.lit(", Delta: "),
        hundredths("delta"),
        pl.lit(", Yield: "),
        hundredths("premium_yield_pct"),
        pl.lit("%, IV/RV: "),
        hundredths("ivrv_ratio"),
        pl.lit(f"\\n{_LAST}{_MIDDLE}"),
        pl.when(pl.col("chosen") == 1).then(pl.lit("SELL_CALL")).otherwise(pl.lit("SKIP")),
        pl.lit(_TAIL),
    )

    def write() -> None:
        with path.open("wb") as file:
            frame.lazy().select(line).collect().write_csv(file, include_header=False, quote_style="never")
            _flush(file)

    return write


def duckdb_query(rows: pa.Table, path: Path) -> Callable[[], object]:
    """One `format` call a record, written by COPY."""
    import duckdb

    connection = duckdb.connect()
    connection.execute(f"set threads to {len(os.sched_getaffinity(0))}")
    connection.register("arrow_rows", rows.select(list(_SHOWN)))
    connection.execute("create table rows as select * from arrow_rows")
    signed = "printf('%+d', round_even(100 * (exp({} / 100) - 1), 0)::bigint)"
    text = (
        f"{_HEAD}Decision time: {{}} UTC\\nUnderlying: {{}}\\nSpot price: {{}}\\nTeacher policy: {{}}\\nTrend: 1d"
        " {}%, 7d {}%, 30d {}%\\nVolatility 30d: {:.0f}%\\nDrawdown: {:.0f}%\\nCandidate option: {} — DTE: {:g},"
        f" Delta: {{:.2f}}, Yield: {{:.2f}}%, IV/RV: {{:.2f}}\\n{_LAST}{_MIDDLE}{{}}{_TAIL}"
    ).replace(_HEAD, _HEAD.replace("{", "{{", 1).replace('[{"', '[{{"').replace('"}, {"', '"}}, {{"'))
    text = text.replace(_MIDDLE, '"}}, {{"role": "assistant", "content": "').replace(_TAIL, '"}}]}}')
    query = f"""
        copy (select format('{text}',
            strftime(decision_time at time zone 'UTC', '%Y-%m-%d %H:%M'), underlying,
            case when spot >= 1000 then format('{{:.0f}}', spot) else format('{{:.6g}}', spot) end, exit_style,
            {signed.format("return_1d_pct")}, {signed.format("return_7d_pct")}, {signed.format("return_30d_pct")},
            realised_volatility_30d * 100, drawdown_from_high_30d_pct, instrument, round_even(dte, 1), delta,
            premium_yield_pct, ivrv_ratio, case when chosen = 1 then 'SELL_CALL' else 'SKIP' end) from rows)
        to '{path}' (format csv, header false, quote '', escape '', delimiter '\x01')
    """

    def write() -> None:
        connection.execute(query)
        with path.open("rb+") as file:
            _flush(file)

    return write


def orjson_over_columns(rows: pa.Table, path: Path) -> Callable[[], object]:
    """Columns as Python lists, an f-string a record, orjson for the JSON."""
    import orjson

    shown = rows.select(list(_SHOWN))

    def write() -> None:
        columns = [shown[name].to_pylist() for name in _SHOWN]
        with path.open("wb") as file:
            file.writelines(
                orjson.dumps(record_of(prompt_of(row), row["chosen"]), option=orjson.OPT_APPEND_NEWLINE)
                for row in (dict(zip(_SHOWN, values, strict=True)) for values in zip(*columns, strict=True))
            )
            _flush(file)

    return write


def datasets_map(rows: pa.Table, path: Path) -> Callable[[], object]:
    """`Dataset.map` and `Dataset.to_json` with two processes each."""
    import datasets

    datasets.disable_progress_bars()
    dataset = datasets.Dataset(rows.select(list(_SHOWN)))

    def write() -> None:
        mapped = dataset.map(
            _mapped, batched=True, num_proc=2, remove_columns=list(_SHOWN), load_from_cache_file=False
        )
        mapped.to_json(str(path), num_proc=2, force_ascii=False)
        with path.open("rb+") as file:
            _flush(file)
        mapped.cleanup_cache_files()

    return write


def _mapped(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
    rows = (dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True))
    return {"messages": [record_of(prompt_of(row), row["chosen"])["messages"] for row in rows]}


def _flush(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


WAYS: dict[str, tuple[str, Callable[[pa.Table, Path], Callable[[], object]]]] = {
    "polars": ("polars", polars_expressions),
    "duckdb": ("duckdb", duckdb_query),
    "orjson": ("orjson", orjson_over_columns),
    "datasets.map, 2 processes": ("datasets", datasets_map),
}
