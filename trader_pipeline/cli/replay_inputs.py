"""What the commands of `binance_ai_trader` share: default paths, options of a replay file, and its reading.

Belongs here: options and messages alone. Lines are read in `paper.reading`, trades judged in `paper.verdicts`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from trader_pipeline.cli.backups import refuse_output
from trader_pipeline.cli.options import profile_of, profile_options

if TYPE_CHECKING:
    from trader_pipeline.paper.reading.replay_reader import ReplayFile
    from trader_pipeline.paper.verdicts.evaluator import Evaluations

REPLAY = Path("ai_data/paper/replay.jsonl")
EVALUATIONS = Path("ai_data/paper/evaluations.json")
INSTRUCTIONS = Path("ai_data/trading/instruction_dataset.jsonl")
MIXED = Path("ai_data/trading/mixed_dataset.jsonl")
ADAPTER = Path("ai_data/models/llm_trader")
FILE = click.Path(dir_okay=False, path_type=Path)
PnlUnit = Literal["auto", "percent", "fraction"]
_LABELS = ("GOOD", "OK", "BAD")

force_option = click.option(
    "--force", is_flag=True, help="Replace an existing output; the old one is kept as NAME.bak1, .bak2, ..."
)


def replay_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What the two commands that read a replay file share."""
    options = (
        click.option(
            "--replay-path",
            type=FILE,
            default=REPLAY,
            show_default=True,
            help="Paper trades, JSON lines.",
        ),
        click.option(
            "--good-pct",
            metavar="PERCENT",
            help="GOOD from here on, compared in decimal. Default: the profile's, 15.",
        ),
        click.option(
            "--pnl-unit",
            type=click.Choice(["auto", "percent", "fraction"]),
            default="auto",
            show_default=True,
            help="What a bare pnl_pct of 0.15 means; auto: what agrees with the prices, else percent.",
        ),
        click.option(
            "--skip-refused",
            is_flag=True,
            help="Go on without the lines that cannot be read; each is still named.",
        ),
        force_option,
        profile_options,
    )
    for option in reversed(options):
        command = option(command)
    return command


def above_zero(_: click.Context, option: click.Parameter, value: float | None) -> float | None:
    """Callback of an option: a finite number above 0."""
    if value is not None and not 0 < value < math.inf:
        raise click.BadParameter(f"{value:g} is not a number above 0", param=option)
    return value


def finite(_: click.Context, option: click.Parameter, value: float | None) -> float | None:
    """Callback of an option: NaN lies in no range, and `click.FloatRange` lets it through."""
    if value is not None and not math.isfinite(value):
        raise click.BadParameter(f"{value:g} is not a number", param=option)
    return value


def label_ratios(
    _: click.Context, option: click.Parameter, pairs: tuple[str, ...]
) -> dict[str, float] | None:
    """Callback of an option: `("GOOD=1", "OK=2")` as a mapping, None where nothing is given."""
    ratios: dict[str, float] = {}
    for pair in pairs:
        label, _sign, number = pair.partition("=")
        label = label.strip().upper()
        try:
            ratio = float(number)
        except ValueError:
            ratio = math.nan
        if label not in _LABELS or label in ratios or not 0 <= ratio < math.inf:
            raise click.BadParameter(
                f"{pair!r}: write each label once, as GOOD=1, OK=2 or BAD=0", param=option
            )
        ratios[label] = ratio
    if ratios and not any(ratios.values()):
        raise click.BadParameter("all ratios are 0: no record would be left", param=option)
    return ratios or None


def refuse_outputs(output: Path, *inputs: Path | None, force: bool) -> None:
    """Before anything is read: an output that is one of the inputs, or is taken."""
    for given in inputs:
        if given is not None and output.resolve() == given.resolve():
            raise click.UsageError(f"--output-path {output} is an input as well; name another file")
    refuse_output(output, force=force)


