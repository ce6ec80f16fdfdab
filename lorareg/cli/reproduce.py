"""``lorareg reproduce``: training again, the verdict, and who stands for it."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorareg.cli.options import RefArgument
from lorareg.cli.root import out
from lorareg.cli.show import Json, as_json, note
from lorareg.cli.watch import RunWatcher
from lorareg.registry.attesting import Signer, publish, signer, write
from lorareg.registry.ids import Ref
from lorareg.registry.workspace import Workspace

if TYPE_CHECKING:
    from lorareg.trainers.reproduction import Reproduction

COLORS = {"identical": "green", "identical tensors": "green", "close": "yellow", "differs": "red"}


def reproduce(
    ref: RefArgument,
    repo: Annotated[
        str | None, typer.Option(metavar="URL", help="Clone this registry first.")
    ] = None,
    attest: Annotated[
        bool, typer.Option("--attest", help="Sign the verdict and commit it for others to see.")
    ] = False,
    json: Json = False,
) -> None:
    """Train an adapter again in a clean checkout and compare it with its lock.

    Verdicts: identical (the same file), identical tensors, close, differs (exit status 1).

    With --attest the verdict becomes a signed file beside the lock, shown by `lorareg show` and
    the card; with --repo too it is written here, to be handed in.

    Example:
        lorareg reproduce character/zhangsan@v1.0.0 --attest
    """
    with ExitStack() as stack:
        workspace = _open(repo, stack)
        by = signer(workspace) if attest else None  # without a key no hours are spent
        watcher = stack.enter_context(RunWatcher(ref))
        watcher.note("loading libraries")
        from lorareg.trainers.reproduce import reproduce as again

        found = again(workspace, Ref.parse(ref), watcher, as_committed=attest)
        file = _attest(workspace, found, by, repo) if by else None
    if json:
        as_json(found.document() | ({"attestation": file} if file else {}))
    else:
        _show(found)
        if file:
            out.print(f"  attested: {file}", markup=False)
    if found.verdict == "differs":
        raise typer.Exit(1)


def _show(found: Reproduction) -> None:
    name = f"{found.asset}@{found.version}" if found.version else str(found.asset)
    out.print(f"{name}: [bold {COLORS[found.verdict]}]{found.verdict}[/]")
    for file, (before, after) in found.outputs.items():
        out.print(f"  {file}\n    lock {before}\n    now  {after}", markup=False)
    if found.difference:
        out.print(f"  relative difference of the deltas: {found.difference:.2e}")
    if found.first_input:
        out.print("  nothing was trained: the inputs are not those of the lock", markup=False)
    for reason in found.reasons:
        out.print(f"  {reason}", markup=False)
    if found.verdict in ("close", "differs") and not found.reasons:
        out.print("  no library, device or setting differs: look at the machine", markup=False)


def _attest(workspace: Workspace, found: Reproduction, by: Signer, repo: str | None) -> str:
    """Sign the verdict; in a registry it is committed, from a passing clone it is handed over."""
    statement = found.statement(by.name)
    if repo is None:
        return publish(workspace, statement, by)
    file = Path(f"{found.asset.name}-{by.name}.attestation.json")
    write(file, statement, by)
    note(f"hand it in: copy it to manifests/{found.asset}/attestations/{by.name}.json there, push")
    return str(file)


def _open(repo: str | None, stack: ExitStack) -> Workspace:
    if repo is None:
        return Workspace.find()
    from lorareg.registry.git.clone import clone

    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="lorareg-"))
    return Workspace(clone(repo, Path(folder) / "clone").root)
