"""`trader-pipeline backtest` as a user meets it: figures, page, exports, grids, and what it says of a slip."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from trader_pipeline.backtest import BacktestParams, run_backtest, summarise
from trader_pipeline.cli import main
from trader_pipeline.cli.backtest_inputs import hours_of
from trader_pipeline.klines import SampleParams, simulate_klines
from trader_pipeline.options import OptionParams
from trader_pipeline.schema import Market
from trader_pipeline.schema.tables import KLINES
from trader_pipeline.store import TableStore
from trader_pipeline_tests.options.markets import at

CANDLES = simulate_klines(SampleParams(years=0.6))
WINDOW = ("--start", "2021-03-01", "--end", "2021-04-15")
SMALL = ("--set", "max_candidates=4", "--set", "score_threshold=5")
EACH, BOOK = "Every decision by itself", "One book in sequence"
STYLES = ["hold_to_expiry", "tp_and_roll"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("candles")
    for underlying, candles in CANDLES.items():
        millis = candles["open_time"].astype("datetime64[ms, UTC]").astype("int64")
        frame = candles[["open", "high", "low", "close", "volume"]].assign(open_time=millis)
        frame.to_parquet(path / f"{underlying}USDT_1h.parquet")
    return path


def call(folder: Path, *arguments: object, underlying: str = "BTC") -> Result:
    given = ["backtest", "--klines", folder, "--underlying", underlying, *arguments]
    return CliRunner().invoke(main, [str(a) for a in given])


def succeed(folder: Path, *arguments: object, underlying: str = "BTC") -> str:
    result = call(folder, *arguments, underlying=underlying)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(folder: Path, *arguments: object) -> str:
    """The one message of a command that cannot work."""
    result = call(folder, *arguments)
    assert result.exit_code in (1, 2), result.output
    assert "Traceback" not in result.output
    assert isinstance(result.exception, SystemExit)
    return result.output.split("Error: ", 1)[1].strip()


def table(text: str, title: str) -> dict[str, list[float]]:
    """The figures printed under `title`, by name."""
    (_, below) = text.split(f"{title} ", 1)
    body = below.split("└")[0]
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in body.splitlines() if "│" in line]
    return {row[0]: [float(cell.replace(",", "")) for cell in row[1:-1]] for row in rows}


def simulate(mode: str, **changed: float) -> pd.DataFrame:
    params = BacktestParams(max_candidates=4, score_threshold=5, **changed)
    result = run_backtest(
        klines=CANDLES["BTC"], fine_klines=CANDLES["BTC"], market=Market("BTC", "1h"), start=at(WINDOW[1]),
        end=at(WINDOW[3]), option_params=OptionParams(), params=params, mode=mode,
    )  # fmt: skip
    return summarise(result).set_index("exit_style")


# figures


def test_summary_holds_the_figures_of_both_modes_each_under_its_title(folder: Path) -> None:
    text = succeed(folder, *WINDOW, *SMALL)
    for title, mode in ((EACH, "independent"), (BOOK, "sequential")):
        printed, figures = table(text, title), simulate(mode)
        assert printed["trades"] == figures["trades"].tolist()
        assert printed["hit_rate"] == pytest.approx(figures["hit_rate"].tolist(), abs=5e-5)
        for name in ("total_pnl_vs_hodl", "max_drawdown_pct"):
            assert printed[name] == pytest.approx(figures[name].tolist(), abs=0.005)
        assert printed["total_fees_coin"] == pytest.approx(figures["total_fees_coin"].tolist(), abs=5e-5)
    assert "return_pct" not in table(text, EACH)
    assert printed["return_pct"] == pytest.approx(figures["return_pct"].tolist(), abs=0.005)
    assert (
        "BTC_1h, 2021-03-01 00:00 to 2021-04-15 00:00 UTC, a decision every 24 h, modelled option quotes,"
        " marked and settled on 1h candles." in text
    )


def test_figures_by_regime_add_up_to_the_whole_and_are_called_hindsight(folder: Path) -> None:
    text = succeed(folder, *WINDOW, *SMALL)
    assert text.count("By regime (dated in hindsight)") == 2
    (_, below) = text.split("By regime (dated in hindsight), every decision by itself", 1)
    rows = [line.split("│") for line in below.split("└")[0].splitlines() if "│" in line]
    trades = sum(int(row[3]) for row in rows if row[2].strip() == "tp_and_roll")
    assert trades == table(text, EACH)["trades"][1]


def test_regimes_of_eth_are_dated_on_btc_or_on_itself_where_there_is_no_btc(folder: Path) -> None:
    both = call(folder, *WINDOW, *SMALL, "--mode", "sequential", underlying="ETH")
    alone = call(folder / "ETHUSDT_1h.parquet", *WINDOW, *SMALL, "--mode", "sequential", underlying="ETH")
    assert both.exit_code == alone.exit_code == 0
    assert "No BTC_1h candles: regimes are dated on ETH's." in alone.stderr
    assert "No BTC" not in both.stderr


def test_book_alone_is_run_in_sequential_mode_and_one_exit_style_where_it_is_asked_for(folder: Path) -> None:
    text = succeed(folder, *WINDOW, *SMALL, "--mode", "sequential", "--exit-style", "tp_and_roll")
    assert EACH not in text
    assert "hold_to_expiry" not in text
    assert table(text, BOOK)["trades"] == [simulate("sequential")["trades"]["tp_and_roll"]]


def test_without_dates_every_decision_is_made_that_the_candles_allow(folder: Path) -> None:
    text = succeed(folder, *SMALL, "--mode", "sequential", "--timeframe", "4h")
    last = CANDLES["BTC"]["close_time"].iloc[-1]
    assert f"BTC_4h, 2021-01-31 01:00 to {last:%Y-%m-%d %H:%M} UTC" in text


# settings


def test_settings_are_taken_with_and_without_their_section(folder: Path) -> None:
    bare = succeed(folder, *WINDOW, *SMALL, "--set", "take_profit=0.5")
    dotted = succeed(
        folder, *WINDOW, "--set", "backtest.max_candidates=4", "--set", "backtest.score_threshold=5",
        "--set", "backtest.take_profit=0.5", "--set", "options.volatility.window_days=30",
    )  # fmt: skip
    assert bare == dotted
    assert table(bare, EACH)["total_fees_coin"][1] == pytest.approx(
        simulate("independent", take_profit=0.5)["total_fees_coin"]["tp_and_roll"], abs=5e-5
    )
    assert bare != succeed(folder, *WINDOW, *SMALL)


def test_decision_every_sets_how_often_is_decided(folder: Path) -> None:
    assert [hours_of(text) for text in ("24h", "1d", "12h", "2w", "1D")] == [24, 24, 12, 336, 24]
    daily, twice = (
        table(succeed(folder, *WINDOW, *SMALL, "--decision-every", text), EACH)["decisions"]
        for text in ("1d", "12h")
    )
    assert (daily, twice) == ([45, 45], [90, 90])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "take_proft=0.7"], "unknown backtest setting take_proft; did you mean take_profit?"),
        (["--set", "backtest.take_proft=0.7"], "unknown backtest setting take_proft; did you mean take_profit?"),
        (["--set", "optins.source=model"], "unknown setting optins"),
        (["--set", "take_profit=1.5"], "setting take_profit: Input should be less than 1 (got 1.5)"),
        (["--set", "take_profit"], "a setting is KEY=VALUE"),
        (
            ["--set", "min_delta=0.6"],
            "min_delta (0.6) must be below max_delta (0.5): lower min_delta below 0.5, or raise max_delta above 0.6",
        ),
        (["--decision-every", "36min"], "'36min' is no whole number of hours, days or weeks; write 24h, 1d or 1w"),
        (["--decision-every", "0h"], "'0h' is no whole number"),
        (
            ["--decision-every", "12h", "--set", "decision_every_hours=24"],
            "--decision-every and --set decision_every_hours say the same thing; keep one",
        ),
        (["--timeframe", "4h", "--decision-every", "6h"], "not a multiple of BTC_4h's timeframe; use 4 or 8"),
        (["--start", "2021-01-10"], "start at 2021-01-31 01:00 or later"),
        (["--start", "2030-01-01", "--end", "2030-02-01"], "lies after what the candles allow"),
        (["--start", "2021-04-15", "--end", "2021-03-01"], "swap them"),
        (["--start", "2021-03-01 01:00", "--end", "2021-03-01 05:00"], "widen the window"),
        (["--start", "soon"], "'soon' is not a date; write YYYY-MM-DD"),
        (["--page", "."], ". exists already; name another file for the page"),
        (["--mlflow", "sqlite:///runs.db"], "--mlflow logs the runs of a grid; add --grid"),
        (["--grid", "take_profit"], "a grid is KEY=V1,V2,..., for example take_profit=0.5,0.7,0.9"),
        (["--grid", "take_profit=0.5,"], "a grid is KEY=V1,V2,..."),
        (["--grid", "take_proft=0.5,0.7"], "unknown backtest setting take_proft; did you mean take_profit?"),
        (["--grid", "take_profit=0.5,1.5"], "setting take_profit: Input should be less than 1 (got 1.5)"),
        (["--grid", "take_profit=0.5,0.5"], "given 0.5 twice"),
        (["--grid", "options.spread_multiplier=1,2"], "change options.spread_multiplier with --set"),
        (["--grid", "max_rolls=1,2", "--grid", "max_rolls=3"], "--grid max_rolls is given twice"),
        (["--grid", "max_rolls=1,2", "--set", "max_rolls=3"], "setting max_rolls is both set and varied by --grid"),
        (["--grid", "min_delta=0.1,0.6"], "1 of the grid's 2 combinations contradict themselves"),
        (["--grid", "max_rolls=1,2", "--page", "p.html"], "--page shows one setting"),
        (["--grid", "decision_every_hours=24,6", "--timeframe", "4h"], "not a multiple of BTC_4h's timeframe"),
        (
            [f"--grid=take_profit={','.join(str(i / 5000) for i in range(1, 4900))}", "--grid=max_rolls=" + ",".join(
                map(str, range(25)))],
            "the grid has 122,475 combinations, at most 100,000 are run at once",
        ),
    ],
)  # fmt: skip
def test_slip_is_one_error_that_says_what_is_right_and_nothing_is_written(
    arguments: list[str], message: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in refused(folder, *arguments, "--out", tmp_path / "out")
    assert not any(tmp_path.iterdir())


def test_volatility_index_of_another_coin_is_refused(folder: Path, tmp_path: Path) -> None:
    hours = pd.date_range("2021-02-01", "2021-05-01", freq="1h", tz="UTC")
    frame = pd.DataFrame({"open_time": hours.strftime("%Y-%m-%dT%H:%M:%SZ")})
    path = tmp_path / "ETH_dvol_1h.csv"
    frame.assign(open=60, high=60, low=60, close=60).to_csv(path, index=False)
    message = refused(folder, *WINDOW, "--volatility-index", path)
    assert f"{path} holds no volatility index of BTC, but of ETH; leave --volatility-index" in message


# page and exports


def test_out_holds_training_files_the_books_tables_and_the_page(folder: Path, tmp_path: Path) -> None:
    text = succeed(folder, *WINDOW, *SMALL, "--out", tmp_path)
    (page,) = tmp_path.glob("backtest_BTC_1h_20210301_20210414_*.html")
    (tables,) = tmp_path.glob("backtest_BTC_1h_20210301_20210414_*_book")
    assert {p.name for p in tables.iterdir()} == {
        "steps.csv", "chains.csv", "legs.csv", "candidates.csv", "equity.csv", "metrics.json",
    }  # fmt: skip
    trained = sorted(p.name for p in tmp_path.glob("training_*") if not p.name.endswith(".manifest.json"))
    assert [re.sub(r"\d{6}\.", ".", name.rsplit("_", 1)[0]) for name in trained] == [
        f"training_candidates_BTC_20210301_20210414_both_{page.stem.split('_')[-2]}",
        *[f"training_dataset_BTC_20210301_20210414_both_{page.stem.split('_')[-2]}"] * 2,
    ]
    for path in (page, *(tables / name for name in ("steps.csv", "metrics.json"))):
        assert str(path) in text
    metrics = json.loads((tables / "metrics.json").read_text())["metrics"]
    assert [metrics[style]["trades"] for style in STYLES] == table(text, BOOK)["trades"]
    shown = page.read_text()
    assert "Covered calls on BTC_1h, 2021-03-01 to 2021-04-14" in shown
    assert "max_candidates: 4" in shown
    assert "SIMULATED CANDLES" not in shown


def test_second_run_writes_beside_the_first_and_changes_nothing_of_it(folder: Path, tmp_path: Path) -> None:
    arguments = (*WINDOW, *SMALL, "--mode", "sequential", "--out", tmp_path)
    succeed(folder, *arguments)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    succeed(folder, *arguments)
    assert {p: p.read_bytes() for p in before} == before
    assert len(list(tmp_path.glob("*.html"))) == 2
    assert not list(tmp_path.glob("training_*")), "the book alone makes no training files"


def test_one_exit_style_is_written_as_tables_and_says_why(folder: Path, tmp_path: Path) -> None:
    result = call(folder, *WINDOW, *SMALL, "--exit-style", "tp_and_roll", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert "Training files hold both exit styles" in result.stderr
    (tables,) = tmp_path.glob("*_decisions")
    assert len(pd.read_csv(tables / "steps.csv")) == 45


def test_page_goes_where_it_is_asked_for_and_is_never_overwritten(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "deep" / "page.html"
    text = succeed(folder, *WINDOW, *SMALL, "--mode", "sequential", "--page", page)
    assert str(page) in text
    before = page.read_bytes()
    assert "exists already; name another file for the page" in refused(folder, *WINDOW, "--page", page)
    assert page.read_bytes() == before


def test_simulated_candles_are_named_so_wherever_figures_stand(tmp_path: Path) -> None:
    TableStore(str(tmp_path / "store")).write(CANDLES["BTC"], KLINES, partition=("BTC_1h",), simulated=True)
    (stored,) = (tmp_path / "store").rglob("*.parquet")
    file = stored.rename(tmp_path / "BTCUSDT_1h.parquet")
    page = tmp_path / "page.html"
    text = succeed(file, *WINDOW, *SMALL, "--mode", "sequential", "--page", page)
    assert "SIMULATED CANDLES, no statement about a market. BTC_1h, 2021-03-01" in text
    assert '<div class="banner" role="alert"><strong>SIMULATED CANDLES</strong>' in page.read_text()


# grids


def test_grid_runs_every_combination_and_ranks_by_what_was_made_over_hodl(
    folder: Path, tmp_path: Path
) -> None:
    text = succeed(
        folder,
        *WINDOW,
        *SMALL,
        "--grid",
        "take_profit=0.5,0.9",
        "--grid",
        "backtest.max_rolls=0,2",
        "--out",
        tmp_path,
    )
    (path,) = tmp_path.glob("backtest_BTC_1h_20210301_20210414_*_grid.csv")
    rows = pd.read_csv(path)
    assert len(rows) == 8
    assert rows["return_vs_hodl_pct"].is_monotonic_decreasing
    assert set(zip(rows["take_profit"], rows["max_rolls"], strict=True)) == {
        (0.5, 0),
        (0.5, 2),
        (0.9, 0),
        (0.9, 2),
    }
    for row in rows.itertuples():
        figures = simulate("sequential", take_profit=row.take_profit, max_rolls=row.max_rolls).loc[
            row.exit_style
        ]
        assert row.trades == figures["trades"]
        assert row.return_pct == pytest.approx(figures["return_pct"])
        assert row.hodl_return_pct == pytest.approx(figures["hodl_return_pct"])
    # Held to expiry, a call knows neither setting: four equal rows, shown once.
    assert (
        "4 settings by the book's return over HODL; 3 rows that repeat another's figures are left out" in text
    )
    assert sum("hold_to_expiry" in line for line in text.splitlines()) == 1
    assert "The best of 4 settings on one past is chosen in hindsight" in text
    assert str(path) in text


def test_grid_prints_the_first_rows_and_writes_them_all(folder: Path, tmp_path: Path) -> None:
    values = ",".join(str(1 + i / 20) for i in range(30))
    text = succeed(
        folder,
        *WINDOW,
        *SMALL,
        "--exit-style",
        "tp_and_roll",
        "--grid",
        f"cost_multiplier={values}",
        "--out",
        tmp_path,
    )
    (path,) = tmp_path.glob("*_grid.csv")
    rows = pd.read_csv(path)
    assert len(rows) == 30
    distinct = len(rows.drop(columns=["setting", "cost_multiplier"]).drop_duplicates())
    assert f"the first 20 of {distinct}" in text
    assert sum("│" in line for line in text.splitlines()) == 20
    assert "…" not in text, "no figure is cut off"


@pytest.mark.slow
def test_grid_in_mlflow_is_a_parent_with_a_run_for_each_combination(folder: Path, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path / 'mlflow' / 'runs.db'}"
    text = succeed(
        folder, *WINDOW, *SMALL, "--grid", "take_profit=0.5,0.9", "--grid", "max_rolls=0,2", "--mlflow", uri,
        "--exit-style", "tp_and_roll",
    )  # fmt: skip
    assert f"4 runs in MLflow at {uri}, under 'grid BTC_1h 2021-03-01 to 2021-04-14'" in text
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("trader-pipeline-backtests")
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = (r for r in runs if "mlflow.parentRunId" not in r.data.tags)
    children = [r for r in runs if r.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert {r.info.status for r in runs} == {"FINISHED"}
    assert parent.data.params["combinations"] == "4"
    assert parent.data.params["grid.take_profit"] == "[0.5, 0.9]"
    assert len(children) == 4
    for child in children:
        params = {name: float(child.data.params[name]) for name in ("take_profit", "max_rolls")}
        figures = simulate(
            "sequential", take_profit=params["take_profit"], max_rolls=int(params["max_rolls"])
        )
        logged = child.data.metrics["tp_and_roll/return_pct"]
        assert logged == pytest.approx(figures["return_pct"]["tp_and_roll"])
        assert child.data.params["score_threshold"] == "5.0"
        assert (
            child.info.run_name == f"take_profit={params['take_profit']}, max_rolls={params['max_rolls']:.0f}"
        )


def test_mlflow_address_that_cannot_be_is_one_error_before_anything_is_run(folder: Path) -> None:
    message = refused(folder, *WINDOW, "--grid", "max_rolls=0,1", "--mlflow", "nosuch://runs")
    assert message.startswith("MLflow at nosuch://runs refuses: ")


# what is seen while it runs


def test_progress_is_shown_where_it_is_asked_for_and_not_into_a_log(folder: Path) -> None:
    quiet = call(folder, *WINDOW, *SMALL)
    assert quiet.stderr == ""
    loud = call(folder, *WINDOW, *SMALL, "--progress")
    assert loud.stdout == quiet.stdout
    assert "BTC_1h, independent: 100 %" in loud.stderr
    assert "BTC_1h, sequential: 100 %" in loud.stderr


def test_threads_change_no_figure(folder: Path) -> None:
    assert succeed(folder, *WINDOW, *SMALL, "--threads", "2") == succeed(folder, *WINDOW, *SMALL)
    assert "Invalid value for '--threads'" in refused(folder, *WINDOW, "--threads", "0")


def test_help_shows_every_kind_of_use_and_loads_neither_numba_nor_pandas() -> None:
    script = (
        "import sys; from trader_pipeline.cli import main; main(['backtest', '--help'], standalone_mode=False);"
        " print([m for m in ('numba', 'pandas', 'numpy', 'mlflow', 'plotly') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    for word in (
        "--out exports",
        "--set take_profit=0.7",
        "--decision-every 12h",
        "--grid take_profit=0.5,0.7,0.9",
    ):
        assert word in done.stdout
