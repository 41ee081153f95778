"""`options calibrate` and `options check`: fitting the option model to recorded quotes, and holding it against them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trader_pipeline.cli.options import print_table, utc_day

if TYPE_CHECKING:
    import pandas as pd

_EXISTING = click.Path(exists=True, path_type=Path)
_QUOTES_HELP = (
    "File or folder of recorded quotes (Parquet or CSV) with the columns timestamp, instrument_name, currency,"
    " option_type, strike, expiry, underlying_price, index_price, bid_price, ask_price, mark_price, mark_iv, delta."
)
_CANDLES_HELP = "File or folder of candles (hourly or finer)."


@click.command()
@click.option("--quotes", type=_EXISTING, default=None, help=_QUOTES_HELP)
@click.option(
    "--until", required=True, metavar="DATE", help="Nothing of this day (UTC) or later is looked at."
)
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="JSON file to write; it must not exist."
)
@click.option(
    "--klines", "klines_path", type=_EXISTING, default=None,
    help=f"{_CANDLES_HELP} With them the premium over realised volatility is fitted too.",
)  # fmt: skip
@click.option(
    "--volatility-index", "index_path", type=_EXISTING, default=None,
    help="File or folder of hourly DVOL values; with --klines and without --quotes the premium is fitted on it.",
)  # fmt: skip
def calibrate(
    quotes: Path | None, until: str, out: Path, klines_path: Path | None, index_path: Path | None
) -> None:
    """Fit the volatility surface and the spread to recorded quotes before a day.

    Fitted per coin: smile and term structure (SSVI), weekend weight, basis, half-spreads by delta and days to expiry;
    with candles also the premium. What cannot be fitted is taken over from the calibration of the day before.
    The file says what was fitted on which days, and applies from DATE on. Use it:

    \b
      trader-pipeline run --profile full --klines FOLDER --set options.calibration_file=params.json

    \b
    Example:
      trader-pipeline options calibrate --quotes quotes.parquet --until 2026-03-01 --out params.json
      trader-pipeline options check --quotes quotes.parquet --from 2026-03-01 --params params.json
    """
    from trader_pipeline.options.calibration import calibrate as fit
    from trader_pipeline.options.params import OptionParams, dump_calibrations
    from trader_pipeline.options.recordings import load_quotes_file, load_volatility_index_file
    from trader_pipeline.store import write_atomic

    if out.exists():
        raise FileExistsError(f"{out} exists already; nothing was overwritten, name another file")
    files = [str(p.name) for p in (quotes, index_path, klines_path) if p is not None]
    calibration = fit(
        until=utc_day(until),
        base=OptionParams(),
        quotes=load_quotes_file(quotes) if quotes else None,
        volatility_index=load_volatility_index_file(index_path) if index_path else None,
        candles=_candles(klines_path) if klines_path else None,
        sources=", ".join(files),
    )
    write_atomic(out, dump_calibrations((calibration,)))
    print_table(_parameters(calibration.of("BTC"), calibration.of("ETH")), "fitted parameters")
    for f in calibration.fits:
        click.echo(f"{f.underlying} {f.parameters}: {f.rows} observations, {f.first_day} to {f.last_day}")
    click.echo(f"{out}: applies from {calibration.applies_from} on")


def _parameters(*params: object) -> pd.DataFrame:
    import pandas as pd

    kept = [{k: v for k, v in p.model_dump().items() if k != "half_spread"} for p in params]  # type: ignore[attr-defined]
    return pd.DataFrame(kept, index=["BTC", "ETH"]).T.rename_axis("parameter").reset_index()


def _candles(path: Path) -> dict[str, pd.DataFrame]:
    """Hourly candles of the coins that the path has."""
    import pandas as pd

    from trader_pipeline.klines import KlinesParams, build_klines
    from trader_pipeline.klines.files import find_kline_files
    from trader_pipeline.schema import Market

    coins = sorted({f.market.underlying for f in find_kline_files(path)})
    params = KlinesParams(source="file", path=str(path), finest_timeframe="1h")
    return {u: build_klines(Market(u, "1h"), params, as_of=pd.Timestamp.now("UTC"))[0] for u in coins}


@click.command()
@click.option("--quotes", required=True, type=_EXISTING, help=_QUOTES_HELP)
@click.option(
    "--from", "since", required=True, metavar="DATE", help="Quotes of this day (UTC) and later are looked at."
)
@click.option(
    "--to", "to", default=None, metavar="DATE", help="Quotes before this day alone. Default: to the end."
)
@click.option(
    "--params",
    "params_path",
    type=_EXISTING,
    default=None,
    help="File that calibrate wrote. Default: the package's.",
)
@click.option(
    "--klines", "klines_path", type=_EXISTING, default=None,
    help=f"{_CANDLES_HELP} The level is then forecast from them, not read off the day's at-the-money quote.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Every bucket as JSON.")
def check(
    quotes: Path,
    since: str,
    to: str | None,
    params_path: Path | None,
    klines_path: Path | None,
    as_json: bool,
) -> None:
    """Hold the option model against recorded quotes: errors by coin, delta and days to expiry.

    Calls of 3 to 35 days and delta 0.1 to 0.5. The level comes from one at-the-money quote of each snapshot (the expiry
    nearest to 14 days), everything else from the parameters. Volatility errors are in points (1 point = 0.01),
    model minus market; bid errors in percent of the quoted bid. Parameters are refused for days before they apply.

    \b
    Example:
      trader-pipeline options check --quotes quotes.parquet --from 2026-03-01 --params params.json
    """
    from trader_pipeline.options.params import OptionParams, load_calibrations
    from trader_pipeline.options.quote_check import HEADLINE, quote_errors, summarise_errors
    from trader_pipeline.options.recordings import load_quotes_file

    params = OptionParams(calibrations=load_calibrations(params_path)) if params_path else OptionParams()
    first = utc_day(since)
    recorded = load_quotes_file(quotes)
    recorded = recorded[recorded["quote_time"] >= first]
    if to is not None:
        recorded = recorded[recorded["quote_time"] < utc_day(to)]
    if recorded.empty:
        raise ValueError(f"{quotes}: no quotes from {since}{f' to {to}' if to else ''}")
    params.calibration_at(recorded["quote_time"].min().date())
    table = summarise_errors(
        quote_errors(recorded, params, candles=_candles(klines_path) if klines_path else None)
    )
    if as_json:
        level = "forecast from candles" if klines_path else "one at-the-money quote a snapshot"
        rows = json.loads(table.to_json(orient="records"))
        click.echo(json.dumps({"from": since, "to": to, "level": level, "buckets": rows}, indent=1))
        return
    shown = (table["delta"] == HEADLINE) | (table["days"] == HEADLINE)
    print_table(table[shown].round(2), "model against market (every bucket: --json)")
