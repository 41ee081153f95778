"""The venue's dated tables, and how they compare with recorded chains.

    python benchmarks/instruments.py [--quotes FILE]

Prints markdown. `FILE` is a Parquet table of whole chains: `timestamp, instrument_name, currency, strike, expiry,
index_price, bid_price, ask_price, delta`. Without it only the tables are printed.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click
import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks._recorded import recorded
from trader_pipeline.options import OptionParams, kernels
from trader_pipeline.options.calendar import (
    LISTING_RULES,
    instrument_name,
    list_expiries,
    listed_at,
    parse_options,
)
from trader_pipeline.options.venue import (
    DELIVERY_FEE_EPOCHS,
    FEE_EPOCHS,
    TICK_EPOCHS,
    ask_on_tick,
    bid_on_tick,
)

HORIZON_DAYS = 95
"""The recorded chains hold no later expiry."""
DELTAS = (0.1, 0.9)
DTE_EDGES = (0, 4, 8, 15, 23, 36, 60, HORIZON_DAYS)
_DAY, _HOUR = pd.Timedelta(days=1), pd.Timedelta(hours=1)
_ON_GRID = 1e-9


def print_rules() -> None:
    print(
        "| since (08:00 UTC) | kind | coins | periods ahead | days of lead | source |\n|---|---|---|---|---|---|"
    )
    for r in LISTING_RULES:
        coins = ", ".join(r.underlyings)
        print(f"| {r.since} | {r.listing} | {coins} | {r.ahead} | {r.lead_days} | {r.source} |")
    print("\n| since | fee or tick (coin) | source |\n|---|---|---|")
    for f in FEE_EPOCHS:
        print(f"| {f.since} | fee {f.rate_coin:.4f}, at most {f.cap_share:.1%} of the premium | {f.source} |")
    for d in DELIVERY_FEE_EPOCHS:
        print(
            f"| {d.since} | delivery fee {d.rate_coin:.5f}, at most {d.cap_share:.1%} of the payoff | {d.source} |"
        )
    for t in TICK_EPOCHS:
        print(f"| {t.since} | tick {t.tick} up to {t.threshold}, {t.tick_above} above | {t.source} |")


def print_expiries(quotes: pd.DataFrame) -> None:
    """Both shares per coin, then every exception."""
    exceptions = []
    print(
        "\n| coin | chains | real expiries | generated | generated, listed | real |\n|---|---|---|---|---|---|"
    )
    for coin, own in quotes.groupby("currency"):
        real = {(t, e) for t, e in own[["timestamp", "expiry"]].drop_duplicates().itertuples(index=False)}
        times = sorted({t for t, _ in real})
        made = {(t, e.time) for t in times for e in listed_at(coin, t, within_days=HORIZON_DAYS)}
        both = len(real & made)
        print(
            f"| {coin} | {len(times)} | {len(real)} | {both / len(real):.2%} | {len(made)} | {both / len(made):.2%} |"
        )
        exceptions += [
            f"{coin} {t} {e} {'not generated' if (t, e) in real else 'not real'}"
            for t, e in sorted(real ^ made)
        ]
    print("\nExceptions: " + ("; ".join(exceptions) or "none."))


def print_first_seen(quotes: pd.DataFrame) -> None:
    """How close to the modelled moment of listing chains were recorded: before it, without the expiry, and after."""
    rows = []
    for coin, own in quotes.groupby("currency"):
        times = own["timestamp"].drop_duplicates().sort_values().tolist()
        before = dict(zip(times[1:], times, strict=False))
        for expiry, first in own.groupby("expiry")["timestamp"].min().items():
            if first in before and expiry - before[first] < HORIZON_DAYS * _DAY:
                (listed,) = list_expiries(coin, expiry, expiry)
                rows.append((listed.listing, before[first] - listed.listed_from, first - listed.listed_from))
    seen = pd.DataFrame(rows, columns=["kind", "without", "with"])
    print("\n| kind | new expiries | latest chain without it | earliest chain with it |\n|---|---|---|---|")
    for kind, part in seen.groupby("kind"):
        late, early = part["without"].max() / _HOUR, part["with"].min() / _HOUR
        print(f"| {kind} | {len(part)} | {late:+.1f} hours | {early:+.1f} hours |")


def print_ticks(quotes: pd.DataFrame) -> None:
    print("\n| quote | prices | on tick | off tick |\n|---|---|---|---|")
    for column, rounded in (("bid_price", bid_on_tick), ("ask_price", ask_on_tick)):
        rows = quotes[quotes[column] > 0]
        last = rows["timestamp"].min()  # the tick did not change since: each distinct price is rounded once
        on_tick = {p: abs(rounded(price_coin=p, time=last) - p) < _ON_GRID for p in rows[column].unique()}
        good = rows[column].map(on_tick)
        off = [
            f"{r.instrument_name} {getattr(r, column)} at {r.timestamp:%F %R}"
            for r in rows[~good].itertuples()
        ]
        print(f"| {column} | {len(rows)} | {good.mean():.4%} | {'; '.join(off) or 'none'} |")


def print_names(quotes: pd.DataFrame) -> None:
    parsed = parse_options(quotes["instrument_name"])
    same = (parsed["expiry"] == quotes["expiry"]) & (parsed["strike"] == quotes["strike"])
    distinct = parsed.drop_duplicates()
    spelled = {instrument_name(**row._asdict()) for row in distinct.itertuples(index=False)}
    alike = len(spelled & set(quotes["instrument_name"])) / len(spelled)
    print(
        f"\n{len(spelled)} distinct names, {alike:.2%} of them spelled alike when built anew;"
        f" expiry and strike as recorded in {same.mean():.2%} of {len(quotes)} rows."
    )


def strikes_of_chain(chain: pd.DataFrame, params: OptionParams) -> tuple[int, int, int]:
    """Strikes of one recorded expiry, multiples of the modelled step from the first to the last, and common ones."""
    real = np.sort(chain["strike"].to_numpy())
    near = chain["dte"].iloc[0] < params.near_days
    share = params.strike_pct(str(chain["currency"].iloc[0]), near=near) / 100
    step = kernels.strike_step(float(chain["index_price"].iloc[0]) * share)
    made = np.arange(np.ceil(real[0] / step - _ON_GRID), np.floor(real[-1] / step + _ON_GRID) + 1) * step
    return len(real), len(made), int(np.isin(real, made).sum())


def print_strikes(quotes: pd.DataFrame) -> None:
    chains = quotes[quotes["delta"].between(*DELTAS)]
    chains = chains.assign(dte=(chains["expiry"] - chains["timestamp"]) / _DAY)
    rows = [
        (coin, chain["dte"].iloc[0], *strikes_of_chain(chain, OptionParams()))
        for (coin, _, _), chain in chains.groupby(["currency", "timestamp", "expiry"])
    ]
    found = pd.DataFrame(rows, columns=["coin", "dte", "real", "made", "both"])
    found["days"] = pd.cut(found["dte"], DTE_EDGES).astype(str)
    print("\n| coin | days to expiry | real strikes | modelled too | modelled strikes | real too |")
    print("|---|---|---|---|---|---|")
    sums = found.groupby(["coin", "days"], sort=False)[["real", "made", "both"]].sum()
    order = sorted(sums.index, key=lambda key: (key[0], float(key[1][1:].split(",")[0])))
    whole = found.groupby("coin")[["real", "made", "both"]].sum()
    for coin, days in [*order, *((c, "all") for c in whole.index)]:
        n = whole.loc[coin] if days == "all" else sums.loc[(coin, days)]
        listed, real = n["both"] / n["real"], n["both"] / n["made"]
        print(f"| {coin} | {days} | {n['real']} | {listed:.1%} | {n['made']} | {real:.1%} |")


@click.command(help=__doc__)
@click.option("--quotes", default=recorded("options"), help="Parquet file or folder with recorded chains")
def main(quotes: str | None) -> None:
    print_rules()
    if quotes is None:
        return
    recorded = pd.read_parquet(quotes)
    for show in (print_expiries, print_first_seen, print_ticks, print_names, print_strikes):
        show(recorded)


if __name__ == "__main__":
    main()
