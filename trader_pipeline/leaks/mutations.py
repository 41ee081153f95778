"""Another future: everything stamped after a moment changed, shuffled or cut off, and nothing before it touched.

Belongs here: the mutations, and the check that a mutation is one. What must not move under them is in `outputs`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from trader_pipeline.leaks.world import Inputs
from trader_pipeline.options.params import Calibration, OptionParams, SurfaceParams

PERTURB, PERMUTE, TRUNCATE, THIN = "perturb", "permute", "truncate", "thin"
MUTATIONS = (PERTURB, PERMUTE, TRUNCATE, THIN)
PARTS = ("candles", "quotes", "index", "regimes", "calibrations")
"""What is changed, each by itself where the guilty one is looked for."""
_STAMPS = {"candles": "close_time", "quotes": "quote_time", "index": "close_time", "regimes": "end"}
_PRICES = ["open", "high", "low", "close"]
_QUOTE_VALUES = ["forward", "index_price", "bid_price", "ask_price", "mark_price", "iv", "delta"]
_INDEX_VALUES = ["iv_open", "iv_high", "iv_low", "iv_close"]
_LABELS = ("bull", "chop", "dump")
_THINNED = 0.4


def mutate(
    inputs: Inputs, mutation: str, *, after: pd.Timestamp, seed: int, parts: tuple[str, ...] = PARTS,
    open_is_known: bool = False,
) -> Inputs:  # fmt: skip
    """`inputs` with everything stamped later than `after` changed; what is stamped by then stays as it is.

    A candle is stamped with its close, so one that is open at `after` is changed too. Calibrations are stamped with
    the day from which they apply, regime windows with their end.

    Args:
        mutation: `perturb` draws other values, `permute` puts the later rows in another order (candles as a path, so
            that none jumps), `truncate` removes all that is later, `thin` removes some of it.
        parts: which of `PARTS` are changed.
        open_is_known: leave the open of a candle that starts at `after` as it is: what is over at `after` may have
            ended at that price. A decision at `after` is made before it.
    """
    generator = np.random.default_rng(seed)
    changed: dict[str, Any] = {}
    for part in ("candles", "quotes", "index", "regimes"):
        frame = getattr(inputs, part)
        if part in parts and frame is not None:
            changed[part] = _later(frame, _STAMPS[part], after, _CHANGES[part], mutation, generator)
    if open_is_known and "candles" in changed:
        changed["candles"] = _with_open(changed["candles"], inputs.candles, after)
    if "calibrations" in parts:
        changed["option_params"] = _other_calibrations(inputs.option_params, mutation, after)
    return replace(inputs, **changed)


def unreal(before: Inputs, after: Inputs, *, cut: pd.Timestamp) -> list[str]:
    """What is wrong with a mutation, in words: a past that it changed, or a future that it left as it was."""
    findings = []
    for part, stamp in _STAMPS.items():
        left, right = getattr(before, part), getattr(after, part)
        if left is None:
            continue
        past, later = zip(_split(left, stamp, cut), _split(right, stamp, cut), strict=True)
        if not _same(*past):
            findings.append(f"{part} stamped by {cut} were changed")
        if len(later[0]) and _same(*later):
            findings.append(f"{part} stamped after {cut} were not changed")
    known = [_known(i.option_params, cut) for i in (before, after)]
    if known[0] != known[1]:
        findings.append(f"calibrations that apply by {cut} were changed")
    return findings


def scramble_outcomes(rows: pd.DataFrame, columns: list[str], *, seed: int) -> pd.DataFrame:
    """Candidate rows with other outcomes: numbers and times drawn anew, marks of what was done turned round."""
    generator = np.random.default_rng(seed)
    changed: dict[str, Any] = {}
    for name in columns:
        values = rows[name]
        if pd.api.types.is_float_dtype(values.dtype):
            changed[name] = generator.normal(0, 500, len(rows))
        elif pd.api.types.is_datetime64_any_dtype(values.dtype):
            changed[name] = values + pd.to_timedelta(generator.integers(1, 400, len(rows)), unit="h")
        elif pd.api.types.is_integer_dtype(values.dtype):
            changed[name] = 1 - values
    if "action" in columns:
        changed["action"] = np.where(changed["chosen"] == 1, "SELL_CALL", "SKIP")
    return rows.assign(**changed)


def _split(frame: pd.DataFrame, stamp: str, cut: pd.Timestamp) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows stamped by `cut` and those after it, of a frame in the order of its stamps."""
    place = int(frame[stamp].searchsorted(cut, side="right"))
    return frame.iloc[:place], frame.iloc[place:]