def read_trades(path: Path, pnl_unit: PnlUnit, *, skip_refused: bool) -> ReplayFile:
    """The replay file; every refused line is named on standard error.

    Raises:
        click.ClickException: the file is missing, or lines were refused and are not to be left out.
    """
    if not path.exists():
        default = "the default " if path == REPLAY else ""
        raise click.ClickException(
            f"{default}{path} is missing; make one with `trader-pipeline paper replay`, or name another with"
            " --replay-path"
        )
    from trader_pipeline.paper.reading.replay_reader import read_replay

    replay = read_replay(path, pnl_unit=pnl_unit)
    for note in replay.notes:
        click.echo(f"{path}: {note}", err=True)
    for refused in replay.refused:
        click.echo(f"{path}:{refused.line}: {refused.why}", err=True)
    if replay.refused and not skip_refused:
        raise click.ClickException(
            f"{len(replay.refused)} of {replay.lines_read} lines of {path} were refused and nothing was written;"
            " mend them, or leave them out with --skip-refused"
        )
    return replay


def judge(
    replay: ReplayFile, *, profile: str, overrides: tuple[str, ...], good_pct: str | None
) -> Evaluations:
    """The trades judged by the profile's evaluator, with another threshold for GOOD where one is given."""
    from trader_pipeline.paper.verdicts.evaluator import EvaluatorParams, evaluate_trades

    params = profile_of(profile, overrides).evaluator
    if good_pct is not None:
        try:
            params = EvaluatorParams.model_validate(params.model_dump() | {"good_pct": good_pct})
        except ValueError as error:
            raise click.UsageError(
                f"--good-pct {good_pct}: a number of percent above 0 is expected"
            ) from error
    return evaluate_trades(replay.trades, params=params)


def is_simulated(path: Path) -> bool | None:
    """Whether a book of this replay file says that its candles are simulated; None where no book says anything."""
    said: bool | None = None
    with path.open("rb") as lines:
        for line in lines:
            if b'"START"' in line and b'"simulated"' in line:
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError):
                    continue  # no line of a book: it was refused
                if isinstance(row, dict) and row.get("event") == "START":
                    if row.get("simulated") is True:
                        return True
                    said = False if row.get("simulated") is False else said
    return said


def option_prices(replay: ReplayFile) -> str | None:
    """Where the premiums of closed calls come from, as far as a replay file tells; None where there are none."""
    calls = any(t.direction == "SHORT_CALL" and t.status == "CLOSED" for t in replay.trades)
    return "modelled, unless quotes were recorded" if calls else None


def say_origin(path: Path, replay: ReplayFile) -> None:
    """On the terminal: what candles and option prices the trades are made on."""
    simulated = is_simulated(path)
    if simulated:
        click.echo("SIMULATED CANDLES: every figure is about the simulator, not about a market.")
    elif simulated is None:
        click.echo("Not known whether the candles are simulated: the file has no START line.")
    if option_prices(replay):
        click.echo("Covered calls: premiums are modelled from the candles, unless quotes were recorded.")


def train_file(given: Path | None) -> Path:
    """The file to train on; it is named, and a default that is the older one is warned of.

    Raises:
        click.ClickException: the file is missing.
    """
    path = given or (MIXED if MIXED.exists() else INSTRUCTIONS)
    if not path.exists():
        looked = f" (and so is {MIXED})" if given is None else ""
        raise click.ClickException(
            f"{path} is missing{looked}; make one with `binance_ai_trader convert-replay-to-instruction`"
        )
    click.echo(f"records: {path}")
    if given is None and path == MIXED and _is_newer(INSTRUCTIONS, MIXED):
        click.echo(
            f"warning: {INSTRUCTIONS} is newer than {MIXED}; train on it with --train-path {INSTRUCTIONS}, or mix"
            " again",
            err=True,
        )
    return path


def _is_newer(path: Path, other: Path) -> bool:
    return path.exists() and path.stat().st_mtime_ns > other.stat().st_mtime_ns
