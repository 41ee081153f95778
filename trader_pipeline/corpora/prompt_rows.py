"""The only columns that a prompt may be made of, and tables of exactly those.

Belongs here: picking and checking those columns, one row per candidate. No outcome has a place in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from trader_pipeline.corpora.steps import PromptStep
from trader_pipeline.corpora.text_columns import TEXT
from trader_pipeline.schema.columns import FEATURES, RECORDED_FEATURES

_TEXTS = ("underlying", "exit_style", "instrument")
_CANDIDATE = (
    "instrument", "strike", "dte", "delta", "iv", "premium_yield_pct", "ivrv_ratio", "distance_to_strike_atr", "score",
)  # fmt: skip
PROMPT_COLUMNS: tuple[str, ...] = (
    "decision_time",
    "underlying",
    "spot",
    "exit_style",
    *FEATURES,
    *RECORDED_FEATURES,
    *_CANDIDATE,
)
LARGEST_FIGURE = 1e12
"""No price, percentage or ratio of a market reaches this: what does is a mistake, and no text."""
_MOMENT = pa.timestamp("us", tz="UTC")
_SCHEMA = pa.schema(
    [
        (name, _MOMENT if name == "decision_time" else TEXT if name in _TEXTS else pa.float64())
        for name in PROMPT_COLUMNS
    ]
)


def prompt_rows(frame: pd.DataFrame | pa.Table) -> pa.Table:
    """Exactly `PROMPT_COLUMNS` of a frame with one row per candidate, in the frame's order.

    Raises:
        ValueError: columns are missing, or a column holds something else than its type; names them.
    """
    names = frame.column_names if isinstance(frame, pa.Table) else list(frame.columns)
    if missing := [c for c in PROMPT_COLUMNS if c not in names]:
        raise ValueError(f"no prompt can be made: missing columns {', '.join(missing)}")
    columns = list(PROMPT_COLUMNS)
    table = (
        frame.select(columns)
        if isinstance(frame, pa.Table)
        else pa.Table.from_pandas(frame[columns], preserve_index=False)
    )
    return pa.table([_cast(table[name], name) for name in columns], schema=_SCHEMA)


def prompt_rows_of(steps: Sequence[PromptStep]) -> pa.Table:
    """The same table from step objects: each step's candidates, step by step."""
    rows = [
        {
            "decision_time": step.decision_time,
            "underlying": step.underlying,
            "spot": step.spot,
            "exit_style": step.exit_style,
            **{name: step.features.get(name) for name in FEATURES},
            "term_structure_slope": step.term_structure_slope,
            **asdict(candidate),
        }
        for step in steps
        for candidate in step.candidates
    ]
    return pa.Table.from_pylist(rows, schema=_SCHEMA)


@dataclass(frozen=True)
class PromptTable:
    """Checked access to prompt rows: a figure that is not there or not finite never becomes text."""

    table: pa.Table
    first_row: int = 0
    """The number of the first row, where these are a slice of more."""

    @property
    def count(self) -> int:
        return int(self.table.num_rows)

    def numbers(self, name: str) -> np.ndarray:
        """A column of finite figures.

        Raises:
            ValueError: names the first row and the column that holds none.
        """
        values = self.optional_numbers(name)
        self.refuse(~np.isfinite(values), f"{name} is null or not finite; a prompt needs a figure")
        return self.printable(values, name)

    def printable(self, values: np.ndarray, name: str) -> np.ndarray:
        """The values, a column or made from columns, if text can be made of all.

        Raises:
            ValueError: names the first row that holds no figure or one of 1e12 or more.
        """
        self.refuse(
            ~(np.abs(values) < LARGEST_FIGURE), f"{name} is {LARGEST_FIGURE:g} or more: no market has that"
        )
        return values

    def refuse(self, wrong: np.ndarray, reason: str) -> None:
        """Raise a ValueError that names the first row where `wrong` is true, if there is one."""
        if wrong.any():
            raise ValueError(f"{self.place(int(np.argmax(wrong)))}: {reason}")

    def optional_numbers(self, name: str) -> np.ndarray:
        """A column of figures; nan where there is none."""
        column = self.table[name]
        return (
            column.to_numpy() if not column.null_count else pc.fill_null(column, np.nan).to_numpy()
        ).astype(float, copy=False)

    def texts(self, name: str) -> pa.Array:
        """A column of texts without gaps."""
        return _whole(self._without_nulls(name))

    def moments(self) -> pa.Array:
        """Decision times, UTC, in microseconds."""
        return _whole(self._without_nulls("decision_time"))

    def _without_nulls(self, name: str) -> pa.ChunkedArray:
        column = self.table[name]
        if column.null_count:
            row = int(pc.index(pc.is_null(column), True).as_py())
            raise ValueError(f"row {self.first_row + row}: {name} is null; a prompt needs it")
        return column

    def place(self, row: int) -> str:
        seen = self.table.slice(row, 1).to_pylist()[0]
        return f"row {self.first_row + row} ({seen['instrument']} at {seen['decision_time']}, {seen['exit_style']})"


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def _cast(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    wanted = _SCHEMA.field(name).type
    if pa.types.is_null(column.type) and name not in RECORDED_FEATURES:
        raise ValueError(f"no prompt can be made: {name} holds no value")
    if name == "decision_time" and not (pa.types.is_timestamp(column.type) and column.type.tz):
        raise ValueError(f"decision_time holds {column.type}; expected timestamps with a time zone")
    if column.type == wanted:
        return column
    try:
        return column.cast(wanted, safe=name != "decision_time")
    except pa.ArrowInvalid as error:
        raise ValueError(f"no prompt can be made: {name} holds {column.type}: {error}") from error
