"""`lineage`: from a line of a JSONL file back to its candles. `stale`: what must be made again, and why."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trader_pipeline.cli.options import profile_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.tree import Tree

    from trader_pipeline.defs.outlook import StalePartition
    from trader_pipeline.defs.resources import PipelineResource
    from trader_pipeline.lineage import Location, Node
    from trader_pipeline.profile import Profile

_COLOURS = {"current": "green", "changed since": "red", "missing": "red", "not checked": "yellow"}


@click.command()
@click.argument("location", metavar="FILE:LINE")
@click.option(
    "--data",
    default=None,
    help="Data folder of the file. Default: the nearest one above it. For a record id: also a corpus folder.",
)
@click.option(
    "--profile",
    default=None,
    help="Profile that settings are held against. Default: the one the data folder is named after.",
)
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="A setting changed for that run."
)
@click.option(
    "--klines",
    default=None,
    type=click.Path(exists=True, path_type=Path),
    help="Candle files of that run, to be held against the hashes they were read with.",
)
@click.option("--json", "as_json", is_flag=True, help="The whole tree, hashes in full, as one JSON document.")
def lineage(
    location: str,
    data: str | None,
    profile: str | None,
    overrides: tuple[str, ...],
    klines: Path | None,
    as_json: bool,
) -> None:
    """Where a training record comes from: its candidate, the step and its legs, the chain, the candles, their files.

    Behind each name stands its content hash, and whether it still is what the line was made from: current, changed
    since, missing, or not checked. FILE is a corpus (data/<profile>/corpora/jsonl/*.jsonl, or from corpus build) or an
    export (training_dataset_*, training_candidates_*). Lines count from 1. A record id will do for FILE:LINE if --data
    names its folder.

    What no data folder stands behind is followed by the manifests of its files: give --klines to have the candle files
    checked, too.

    \b
    Examples:
      trader-pipeline lineage data/sample/corpora/jsonl/mixed_corpus_train.jsonl:17
      trader-pipeline lineage corpora/train.jsonl:17 --klines ~/candles
      trader-pipeline lineage 307d8f34406c8ef1 --data corpora --klines ~/candles
      trader-pipeline lineage exports/training_dataset_BTC_20210215_20210930_both_20260101_120000.jsonl:3 --json
    """
    from trader_pipeline.lineage import parse_location, trace_line, tree_lines, verdict

    where = parse_location(location, folder=None if data is None or "://" in data else Path(data))
    if where.path.parent == _absolute(data):
        data = None  # a corpus folder, named for a record id
    settings = _profile(where, data, profile, overrides)
    node = trace_line(
        where,
        data=data,
        settings=_hashes(settings),
        klines_folder=klines,
        volatility=None if settings is None else settings.options.volatility,
    )
    if as_json:
        click.echo(
            json.dumps({"verdict": verdict(node), "tree": node.to_dict()}, indent=2, ensure_ascii=False)
        )
    elif sys.stdout.isatty():
        _print_tree(node, verdict(node))
    else:
        for line in tree_lines(node):
            click.echo(line)
        click.echo(f"\n{verdict(node)}")


def _absolute(data: str | None) -> Path | None:
    return None if data is None or "://" in data else Path(data).absolute()


def _profile(
    where: Location, data: str | None, name: str | None, overrides: tuple[str, ...]
) -> Profile | None:
    """The profile named, or the one that the data folder is named after; None where there is none of that name."""
    from trader_pipeline.lineage.location import data_folder_of
    from trader_pipeline.settings import load_profile, parse_overrides, profile_names

    folder = data_folder_of(where.path) if data is None else None if "://" in data else Path(data).absolute()
    name = name or (folder.name if folder and folder.name in profile_names() else None)
    if name is None:
        return None
    # Where candle files lie does not count among the settings, that they were read does.
    read = str(folder) if folder and _holds_real_candles(folder) else ""
    return load_profile(name, klines=read, overrides=parse_overrides(overrides))


def _holds_real_candles(folder: Path) -> bool:
    from trader_pipeline.schema.tables import KLINES
    from trader_pipeline.store import TableStore

    store = TableStore(str(folder))
    manifests = (store.manifest(KLINES, partition) for partition in store.partitions(KLINES))
    return any(m is not None and not m.simulated for m in manifests)


def _hashes(profile: Profile | None) -> dict[str, str]:
    return {} if profile is None else {s: profile.section_hash(s) for s in type(profile).model_fields}


def _print_tree(node: Node, conclusion: str) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    console.print(_rich(node))
    console.print(f"\n{conclusion}", markup=False)


def _rich(node: Node, tree: Tree | None = None) -> Tree:
    from rich.text import Text
    from rich.tree import Tree

    label = Text(node.headline(), style="bold")
    if node.state:
        label.highlight_words([f"[{node.state}]"], style=_COLOURS[node.state])
    label.append("".join(f"\n{line}" for line in node.details()), style="not bold dim")
    branch = Tree(label) if tree is None else tree.add(label)
    for parent in node.branches:
        _rich(parent, branch)
    return branch


@click.command()
@profile_options
@click.option(
    "--klines", default="", envvar="TRADER_PIPELINE_KLINES", help="Candles of that profile, as for run."
)
@click.option("--data-dir", default="", help="Where its tables lie. Default: data/<profile>.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document, for a program.")
def stale(profile: str, overrides: tuple[str, ...], klines: str, data_dir: str, as_json: bool) -> None:
    """What the next run makes again, partition by partition, and why. Nothing is made, nothing is written.

    Give the options that `trader-pipeline run` would get. Candles that changed are read, so that only the windows which
    hold a changed candle are named. What is `perhaps` is made again only if something that it rests on comes out
    differently.

    \b
    Examples:
      trader-pipeline stale
      trader-pipeline stale --profile full --klines ~/candles --set backtest.take_profit=0.7
    """
    from trader_pipeline.defs.outlook import stale_outlook

    pipeline = _pipeline(profile, overrides, klines, data_dir)
    found = stale_outlook(pipeline)
    if as_json:
        partitions = [{**asdict(p), "partition": list(p.partition)} for p in found]
        click.echo(json.dumps({"data": str(pipeline.root), "partitions": partitions}, indent=2))
        return
    _print_stale(found)
    click.echo(_summary(found, pipeline.root))


def _pipeline(profile: str, overrides: tuple[str, ...], klines: str, data_dir: str) -> PipelineResource:
    """The pipeline that `run` would work on.

    Raises:
        FileNotFoundError: nothing was made there yet.
    """
    from trader_pipeline.defs.resources import PipelineResource

    root = Path(data_dir or os.environ.get("TRADER_PIPELINE_DATA_DIR") or Path("data") / Path(profile).stem)
    if not (root / "klines").is_dir():
        raise FileNotFoundError(
            f"{root} holds no tables: nothing was made there yet. Run trader-pipeline run --profile {profile}, or name"
            " another folder with --data-dir"
        )
    pipeline = PipelineResource(
        profile_name=profile, klines=klines, data_root=str(root.absolute()), overrides=list(overrides)
    )
    _ = pipeline.graph_profile  # a wrong setting is said before anything is read
    return pipeline


def _print_stale(found: Sequence[StalePartition]) -> None:
    from trader_pipeline.defs.outlook import REPORT

    width = max(len(p.name) for p in found)
    for partition in found:
        if partition.table != REPORT:
            click.echo(
                f"{'again' if partition.certain else 'perhaps':8}{partition.name:{width}}  {partition.reason}"
            )


def _summary(found: Sequence[StalePartition], root: Path) -> str:
    from trader_pipeline.defs.outlook import REPORT

    certain = sum(p.certain for p in found if p.table != REPORT)
    perhaps = sum(not p.certain for p in found)
    if not certain and not perhaps:
        return f"everything in {root} is current; a run would write the report anew and nothing else"
    follows = f", {perhaps} more if what they rest on comes out differently" if perhaps else ""
    partitions = "partition" if certain == 1 else "partitions"
    return f"{certain} {partitions} in {root} will be made again{follows}; a run writes the report last"