def _same(left: pd.DataFrame, right: pd.DataFrame) -> bool:
    return len(left) == len(right) and all(left[c].array.equals(right[c].array) for c in left)


_Change = Callable[[pd.DataFrame, str, np.random.Generator], pd.DataFrame]


def _later(
    frame: pd.DataFrame, stamp: str, after: pd.Timestamp, change: _Change, mutation: str, generator: np.random.Generator
) -> pd.DataFrame:  # fmt: skip
    past, later = _split(frame, stamp, after)
    if later.empty:
        return past
    if mutation == TRUNCATE and not _in_a_gap(past, later, after):
        return past
    if mutation == TRUNCATE:
        later = change(later.iloc[:1], PERTURB, generator)
        return pd.concat([past, later], ignore_index=True)
    if mutation == THIN:
        later = later[_kept(len(later), generator)]
        changed = later
    else:
        changed = change(later, mutation, generator)
    return pd.concat([past, changed], ignore_index=True) if len(past) else changed.reset_index(drop=True)


def _in_a_gap(past: pd.DataFrame, later: pd.DataFrame, after: pd.Timestamp) -> bool:
    """Whether candles are missing right before `after`.

    No stage can tell such a gap from the end of history, and each refuses to decide beyond it: one later candle, with
    other values, is left to show that it was a gap.
    """
    return (
        "open_time" in past
        and len(past) > 0
        and bool(past["close_time"].iloc[-1] < after < later["close_time"].iloc[-1])
    )


def _with_open(changed: pd.DataFrame, candles: pd.DataFrame, at: pd.Timestamp) -> pd.DataFrame:
    """The changed candles with the real open of the one that starts at `at`, if there is one in both."""
    real = candles.loc[candles["open_time"] == at, "open"]
    first = (changed["open_time"] == at).to_numpy()
    if real.empty or not first.any():
        return changed
    price, frame = float(real.iloc[0]), changed.copy()
    frame.loc[first, "open"] = price
    frame.loc[first, "high"] = max(price, float(frame.loc[first, "high"].iloc[0]))
    frame.loc[first, "low"] = min(price, float(frame.loc[first, "low"].iloc[0]))
    return frame


def _kept(count: int, generator: np.random.Generator) -> np.ndarray:
    """Which rows stay; the first is always gone, so that at least one is."""
    kept = generator.random(count) >= _THINNED
    kept[:1] = False
    return kept


def _dealt(later: pd.DataFrame, columns: list[str], generator: np.random.Generator) -> pd.DataFrame:
    """The rows' values dealt to other rows; two rows at least change places."""
    order = _moved_order(len(later), generator)
    return later.assign(**{c: later[c].to_numpy()[order] for c in columns})


def _other_candles(later: pd.DataFrame, mutation: str, generator: np.random.Generator) -> pd.DataFrame:
    if mutation == PERMUTE and len(later) > 1:
        return _reordered_path(later, generator)
    step_hours = (later["close_time"].iloc[0] - later["open_time"].iloc[0]) / pd.Timedelta(hours=1)
    jump = generator.choice([-1.0, 1.0]) * generator.uniform(0.02, 0.4)
    path = jump + np.cumsum(generator.normal(0, 0.012 * step_hours**0.5, len(later)))
    factor = np.exp(np.clip(path, -1.5, 1.5))
    prices = {c: later[c].to_numpy(float) * factor for c in _PRICES}
    return later.assign(**prices, volume=later["volume"] * generator.uniform(0.2, 5.0, len(later)))


