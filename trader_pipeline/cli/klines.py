"""`klines check`, `klines import`, `klines fetch`: candle files looked through, cleaned, and the store filled."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trader_pipeline.cli.options import utc_day

if TYPE_CHECKING:
    import pandas as pd

    from trader_pipeline.profile import Profile
    from trader_pipeline.settings import EnvironmentSettings

_EXISTING = click.Path(exists=True, path_type=Path)
_OUT = click.Path(path_type=Path)


@click.group()
def klines() -> None:
    """Candles: look through files, import them, fetch them."""


@klines.command("import")
@click.argument("path", type=_EXISTING)
@click.option("--market", required=True, help="Underlying and timeframe, e.g. BTC_1h or ETH_4h.")
@click.option("--out", required=True, type=_OUT, help="Parquet file to write; it must not exist.")
def klines_import(path: Path, market: str, out: Path) -> None:
    """Clean the candles in a file or folder and write them as one Parquet file.

    Formats are recognised by their columns: Binance archives, CryptoDataDownload, freqtrade; CSV, Parquet, Feather.
    Bad rows are refused with file, row and column; nothing is written then.

    \b
    Example:
      trader-pipeline klines import ~/candles --market BTC_4h --out BTCUSDT_4h.parquet
    """
    import pandas as pd

    from trader_pipeline.klines import KlinesParams, build_klines, source_hashes
    from trader_pipeline.schema import Market, conform
    from trader_pipeline.schema.tables import KLINES
    from trader_pipeline.store import Manifest, content_hash, parquet_bytes, with_manifest, write_atomic

    wanted = Market.parse(market)
    params = KlinesParams(source="file", path=str(path), finest_timeframe=wanted.timeframe)
    frame, report, simulated = build_klines(wanted, params, as_of=pd.Timestamp.now("UTC"))
    table = conform(frame, KLINES)
    manifest = Manifest(
        table=KLINES.name,
        partition=(wanted.key,),
        rows=len(frame),
        content_hash=content_hash(table),
        simulated=simulated,
        parents={f"source/{name}": digest for name, digest in source_hashes(wanted, params).items()},
    )
    write_atomic(out, parquet_bytes(with_manifest(table, manifest)))
    click.echo(report.summary())
    click.echo(f"{len(frame)} candles of {market} in {out}")


@klines.command("check")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@click.option(
    "--timeframe", default=None, help="Timeframe of the candles (1h), where a file's name does not tell."
)
@click.option(
    "--as-of", default=None, metavar="TIME", help="When every candle must have closed. Default: now."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per file (or market) and line.")
def klines_check(files: tuple[Path, ...], timeframe: str | None, as_of: str | None, as_json: bool) -> None:
    """Report everything that is wrong with candle files: all findings at once, nothing is changed.

    Gaps, duplicates, rows of one time that differ, bad values, rows out of order, unfinished candles, mixed or unusual
    epoch units, times off the grid, bars without a trade, lines with too many or too few fields. A folder stands for
    the candle files in it; those of one market, which import reads together, are judged together after that.

    Exit status: 0 where every file is clean (gaps, bars without a trade and an unusual epoch unit are only warnings), 1
    where rows are bad or repeated, out of order or unfinished, or a file cannot be read.

    \b
    Examples:
      trader-pipeline klines check ~/candles/BTCUSDT-1h-2024-01.zip
      trader-pipeline klines check export.csv --timeframe 4h --as-of 2024-06-01 --json
    """
    import json

    import pandas as pd

    from trader_pipeline.klines import check_kline_file, check_kline_folder

    moment = utc_day(as_of) if as_of else pd.Timestamp.now("UTC")
    clean = True
    for path in files:
        for report in (
            check_kline_folder(path, timeframe=timeframe, as_of=moment)
            if path.is_dir()
            else [check_kline_file(path, timeframe=timeframe, as_of=moment)]
        ):
            clean &= report.clean
            click.echo(json.dumps(report.as_dict()) if as_json else "\n".join(report.lines()))
    raise SystemExit(0 if clean else 1)


@klines.command("fetch")
@click.option(
    "--source",
    required=True,
    type=click.Choice(["ccxt", "archive"]),
    help="An exchange through ccxt, or Binance's public archive.",
)
@click.option(
    "--markets", default="", help="Comma-separated, e.g. BTC_1h,ETH_4h. Default: those of the profile."
)
@click.option("--since", default=None, metavar="DATE", help="First day (UTC). Default: the profile's.")
@click.option(
    "--until", default=None, metavar="DATE", help="Day after the last (UTC). Default: the profile's, or now."
)
@click.option(
    "--exchange", default=None, help="Source ccxt: the exchange by ccxt's name. Default: the profile's."
)
@click.option(
    "--base-url", default=None, metavar="URL", help="A mirror or proxy in place of the source's address."
)
@click.option(
    "--profile",
    default="full",
    show_default=True,
    envvar="TRADER_PIPELINE_PROFILE",
    help="Settings to start from, and whose data folder is filled: full, gpu, or the path of a .yml file.",
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change one setting of the profile, e.g. --set klines.finest_timeframe=5m. May be repeated.",
)
@click.option("--data-dir", default="", help="Data folder to fill. Default: data/<profile>.")
def klines_fetch(
    source: str, markets: str, since: str | None, until: str | None, exchange: str | None, base_url: str | None,
    profile: str, overrides: tuple[str, ...], data_dir: str,
) -> None:  # fmt: skip
    """Fetch candles into a profile's data folder: the tables klines and kline_gaps, without Dagster.

    Only what is not stored yet is asked for, so that the same command tops up, and goes on where it was stopped. The
    finest candles (klines.finest_timeframe) are fetched; coarser markets are resampled from them. Where the source
    refuses, there is one error and exit status 1; what came before it stays. Some exchanges hold no history (Kraken's
    answer is its last 720 candles, whatever is asked for): what is lacking at the beginning is said at the end.

    \b
    Examples:
      trader-pipeline klines fetch --source archive --markets BTC_1h,ETH_1h --since 2020-01-01
      trader-pipeline klines fetch --source ccxt --exchange bitstamp --set klines.ccxt.quote=USD --since 2024-01-01
    """
    import pandas as pd

    from trader_pipeline.klines import refuse_mixing
    from trader_pipeline.schema import Market
    from trader_pipeline.store import TableStore

    now = pd.Timestamp.now("UTC")
    environment, changes, settings = _fetch_settings(
        profile, overrides, data_dir, now,
        source=source, since=since, until=until, exchange=exchange, base_url=base_url,
    )  # fmt: skip
    wanted = [Market.parse(m.strip()) for m in (markets.split(",") if markets else settings.candle_markets)]
    store = TableStore(str(environment.data_root))
    refuse_mixing(store, simulated=False)
    click.echo(f"profile {settings.name}, data folder {environment.data_root}")
    try:
        warnings = [_fetch_market(store, m, settings, environment.data_root, now) for m in wanted]
    except KeyboardInterrupt:
        click.echo("\nStopped. What was stored stays, and the same command goes on from there.", err=True)
        raise SystemExit(130) from None
    for line in filter(None, warnings):
        click.secho(f"WARNING: {line}", fg="yellow", bold=True)
    if markets:
        # A run takes one market of each underlying: of several the first named.
        first = {m.underlying: m.key for m in reversed(wanted)}
        changes |= {"markets": f"[{','.join(sorted(first.values()))}]"}
    click.echo(f"Use them: trader-pipeline run --profile {profile}{_run_options(changes, data_dir)}")


def _fetch_settings(
    profile: str, overrides: tuple[str, ...], data_dir: str, now: pd.Timestamp,
    *, source: str, since: str | None, until: str | None, exchange: str | None, base_url: str | None,
) -> tuple[EnvironmentSettings, dict[str, Any], Profile]:  # fmt: skip
    """Where and with which settings: the options win over `--set`, that over the environment's own overrides."""
    from trader_pipeline.settings import EnvironmentSettings, load_profile, parse_overrides

    if exchange and source != "ccxt":
        raise click.UsageError("--exchange goes with --source ccxt; the archive is Binance's")
    environment = (
        EnvironmentSettings(profile=profile, data_dir=data_dir)
        if data_dir
        else EnvironmentSettings(profile=profile)
    )
    options = {
        "klines.source": source,
        f"klines.{source}.since": f"{utc_day(since):%Y-%m-%d}" if since else None,
        "klines.ccxt.exchange": exchange,
        f"klines.{source}.base_url": base_url,
    }
    changes = parse_overrides(overrides or tuple(environment.overrides))
    changes |= {key: value for key, value in options.items() if value}
    end, end_key = utc_day(until) if until else None, f"klines.{source}.until"
    # The span is judged before its end is a setting: the refusal speaks of the options.
    settings = load_profile(profile, overrides={**changes, end_key: None} if end else changes)
    _refuse_empty_span(settings, now, end)
    if end is not None:
        changes |= {end_key: f"{end:%Y-%m-%d}"}
        settings = load_profile(profile, overrides=changes)
    return environment, changes, settings


