"""The dashboard's server: pages over one data folder. Loopback only, nothing is loaded from elsewhere."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import plotly
from dash import Dash
from dash.fingerprint import build_fingerprint
from flask import Response, abort, request

from trader_pipeline.dashboard import routing
from trader_pipeline.dashboard.hints import StartedWith
from trader_pipeline.dashboard.page import Context
from trader_pipeline.dashboard.pages import PAGES
from trader_pipeline.dashboard.tables import Tables
from trader_pipeline.profile import Profile
from trader_pipeline.settings import EnvironmentSettings
from trader_pipeline.store import TableStore

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline';"
    " img-src 'self' data: blob:; frame-ancestors 'none'"
)
_DOCUMENT = """<!doctype html>
<html lang="en">
  <head>
    {%metas%}
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <title>{%title%}</title>
    <link rel="icon" href="data:,">
    <script>
      try { document.documentElement.dataset.theme = localStorage.getItem("theme") || ""; } catch (error) {}
    </script>
    {%css%}
    <link id="plotly" rel="prefetch" as="script" href="PLOTLY">
  </head>
  <body>
    {%app_entry%}
    <footer>{%config%}{%scripts%}{%renderer%}</footer>
  </body>
</html>
"""


def create_app(profile: Profile, *, data_root: str | Path, started: StartedWith | None = None) -> Dash:
    """The application over the tables in `data_root`, which may be empty or missing yet.

    Its WSGI server is `create_app(...).server`.

    Args:
        started: the options it was started with, for the commands that its pages name.
    """
    environment = EnvironmentSettings()
    root = Path(data_root).absolute()
    context = Context(
        tables=Tables(TableStore(str(root))),
        profile=profile,
        data_root=root,
        tracking_uri=environment.mlflow_tracking_uri or f"sqlite:///{root / 'mlflow' / 'mlflow.db'}",
        mlflow_ui=environment.mlflow_ui,
        dagster_ui=environment.dagster_ui,
        started=started or StartedWith(),
    )
    app = Dash(
        __name__,
        title=routing.NAME,
        update_title="",
        serve_locally=True,
        use_pages=False,
        suppress_callback_exceptions=True,
        index_string=_DOCUMENT.replace("PLOTLY", _plotly()),
    )
    app.layout = routing.frame()
    routing.register(app, PAGES, context)
    _guard(app)
    return app


def _plotly() -> str:
    """Address of Plotly's script, which Dash serves; with its version, so that the browser keeps it.

    Dash would ask for it when the first chart is there: too late by as long as it takes to be read.
    """
    file = build_fingerprint("package_data/plotly.min.js", plotly.__version__, "0")
    return f"/_dash-component-suites/plotly/{file}"


def _host(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:  # no address at all, as `http://[::1`
        return None


def _guard(app: Dash) -> None:
    """Answers only to this machine's own pages: no foreign name that points here, no foreign page that posts here."""

    @app.server.before_request
    def refuse_foreign() -> None:
        asked = [f"//{request.host}", *filter(None, [request.headers.get("Origin")])]
        if any(_host(address) not in LOOPBACK for address in asked):
            abort(403, "the dashboard answers on 127.0.0.1 alone")

    @app.server.after_request
    def forbid_elsewhere(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = _POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response
