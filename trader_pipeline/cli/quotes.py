"""`options record` and `options import`: Deribit's public data into the recordings of a data folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from trader_pipeline.cli.options import profile_options_of

if TYPE_CHECKING:
    from trader_pipeline.options.deribit import DeribitParams
    from trader_pipeline.options.recordings import Kind

_KINDS = ["quotes", "volatility-index", "delivery-prices"]


@click.group("options")
def options_group() -> None:
    """Options: record or import real quotes; fit the option model to them and check it."""


@options_group.command("record")
@profile_options_of("full")  # simulated candles have no use for real quotes
@click.option("--data-dir", default="", help="Where tables and recordings lie. Default: data/<profile>.")
@click.option("--underlyings", default="BTC,ETH", show_default=True, help="Coins, separated by commas.")
@click.option("--base-url", default="", help="Another address of the API, as of a mirror or a proxy.")
def record(profile: str, overrides: tuple[str, ...], data_dir: str, underlyings: str, base_url: str) -> None:
    """Record one snapshot of all quotes, and what is new of the volatility index and the delivery prices.

    On first use that is all there is of these two, whatever was imported before; hours and days that lack are counted.
    Public data of Deribit, no key. What is recorded counts in the next run, whatever the profile's source.

    \b
    Examples:
      trader-pipeline options record
      trader-pipeline options record --profile full --underlyings BTC --set deribit.include_greeks=true
    """
    import pandas as pd

    from trader_pipeline.options.params import check_underlying
    from trader_pipeline.options.recorder import record_all

    coins = tuple(check_underlying(coin.strip().upper()) for coin in underlyings.split(","))
    params = _deribit_params(profile, overrides, base_url)
    root = _recordings_root(profile, data_dir)
    for line in record_all(coins, params, root, now=pd.Timestamp.now("UTC")):
        click.echo(line)
    click.echo(f"recorded in {root}")


@options_group.command("import")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--kind", required=True, type=click.Choice(_KINDS), help="What the file holds.")
@click.option("--underlying", default=None, help="The coin, where neither column nor file name states it.")
@click.option(
    "--profile",
    default="full",
    show_default=True,
    envvar="TRADER_PIPELINE_PROFILE",
    help="Whose data folder.",
)
@click.option("--data-dir", default="", help="Where tables and recordings lie. Default: data/<profile>.")
def import_file(path: Path, kind: str, underlying: str | None, profile: str, data_dir: str) -> None:
    """Copy the rows of a file or folder (Parquet, CSV) into the recordings; they count from then on.

    Bad rows are refused with file, row and column; nothing is written then. The columns expected are in
    docs/recordings.md.

    \b
    Example:
      trader-pipeline options import quotes_2026H1.parquet --kind quotes
      trader-pipeline options import BTC_dvol_1h.parquet --kind volatility-index
    """
    from trader_pipeline.options.recordings import add_rows, load_import

    name = cast("Kind", kind.replace("-", "_"))
    frame, report = load_import(name, path, underlying)
    root = _recordings_root(profile, data_dir)
    additions = add_rows(frame, name, root)
    click.echo(report.summary())
    click.echo(f"{additions.summary()}, in {root}")


def _deribit_params(profile: str, overrides: tuple[str, ...], base_url: str) -> DeribitParams:
    """The profile's section. Recording reads no candles, so a profile that needs a folder of them gets any."""
    from trader_pipeline.settings import load_profile, parse_overrides

    address = {"deribit.base_url": base_url} if base_url else {}
    return load_profile(profile, klines=".", overrides=parse_overrides(overrides) | address).deribit


def _recordings_root(profile: str, data_dir: str) -> Path:
    from trader_pipeline.options.recordings import recordings_root
    from trader_pipeline.settings import EnvironmentSettings

    given = {"profile": profile, "data_dir": data_dir}
    settings = EnvironmentSettings().model_copy(update={k: v for k, v in given.items() if v})
    return recordings_root(settings.data_root)
