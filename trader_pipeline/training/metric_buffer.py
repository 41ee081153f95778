"""Metrics on their way to MLflow: written in batches, each (name, step) once, kept while MLflow is away.

Belongs here: when metrics are written. Does not belong here: which ones (`tracking`).
"""

import logging
import time
from collections.abc import Callable
from typing import Any

_log = logging.getLogger(__name__)
_MOST = 1000
"""Metrics that MLflow takes in one call."""


class MetricBuffer:
    """Collects metrics and writes them every `interval` seconds at most: a call costs as much as a hundred metrics."""

    def __init__(
        self,
        write: Callable[[list[Any]], None],
        *,
        errors: tuple[type[Exception], ...],
        known: dict[tuple[str, int], float],
        interval: float = 2.0,
        pause: float = 30.0,
    ) -> None:
        """`known`: what the run holds already; `pause`: seconds until MLflow is asked again after it did not answer."""
        self._write, self._errors, self._known = write, errors, known
        self._interval, self._pause = interval, pause
        self._waiting: list[Any] = []
        self._due = 0.0

    def add(self, name: str, value: float, *, step: int, again: bool = False) -> None:
        """Note a metric unless this name and step are known; `again`: a changed value is written once more."""
        from mlflow.entities import Metric

        known = self._known.get((name, step))
        if known is not None and not (again and known != value):
            return
        self._known[name, step] = value
        self._waiting.append(Metric(name, value, int(time.time() * 1000), step))

    def flush(self, *, at_once: bool = False) -> int:
        """Write what waits, if it is time; returns how many metrics still wait."""
        if at_once or time.monotonic() >= self._due:
            self._due = time.monotonic() + self._interval
            try:
                self._write_all()
            except self._errors as error:
                self._due = time.monotonic() + self._pause
                _log.warning(
                    "MLflow takes no metrics now (%s); %d are kept", type(error).__name__, len(self._waiting)
                )
        return len(self._waiting)

    def _write_all(self) -> None:
        while self._waiting:
            self._write(self._waiting[:_MOST])
            del self._waiting[:_MOST]
