"""``lorareg data``: from a folder of pictures or dialogues to a dataset worth training on."""

from __future__ import annotations

import typer

from lorareg.cli import caption, check, prepare, redact

data = typer.Typer(
    help="Check, caption, prepare and redact a dataset before it is trained on.",
    no_args_is_help=True,
)
data.command()(check.check)
data.command()(caption.caption)
data.command()(prepare.prepare)
data.command()(redact.redact)
