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
    Verdict,
    deflated_sharpe,
    log_returns_of,
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
    tasks: Sequence[Task], figures: Mapping[WindowName, Mapping[int, Figures]], *, params: GridParams
) -> pd.DataFrame:
    """A row a point, the largest `choose_by` on validation first, then those that are not judged.

    What is not finished is missing.

    Columns: the settings, then for each window fractal-defi's figures (decimals), fees (USD), `faults`, the number of
    decisions without an answer, and `unfit`, why the run is not judged (see `unfit`).
    """
    rows = [
        {
            **_settings(task),
            **{f"{w}_{k}": v for w, own in figures.items() for k, v in _shown(own, task, params).items()},
        }
        for task in tasks
    ]
    table = pd.DataFrame(rows)
    order = pd.DataFrame({"unfit": table["validation_unfit"].notna(), "point": table["point"]})
    order["figure"] = -table[f"validation_{params.choose_by}"].astype(float)
    order["figure"] = order["figure"].fillna(float("inf"))
    return table.loc[order.sort_values(["unfit", "figure", "point"]).index].reset_index(drop=True)


def unfit(figures: Figures, params: GridParams) -> Verdict | None:
    """Why a finished run is not judged: too many decisions without an answer, or not one trade."""
    if fault_count(figures) > params.most_faults * figures["decisions"]:
        return "no answers"
    return None if figures["trades"] else "never traded"


def fault_count(figures: Figures) -> int:
    """Decisions without an answer, of every kind."""
    return sum(int(count) for name, count in figures.items() if name.startswith("faults_"))


def grid_report(
    params: GridParams,
    tasks: Sequence[Task],
    figures: Mapping[WindowName, Mapping[int, Figures]],
    curves: Mapping[tuple[int, WindowName], Path],
    *,
    best: int,
    failed: Failures,
    trials: int,
) -> dict[str, Any]:
    """The best point by validation, how much its Sharpe ratio there is worth after so many tries, and its test.

    Args:
        curves: the file of each finished run: `net_balance` and `hodl`, in USD, a row a candle.
        best: the number of the chosen point.
        trials: how many agents were ever tried on these candles, those of this grid among them.

    `test` is None where the best point failed there; its `verdict` is `no edge` where the interval of its growth
    against that of holding the coins holds 0. A best point that is not judged on either window says why instead.
    """
    own = figures["validation"]
    why = unfit(own[best], params)
    known = [n for n in own if unfit(own[n], params) is None]
    validation = {n: returns_of(_curve(curves[n, "validation"], "net_balance")) for n in {best, *known}}
    report: dict[str, Any] = {
        "points": len(tasks),
        "points_finished": len(own),
        "points_judged": len(known),
        "trials": trials,
        "failed": {f"{n} {window}": why for (n, window), why in failed.items()},
        "chosen_by": f"validation {params.choose_by}",
        "best": {**_settings(tasks[best]), **own[best], "faults": fault_count(own[best]), "unfit": why},
        "deflated_sharpe": None
        if why
        else deflated_sharpe(
            validation[best], trial_sharpes=[sharpe_per_period(validation[n]) for n in known], trials=trials
        ),
        "test": None,
    }
    if best in figures["test"]:
        tested = figures["test"][best]
        gap = _minus_hodl(curves[best, "test"], params)
        gap["verdict"] = why or unfit(tested, params) or gap["verdict"]
        report["test"] = {**tested, "faults": fault_count(tested), "minus_hodl": gap}
    return report


def sentences(report: Mapping[str, Any]) -> list[str]:
    """The report in a few plain lines."""
    best, test = report["best"], report["test"]
    lines = [
        f"Best of {report['points_finished']} points by {report['chosen_by']}: {best['prompt']}, {best['model']},"
        f" {best['window_size']} candles, {best['initial_balance']:g} USD; Sharpe {best['sharpe']:.2f} there"
        f"{_answered(best)}.",
        _skill(report),
    ]
    lines += [f"Failed: point {name}: {why}" for name, why in report["failed"].items()]
    if test is None:
        return [*lines, "The best point failed on the test window: nothing is known of it there."]
    return [
        *lines,
        f"Test: Sharpe {test['sharpe']:.2f}, return {100 * test['accumulated_return']:+.2f} %, holding the coins"
        f" {100 * test['hodl_accumulated_return']:+.2f} %{_answered(test)}.",
        _compared(test["minus_hodl"]),
    ]


def _answered(figures: Figures) -> str:
    """Trades and faults; reports of earlier versions count no faults."""
    if "faults" not in figures:
        return ""
    faults = f"{figures['faults']} of {figures['decisions']} decisions without an answer"
    return f"; {figures['trades']:.0f} trades, {faults}"


def _skill(report: Mapping[str, Any]) -> str:
    trials, deflated = report.get("trials", report["points_finished"]), report["deflated_sharpe"]
    earlier = trials - report["points"]
    told = f"{trials} tries, {earlier} of them in earlier grids" if earlier > 0 else f"{trials} tries"
    skill = "not defined" if deflated is None else f"{deflated:.2f}"
    if deflated is None:
        skill += f", {report['best'].get('unfit') or 'its value never moved'}"
    return f"Deflated Sharpe ratio (probability of skill after {told}): {skill}."


def _compared(gap: Mapping[str, Any]) -> str:
    told = f"Final value against that of holding: {gap['mean_pct']:+.2f} %"
    if gap["low_pct"] is not None:
        told += f", {100 * gap['confidence']:.0f} % interval {gap['low_pct']:+.2f} to {gap['high_pct']:+.2f}"
    return f"{told}: {gap['verdict']}."


def _minus_hodl(path: Path, params: GridParams) -> dict[str, float | str | None]:
    return paired_difference(
        log_returns_of(_curve(path, "net_balance")),
        log_returns_of(_curve(path, "hodl")),
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


def _shown(figures: Mapping[int, Figures], task: Task, params: GridParams) -> dict[str, float | str | None]:
    own = figures.get(task.number)
    if own is None:
        return dict.fromkeys([*_SHOWN, "faults", "unfit", "cost_usd"])
    return {
        **{name: own[name] for name in _SHOWN},
        "faults": fault_count(own),
        "unfit": unfit(own, params),
        "cost_usd": own["cost_usd"],
    }
