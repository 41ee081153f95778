"""The command line: `trader-pipeline run` for everything, and a sub-command for each stage without Dagster.

Belongs here: options, messages, exit status. The work is a function of a stage, imported only when it is asked for:
`--help` loads neither torch nor dagster nor pandas.

    everything  run, ui
    klines      klines import, check, fetch
    quotes      options record, import
    calibration options calibrate, check
    backtest    backtest (backtest_inputs, backtest_outputs, backtest_grid, sweep_tracking)
    corpus      corpus build, audit, distil
    paper       paper tick, replay, status (paper_inputs, paper_table)
    leaks, lineage  leaks (agents_leaks); lineage, stale
    agents      agents run, serve, cache, grid (agents_inputs, agents_serving, agents_grid, agents_grid_options)
    dashboard   dashboard
    training    train
    evaluating  evaluate (agents_evaluating)
    options     what several commands share
    errors      errors that a user can mend as one line

Beside it stands the command binance_ai_trader (binance_ai_trader, replay_inputs, backups): replay files to verdicts, to
instructions, to an adapter.
"""

from __future__ import annotations

import click

from trader_pipeline import __version__
from trader_pipeline.cli.agents import agents
from trader_pipeline.cli.backtest import backtest
from trader_pipeline.cli.calibration import calibrate, check
from trader_pipeline.cli.corpus import corpus
from trader_pipeline.cli.dashboard import dashboard
from trader_pipeline.cli.errors import MendableErrors
from trader_pipeline.cli.evaluating import evaluate
from trader_pipeline.cli.everything import run, ui
from trader_pipeline.cli.klines import klines
from trader_pipeline.cli.leaks import leaks
from trader_pipeline.cli.lineage import lineage, stale
from trader_pipeline.cli.paper import paper
from trader_pipeline.cli.quotes import options_group
from trader_pipeline.cli.training import train


@click.group(
    cls=MendableErrors, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(__version__)
def main() -> None:
    """From BTC and ETH candles to a fine-tuned covered-call policy. Paper only: no order is ever sent.

    \b
    Everything, on simulated candles:   trader-pipeline run
    Everything, on real candles:        trader-pipeline run --profile full --klines FOLDER
    Candles from an exchange:           trader-pipeline klines fetch --source archive
    Real option quotes:                 trader-pipeline options --help  (record, import, calibrate, check)
    Backtest a rule, or a grid of them: trader-pipeline backtest --help
    One stage, without Dagster:         trader-pipeline klines import --help  (corpus, train, evaluate)
    Paper trades, live or replayed:     trader-pipeline paper --help  (tick, replay, status)
    Language models as traders:         trader-pipeline agents --help  (run, grid, serve)
    Is that corpus sound?               trader-pipeline corpus audit FILE.jsonl
    Does anything look ahead?           trader-pipeline leaks
    Where does this record come from?   trader-pipeline lineage FILE.jsonl:LINE  (stale: what must be made again)
    Look at it in the browser:          trader-pipeline dashboard  (ui: Dagster and MLflow too)
    """


for command in (calibrate, check):
    options_group.add_command(command)
for command in (
    run,
    ui,
    klines,
    options_group,
    backtest,
    corpus,
    paper,
    leaks,
    lineage,
    stale,
    train,
    evaluate,
    agents,
    dashboard,
):
    main.add_command(command)
