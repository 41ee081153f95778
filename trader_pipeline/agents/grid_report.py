"""What came of a grid of agents: a row a point, the best one, and a verdict with the number of points beside it.

Belongs here: tables and sentences from finished runs. Does not belong here: running them (`grid`), pure figures
(`grid_figures`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from trader_pipeline.agents.grid_figures import (
    deflated_sharpe,
    paired_difference,
    returns_of,
    sharpe_per_period,
)
from trader_pipeline.agents.grid_points import GridParams, Task, WindowName

Figures = Mapping[str, Any]
"""A finished run's figures by name; None where one is not known."""
Failures = dict[tuple[int, WindowName], str]
"""Why a point's run over a window failed, by its number and window."""
_SHOWN = ("sharpe", "accumulated_return", "max_drawdown", "excess_return", "trades", "clipped", "fees_usd")


def grid_table(
    tasks: Sequence[Task], figures: Mapping[WindowName, Mapping[int, Figures]], *, choose_by: str
) -> pd.DataFrame:
    """A row a point, the largest `choose_by` on validation first; what is not finished is missing.

    Columns: the settings, then for each window fractal-defi's figures (decimals), fees (USD), and `faults`, the number
    of decisions without an answer.
    """
    rows = [
        {
            **_settings(task),
            **{f"{w}_{k}": v for w, own in figures.items() for k, v in _shown(own, task).items()},
        }
        for task in tasks
    ]
    return pd.DataFrame(rows).sort_values(
        [f"validation_{choose_by}", "point"], ascending=[False, True], ignore_index=True
    )


def grid_report(
    params: GridParams,
    tasks: Sequence[Task],
    figures: Mapping[WindowName, Mapping[int, Figures]],
    curves: Mapping[tuple[int, WindowName], Path],
    *,
    best: int,
    failed: Failures,
) -> dict[str, Any]:
    """The best point by validation, how much its Sharpe ratio there is worth after so many tries, and its test.

    Args:
        curves: the file of each finished run: `net_balance` and `hodl`, in USD, a row a candle.
        best: the number of the chosen point.

    `test` is None where the best point failed there; its `verdict` is `no edge` where the interval of its returns
    minus those of holding the coins holds 0.
    """
    validation = {
        n: returns_of(_curve(curves[n, "validation"], "net_balance")) for n in figures["validation"]
    }
    report: dict[str, Any] = {
        "points": len(tasks),
        "points_finished": len(validation),
        "failed": {f"{n} {window}": why for (n, window), why in failed.items()},
        "chosen_by": f"validation {params.choose_by}",
        "best": {**_settings(tasks[best]), **dict(figures["validation"][best])},
        "deflated_sharpe": deflated_sharpe(
            validation[best], trial_sharpes=[sharpe_per_period(own) for own in validation.values()]
        ),
        "test": None,
    }
    if best in figures["test"]:
        report["test"] = {
            **figures["test"][best],
            "minus_hodl": _minus_hodl(curves[best, "test"], params),
        }
    return report


def sentences(report: Mapping[str, Any]) -> list[str]:
    """The report in a few plain lines."""
    best, test = report["best"], report["test"]
    deflated = report["deflated_sharpe"]
    skill = "not defined, its value never moved" if deflated is None else f"{deflated:.2f}"
    lines = [
        f"Best of {report['points_finished']} points by {report['chosen_by']}: {best['prompt']}, {best['model']},"
        f" {best['window_size']} candles, {best['initial_balance']:g} USD; Sharpe {best['sharpe']:.2f} there.",
        f"Deflated Sharpe ratio (probability of skill after {report['points_finished']} tries): {skill}.",
    ]
    lines += [f"Failed: point {name}: {why}" for name, why in report["failed"].items()]
    if test is None:
        return [*lines, "The best point failed on the test window: nothing is known of it there."]
    gap = test["minus_hodl"]
    return [
        *lines,
        f"Test: Sharpe {test['sharpe']:.2f}, return {100 * test['accumulated_return']:+.2f} %, holding the coins"
        f" {100 * test['hodl_accumulated_return']:+.2f} %.",
        f"Minus holding: {gap['mean_pct']:+.2f} % over the window, {100 * gap['confidence']:.0f} % interval"
        f" {gap['low_pct']:+.2f} to {gap['high_pct']:+.2f}: {gap['verdict']}.",
    ]


def _minus_hodl(path: Path, params: GridParams) -> dict[str, float | str]:
    return paired_difference(
        returns_of(_curve(path, "net_balance")),
        returns_of(_curve(path, "hodl")),
        samples=params.bootstrap_samples,
        block=params.bootstrap_block,
        confidence=params.confidence,
        seed=params.seed,
    ).to_dict()


def _curve(path: Path, name: str) -> Any:
    return pd.read_csv(path, float_precision="round_trip")[name].to_numpy()


def _settings(task: Task) -> dict[str, Any]:
    own = task.params
    return {
        "point": task.number, "prompt": own.prompt, "model": own.model, "window_size": own.window_size,
        "initial_balance": own.initial_balance,
    }  # fmt: skip


def _shown(figures: Mapping[int, Figures], task: Task) -> dict[str, float | None]:
    own = figures.get(task.number)
    if own is None:
        return dict.fromkeys([*_SHOWN, "faults", "cost_usd"])
    faults = sum(count for name, count in own.items() if name.startswith("faults_"))
    return {**{name: own[name] for name in _SHOWN}, "faults": faults, "cost_usd": own["cost_usd"]}
