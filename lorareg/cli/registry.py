"""``lorareg init`` and ``lorareg new``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lorareg.cli.root import out
from lorareg.cli.show import Json, as_json, note
from lorareg.errors import NotFoundError
from lorareg.registry.ids import AssetId


def init(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Default is here.")] = Path(),
    remote: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Where bytes go: s3://bucket/path, ssh://..., a folder."),
    ] = None,
    json: Json = False,
) -> None:
    """Make a folder a registry: git, DVC and lorareg.yaml. Running it again changes nothing."""
    from lorareg.registry import setup

    workspace = setup.init(folder, remote)
    remotes = workspace.store.remotes()
    if json:
        as_json({"root": str(workspace.root), "remotes": remotes})
        return
    out.print(f"registry {workspace.settings.name} in {workspace.root}")
    for name, url in remotes.items():
        out.print(f"  bytes go to {name}: {url}")
    if any(Path(url).name == setup.LOCAL_STORAGE for url in remotes.values()):
        note("  that folder is on this machine only; for a team: lorareg init --remote s3://...")


def new(
    ref: Annotated[str, typer.Argument(metavar="REF", help="kind/name of the new adapter.")],
    data: Annotated[
        str, typer.Option(metavar="PATH", help="Dataset in the registry: a folder or .jsonl.")
    ],
    task: Annotated[
        str | None,
        typer.Option(help="text-to-image or text-generation; default: by what the data is."),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="builtin:NAME, Hub id, folder or file."),
    ] = None,
    trigger: Annotated[
        str | None, typer.Option(help="Word that calls the adapter; default is its name.")
    ] = None,
    json: Json = False,
) -> None:
    """Write a manifest that trains as it is, and let DVC track the dataset.

    Example:
        lorareg new character/zhangsan --data data/char_zhangsan --trigger zzhangsan
    """
    from lorareg.registry import scaffold
    from lorareg.registry.paths import dataset_path, resolve_inside
    from lorareg.registry.workspace import Workspace

    workspace = Workspace.find()
    path = resolve_inside(workspace.root, data.rstrip("/"), dataset_path)
    if not path.exists():
        raise NotFoundError(
            f"there is no {data}",
            why="--data is a path in the registry, relative to its top",
            fix=f"copy the dataset there: cp -r PICTURES {workspace.root / 'data'}/",
        )
    relative = path.relative_to(workspace.root).as_posix()
    wish = scaffold.Wish(AssetId.parse(ref), task, base, relative, trigger)
    tracked = scaffold.write(workspace, wish)
    if json:
        as_json({"asset": ref, "dataset": relative, "files": tracked.nfiles, "md5": tracked.md5})
        return
    out.print(f"wrote manifests/{ref}/manifest.yaml")
    out.print(f"tracking {relative} ({tracked.nfiles} files)")
    note(f"  look at it, then: lorareg train {ref}")
