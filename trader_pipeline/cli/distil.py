"""`trader-pipeline corpus distil`: stable instructions whose answers the base model writes itself."""

from __future__ import annotations

from pathlib import Path

import click

from trader_pipeline.cli.options import profile_of, profile_options


@click.command()
@profile_options
@click.option(
    "--prompts",
    "prompts_path",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Prompts: .txt, one a line, or .jsonl with a 'prompt' or 'instruction' each.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="File of the answers (.jsonl); it must not exist.",
)
@click.option(
    "--model", default=None, help="Base model: smollm2-135m-instruct, tiny, a hub id or a local folder."
)
@click.option(
    "--max-new-tokens",
    default=128,
    show_default=True,
    type=click.IntRange(min=1),
    help="Longest answer in tokens, the end of turn included; one that has not ended by then is left out.",
)
@click.option(
    "--batch-size", default=8, show_default=True, type=click.IntRange(min=1), help="Prompts per pass."
)
def distil(
    profile: str,
    overrides: tuple[str, ...],
    prompts_path: Path,
    out: Path,
    model: str | None,
    max_new_tokens: int,
    batch_size: int,
) -> None:
    """Let the base model answer prompts: stable instructions that keep it as it is, without foreign data.

    Decoding is greedy, so the same model gives the same file. Use it with --set stable.path=FILE.

    Look at the answers before training on them: a small model often answers wrongly, and nothing here checks what it
    says. Prompts are spread over train, val and test by a hash; give 30 or more, so that each gets some.

    \b
    Examples:
      trader-pipeline corpus distil --prompts prompts.txt --out stable.jsonl
      trader-pipeline run --set stable.path=stable.jsonl
    """
    if out.exists():
        raise FileExistsError(f"{out} exists; name a new file")
    from trader_pipeline.cli.everything import quieten
    from trader_pipeline.corpora.stable import StableParams, load_stable_instructions, write_stable_file
    from trader_pipeline.training.distillation import distil_answers, read_prompts
    from trader_pipeline.training.models import load_base_model

    quieten()
    given = () if model is None else (f"model.model_name={model}",)
    prompts, model_params = read_prompts(prompts_path), profile_of(profile, (*overrides, *given)).model
    found = distil_answers(
        *load_base_model(model_params),
        prompts,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        dtype=model_params.dtype,
    )
    click.echo(", ".join(f"{name} {count}" for name, count in found.counts.items()))
    for prompt in found.unfinished:
        click.echo(f"not ended within {max_new_tokens} tokens (--max-new-tokens): {prompt}", err=True)
    if not found.answers:
        raise ValueError(
            f"{model_params.model_name} gave no answer that can be kept; where they are unfinished, raise"
            " --max-new-tokens"
        )
    click.echo(str(write_stable_file(found.answers, out, model=model_params.model_name)))
    splits = load_stable_instructions(StableParams(path=out))["split"].value_counts()
    click.echo("by split: " + ", ".join(f"{s} {splits.get(s, 0)}" for s in ("train", "val", "test")))
    click.echo("read the answers before you train on them: nothing has checked whether they are right")
    if not (splits.get("train", 0) and splits.get("val", 0)):
        click.echo(
            "too few for mix.stable_share, which needs some in train and in val: add prompts", err=True
        )
