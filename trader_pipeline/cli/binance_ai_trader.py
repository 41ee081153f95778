"""The console command `binance_ai_trader`: from a replay file to verdicts, to instructions, to an adapter.

Belongs here: commands, messages, exit status. The work is done by `paper`, `corpora` and `training`, imported only when
it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trader_pipeline import __version__
from trader_pipeline.cli.backups import put_folder, refuse_output, write_output
from trader_pipeline.cli.errors import MendableErrors
from trader_pipeline.cli.options import print_table, profile_of, profile_options
from trader_pipeline.cli.replay_inputs import (
    ADAPTER,
    EVALUATIONS,
    FILE,
    INSTRUCTIONS,
    MIXED,
    PnlUnit,
    above_zero,
    finite,
    force_option,
    is_simulated,
    judge,
    label_ratios,
    option_prices,
    read_trades,
    refuse_outputs,
    replay_options,
    say_origin,
    train_file,
)

if TYPE_CHECKING:
    import pandas as pd

    from trader_pipeline.corpora.audit import AuditReport
    from trader_pipeline.corpora.trade_reviews import TradeReviews
    from trader_pipeline.profile import Profile

_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
_COUNTS = ["trades", "good", "ok", "bad", "open"]
_FIGURES = ["hit_rate", "profit_factor", "mean_pnl_pct"]


@click.group(cls=MendableErrors, context_settings=_SETTINGS)
@click.version_option(__version__)
def main() -> None:
    """Paper trades judged, turned into instructions, and trained on. Offline: no order is ever sent.

    \b
    1. Paper trades to start from:   trader-pipeline paper replay --help
    2. Judge them:                   binance_ai_trader evaluate-paper-trades
    3. Make instructions of them:    binance_ai_trader convert-replay-to-instruction
       with a fifth of other ones:   ... --stable-path stable.jsonl --mix-ratio 0.2
    4. Fine-tune a LoRA adapter:     binance_ai_trader offline-finetune

    Files lie under ai_data/ where nothing else is said. An existing output is never overwritten: exit status 2.
    """


@main.command("evaluate-paper-trades")
@replay_options
@click.option(
    "--output-path", type=FILE, default=EVALUATIONS, show_default=True, help="Verdicts and summary, JSON."
)
def evaluate_paper_trades(
    profile: str,
    overrides: tuple[str, ...],
    replay_path: Path,
    good_pct: str | None,
    pnl_unit: PnlUnit,
    skip_refused: bool,
    force: bool,
    output_path: Path,
) -> None:
    """Judge each closed trade GOOD, OK or BAD by its P&L, with what happened and what would have been better.

    Open trades are listed, not judged. The same replay file gives the same bytes.

    Exit status: 0 written, 1 lines refused (each named FILE:LINE) or another error, 2 the output exists.

    \b
    Examples:
      binance_ai_trader evaluate-paper-trades
      binance_ai_trader evaluate-paper-trades --replay-path foreign.jsonl --output-path verdicts.json
      binance_ai_trader evaluate-paper-trades --good-pct 2.5 --skip-refused --force
    """
    refuse_outputs(output_path, replay_path, force=force)
    replay = read_trades(replay_path, pnl_unit, skip_refused=skip_refused)
    evaluations = judge(replay, profile=profile, overrides=overrides, good_pct=good_pct)
    source: dict[str, Any] = {"name": replay_path.name, "sha256": replay.sha256, "lines": replay.lines_read}
    source["option_prices"] = option_prices(replay)
    document = evaluations.to_json(source, refused=replay.refused, simulated=is_simulated(replay_path))
    backup = write_output(output_path, document, force=force)
    say_origin(replay_path, replay)
    print_table(_summary(evaluations.summary_table()), f"Paper trades of {replay_path}")
    _say_written(output_path, backup)


@main.command("convert-replay-to-instruction")
@replay_options
@click.option(
    "--output-path",
    type=FILE,
    help=f"Chat records, JSON lines. Default: {INSTRUCTIONS}, or {MIXED} with --stable-path.",
)
@click.option(
    "--max-samples", type=click.IntRange(min=1), help="Most records in the output, stable ones included."
)
@click.option(
    "--stable-path", type=FILE, help="Other instructions to mix in: chat or instruction JSON lines."
)
@click.option(
    "--mix-ratio",
    type=click.FloatRange(0, 1, max_open=True),
    callback=finite,
    help="Share of stable records in the output, exact to one record.",
)
@click.option(
    "--ratio",
    "ratios",
    multiple=True,
    callback=label_ratios,
    metavar="LABEL=NUMBER",
    help="Records of a label to those of the others, once a label. Without: none above twice the others.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of sampling and mixing.")
def convert_replay_to_instruction(
    profile: str,
    overrides: tuple[str, ...],
    replay_path: Path,
    good_pct: str | None,
    pnl_unit: PnlUnit,
    skip_refused: bool,
    force: bool,
    output_path: Path | None,
    max_samples: int | None,
    stable_path: Path | None,
    mix_ratio: float | None,
    ratios: Mapping[str, float] | None,
    seed: int,
) -> None:
    """Make a chat record of each judged trade: what was seen and done; what would have been better, and the verdict.

    The prompt holds nothing that came after the decision. Trades that do not say what was seen are passed over, each
    named with the reason. A prompt that occurs twice is kept once.

    \b
    Examples:
      binance_ai_trader convert-replay-to-instruction --max-samples 500
      binance_ai_trader convert-replay-to-instruction --ratio GOOD=1 --ratio OK=2 --ratio BAD=2
      binance_ai_trader convert-replay-to-instruction --stable-path stable.jsonl --mix-ratio 0.2
    """
    if (stable_path is None) != (mix_ratio is None):
        raise click.UsageError("--stable-path and --mix-ratio belong together; give both or neither")
    output_path = output_path or (INSTRUCTIONS if stable_path is None else MIXED)
    refuse_outputs(output_path, replay_path, stable_path, force=force)
    replay = read_trades(replay_path, pnl_unit, skip_refused=skip_refused)
    evaluations = judge(replay, profile=profile, overrides=overrides, good_pct=good_pct)
    from trader_pipeline.corpora.jsonl import corpus_lines
    from trader_pipeline.corpora.stable import load_stable_file
    from trader_pipeline.corpora.stable_mix import mix_exactly
    from trader_pipeline.corpora.trade_reviews import ReviewParams, review_trades

    settings = profile_of(profile, overrides)
    cap = max_samples or settings.review.max_samples
    own: dict[str, Any] = {"max_samples": cap if stable_path is None else None, "seed": seed}
    own |= {} if ratios is None else {"ratios": ratios}
    params = ReviewParams.model_validate(settings.review.model_dump() | own)
    reviews = review_trades(replay.trades, evaluations, params=params, render=settings.render)
    _say_left_out(reviews, len(evaluations.rows), replay_path)
    records, stable = reviews.records, None
    if stable_path is not None and mix_ratio is not None:
        if not stable_path.exists():
            raise click.ClickException(
                f"{stable_path} is missing; name a file of chat or instruction JSON lines"
            )
        stable = load_stable_file(stable_path)
        records = mix_exactly(records, stable, share=mix_ratio, max_samples=cap, seed=seed)
    if records.empty:
        raise click.ClickException("no record would be left; nothing was written")
    backup = write_output(output_path, (line.encode() for line in corpus_lines(records)), force=force)
    say_origin(replay_path, replay)
    print_table(_labels_table(reviews, records, stable), "Records by label, before and after choosing")
    if stable is not None and mix_ratio is not None:
        _say_share(records, len(reviews.records), mix_ratio, cap)
    _say_written(output_path, backup)


@main.command("offline-finetune")
@click.option(
    "--train-path",
    type=FILE,
    help=f"Chat records, JSON lines. Default: {MIXED} if it exists, else {INSTRUCTIONS}.",
)
@click.option(
    "--model-name",
    help="Base model: smollm2-135m-instruct, tiny, a hub id or a local folder. Default: the profile's.",
)
@click.option(
    "--output-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=ADAPTER,
    show_default=True,
    help="Folder of the adapter.",
)
@click.option(
    "--learning-rate", type=float, callback=above_zero, help="Peak learning rate. Default: the profile's."
)
@click.option(
    "--num-epochs", type=float, callback=above_zero, help="Passes over the records. Default: the profile's."
)
@click.option("--max-steps", type=click.IntRange(min=1), help="Stop after so many optimiser steps.")
@click.option("--seed", type=click.IntRange(min=0), help="Seed of LoRA's start and of the order.")
@force_option
@profile_options
def offline_finetune(
    train_path: Path | None,
    model_name: str | None,
    output_dir: Path,
    learning_rate: float | None,
    num_epochs: float | None,
    max_steps: int | None,
    seed: int | None,
    force: bool,
    profile: str,
    overrides: tuple[str, ...],
) -> None:
    """Fine-tune a LoRA adapter on a file of chat records; the loss covers the answers alone.

    The last tenth of the trading records and of the stable ones is held out for validation. The records are audited
    first (as `trader-pipeline corpus audit` does), and what fails is not trained on. A training that was stopped, even
    killed, goes on from its last checkpoint when the same command is given again.

    \b
    Examples:
      binance_ai_trader offline-finetune
      binance_ai_trader offline-finetune --model-name tiny --max-steps 5 --output-dir /tmp/adapter
      binance_ai_trader offline-finetune --train-path mixed.jsonl --learning-rate 2e-4 --num-epochs 3 --force
    """
    refuse_output(output_dir, force=force)
    own = {
        "model.model_name": model_name,
        "finetune.learning_rate": learning_rate,
        "finetune.num_train_epochs": num_epochs,
        "finetune.max_steps": max_steps,
        "finetune.seed": seed,
    }
    given = tuple(f"{key}={value}" for key, value in own.items() if value is not None)
    settings = profile_of(profile, (*overrides, *given))
    path = train_file(train_path)
    records = _train_records(path)
    from trader_pipeline.corpora.audit import audit_corpus

    report = audit_corpus(records, params=settings.audit)
    if not report.passed:
        raise click.ClickException(
            "the audit does not pass and nothing was trained\n" + "\n".join(report.lines())
        )
    first, *notes = report.lines()
    click.echo(f"audit: {first}; {(records['split'] == 'val').sum()} of them are held out")
    for note in notes:
        click.echo(f"audit: {note}")
    backup = _train(records, report, settings, output_dir, force=force)
    _say_written(output_dir, backup)


def _train_records(path: Path) -> pd.DataFrame:
    """The records with their split."""
    from trader_pipeline.corpora.hold_out import hold_out_last
    from trader_pipeline.corpora.jsonl import load_corpus_jsonl

    return hold_out_last(load_corpus_jsonl(path)).assign(source=str(path))


def _train(
    records: pd.DataFrame, report: AuditReport, settings: Profile, output_dir: Path, *, force: bool
) -> Path | None:
    """Train beside `output_dir`; the finished adapter then gets that name, and an earlier one a backup's.

    All of it lies under a name that stays the same, so after a kill at any moment the same command goes on from there.
    """
    from trader_pipeline.cli.everything import quieten

    quieten()
    from trader_pipeline.training.finetune import train_adapter

    backups: list[Path | None] = []
    result = train_adapter(
        records,
        audit=report,
        model_params=settings.model,
        params=settings.finetune,
        output_dir=output_dir,
        place=lambda made, _: backups.append(put_folder(made, output_dir, force=force)),
    )
    click.echo(f"train loss {result.train_loss:.4f}, validation loss {result.val_loss:.4f} nats per token")
    return backups[0]


def _summary(table: pd.DataFrame) -> pd.DataFrame:
    """The summary as it is printed: a dash where there is no figure."""
    shown = table[["group", "name", *_COUNTS, *_FIGURES]]
    figures = {
        name: [f"{float(v):.4g}" if v is not None and v == v else "-" for v in shown[name]]
        for name in _FIGURES
    }
    return shown.assign(**figures)


def _say_left_out(reviews: TradeReviews, evaluated: int, path: Path) -> None:
    from trader_pipeline.paper.reading.strict_json import shown

    for trade_id, why in reviews.passed_over:
        click.echo(f"trade {shown(trade_id)} was passed over: {why}", err=True)
    if reviews.passed_over:
        click.echo(f"{len(reviews.passed_over)} of {evaluated} judged trades were passed over", err=True)
    for trade_id in reviews.duplicates:
        click.echo(f"trade {shown(trade_id)} was left out: an earlier one has the same prompt", err=True)
    if reviews.records.empty:
        raise click.ClickException(
            f"no record can be made of {path}: {evaluated} closed trades, {len(reviews.passed_over)} passed over;"
            " nothing was written"
        )


def _labels_table(reviews: TradeReviews, records: pd.DataFrame, stable: pd.DataFrame | None) -> pd.DataFrame:
    import pandas as pd

    from trader_pipeline.corpora.trade_reviews import verdict_counts

    after = verdict_counts(records[records["kind"] == "review"])
    rows = [(label, reviews.before.get(label, 0), count) for label, count in after.items()]
    if stable is not None:
        rows.append(("stable", len(stable), int((records["kind"] == "stable").sum())))
    rows.append(("all", sum(r[1] for r in rows), sum(r[2] for r in rows)))
    return pd.DataFrame(rows, columns=["label", "before", "after"])


def _say_share(records: pd.DataFrame, own: int, share: float, max_samples: int | None) -> None:
    stable = int((records["kind"] == "stable").sum())
    click.echo(f"stable share {stable / len(records):.4f} ({stable} of {len(records)}), asked for {share:g}")
    used = len(records) - stable
    if used < own and (max_samples is None or len(records) < max_samples):
        click.echo(f"{used} of {own} reviews are in: there are too few stable records for more")
    elif max_samples is not None and len(records) < max_samples:
        click.echo(f"{len(records)} records, not {max_samples}: there are {own} reviews, and the share holds")


def _say_written(path: Path, backup: Path | None) -> None:
    click.echo(f"{path}{f'; the old one is {backup}' if backup else ''}")
