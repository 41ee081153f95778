"""`trader-pipeline dashboard`: the tables of a data folder as pages in the browser, on loopback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from trader_pipeline.cli.options import profile_options

HOST = "127.0.0.1"


@click.command()
@profile_options
@click.option(
    "--klines", default="", envvar="TRADER_PIPELINE_KLINES", help="Candles of that profile, as given to run."
)
@click.option("--data-dir", default="", help="Where its tables lie. Default: data/<profile>.")
@click.option(
    "--port", default=8050, show_default=True, type=click.IntRange(0, 65535), help="Port of the page; 0: any free one."
)  # fmt: skip
def dashboard(profile: str, overrides: tuple[str, ...], klines: str, data_dir: str, port: int) -> None:
    """Show candles, backtests, data sets, corpora, training, policies, paper trades, agents and lineage in the browser.

    It reads tables and writes none. It starts where no table exists yet, too, and says what to do. It listens on
    loopback alone. Every view has its own address. Ctrl-C stops it. Give it the options that `run` was given: the
    commands that its pages name repeat them.

    \b
    Examples:
      trader-pipeline dashboard
      trader-pipeline dashboard --profile full --klines ~/candles --port 8100
    """
    server = make_server(profile, overrides=overrides, klines=klines, data_dir=data_dir, port=port)
    click.echo(f"Dashboard: http://{HOST}:{server.port}  (Ctrl-C stops it)")
    server.serve_forever()  # ends, and closes, on Ctrl-C


def make_server(
    profile: str, *, klines: str, data_dir: str, port: int, overrides: tuple[str, ...] = ()
) -> Any:
    """The server, bound to loopback and not yet serving.

    Raises:
        ValueError: unknown profile, candles or data folder that cannot be, or the port is taken.
    """
    import logging

    from werkzeug.serving import make_server as bind

    from trader_pipeline.dashboard.app import create_app
    from trader_pipeline.dashboard.hints import StartedWith
    from trader_pipeline.settings import EnvironmentSettings, load_profile, parse_overrides

    settings = EnvironmentSettings()
    started = StartedWith(
        profile=profile,
        klines=klines,
        overrides=overrides or tuple(settings.overrides),
        data_dir=settings.data_dir,
    )
    settings = settings.model_copy(update={"profile": profile, "data_dir": data_dir or settings.data_dir})
    _refuse_missing(klines, settings.data_root)
    loaded = load_profile(profile, klines=klines, overrides=parse_overrides(started.overrides))
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line a request tells a reader nothing
    _refuse_taken(port)
    app = create_app(loaded, data_root=settings.data_root, started=started)
    return bind(HOST, port, app.server, threaded=True)


def _refuse_missing(klines: str, data_root: Path) -> None:
    if klines:
        from trader_pipeline.klines.files import find_kline_files

        find_kline_files(Path(klines).expanduser())  # raises where there is none
    if data_root.exists() and not data_root.is_dir():
        raise ValueError(f"data folder {data_root} is a file; name a folder with --data-dir")


def _refuse_taken(port: int) -> None:
    import socket

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise ValueError(
                f"port {port} is taken; name another with --port, or 0 for any free one"
            ) from error
