"""How the console commands end: one clear message for what a user can mend, a traceback for all else.

Belongs here: groups of commands that translate errors. The messages are written where the errors are raised.
"""

from __future__ import annotations

from typing import Any

import click


class OutputExistsError(click.ClickException):
    """An output that is there already and was not to be replaced; exit status 2."""

    exit_code = 2


class MendableErrors(click.Group):
    """Turns errors that a user can mend into one message and exit status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # the reader of the output has gone: click ends quietly
        except (ValueError, OSError) as error:
            raise click.ClickException(str(error)) from error
