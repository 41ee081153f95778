"""`trader-pipeline paper`: one tick by hand, a replay of candles at hand, and how the books stand."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from trader_pipeline.cli.options import profile_of, profile_options, utc_day

_EXISTING = click.Path(exists=True, path_type=Path)
_OUT = click.Path(path_type=Path)
_DESKS = ("covered_call", "spot")
_desk_option = click.option(
    "--desk",
    "desks",
    multiple=True,
    type=click.Choice(_DESKS),
    help="Desk to tick; may be repeated. Default: paper.live.desks.",
)


@click.group()
def paper() -> None:
    """Paper trading: tick a market, replay candles, see how the books stand. No order is ever sent.

    \b
    Example:
      trader-pipeline paper tick --market BTC_5m
      trader-pipeline paper status
    """


@paper.command()
@profile_options
@click.option("--market", required=True, help="Underlying and timeframe, e.g. BTC_5m.")
@click.option("--folder", type=_OUT, default=None, help="Where the books lie. Default: <data>/paper/live.")
@_desk_option
@click.option("--data-dir", default="", help="Data folder. Default: data/<profile>.")
def tick(
    profile: str,
    overrides: tuple[str, ...],
    market: str,
    folder: Path | None,
    desks: tuple[str, ...],
    data_dir: str,
) -> None:
    """Fetch the candles that have closed, and tick each one that was not ticked yet.

    For cron, or by hand; Dagster's schedule paper_ticks does the same. Called twice for the same candle, the second
    call changes nothing. Covered calls are decided by the champion of MLflow's registry, by the teacher until there is
    one.

    \b
    Examples:
      trader-pipeline paper tick --market BTC_5m
      trader-pipeline paper tick --market ETH_5m --set klines.ccxt.exchange=bitstamp --set klines.ccxt.quote=USD
    """
    import pandas as pd

    from trader_pipeline.cli.paper_inputs import champion_of, place_of
    from trader_pipeline.cli.paper_table import print_ticks
    from trader_pipeline.paper.ticking.live import DeskSettings, live_policies, tick_market
    from trader_pipeline.schema import Market

    wanted = Market.parse(market)
    place = place_of(profile, overrides, data_dir)
    settings = place.profile
    done = tick_market(
        wanted,
        settings=DeskSettings(settings.paper, settings.options, settings.backtest),
        ccxt=settings.klines.ccxt,
        folder=folder or place.live_folder,
        policies=live_policies(champion_of(place), settings.paper),
        now=pd.Timestamp.now("UTC"),
        desks=desks,
        progress=sys.stderr.isatty(),
    )
    print_ticks(done.results)
    for note in done.notes:
        click.secho(note, fg="yellow", err=True)
    if not done.results:
        click.echo(f"{wanted.key}: no candle has closed that was not ticked yet")


@paper.command()
@profile_options
@click.option("--klines", "klines_path", required=True, type=_EXISTING, help="Folder or file of candles.")
@click.option("--market", required=True, help="Underlying and timeframe, e.g. BTC_5m.")
@click.option("--start", required=True, metavar="DATE", help="First day that is ticked (UTC).")
@click.option("--end", default=None, metavar="DATE", help="End (UTC, exclusive). Default: the last candle's.")
@click.option("--out", required=True, type=_OUT, help="Folder of the replay; it must hold no replay yet.")
@_desk_option
@click.option(
    "--progress/--no-progress", default=None, help="Show a progress bar. Default: only in a terminal."
)
def replay(
    profile: str,
    overrides: tuple[str, ...],
    klines_path: Path,
    market: str,
    start: str,
    end: str | None,
    out: Path,
    desks: tuple[str, ...],
    progress: bool | None,
) -> None:
    """Tick a stretch of candles at hand, all at once: replay.jsonl and state.json, as ticking live leaves them.

    Candles of a finer timeframe are resampled. They have to begin paper.live.warm_up_days (45) before --start. Covered
    calls are decided by the teacher.

    \b
    Example:
      trader-pipeline paper replay --klines ~/candles --market BTC_5m --start 2024-03-01 --end 2024-06-01 --out replay
    """
    from tqdm import tqdm

    from trader_pipeline.backtest import TeacherPolicy
    from trader_pipeline.cli.paper_inputs import replay_candles
    from trader_pipeline.paper.ticking.book_replay import refuse_held_replay, replay_books, starts_of
    from trader_pipeline.paper.ticking.live import DeskSettings, build_desks, live_policies
    from trader_pipeline.schema import Market

    refuse_held_replay(out)
    wanted = Market.parse(market)
    first = utc_day(start)
    if first != first.floor("D"):
        raise click.UsageError(f"--start is a day, not a moment: write {first:%Y-%m-%d}")
    last = utc_day(end) if end else None
    if last is not None and last <= first:
        raise click.UsageError(f"--end {last:%Y-%m-%d %H:%M} is not after --start {first:%Y-%m-%d}")
    plain = profile_of(profile, (*overrides, f"paper.live.start={first:%Y-%m-%d}"), klines=str(klines_path))
    settings = DeskSettings(plain.paper, plain.options, plain.backtest)
    candles, simulated = replay_candles(wanted, plain, start=first, end=last)
    books = build_desks(
        wanted,
        settings,
        live_policies(TeacherPolicy(plain.backtest.score_threshold), plain.paper),
        names=desks or plain.paper.live.desks,
    )
    starts_of(wanted, books, candles=candles, settings=settings, simulated=simulated)
    total = len(books) * int((candles["open_time"] >= first).sum())
    with tqdm(total=total, unit=" ticks", disable=None if progress is None else not progress) as bar:
        path = replay_books(
            wanted,
            candles=candles,
            desks=books,
            settings=settings,
            folder=out,
            simulated=simulated,
            show=lambda result: bar.update(1),
        )
    click.echo(f"{total} ticks in {path}{' (SIMULATED candles)' if simulated else ''}")
    click.echo(f"Look at the books:  trader-pipeline paper status --folder {out}")
    click.echo(f"Judge the trades:   binance_ai_trader evaluate-paper-trades --replay-path {path}")


@paper.command()
@profile_options
@click.option("--folder", type=_OUT, default=None, help="Where the books lie. Default: <data>/paper/live.")
@click.option("--data-dir", default="", help="Data folder. Default: data/<profile>.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def status(
    profile: str, overrides: tuple[str, ...], folder: Path | None, data_dir: str, as_json: bool
) -> None:
    """The books as a table: last tick, open trade, closed trades with verdicts, P&L.

    It takes no lock: ask while a market is being ticked. Verdicts are those of the profile's evaluator settings.

    \b
    Examples:
      trader-pipeline paper status
      trader-pipeline paper status --folder ai_data/paper --json
    """
    import json

    import pandas as pd

    from trader_pipeline.cli.paper_inputs import place_of
    from trader_pipeline.cli.paper_table import print_status
    from trader_pipeline.paper.ticking.status import folder_status

    place = place_of(profile, overrides, data_dir)
    where, now = folder or place.live_folder, pd.Timestamp.now("UTC")
    settings = place.profile
    found = folder_status(where, now=now, evaluator=settings.evaluator, ccxt=settings.klines.ccxt)
    if as_json:
        books = [book.as_dict() for book in found.books]
        click.echo(
            json.dumps({"folder": str(where), "now": now.isoformat(), "books": books, "notes": found.notes})
        )
    elif found.books:
        print_status(found, where)
    else:
        click.echo(
            f"No book in {where}: nothing was ticked there yet. Tick a market with trader-pipeline paper tick --market"
            " BTC_5m, switch Dagster's schedule paper_ticks on, or name another folder with --folder"
        )
