"""Clean synthetic corpora: the answer follows from figures and luck alone, and the audit must find nothing.

Texts are written here, not by the project's renderer, so that neither the audit nor its flaws can be fitted to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from trader_pipeline.corpora.records import pair_text, record_id

START = pd.Timestamp("2022-01-03 08:00", tz="UTC")
TRADE_SYSTEM = "You trade covered calls. Sell this call or skip it."
PICK_SYSTEM = "You trade covered calls. Pick the call to sell, or none."
_LAST_TRADE = "Reply with exactly one token: SELL_CALL or SKIP."


def clean_trade(records: int, seed: int, *, splits: bool = True, narrative: bool = False) -> pd.DataFrame:
    """Trade-or-skip: sold more often the nearer delta is to 0.25, the rest is luck; as many sold as skipped."""
    rng = np.random.default_rng(seed)
    times = _times(records, rng)
    delta, yields = rng.uniform(0.08, 0.5, records), rng.uniform(0.2, 4, records)
    appeal = -np.abs(delta - 0.25) + rng.normal(0, 0.12, records)
    sold = appeal > np.median(appeal)
    rows = []
    for i in range(records):
        spot, trend, dte = rng.uniform(15_000, 70_000), rng.normal(0, 6), rng.integers(3, 28)
        figures = (times[i], spot, trend, dte, float(delta[i]), float(yields[i]))
        user = (_narrative if narrative else _lines)(*figures, rng)
        rows.append({"user": user, "assistant": "SELL_CALL" if sold[i] else "SKIP"})
    return _finished(pd.DataFrame(rows), "trade_or_skip", TRADE_SYSTEM, times, splits)


def clean_pick(records: int, seed: int, *, splits: bool = True) -> pd.DataFrame:
    """Pick a candidate of 3 to 8, shuffled; the one with delta nearest to 0.25 and luck; a quarter NO_TRADE."""
    rng = np.random.default_rng(seed)
    times = _times(records, rng)
    rows = []
    for moment in times:
        spot, count = rng.uniform(15_000, 70_000), int(rng.integers(3, 9))
        delta, yields, dte = (
            rng.uniform(0.08, 0.5, count),
            rng.uniform(0.2, 4, count),
            rng.integers(3, 28, count),
        )
        strikes = rng.choice(np.arange(30), count, replace=False) * 500 + round(spot * 1.03, -2)
        lines = [
            f"  [{i + 1}] BTC-{dte[i]}JAN23-{strikes[i]:.0f}-C — Strike: {strikes[i]:.0f}, DTE: {dte[i]},"
            f" Delta: {delta[i]:.2f}, Yield: {yields[i]:.2f}%"
            for i in range(count)
        ]
        appeal = -np.abs(delta - 0.25) + rng.normal(0, 0.1, count)
        answer = "NO_TRADE" if rng.random() < 0.25 else str(int(appeal.argmax()) + 1)
        choices = ", ".join(str(i + 1) for i in range(count))
        user = "\n".join(
            [
                f"Decision time: {moment:%Y-%m-%d %H:%M} UTC", "Underlying: BTC", f"Spot: {spot:.0f}",
                f"Trend: 1d {rng.normal(0, 3):+.0f}%, 7d {rng.normal(0, 8):+.0f}%", "Candidates:", *lines,
                f"Reply with exactly one token: {choices}, or NO_TRADE.",
            ]
        )  # fmt: skip
        rows.append({"user": user, "assistant": answer})
    return _finished(pd.DataFrame(rows), "pick_candidate", PICK_SYSTEM, times, splits)


def clean_preference(records: int, seed: int, *, splits: bool = True) -> pd.DataFrame:
    """Pairs of answers to pick prompts; which of two is preferred is luck, and each may be NO_TRADE."""
    rng = np.random.default_rng([seed, 1])
    frame = clean_pick(records, seed, splits=splits)
    offered = frame["user"].str.count(r"\n  \[").to_numpy()
    pairs = [rng.choice([*map(str, range(1, n + 1)), "NO_TRADE"], 2, replace=False) for n in offered]
    chosen, rejected = (pd.Series([str(p[i]) for p in pairs]) for i in (0, 1))
    frame = frame.drop(columns="assistant").assign(
        kind="preference", chosen_answer=chosen, rejected_answer=rejected
    )
    return with_ids(frame)


def with_ids(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with the ids that its texts have now."""
    answers = (
        [pair_text(c, r) for c, r in zip(frame["chosen_answer"], frame["rejected_answer"], strict=True)]
        if "chosen_answer" in frame
        else frame["assistant"]
    )
    texts = zip(frame["kind"], frame["system"], frame["user"], answers, strict=True)
    return frame.assign(record_id=[record_id(*text) for text in texts]).reset_index(drop=True)


