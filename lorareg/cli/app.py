"""The command ``lorareg``: assembles what the modules beside it define."""

from __future__ import annotations

import io
import os
import sys
from typing import Annotated

import typer

from lorareg import __version__
from lorareg.cli import (
    composing,
    data,
    demo,
    doctor,
    export,
    generate,
    import_,
    look,
    registry,
    reproduce,
    share,
    train,
)
from lorareg.cli.root import Root, out

app = typer.Typer(
    name="lorareg",
    cls=Root,
    help="A versioned registry of LoRA adapters: manifest, dataset digest, weights, lock.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        out.print(f"lorareg {__version__}")
        raise typer.Exit


@app.callback()
def root(
    debug: Annotated[bool, typer.Option(help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool | None,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = None,
) -> None:
    """Options that come before the command."""


app.command()(registry.init)
app.command()(registry.new)
app.add_typer(data.data, name="data")
app.command()(train.train)
app.command()(look.status)
app.command("list")(look.list_assets)
app.command()(look.show)
app.command()(look.verify)
app.command()(share.push)
app.command()(share.pull)
app.command()(reproduce.reproduce)
app.command()(export.export)
app.command("import")(import_.import_)
app.add_typer(composing.composing, name="compose")
app.command()(generate.generate)
app.command()(demo.demo)
app.command()(doctor.doctor)


def main() -> None:
    """Entry point of the console script."""
    # OpenMP threads that spin while they wait starve each other on busy cores: a run took nine
    # times as long there. Read when torch loads, so it is set before anything imports torch.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # What a terminal cannot show is escaped, not an error: a GBK console and an emoji, or a file
    # name that is not UTF-8.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    app()
