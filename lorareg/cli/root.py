"""The top of the command line: shows every error once, in three short lines, and sets the exit."""

from __future__ import annotations

import sys
from typing import Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from lorareg.errors import LoraregError

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


class Root(TyperGroup):
    """Catches ``LoraregError`` of any command, also of nested ones."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; with ``--debug`` errors keep their traceback."""
        try:
            return super().invoke(ctx)
        except LoraregError as error:
            if ctx.params.get("debug"):
                err.print_exception()
            show_error(error)
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt as error:
            err.print("[bold red]stopped[/]")
            raise typer.Exit(130) from error
        except BrokenPipeError as error:
            sys.stderr.close()
            raise typer.Exit(1) from error


def show_error(error: LoraregError) -> None:
    """Print what, why and fix."""
    err.print("[bold red]error[/]", end=" ")
    err.print(error.what, markup=False)
    if error.why:
        err.print("[bold]why[/]  ", end=" ")
        err.print(error.why, markup=False)
    if error.fix:
        err.print("[bold green]fix[/]  ", end=" ")
        err.print(error.fix, markup=False)
