"""What single choices of corpus and training are worth: every row trained with several seeds, all on the same tests.

`python benchmarks/ablation.py [--rows "baseline,report style"] [--seeds 3] [--records 64] [--klines FOLDER] [--full]`.
The default is sized for two cores, where it takes an hour or two (each run says how long the rest takes); `--full` is
for a GPU.
What is finished is kept in `--out` and not repeated.
docs/ablation.md says what each row changes and how to read the tables.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

import click
from tqdm import tqdm

from benchmarks import _ablation_table as tables
from benchmarks._ablation_data import Decisions, Sizes, UnusableRowError, load_decisions, shortcut_figures
from benchmarks._ablation_rows import ROWS, Row, Study, base_stable_loss, run_row
from benchmarks._recorded import REPOSITORY
from benchmarks._results import machine
from trader_pipeline.profile import Profile
from trader_pipeline.settings import load_profile, parse_overrides
from trader_pipeline.store import settings_hash, write_atomic

DOCS = REPOSITORY / "docs" / "ablation.md"
_SECTION = re.compile(r"(?<=<!-- begin ablation -->\n).*?(?=<!-- end ablation -->)", re.DOTALL)
_SMALL = {"seeds": 3, "records": 64, "tests": 96, "steps": 16, "eval_steps": 8}
_FULL = {"seeds": 5, "records": 2000, "tests": 600, "steps": 500, "eval_steps": 50}
_MOST_VAL = 200


@click.command(help=__doc__)
@click.option("--rows", "names", default="", help="Rows, separated by commas; all without it.")
@click.option("--seeds", type=click.IntRange(min=1), help="Seeds of each row.  [default: 3]")
@click.option(
    "--records",
    type=click.IntRange(min=8),
    help="Train records; half as many val, at most 200.  [default: 64]",
)
@click.option("--tests", type=click.IntRange(min=2), help="Test records.  [default: 96]")
@click.option("--steps", type=click.IntRange(min=1), help="Optimiser steps.  [default: 16]")
@click.option("--full", is_flag=True, help="Sizes for a GPU, where they are not given.")
@click.option("--model", "model_name", default="", help="Base model; the profile's without it.")
@click.option("--profile", "profile_name", default="sample", show_default=True, help="Whose settings.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change one of them.")
@click.option("--klines", default="", help="Folder of real candles; simulated ones without it.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("data/ablation"), show_default=True)
@click.option("--write-docs", is_flag=True, help="Put the tables into docs/ablation.md.")
def main(
    names: str, profile_name: str, overrides: tuple[str, ...], klines: str, out: Path, write_docs: bool, **given: Any
) -> None:  # fmt: skip
    size = {name: given.get(name) or value for name, value in (_FULL if given["full"] else _SMALL).items()}
    changes = {"finetune.learning_rate": 3e-4, "model.cache_dir": "data/models", **parse_overrides(overrides)}
    changes |= {
        "finetune.max_steps": size["steps"],
        "finetune.eval_steps": min(size["eval_steps"], size["steps"]),
    }
    if given["model_name"]:
        changes["model.model_name"] = given["model_name"]
    profile = load_profile(profile_name, klines=klines, overrides=changes)
    sizes = Sizes(size["records"], min(size["records"] // 2, _MOST_VAL), size["tests"])
    try:
        report = ablation(
            chosen_rows(names), seeds=range(size["seeds"]), profile=profile, sizes=sizes, out=out
        )
    except UnusableRowError as error:
        raise click.ClickException(f"{error}; ask for fewer with --records and --tests") from error
    report += f"\n\n{machine()}. Again: `{_command()}`\n"
    print(report)
    if write_docs:
        text = DOCS.read_text()
        write_atomic(DOCS, _SECTION.sub(lambda _: f"\n{report}\n", text).encode(), overwrite=True)


def chosen_rows(names: str) -> list[Row]:
    """The rows named, with those that they start from or are held against, in the order of the list.

    Raises:
        click.UsageError: an unknown row.
    """
    wanted = {name.strip() for name in names.split(",") if name.strip()} or set(ROWS)
    if unknown := sorted(wanted - set(ROWS)):
        raise click.UsageError(f"there is no row {unknown[0]!r}; the rows are: {', '.join(ROWS)}")
    for row in [ROWS[name] for name in wanted]:
        wanted |= {row.against, row.after or row.against}
    return [row for name, row in ROWS.items() if name in wanted]


def ablation(rows: Sequence[Row], *, seeds: Sequence[int], profile: Profile, sizes: Sizes, out: Path) -> str:
    """Run what is not finished in `out`, and return the tables of all rows as markdown."""
    decisions = load_decisions(profile, sizes)
    identity = {
        "candidates": decisions.digest,
        "sizes": sizes._asdict(),
        "settings": {name: getattr(profile, name).model_dump(mode="json") for name in _STEERING},
    }
    folder = out / settings_hash(identity)
    folder.mkdir(parents=True, exist_ok=True)
    _keep(folder / "settings.json", identity)
    study = Study(decisions, profile.finetune, folder)
    results, left_out = _run_all(rows, seeds, study)
    return _report(results, left_out, seeds=seeds, study=study)


_STEERING = ("options", "backtest", "splits", "render", "corpus", "audit", "mix", "model", "finetune")
"""The profile's sections that change a result; candles count by the candidates made from them."""


