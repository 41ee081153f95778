"""A sweep's rows with the settings that made them, best first.

Belongs here: ordering. The best of many on one past is chosen in hindsight; whoever shows the order has to say so.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from trader_pipeline.backtest.params import BacktestParams


def rank_settings(
    sweep: pd.DataFrame, settings: Sequence[BacktestParams], *, names: Sequence[str]
) -> pd.DataFrame:
    """`sweep` (one row per setting and exit style) by `return_vs_hodl_pct`, highest first, ties in their order.

    In front stand `setting` (position in `settings`), the settings called `names`, and `exit_style`. Ranked is by how
    much the book outgrew the coins alone, `(1 + return) / (1 + HODL's) - 1`: settings that decide at other times hold
    the coins over other spans.
    """
    varied = {name: [getattr(settings[i], name) for i in sweep["setting"]] for name in names}
    rows = sweep.assign(**varied)
    front = ["setting", *names, "exit_style", "return_vs_hodl_pct"]
    ordered = rows.sort_values("return_vs_hodl_pct", ascending=False, kind="stable", ignore_index=True)
    return ordered[[*front, *(name for name in rows if name not in front)]]
