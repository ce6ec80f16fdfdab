"""``lorareg search``: assets by words."""

from __future__ import annotations

from typing import Annotated

import typer

from lorareg.cli.show import Json, note, rows_as_json, table
from lorareg.registry.workspace import Workspace

TITLE = 60  # characters of a description that a row shows


def search(
    words: Annotated[list[str], typer.Argument(metavar="WORDS", help="All of them must fit.")],
    json: Json = False,
) -> None:
    """Find assets by name, title, trigger, base, owner, licence or description.

    The nearest come first. Exit status 1 if there is none.

    Example:
        lorareg search 张三 sdxl
    """
    from lorareg.registry.catalog import rows
    from lorareg.registry.search import search as find

    found = find(rows(Workspace.find()), " ".join(words))
    if json:
        rows_as_json([hit.row.document() | {"found": hit.places} for hit in found])
    elif found:
        table(
            ("asset", "title", "trigger", "base", "found in"),
            [
                (
                    hit.row.asset,
                    " · ".join(hit.row.title.values()) or hit.row.description[:TITLE],
                    hit.row.trigger or "",
                    hit.row.base,
                    ", ".join(dict.fromkeys(hit.places.values())),
                )
                for hit in found
            ],
        )
    else:
        note("nothing fits: lorareg list shows every asset")
    if not found:
        raise typer.Exit(1)