CLEAN: dict[str, Callable[..., pd.DataFrame]] = {
    "trade": clean_trade,
    "pick": clean_pick,
    "preference": clean_preference,
}


def clean_corpora(count: int, *, first_seed: int) -> Iterator[tuple[str, pd.DataFrame]]:
    """So many clean corpora of 8 to 1,500 records, of all kinds in turn, with splits and without, and their names."""
    makers: list[tuple[str, Callable[..., pd.DataFrame]]] = [*CLEAN.items(), ("narrative", _clean_narrative)]
    for seed in range(first_seed, first_seed + count):
        records = int(np.exp(np.random.default_rng([seed, 3]).uniform(np.log(8), np.log(1_500))))
        kind, maker = makers[seed // 2 % len(makers)]
        yield f"{kind}, {records} records, seed {seed}", maker(records, seed, splits=bool(seed % 2))


def _clean_narrative(records: int, seed: int, *, splits: bool) -> pd.DataFrame:
    return clean_trade(records, seed, splits=splits, narrative=True)


def _times(records: int, rng: np.random.Generator) -> pd.DatetimeIndex:
    hours = np.sort(rng.choice(np.arange(max(records * 3, 100)), records, replace=False)) * 4
    return START + pd.to_timedelta(hours, unit="h")


def _lines(
    moment: pd.Timestamp,
    spot: float,
    trend: float,
    dte: int,
    delta: float,
    yields: float,
    rng: np.random.Generator,
) -> str:
    return "\n".join(
        [
            f"Decision time: {moment:%Y-%m-%d %H:%M} UTC", "Underlying: BTC", f"Spot price: {spot:.0f}",
            f"Trend: 1d {rng.normal(0, 3):+.0f}%, 7d {trend:+.0f}%", f"Volatility 30d: {rng.uniform(30, 90):.0f}%",
            f"Candidate option: DTE: {dte}, Delta: {delta:.2f}, Yield: {yields:.2f}%", _LAST_TRADE,
        ]
    )  # fmt: skip


def _narrative(
    moment: pd.Timestamp,
    spot: float,
    trend: float,
    dte: int,
    delta: float,
    yields: float,
    rng: np.random.Generator,
) -> str:
    moved = "has risen" if trend > 0 else "has fallen"
    opening = rng.choice(["On the morning of", "As of", "At"])
    rest = rng.choice(
        ["Volatility is moderate.", "Swings have been wide of late.", "It has been a quiet month."]
    )
    return (
        f"{opening} {moment:%Y-%m-%d %H:%M} UTC bitcoin stands at {spot:.0f}; over the week it {moved} by"
        f" {abs(trend):.0f}%. {rest} The call on offer has {dte} days to run, a delta of {delta:.2f} and pays"
        f" {yields:.2f}% of the coin.\n{_LAST_TRADE}"
    )


def _finished(
    frame: pd.DataFrame, kind: str, system: str, times: pd.DatetimeIndex, splits: bool
) -> pd.DataFrame:
    frame = frame.assign(kind=kind, system=system, weight=1.0)
    if splits:
        cut = times[int(len(times) * 0.7)]
        frame = frame.assign(
            split=np.where(times < cut, "train", "val"),
            decision_time=times,
            label_end_time=times + pd.Timedelta(hours=2),
        )
    return with_ids(frame)
