"""``lorareg gc``: what nobody can ask for any more goes into quarantine, and from there away."""

from __future__ import annotations

import datetime
import re
from collections import Counter
from typing import Annotated

import typer

from lorareg.cli.root import out
from lorareg.cli.show import Json, as_json, note
from lorareg.errors import LoraregError
from lorareg.registry.workspace import Workspace

WORDS = {
    "cache": "objects of the DVC cache",
    "release": "kept weights of unknown releases",
    "run": "run folders of assets that are gone",
    "leftover": "temporary files of killed commands",
    "remote": "objects on the remote",
}


def gc(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do it; else it is only shown.")] = False,
    remote: Annotated[
        str | None,
        typer.Option(help="Look at this DVC remote, a folder, instead of at the local copies."),
    ] = None,
    restore: Annotated[bool, typer.Option(help="Put back what is in quarantine.")] = False,
    purge: Annotated[bool, typer.Option(help="Delete what is in quarantine, for good.")] = False,
    older_than: Annotated[
        str, typer.Option(metavar="TIME", help="With --purge: only what has waited so long.")
    ] = "14d",
    json: Json = False,
) -> None:
    """Move what no commit, branch, tag or file on disk needs into quarantine.

    Without --yes it only shows what it would do. Nothing is deleted but by --purge.
    """
    from lorareg.registry.upkeep import gc as collector

    workspace = Workspace.find()
    if restore and purge:
        raise LoraregError("--restore and --purge exclude each other", fix="give one of them")
    if restore:
        back, taken = collector.quarantine(workspace, remote).restore()
        _say({"restored": len(back), "taken": [str(path) for path in taken]}, json)
    elif purge:
        _purge(workspace, remote, age(older_than), yes, json)
    else:
        _collect(workspace, remote, yes, json)


def age(text: str) -> datetime.timedelta:
    """A time as people write it.

    Raises:
        LoraregError: it is none.

    >>> age("14d"), age("12h")
    (datetime.timedelta(days=14), datetime.timedelta(seconds=43200))
    """
    found = re.fullmatch(r"(\d{1,5})([dh])", text)
    if not found:
        raise LoraregError(f"{text!r} is no time", fix="write it as 14d, 12h or 0d")
    return datetime.timedelta(hours=int(found[1]) * (24 if found[2] == "d" else 1))


def _collect(workspace: Workspace, remote: str | None, yes: bool, json: bool) -> None:
    from lorareg.registry.upkeep import gc as collector

    found, batch = (
        collector.collect(workspace, remote) if yes else (collector.plan(workspace, remote), None)
    )
    for each in found.notes:
        note(each)
    if json:
        as_json(
            {
                "done": yes,
                "bytes": found.size,
                "kept": found.kept,
                "quarantine": str(batch.folder) if batch else None,
                "waste": [
                    {"path": str(w.path), "what": w.what, "bytes": w.size} for w in found.waste
                ],
            }
        )
        return
    counts = Counter(each.what for each in found.waste)
    for what, count in counts.items():
        size = sum(each.size for each in found.waste if each.what == what)
        out.print(f"{count:>7} {WORDS[what]}, {size / 1e6:,.1f} MB")
    out.print(f"{found.kept:>7} objects are needed or younger than the limit, and stay")
    if not found.waste:
        out.print("nothing to move")
    elif batch:
        out.print(f"moved to {batch.folder}", markup=False)
        note("lorareg gc --restore puts it back; lorareg gc --purge --yes deletes it in 14 days")
    else:
        note("nothing was moved: lorareg gc --yes moves it into quarantine")


def _purge(
    workspace: Workspace, remote: str | None, wait: datetime.timedelta, yes: bool, json: bool
) -> None:
    from lorareg.registry.upkeep import gc as collector

    if yes:
        done = collector.purge(workspace, remote, wait)
        if done.back:
            note(f"put back, since they are needed again: {len(done.back)}")
        _say({"deleted": done.things, "bytes": done.size}, json)
        return
    old = collector.quarantine(workspace, remote).older(wait)
    size, count = sum(batch.size for batch in old), sum(len(batch.waiting) for batch in old)
    _say({"would delete": count, "bytes": size}, json)
    if old:
        note("nothing was deleted: add --yes")


def _say(answer: dict[str, object], json: bool) -> None:
    if json:
        as_json(answer)
        return
    for key, value in answer.items():
        out.print(f"{key}: {value}", markup=False)
