"""The top of the command line: shows every error once, in three short lines, and sets the exit."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import typer
from typer.core import TyperGroup

from lorareg.cli.plain import PlainConsole, plain_json
from lorareg.errors import LoraregError

# Of several processes that train as one, the first one speaks for all.
QUIET = "LOCAL_RANK" in os.environ and os.environ.get("RANK", "0") != "0"
# The launcher ends all when one fails: an error of all is said by the first within this time, and
# one that is still alive then has an error of its own to tell.
SECONDS_FOR_THE_FIRST = 10.0

out = PlainConsole(highlight=False, soft_wrap=True, quiet=QUIET)
err = PlainConsole(stderr=True, highlight=False, soft_wrap=True, quiet=QUIET)


class Root(TyperGroup):
    """Catches ``LoraregError`` of any command, also of nested ones."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names, without making the commands."""
        return list(self.commands)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; with ``--debug`` errors keep their traceback."""
        wants_json = "--json" in [*ctx._protected_args, *ctx.args]
        try:
            return super().invoke(ctx)
        except LoraregError as error:
            if QUIET:
                time.sleep(SECONDS_FOR_THE_FIRST)
                err.quiet = False
            if ctx.params.get("debug"):
                err.print_exception()
            show_error(error, as_json=wants_json)
            raise typer.Exit(error.exit_code) from error
        except BrokenPipeError as error:
            sys.stderr.close()
            raise typer.Exit(1) from error
        except (OSError, RecursionError, UnicodeEncodeError) as error:
            if ctx.params.get("debug"):
                err.print_exception()
            show_error(_explained(error), as_json=wants_json)
            raise typer.Exit(2) from error
        except KeyboardInterrupt as error:
            err.print("[bold red]stopped[/]")
            raise typer.Exit(130) from error


def _explained(error: OSError | RecursionError | UnicodeEncodeError) -> LoraregError:
    """What the operating system or Python refused, in our three lines."""
    if isinstance(error, UnicodeEncodeError):
        return LoraregError(
            f"text that is not UTF-8: {error.object[max(0, error.start - 20) : error.end]!a}",
            why="a name or an argument holds bytes of another encoding",
            fix="rename it, or set the terminal and its locale to UTF-8",
        )
    if isinstance(error, RecursionError):
        return LoraregError("a file is nested too deeply", fix="mend or remove it")
    reason = error.strerror or str(error)
    where = f": {error.filename}" if error.filename else ""
    return LoraregError(
        f"the system refused{where}",
        why=reason,
        fix="check that the path is right, can be written, and that the disk is not full; "
        "lorareg --debug COMMAND shows where",
    )


def show_error(error: LoraregError, *, as_json: bool) -> None:
    """Print what, why and fix for people, and for programs that asked for JSON on stdout."""
    if as_json:
        words = {"what": error.what, "why": error.why, "fix": error.fix}
        sys.stdout.write(plain_json(json.dumps({"error": words}, indent=2)) + "\n")
    err.print("[bold red]error[/]", end=" ")
    err.print(error.what, markup=False)
    if error.why:
        err.print("[bold]why[/]  ", end=" ")
        err.print(error.why, markup=False)
    if error.fix:
        err.print("[bold green]fix[/]  ", end=" ")
        err.print(error.fix, markup=False)
