"""What the options of `trader-pipeline agents grid` read: lists of values, windows, prices of models."""

from __future__ import annotations

from typing import Any

import click

from trader_pipeline.cli.agents_inputs import PriceType
from trader_pipeline.cli.options import utc_day


class Values(click.ParamType):
    """V1,V2,... of one type."""

    name = "values"

    def __init__(self, kind: type) -> None:
        self._kind = kind

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Any, ...]:
        """The values in the order in which they are given."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(self._kind(part.strip()) for part in str(value).split(",") if part.strip())
        except ValueError:
            self.fail(f"{value!r} is no list of numbers; write them with commas, e.g. 24,48")


class WindowType(click.ParamType):
    """START:END."""

    name = "window"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Any, Any]:
        """Two moments in UTC; a time of day holds a colon too, so both or neither have one."""
        if isinstance(value, tuple):
            return value
        parts = str(value).split(":")
        half = len(parts) // 2
        if not half or len(parts) % 2:
            self.fail(
                f"{value!r} is no window; write START:END, both with a time or neither: 2024-03-01:2024-03-08"
            )
        return utc_day(":".join(parts[:half])), utc_day(":".join(parts[half:]))


class ModelPriceType(PriceType):
    """MODEL=READ:WRITTEN in USD per million tokens."""

    def convert(  # type: ignore[override]
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, tuple[float, float]]:
        """The model, and the two prices."""
        model, separator, price = str(value).rpartition("=")
        if not separator:
            self.fail(f"{value!r} names no model; write MODEL=READ:WRITTEN, e.g. gpt-4.1-mini=0.40:1.60")
        return model, super().convert(price, param, ctx)
