"""The command ``lorareg``: assembles what the modules beside it define."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from lorareg import __version__
from lorareg.cli.lazy import Commands
from lorareg.cli.root import Root, out

PURPOSE = "LORAREG_PURPOSE"  # of registry.access.uses, which takes longer to import

# Command -> ``module:attribute`` in lorareg.cli, in the order of the help. Add yours here: the
# module is imported when the command is called, so that others do not wait for it.
COMMANDS = {
    "init": "registry:init",
    "new": "registry:new",
    "data": "data:data",
    "train": "train:train",
    "status": "look:status",
    "list": "look:list_assets",
    "show": "look:show",
    "verify": "look:verify",
    "diff": "diff:diff",
    "search": "search:search",
    "log": "release:log",
    "release": "release:release",
    "push": "share:push",
    "pull": "share:pull",
    "publish": "publish:publish",
    "promote": "channel:promote",
    "rollout": "channel:rollout",
    "rollback": "channel:rollback",
    "resolve": "channel:resolve",
    "reproduce": "reproduce:reproduce",
    "export": "export:export",
    "import": "import_:import_",
    "compose": "composing:composing",
    "generate": "generate:generate",
    "policy": "policy:policy",
    "access": "access:access",
    "revoke": "revoke:revoke",
    "demo": "demo:demo",
    "gc": "gc:gc",
    "doctor": "doctor:doctor",
}


class Lorareg(Root):
    """The commands of the table, each imported when it is called."""

    def __init__(self, *, commands: Mapping[str, Any], **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = Commands(COMMANDS, commands)


app = typer.Typer(
    name="lorareg",
    cls=Lorareg,
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
    purpose: Annotated[
        str | None,
        typer.Option(envvar=PURPOSE, metavar="TEXT", help="What it is for: grants are by purpose."),
    ] = None,
) -> None:
    """Options that come before the command."""
    if purpose is not None:
        os.environ[PURPOSE] = purpose  # worker processes inherit it


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