def _run_all(
    rows: Sequence[Row], seeds: Sequence[int], study: Study
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, str]]:
    """Results by row, one a seed, and the reasons of the rows that cannot be run."""
    results: dict[str, list[dict[str, Any]]] = {}
    left_out: dict[str, str] = {}
    runs = list(product(rows, seeds))
    known, seconds = [study.result_path(row, seed).is_file() for row, seed in runs], []
    for place, (row, seed) in enumerate(runs):
        if lacking := [name for name in (row.after, row.against) if name in left_out and name != row.name]:
            left_out[row.name] = f"it needs the row {lacking[0]!r}, which is left out"
        if row.name in left_out:
            continue
        began = time.monotonic()
        if not known[place]:
            title = f"run {place + 1} of {len(runs)}: {row.name}, seed {seed}"
            print(f"{title}{_left(seconds, known[place:].count(False))}", file=sys.stderr, flush=True)
        try:
            results.setdefault(row.name, []).append(_result(row, seed, study))
        except UnusableRowError as error:
            left_out[row.name] = str(error)
            results.pop(row.name, None)
        if not known[place]:
            seconds.append(time.monotonic() - began)
    for name, reason in left_out.items():
        print(f"left out: {name}: {reason}", file=sys.stderr)
    return results, left_out


def _left(seconds: Sequence[float], runs: int) -> str:
    """Time left for `runs` runs, by the mean of those made so far; runs of long rows take longer than others."""
    if not seconds:
        return f"; {runs} to be made"
    return f"; about {tqdm.format_interval(sum(seconds) / len(seconds) * runs)} left"


def _result(row: Row, seed: int, study: Study) -> dict[str, Any]:
    """The row's result with this seed, read where it is finished."""
    path = study.result_path(row, seed)
    if not path.is_file():
        _keep(path, run_row(row, seed, study))
    result: dict[str, Any] = json.loads(path.read_text())
    return result


def _keep(path: Path, content: Mapping[str, Any]) -> None:
    write_atomic(path, f"{json.dumps(content, indent=1, default=str)}\n".encode(), overwrite=True)


def _report(
    results: Mapping[str, list[dict[str, Any]]],
    left_out: Mapping[str, str],
    *,
    seeds: Sequence[int],
    study: Study,
) -> str:
    decisions = study.decisions
    corpus = decisions.corpus(seed=0, render={}, stable=False)
    asked = decisions.asked(corpus, {})
    stable_loss = _base_loss(study)
    rows = {name: tables.figures_of(own, asked, stable_loss) for name, own in results.items()}
    lifted = {name: own[0]["lifted"] for name, own in results.items()}
    return "\n\n".join(
        [
            " ".join(_preface(decisions, seeds, study)),
            "Answers to the test records:",
            tables.decision_table(rows),
            "Differences, seed by seed and record by record (tied: the interval holds 0):",
            tables.difference_table(rows, {name: ROWS[name].against for name in rows}),
            "Shortcuts on the same test records:",
            tables.shortcut_table(shortcut_figures(decisions, seeds)),
            "Training:",
            tables.training_table(rows, lifted),
            *(f"Left out: {name}: {reason}." for name, reason in left_out.items()),
        ]
    )


def _base_loss(study: Study) -> float:
    path = study.folder / "base-model.json"
    if not path.is_file():
        _keep(path, {"stable_loss": base_stable_loss(study)})
    return float(json.loads(path.read_text())["stable_loss"])


def _preface(decisions: Decisions, seeds: Sequence[int], study: Study) -> Iterator[str]:
    sizes, params = decisions.sizes, study.finetune
    if decisions.simulated:
        yield "**SIMULATED candles: every figure is about the simulator, not about a market.**"
    times = decisions.candidates["decision_time"]
    yield f"Decisions from {times.min():%Y-%m} to {times.max():%Y-%m}."
    yield (
        f"{decisions.profile.model.model_name}, {sizes.train} train, {sizes.val} val and {sizes.test} test records of"
        f" trade or skip, {params.max_steps} steps of"
        f" {params.per_device_train_batch_size * params.gradient_accumulation_steps} records, learning rate"
        f" {params.learning_rate:g}, LoRA rank {params.r}. Each cell is the mean over the seeds (n = {len(seeds)}), in"
        f" brackets its {tables.CONFIDENCE:.0%} t interval."
    )


def _command() -> str:
    """What to type to get the tables again; folders that only this machine has are named FOLDER."""
    given = ["FOLDER" if Path(a).is_absolute() else a for a in sys.argv[1:] if a != "--write-docs"]
    return shlex.join(["python", "benchmarks/ablation.py", *given])


if __name__ == "__main__":
    main()
