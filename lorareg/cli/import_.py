"""``lorareg import``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from lorareg.cli.root import out
from lorareg.cli.show import Json, as_json, note, warn
from lorareg.registry.ids import AssetId
from lorareg.registry.workspace import Workspace


def import_(
    path: Annotated[
        Path, typer.Argument(metavar="FILE|FOLDER", help=".safetensors, or a PEFT folder.")
    ],
    ref: Annotated[str, typer.Argument(metavar="KIND/NAME", help="What it is called here.")],
    base: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="builtin:NAME, Hub id, folder or file."),
    ] = None,
    trigger: Annotated[
        str | None, typer.Option(help="Word that calls the adapter; default: what its header says.")
    ] = None,
    from_pickle: Annotated[
        bool,
        typer.Option(
            "--from-pickle", help="Read the tensors of a .pt, .ckpt or .bin in another process."
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Take over a LoRA of kohya, diffusers, PEFT or LyCORIS; every key is understood or named.

    Example:
        lorareg import ~/Downloads/ink.safetensors style/ink --base models/sd15
    """
    from lorareg.weights import importing

    wish = importing.Wish(AssetId.parse(ref), path, base, trigger, from_pickle)
    found = importing.import_file(Workspace.find(), wish)
    for warning in found.warnings:
        warn(warning)
    if json:
        as_json(asdict(found) | {"lock": found.lock.model_dump(mode="json", by_alias=True)})
        return
    origin = found.lock.inputs.origin
    out.print(f"imported {origin.file} ({origin.form}) as {ref}", markup=False)
    out.print(f"  {found.modules} modules, rank up to {found.rank}")
    out.print(f"  base {found.lock.inputs.base.model}", markup=False)
    if found.trigger:
        out.print(f"  trigger {found.trigger}", markup=False)
    note(f"  look at manifests/{ref}/manifest.yaml, then: lorareg generate {ref} --prompt ...")