def _refuse_empty_span(settings: Profile, now: pd.Timestamp, until: pd.Timestamp | None) -> None:
    """Said at once: where candles are stored already, the source might not be asked and say nothing."""
    since = settings.klines.since
    if until is not None and until <= since:
        raise ValueError(
            f"--until {until:%Y-%m-%d} is not after --since {since:%Y-%m-%d}; there is nothing to fetch"
        )
    if now <= since:
        raise ValueError(f"--since {since:%Y-%m-%d} lies in the future; name a day before {now:%Y-%m-%d}")


def _fetch_market(store: Any, market: Any, settings: Profile, root: Path, now: pd.Timestamp) -> str:
    """Fetch, write both tables, say what came; the warning about history that is not there, or ""."""
    from trader_pipeline.klines import build_klines, top_up_klines, write_market_tables
    from trader_pipeline.klines.cleaning import counted, missing_in_words
    from trader_pipeline.klines.span import missing_head

    downloads = root / "klines" / "downloads"
    params = settings.klines
    fetched = top_up_klines(market, params, as_of=now, downloads_root=downloads, progress=True)
    frame, report, simulated = build_klines(market, params, as_of=now, downloads_root=downloads, fetch=False)
    gaps = write_market_tables(
        store,
        market,
        frame,
        params,
        simulated=simulated,
        settings_parent=settings.section_hash("klines"),
        downloads_root=downloads,
    )
    first, last = frame["open_time"].iloc[0], frame["open_time"].iloc[-1]
    missing = missing_in_words(int(gaps["bars"].sum()), len(gaps)) if len(gaps) else "no bar missing"
    click.echo(
        f"{market.key}: {counted(len(frame), 'candle')}, {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}, {missing};"
        f" {fetched.summary() if fetched else f'nothing new to ask for ({report.source})'}"
    )
    lacking = missing_head(asked=params.since, first=first)
    return f"{market.key}: {lacking}" if lacking else ""


def _run_options(changes: dict[str, Any], data_dir: str) -> str:
    """The options with which `run` works on what was fetched."""
    import shlex

    pairs = (f"{key}={'null' if value is None else value}" for key, value in changes.items())
    sets = "".join(f" --set {shlex.quote(pair)}" for pair in pairs)
    return sets + (f" --data-dir {shlex.quote(data_dir)}" if data_dir else "")
