"""`trader-pipeline corpus audit`: is there a way to the answer that needs no understanding?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from trader_pipeline.cli.options import print_table, profile_of, profile_options

if TYPE_CHECKING:
    from trader_pipeline.corpora.audit import AuditParams, AuditReport

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_FOUND, _UNREADABLE = 1, 2


@click.command()
@profile_options
@click.argument("file", type=_FILE)
@click.option(
    "--train", type=_FILE, help="The file that is trained on: shortcuts are learned there, scored on FILE."
)
@click.option(
    "--json", "as_json", is_flag=True, help="The whole report as one JSON document, and nothing else."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Write the report there too, for `train`; an existing file is kept.",
)
def audit(
    profile: str, overrides: tuple[str, ...], file: Path, train: Path | None, as_json: bool, out: Path | None
) -> None:
    """Audit any chat corpus (JSON lines), ours or foreign: leaks, shortcuts, duplicates, overlap.

    Without --train, shortcuts are learned on blocks of FILE and scored on the others. With it, all rules run on both
    files, and the overlap between them is looked for. Bounds are settings: --set audit.constant=0.9.

    Exit status: 0 passed, 1 findings (one line each), 2 a file that cannot be read.

    \b
    Examples:
      trader-pipeline corpus audit foreign.jsonl
      trader-pipeline corpus audit val.jsonl --train train.jsonl --out audit.json
    """
    from trader_pipeline.corpora.audit.chat_files import UnreadableError
    from trader_pipeline.store import write_atomic

    if out is not None and out.exists():
        raise click.BadParameter(f"{out} exists; name a new file", param_hint="--out")
    params = profile_of(profile, overrides).audit
    try:
        report = _audit(file, train, params)
    except UnreadableError as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(_UNREADABLE) from error
    if out is not None:
        write_atomic(out, report.to_json().encode())
    if as_json:
        click.echo(report.to_json(), nl=False)
    else:
        click.echo(f"{file}, learned on {train}" if train else str(file))
        print_table(report.table())
        click.echo("\n".join(report.lines()))
    if not report.passed:
        raise SystemExit(_FOUND)


def _audit(file: Path, train: Path | None, params: AuditParams) -> AuditReport:
    """The report on FILE, after the file that is trained on where there is one."""
    from trader_pipeline.corpora.audit.files import audit_files

    return audit_files(file, train=train, params=params)
