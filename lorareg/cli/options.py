"""Arguments that several commands share, and how they are completed."""

from __future__ import annotations

from typing import Annotated

import typer

from lorareg.errors import LoraregError


def complete_ref(incomplete: str) -> list[str]:
    """Names of assets for the shell."""
    from lorareg.registry.workspace import Workspace

    try:
        names = [str(asset) for asset in Workspace.find().assets()]
    except LoraregError:
        return []
    return [name for name in names if name.startswith(incomplete)]


RefArgument = Annotated[
    str,
    typer.Argument(metavar="REF", help="kind/name, or a unique name.", autocompletion=complete_ref),
]
RefsArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[REF]...", help="Assets; default is all.", autocompletion=complete_ref),
]
AdaptersArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[REF]...",
        help="Adapters: kind/name, or a unique name.",
        autocompletion=complete_ref,
    ),
]
OptionalRef = Annotated[
    str | None,
    typer.Argument(metavar="[REF]", help="kind/name; default is all.", autocompletion=complete_ref),
]
ExprArgument = Annotated[
    str,
    typer.Argument(
        metavar="EXPR",
        help="style/ink:0.7+character/zhangsan:0.9",
        autocompletion=complete_ref,
    ),
]
