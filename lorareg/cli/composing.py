"""``lorareg compose``: an expression to build, or a word for what else is asked about one."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from lorareg.cli import compose, compose_check, compose_evaluate, compose_report, recipes

EXPR = "EXPR"  # upper case is no expression, so this name hides none


class Composing(TyperGroup):
    """Takes what is no command for the expression that the command ``EXPR`` builds."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """``compose style/ink`` is ``compose EXPR style/ink``."""
        if args and args[0] not in (*self.commands, "--help"):
            args = [EXPR, *args]
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[Any, Any, list[str]]:
        """As usual; the command's own name stays out of its usage line."""
        name, command, rest = super().resolve_command(ctx, args)
        return None if name == EXPR else name, command, rest

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """The commands, and what an expression may begin with."""
        found = [item for item in super().shell_complete(ctx, incomplete) if item.value != EXPR]
        (expression,) = (p for p in self.commands[EXPR].params if p.name == "expression")
        return found + expression.shell_complete(ctx, incomplete)


composing = typer.Typer(
    cls=Composing,
    no_args_is_help=True,
    subcommand_metavar="EXPR|COMMAND [ARGS]...",
    help="""Combine adapters, and look at what became of it.

    lorareg compose style/ink:0.7+character/zhangsan:0.9 builds a composition; lorareg compose
    EXPR --help shows how.
    """,
)
composing.command(EXPR)(compose.compose)
composing.command()(compose_check.check)
composing.command()(compose_evaluate.evaluate)
composing.command()(compose_report.report)
composing.command()(recipes.verify)
composing.command()(recipes.upgrade)
composing.command()(recipes.explain)
