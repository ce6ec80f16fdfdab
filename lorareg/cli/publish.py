"""``lorareg publish``."""

from __future__ import annotations

from typing import Annotated

import typer

from lorareg.cli.options import RefArgument
from lorareg.cli.root import out
from lorareg.cli.show import Json, as_json, note
from lorareg.registry.ids import Ref
from lorareg.registry.workspace import Workspace


def publish(
    ref: RefArgument,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done; send nothing.")
    ] = False,
    json: Json = False,
) -> None:
    """Bring a release to the Hugging Face Hub: private, complete, then open; and read it back.

    Without a version it is the newest release. Cut short, it is finished by running it again. The
    token is that of `hf auth login` or HF_TOKEN; HF_ENDPOINT names another Hub.

    Example:
        lorareg publish character/zhangsan@v1.2.0
    """
    from lorareg.registry.publishing import publish as publishing
    from lorareg.registry.publishing import subject

    workspace = Workspace.find()
    wanted = subject.find(workspace, Ref.parse(ref))
    done = publishing.publish(workspace, wanted, note, dry_run=dry_run)
    if json:
        as_json(vars(done) | {"dry_run": dry_run})
        return
    shown = f"{done.asset}@{done.version}"
    if dry_run:
        out.print(f"would publish {shown} as {done.repo}:" if done.steps else f"{shown} is up")
        for step in done.steps:
            out.print(f"  {step}", markup=False)
        for name in done.files:
            out.print(f"    {name}", markup=False)
        return
    access = "private" if done.private else f"public, gated: {done.gated or 'no'}"
    what = "published" if done.steps else "is up already:"
    out.print(f"{shown} {what} {done.repo} ({access}), commit {str(done.commit)[:10]}")