def _reordered_path(later: pd.DataFrame, generator: np.random.Generator) -> pd.DataFrame:
    """The same candles one after the other in another order, each opening where it did against the close before it.

    Prices dealt to other times would jump by a year's move every hour: no market, and no volatility, is like that.
    """
    logs = np.log(later[_PRICES].to_numpy(float))
    before = np.concatenate([logs[:1, 0], logs[:-1, 3]])
    bars = (logs - before[:, None])[order := _moved_order(len(later), generator)]
    closes = np.cumsum(bars[:, 3]) + before[0]
    prices = np.exp(bars + np.concatenate([before[:1], closes[:-1]])[:, None])
    return later.assign(**dict(zip(_PRICES, prices.T, strict=True)), volume=later["volume"].to_numpy()[order])


def _moved_order(count: int, generator: np.random.Generator) -> np.ndarray:
    """An order in which something has moved."""
    order = generator.permutation(count)
    return np.roll(order, 1) if (order == np.arange(count)).all() else order


def _other_quotes(later: pd.DataFrame, mutation: str, generator: np.random.Generator) -> pd.DataFrame:
    if mutation == PERMUTE and len(later) > 1:
        return _dealt(later, _QUOTE_VALUES, generator)
    each = {c: later[c].to_numpy(float) * generator.uniform(0.5, 1.5, len(later)) for c in _QUOTE_VALUES}
    return later.assign(**{**each, "delta": generator.uniform(0.05, 0.95, len(later))})


def _other_index(later: pd.DataFrame, mutation: str, generator: np.random.Generator) -> pd.DataFrame:
    if mutation == PERMUTE and len(later) > 1:
        return _dealt(later, _INDEX_VALUES, generator)
    factor = np.exp(generator.choice([-1.0, 1.0]) * generator.uniform(0.1, 0.6, len(later)))
    return later.assign(**{c: later[c].to_numpy(float) * factor for c in _INDEX_VALUES})


def _other_regimes(later: pd.DataFrame, mutation: str, generator: np.random.Generator) -> pd.DataFrame:
    """Windows that had not ended: other labels, which also stand in their names."""
    turn = int(generator.integers(1, len(_LABELS)))
    labels = [_LABELS[(_LABELS.index(label) + turn) % len(_LABELS)] for label in later["label"]]
    names = [f"{label}_{name.split('_', 1)[1]}" for label, name in zip(labels, later["regime"], strict=True)]
    return later.assign(label=labels, regime=names, return_pct=-later["return_pct"])


_CHANGES: dict[str, _Change] = {
    "candles": _other_candles, "quotes": _other_quotes, "index": _other_index, "regimes": _other_regimes,
}  # fmt: skip


def _known(params: OptionParams, cut: pd.Timestamp) -> tuple[Calibration, ...]:
    return tuple(c for c in params.calibrations if pd.Timestamp(c.applies_from, tz="UTC") <= cut)


def _other_calibrations(params: OptionParams, mutation: str, cut: pd.Timestamp) -> OptionParams:
    """Later calibrations with other parameters, and one more from the next day on where there is none."""
    known = _known(params, cut)
    if mutation == TRUNCATE and known:
        return params.model_copy(update={"calibrations": known})
    later = params.calibrations[len(known) :]
    tomorrow = (cut.floor("D") + pd.Timedelta(days=1)).date()
    if known and not any(c.applies_from == tomorrow for c in later):
        later = (known[-1].model_copy(update={"applies_from": tomorrow}), *later)
    changed = tuple(
        c.model_copy(update={"btc": _other_surface(c.btc), "eth": _other_surface(c.eth)}) for c in later
    )
    return params.model_copy(update={"calibrations": (*known, *changed)})


def _other_surface(surface: SurfaceParams) -> SurfaceParams:
    update = {
        "premium": surface.premium * 1.3, "index_over_atm": surface.index_over_atm * 0.8, "eta": surface.eta * 0.7,
        "rho": -0.5 * surface.rho, "basis": surface.basis + 0.05,
        "half_spread": tuple(tuple(share * 0.5 for share in row) for row in surface.half_spread),
    }  # fmt: skip
    return surface.model_copy(update=update)
