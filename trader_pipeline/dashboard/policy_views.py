"""What the page Policies shows: leaderboard, figures by regime, calibration, as frames and plotly figures.

Belongs here: reading POLICY_METRICS and POLICY_DECISIONS for people. The verdicts are `evaluation`'s own sentences, the
figure of the books is the report's. Does not belong here: components (`pages.policies`), new statistics of a policy.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from trader_pipeline.backtest.page.plots import BLUE, GREY, INK, ORANGE, base_figure
from trader_pipeline.backtest.regimes import regime_names
from trader_pipeline.dashboard.theme import NEUTRAL
from trader_pipeline.evaluation.overview import FEW_DECISIONS, comparisons

MOST_BINS = 10
FEWEST_IN_BIN = 5
"""A bin of fewer answers has no frequency worth drawing."""
_MEAN = "mean_pnl_vs_hodl_pct"
_LOW, _HIGH = f"{_MEAN}_low", f"{_MEAN}_high"


def leaderboard(metrics: pd.DataFrame, *, exit_style: str, segment: str) -> pd.DataFrame:
    """Policies by their mean P&L against HODL on held-out steps, the best first; one below 0 loses to holding.

    Columns `policy, mean_pnl_vs_hodl_pct` (% of the coin), `interval` of that mean and whether it is `tied` with HODL,
    both in words and only where the table holds intervals, `standing` ("above 0", "0", "below 0": the sign
    of the mean, no test), `accuracy_pct, sold_pct` (% of steps), `steps`, and for the pairs that were compared
    `difference, low, high` (% of the coin: the evaluated policy minus this one, with its bootstrap interval),
    `compared` in words. The interval's ends are `mean_pnl_vs_hodl_pct_low` and `_high`.

    Args:
        metrics: table POLICY_METRICS.
        segment: `all` or an underlying; pairs are compared over all underlyings alone.
    """
    own = metrics[(metrics["segment"] == segment) & (metrics["exit_style"] == exit_style)]
    wanted = ["accuracy", "share_sold", _MEAN, _LOW, _HIGH]
    held = own[own["metric"].isin(wanted)]
    if held.empty:
        return pd.DataFrame(columns=["policy", _MEAN, "standing", "accuracy_pct", "sold_pct", "steps"])
    rows = held.pivot_table(index="policy", columns="metric", values="value").reindex(columns=wanted)
    rows = rows.assign(
        standing=np.select([rows[_MEAN] > 0, rows[_MEAN] < 0], ["above 0", "below 0"], "0"),
        accuracy_pct=100 * rows["accuracy"],
        sold_pct=100 * rows["share_sold"],
        steps=held[held["metric"] == _MEAN].groupby("policy")["count"].first(),
    ).reset_index()
    told = _with_intervals(rows)
    rows = rows[["policy", _MEAN]].join(told).join(rows[["standing", "accuracy_pct", "sold_pct", "steps"]])
    return _with_pairs(rows, own).sort_values(_MEAN, ascending=False, kind="stable", ignore_index=True)


def _with_intervals(rows: pd.DataFrame) -> pd.DataFrame:
    """`interval, tied` and its ends; no column where the metrics were made before intervals were."""
    if rows[_LOW].isna().all():
        return pd.DataFrame(index=rows.index)
    sold = (rows["share_sold"] * rows["steps"]).round()
    found = zip(rows[_LOW], rows[_HIGH], sold, strict=True)
    told = [
        ("–", "–") if pd.isna(low) else (f"{low:+.3f} .. {high:+.3f}", _tie(low, high, n))
        for low, high, n in found
    ]
    return pd.DataFrame(told, columns=["interval", "tied"], index=rows.index).join(rows[[_LOW, _HIGH]])


def _tie(low: float, high: float, sold: float) -> str:
    """Whether holding the coins did as well, by the rule of `comparisons`: a policy differs from HODL where it sold."""
    if low <= 0 <= high:
        return "tied: 0 is in it"
    return f"tied: only {sold:.0f} sales" if sold < FEW_DECISIONS else "not tied"


def _with_pairs(rows: pd.DataFrame, metrics: pd.DataFrame) -> pd.DataFrame:
    pairs = comparisons(metrics)
    if pairs.empty:
        return rows
    words = pairs["policy"] + " " + pairs["standing"] + " it"
    pairs = pairs.assign(compared=words).rename(columns={"policy": "evaluated", "mean": "difference"})
    pairs = pairs[["against", "difference", "low", "high", "compared"]].drop_duplicates("against")
    return rows.merge(pairs, left_on="policy", right_on="against", how="left").drop(columns="against")


def leaderboard_figure(board: pd.DataFrame) -> go.Figure:
    """Mean P&L against HODL, a bar a policy with its interval, the best on top; losing ones in another colour.

    Args:
        board: as `leaderboard` makes it, not empty.
    """
    rows = board.iloc[::-1]
    values = rows[_MEAN].to_numpy()
    lows, highs = (
        rows[name].fillna(rows[_MEAN]).to_numpy() if name in rows else values for name in (_LOW, _HIGH)
    )
    figure = base_figure(x_title="mean P&L − HODL, % of coin")
    bars = {
        "color": np.where(values < 0, ORANGE, BLUE).tolist(),
        "pattern": {"shape": np.where(values < 0, "/", "").tolist()},
    }
    intervals = {
        "array": highs - values,
        "arrayminus": values - lows,
        "thickness": 1.5,
        "width": 5,
        "color": NEUTRAL,
    }
    names = rows["policy"].tolist()
    hover = "%{y}: %{x:+.3f} % of coin, %{customdata[0]:+.3f} .. %{customdata[1]:+.3f}<extra></extra>"
    figure.add_trace(
        go.Bar(
            x=values, y=names, orientation="h", marker=bars, customdata=np.column_stack([lows, highs]),
            error_x=intervals if _LOW in rows else None,
            hovertemplate=hover if _LOW in rows else "%{y}: %{x:+.3f} % of coin<extra></extra>",
        )
    )  # fmt: skip
    figure.add_trace(_figures_beside(values, lows, highs, names))
    figure.add_vline(x=0, line={"color": INK, "width": 1})
    ends = np.concatenate([lows, highs, [0.0]])
    span = max(float(np.ptp(ends)), 1e-9)
    # Room for the figures beside the bars, on a phone too.
    left, right = (0.4 if sign.any() else 0.05 for sign in (values < 0, values >= 0))
    figure.update_xaxes(range=[ends.min() - left * span, ends.max() + right * span])
    figure.update_layout(hovermode="closest", showlegend=False)
    return figure


def _figures_beside(values: np.ndarray, lows: np.ndarray, highs: np.ndarray, names: list[str]) -> go.Scatter:
    """Each mean with its sign, where its bar and its interval end."""
    below = values < 0
    return go.Scatter(
        x=np.where(below, np.minimum(lows, values), np.maximum(highs, values)), y=names, mode="text",
        text=[f" {value:+.3f} " for value in values], hoverinfo="skip", cliponaxis=False,
        textposition=np.where(below, "middle left", "middle right").tolist(),
    )  # fmt: skip


def regime_table(decisions: pd.DataFrame, spots: pd.DataFrame, windows: pd.DataFrame) -> pd.DataFrame:
    """Mean P&L against HODL by policy (rows) and regime label in hindsight (columns), % of the coin per decision.

    `<label>` is the mean, `<label> steps` the count behind it; a regime that no decision lies in has no column.

    Args:
        decisions: rows of POLICY_DECISIONS of one exit style.
        spots: `decision_time, underlying, spot`; may hold a decision several times.
        windows: REGIME_WINDOWS; may be empty.
    """
    known = spots.drop_duplicates(["decision_time", "underlying"])
    rows = decisions.merge(known, on=["decision_time", "underlying"], how="left")
    rows = rows.assign(
        pct=100 * rows["pnl_vs_hodl"] / rows["spot"],
        regime=regime_names(rows["decision_time"], windows, by="label"),
    )
    grouped = rows.groupby(["policy", "regime"])["pct"].agg(["mean", "size"]).unstack("regime")
    table = pd.DataFrame(index=grouped.index)
    for label in sorted(set(rows["regime"])):
        table[label] = grouped["mean"][label]
        table[f"{label} steps"] = grouped["size"][label].fillna(0).astype("int64")
    return table.reset_index()


def calibration(decisions: pd.DataFrame) -> pd.DataFrame:
    """Probability against frequency: `policy, probability, frequency, low, high, answers`, a row a bin.

    `probability` is the mean probability that the policy gave its own whole answer (end of turn included, not scaled
    to the answers that were allowed), `frequency` the share of those answers that were the teacher's, `low .. high`
    its 95 % interval (Wilson). Bins hold the same number of answers, at least 5. Policies that give no probability,
    as rules, have no rows.
    """
    scored = decisions.dropna(subset=["answer_log_probability"])
    rows = []
    for policy, own in scored.groupby("policy"):
        probability = np.exp(own["answer_log_probability"].to_numpy())
        correct = own["correct"].to_numpy(dtype=float)[np.argsort(probability, kind="stable")]
        bins = int(np.clip(len(own) // FEWEST_IN_BIN, 1, MOST_BINS))
        for p, c in zip(
            np.array_split(np.sort(probability), bins), np.array_split(correct, bins), strict=True
        ):
            rows.append((policy, p.mean(), c.mean(), *_wilson(c.mean(), len(c)), len(c)))
    return pd.DataFrame(rows, columns=["policy", "probability", "frequency", "low", "high", "answers"])


def calibration_figure(bins: pd.DataFrame) -> go.Figure:
    """Frequency over probability with intervals; on the dashed line a probability is what it says."""
    figure = base_figure(
        x_title="probability given to the answer", y_title="share that is the teacher's answer"
    )
    figure.add_trace(
        go.Scatter(
            x=[0, 1],
            y=[0, 1],
            mode="lines",
            name="as often as it says",
            line={"color": GREY, "dash": "dash"},
            hoverinfo="skip",
        )
    )
    looks = ((BLUE, "circle"), (ORANGE, "diamond"), (INK, "square"))
    for (policy, own), (colour, symbol) in zip(bins.groupby("policy"), looks * len(bins), strict=False):
        figure.add_trace(
            go.Scatter(
                x=own["probability"].to_numpy(),
                y=own["frequency"].to_numpy(),
                error_y={
                    "array": (own["high"] - own["frequency"]).to_numpy(),
                    "arrayminus": (own["frequency"] - own["low"]).to_numpy(),
                    "thickness": 1.2,
                },
                mode="markers+lines",
                name=str(policy),
                marker={"color": colour, "symbol": symbol, "size": 9},
                line={"color": colour, "width": 1},
                customdata=own[["answers"]].to_numpy(),
                hovertemplate="probability %{x:.3g}, frequency %{y:.1%} of %{customdata[0]} answers<extra></extra>",
            )
        )
    figure.update_xaxes(range=[-0.02, 1.02])
    figure.update_yaxes(range=[-0.02, 1.05])
    return figure


def _wilson(share: float, count: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's score interval of a share (Wilson 1927); worked: 5 of 10 is 0.237 .. 0.763."""
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * np.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return float(max(0.0, centre - half)), float(min(1.0, centre + half))
