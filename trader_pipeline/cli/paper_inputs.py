"""What the commands of `trader-pipeline paper` need: settings and folder, candles, who decides."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from trader_pipeline.backtest import Policy
    from trader_pipeline.profile import Profile
    from trader_pipeline.schema import Market


@dataclass(frozen=True)
class Place:
    """A profile, the data folder that belongs to it, and MLflow's address."""

    profile: Profile
    root: Path
    tracking_uri: str

    @property
    def live_folder(self) -> Path:
        """Where live books lie, unless an option says otherwise."""
        return self.root / "paper" / "live"


def place_of(profile: str, overrides: tuple[str, ...], data_dir: str) -> Place:
    """The profile with its candles from an exchange, whatever its other stages read."""
    from trader_pipeline.settings import EnvironmentSettings, load_profile, parse_overrides

    environment = (
        EnvironmentSettings(profile=profile, data_dir=data_dir)
        if data_dir
        else EnvironmentSettings(profile=profile)
    )
    changes = parse_overrides(overrides or tuple(environment.overrides))
    settings = load_profile(profile, overrides={"klines.source": "ccxt", **changes})
    return Place(settings, environment.data_root, environment.tracking_uri())


def champion_of(place: Place) -> Policy:
    """Who decides covered calls: the champion, or the teacher until there is one."""
    from trader_pipeline.evaluation.champion import champion_policy
    from trader_pipeline.training.tracking import TrackingParams

    profile = place.profile
    policy, _ = champion_policy(
        TrackingParams(tracking_uri=place.tracking_uri, experiment=f"trader-pipeline-{profile.name}"),
        cache_dir=place.root / "paper" / "champion",
        model_params=profile.model.model_copy(update={"cache_dir": place.root.parent / "models"}),
        render=profile.render,
        params=profile.evaluation,
        score_threshold=profile.backtest.score_threshold,
    )
    return policy


def replay_candles(
    market: Market, profile: Profile, *, start: pd.Timestamp, end: pd.Timestamp | None
) -> tuple[pd.DataFrame, bool]:
    """The market's candles that have closed, by `end` where one is given, and whether they are simulated.

    Raises:
        ValueError: `start` or `end` lies beyond the candles; the message names the nearest that does not.
    """
    import pandas as pd

    from trader_pipeline.klines import build_klines

    params = profile.klines.model_copy(update={"finest_timeframe": market.timeframe})
    candles, _, simulated = build_klines(market, params, as_of=pd.Timestamp.now("UTC"))
    if candles.empty:
        raise ValueError(f"no candle of {market.key} has closed yet; name another folder with --klines")
    first, last = candles["open_time"].iloc[0], candles["close_time"].iloc[-1]
    held = f"the candles of {market.key} go from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}"
    if start >= last:
        day = (last - market.step).floor("D")
        raise ValueError(
            f"--start {start:%Y-%m-%d} lies behind them: {held}; start {day:%Y-%m-%d} or earlier"
        )
    if end is not None and end > last:
        raise ValueError(
            f"--end {end:%Y-%m-%d %H:%M} lies behind them: {held}; end {last:%Y-%m-%d %H:%M} or leave --end out"
        )
    if end is not None:
        candles = candles[candles["close_time"] <= end].reset_index(drop=True)
    if candles.empty:
        raise ValueError(f"--end {end:%Y-%m-%d %H:%M} lies before them: {held}; end later")
    return candles, simulated
