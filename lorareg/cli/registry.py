"""``lorareg init`` and ``lorareg new``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorareg.cli.root import out
from lorareg.cli.show import Json, as_json, note
from lorareg.errors import LoraregError, NotFoundError
from lorareg.registry.ids import AssetId

if TYPE_CHECKING:
    from lorareg.registry.foreign_config import Taken


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
    out.print(f"registry {workspace.settings.name} in {workspace.root}", markup=False)
    for name, url in remotes.items():
        out.print(f"  bytes go to {name}: {url}", markup=False)
    if any(Path(url).name == setup.LOCAL_STORAGE for url in remotes.values()):
        note("  that folder is on this machine only; for a team: lorareg init --remote s3://...")


def new(
    ref: Annotated[str, typer.Argument(metavar="REF", help="kind/name of the new adapter.")],
    data: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Dataset in the registry: a folder or .jsonl."),
    ] = None,
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
    config: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="Take over a lora-scripts or kohya config."),
    ] = None,
    json: Json = False,
) -> None:
    """Write a manifest that trains as it is, and let DVC track the dataset.

    Examples:
        lorareg new character/zhangsan --data data/char_zhangsan --trigger zzhangsan

        lorareg new character/zhangsan --data data/char_zhangsan --from old/config.toml
    """
    from lorareg.registry import foreign_config, scaffold
    from lorareg.registry.paths import dataset_path, resolve_inside
    from lorareg.registry.workspace import Workspace

    workspace = Workspace.find()
    taken = foreign_config.read(config) if config else foreign_config.Taken()
    said = (data or taken.data or "").rstrip("/").removeprefix("./")
    if not said:
        raise LoraregError("no dataset is named", fix="lorareg new REF --data data/NAME")
    path = resolve_inside(workspace.root, said, dataset_path)
    if not path.exists():
        raise NotFoundError(
            f"there is no {said}",
            why="a dataset is a path in the registry, relative to its top",
            fix=f"copy it there: cp -r PICTURES {workspace.root / 'data'}/, then say --data",
        )
    path = foreign_config.one_repeated_folder(taken, path)
    relative = path.relative_to(workspace.root).as_posix()
    wish = scaffold.Wish(
        AssetId.parse(ref), task or taken.task, base or taken.base, relative, trigger, taken.changes
    )
    tracked = scaffold.write(workspace, wish)
    if json:
        document = {"asset": ref, "dataset": relative, "files": tracked.nfiles, "md5": tracked.md5}
        as_json(document | ({"taken": asdict(taken)} if config else {}))
        return
    out.print(f"wrote manifests/{ref}/manifest.yaml")
    out.print(f"tracking {relative} ({tracked.nfiles} files)")
    _say_what_was_taken(taken)
    note(f"  look at it, then: lorareg train {ref}")


def _say_what_was_taken(taken: Taken) -> None:
    for key, value in taken.changes.items():
        note(f"  taken over: {key}: {value}")
    for key, why in taken.needless.items():
        note(f"  not needed: {key} ({why})")
    for key, value in taken.unknown.items():
        note(f"  NOT taken over: {key} = {value}: a manifest has no such key")
