"""``lorareg reproduce``."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from lorareg.cli.options import RefArgument
from lorareg.cli.root import out
from lorareg.cli.show import Json, as_json
from lorareg.cli.watch import RunWatcher
from lorareg.registry.ids import Ref
from lorareg.registry.workspace import Workspace

COLORS = {"identical": "green", "identical tensors": "green", "close": "yellow", "differs": "red"}


def reproduce(
    ref: RefArgument,
    repo: Annotated[
        str | None, typer.Option(metavar="URL", help="Clone this registry first.")
    ] = None,
    json: Json = False,
) -> None:
    """Train an adapter again in a clean checkout and compare it with its lock.

    Verdicts: identical (the same file), identical tensors, close, differs (exit status 1).
    """
    with ExitStack() as stack:
        workspace = _open(repo, stack)
        watcher = stack.enter_context(RunWatcher(ref))
        watcher.note("loading libraries")
        from lorareg.trainers.reproduce import reproduce as again

        found = again(workspace, Ref.parse(ref), watcher)
    if json:
        as_json(vars(found) | {"asset": str(found.asset)})
    else:
        out.print(f"{found.asset}: [bold {COLORS[found.verdict]}]{found.verdict}[/]")
        for name, (before, after) in found.outputs.items():
            out.print(f"  {name}\n    lock {before}\n    now  {after}", markup=False)
        if found.difference:
            out.print(f"  relative difference of the deltas: {found.difference:.2e}")
        for reason in found.reasons:
            out.print(f"  {reason}", markup=False)
    if found.verdict == "differs":
        raise typer.Exit(1)


def _open(repo: str | None, stack: ExitStack) -> Workspace:
    if repo is None:
        return Workspace.find()
    from lorareg.registry.gitclone import clone

    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="lorareg-"))
    return Workspace(clone(repo, Path(folder) / "clone").root)
