"""``lorareg export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lorareg.cli.options import complete_ref
from lorareg.cli.root import out
from lorareg.cli.show import Json, as_json, note
from lorareg.errors import LoraregError
from lorareg.registry.ids import RECIPE
from lorareg.registry.workspace import Workspace

if TYPE_CHECKING:
    from lorareg.weights.exporting.export import Tags

NAMES_BASE = ("peft", "comfyui", "snippet", "vllm", "lorax")
"""Forms whose reader loads the base by the name that it finds there."""


def export(
    what: Annotated[
        str,
        typer.Argument(
            metavar="REF|EXPR",
            help="An adapter, or a composition: style/ink:0.7+character/zhangsan.",
            autocompletion=complete_ref,
        ),
    ],
    form: Annotated[
        Literal[
            "diffusers", "kohya", "peft", "gguf", "comfyui", "a1111", "snippet", "vllm", "lorax"
        ],
        typer.Option("--format", help="kohya is read by A1111, Forge and ComfyUI."),
    ],
    to: Annotated[
        Path | None,
        typer.Option("--out", metavar="PATH", help="File or folder; default: the name, here."),
    ] = None,
    public: Annotated[
        bool, typer.Option("--public", help="Leave out what tells of the data and of people.")
    ] = False,
    base_name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What consumers are told to load as the base."),
    ] = None,
    json: Json = False,
) -> None:
    """Write an adapter as other programs take it; the file is kept only if they read the same.

    Examples:
        lorareg export character/zhangsan --format kohya --public

        lorareg export style/ink:0.7+character/zhangsan:0.9 --format a1111
    """
    from lorareg.weights.exporting import export as exporting

    workspace = Workspace.find()
    tags = _tags(workspace, what) if form == "kohya" and not public else {}
    if form in ("diffusers", "kohya", "peft"):
        note("loading libraries, to read the file back with them")
    wish = exporting.Wish(what, form, to, public, base_name, tags)
    found = exporting.export(workspace, wish)
    for warning in found.warnings:
        note(f"warning {warning}")
    if found.base_name.startswith("builtin:") and form in NAMES_BASE:
        note(f"only lorareg knows {found.base_name}: name a base it can load with --base-name")
    if json:
        as_json(vars(found) | {"path": str(found.path) if found.path else None, "format": form})
        return
    if found.text is not None and found.path is None:
        out.print(found.text, end="", markup=False)
        return
    out.print(f"wrote {found.path}", markup=False)
    if found.worst is not None:
        out.print(
            f"  read back by {', '.join(found.readers)}: "
            f"largest relative difference of a layer {found.worst:.1e}"
        )
        out.print(f"  {found.sha256}")


def _tags(workspace: Workspace, what: str) -> Tags:
    """Tags of the datasets of every member that is checked out."""
    from lorareg.registry.expression import Expression
    from lorareg.trainers.data import tag_counts

    found: dict[str, dict[str, int]] = {}
    for part in Expression.parse(what).parts:
        asset = workspace.find_asset(part.ref, any_version=True)
        if asset.kind == RECIPE or part.ref.at:
            continue
        try:
            counts = tag_counts.of_asset(workspace, asset)
        except LoraregError as error:
            note(f"  without the tags of {asset}: {error.what}")
            continue
        found |= {name: dict(tags) for name, tags in counts.items()}
    return found
