"""``lorareg data prepare``."""

from __future__ import annotations

import shlex
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lorareg.cli.options import complete_ref
from lorareg.cli.root import out
from lorareg.cli.show import Json, as_json, note, table
from lorareg.cli.watch import RunWatcher
from lorareg.errors import LoraregError
from lorareg.registry.manifest import ImageManifest

if TYPE_CHECKING:
    from lorareg.trainers.data.copies.prepare import Outcome, Source
    from lorareg.trainers.data.target import Target

SHOWN = 20  # pictures left out that are named on a terminal; --json has all


def prepare(
    dataset: Annotated[
        str,
        typer.Argument(
            metavar="REF|DIR", help="An adapter or a folder.", autocompletion=complete_ref
        ),
    ],
    to: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder of the copies, made by this.")
    ],
    size: Annotated[
        int | None,
        typer.Option(metavar="PIXELS", help="Default: the manifest's resolution, else 512."),
    ] = None,
    shape: Annotated[
        Literal["square", "buckets"],
        typer.Option(help="All square, or each picture near its own aspect."),
    ] = "square",
    crop: Annotated[
        Literal["centre", "face"], typer.Option(help="What the cut is centred on.")
    ] = "centre",
    image_format: Annotated[
        Literal["png", "jpeg", "jpg", "webp"],
        typer.Option("--format", help="Of the copies; png and webp lose nothing."),
    ] = "png",
    upscale: Annotated[
        bool, typer.Option("--upscale", help="Enlarge small pictures instead of leaving them out.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Do everything but write, and say what would be.")
    ] = False,
    json: Json = False,
) -> None:
    """Copy pictures fit for training: cut to size, upright, sRGB, without EXIF and GPS.

    Originals stay as they are. Stopped or run again, it goes on where it was.

    Exit status 1 if a picture was left out as broken or unread, or if there is no copy.

    Examples:
        lorareg data prepare photos --out data/char_zhangsan --size 512 --crop face

        lorareg data prepare character/zhangsan --out data/zhangsan_768 --size 768 --shape buckets
    """
    from lorareg.trainers.data.copies import prepare as copies
    from lorareg.trainers.data.copies.provenance import settings
    from lorareg.trainers.data.target import resolve

    target = resolve(dataset)
    source = _source(target)
    if size is None and isinstance(target.manifest, ImageManifest):
        size = target.manifest.train.resolution
    ending = "jpeg" if image_format == "jpg" else image_format
    chosen = settings(size=size, shape=shape, crop=crop, format=ending, upscale=upscale)
    with RunWatcher(target.name) as watcher:
        outcome = copies.prepare(source, to, chosen, watcher.stage, dry_run=dry_run)
    if json:
        as_json(_document(outcome, dry_run))
    else:
        _print(outcome, to, dry_run)
        _print_next(outcome, target, to, dry_run)
    raise typer.Exit(0 if outcome.ok else 1)


def _source(target: Target) -> Source:
    from lorareg.registry.digest import DigestCache
    from lorareg.registry.manifest import TextManifest
    from lorareg.trainers.data.copies.prepare import Source

    if isinstance(target.manifest, TextManifest) or target.path.is_file():
        raise LoraregError(
            f"{target.name} has no pictures",
            why="lorareg data prepare makes copies of pictures, this is a dataset of dialogues",
            fix=f"to remove personal data from it: lorareg data redact {shlex.quote(target.name)}",
        )
    known = target.manifest.dataset if target.manifest else None
    return Source(
        target.path,
        known.captions if known else None,
        known.vocabulary if known else None,
        target.manifest.left_alone if target.manifest else (),
        target.workspace.digests if target.workspace else DigestCache(None),
    )


def _document(outcome: Outcome, dry_run: bool) -> dict[str, object]:
    return {
        "dry_run": dry_run,
        "ok": outcome.ok,
        "made": outcome.made,
        "removed": list(outcome.removed),
        "buckets": {f"{w}x{h}": count for (w, h), count in _buckets(outcome)},
        **outcome.provenance.document(),
    }


def _buckets(outcome: Outcome) -> list[tuple[tuple[int, int], int]]:
    counts = Counter(copy.size for copy in outcome.provenance.copies.values())
    return sorted(counts.items(), key=lambda item: (item[0][0] / item[0][1], item[0]))


def _print(outcome: Outcome, to: Path, dry_run: bool) -> None:
    from lorareg.trainers.data.copies.summary import sentences

    known = outcome.provenance
    verb = "would be" if dry_run else "are"
    out.print(f"{len(known.copies)} copies {verb} in {to}", markup=False)
    if known.copies:
        table(("bucket", "pictures"), [(f"{w}x{h}", str(n)) for (w, h), n in _buckets(outcome)])
    for sentence in sentences(outcome):
        out.print(f"  {sentence}", markup=False)
    for entry in known.left_out[:SHOWN]:
        out.print(f"  left out, {entry.reason}: {entry.source}: {entry.why}", markup=False)
    if len(known.left_out) > SHOWN:
        out.print(f"  ... and {len(known.left_out) - SHOWN} more; --json names all", markup=False)


def _print_next(outcome: Outcome, target: Target, to: Path, dry_run: bool) -> None:
    """Which commands come next."""
    if dry_run or not outcome.provenance.copies:
        return
    manifest, workspace = target.manifest, target.workspace
    if manifest is None or workspace is None:
        note(f"  next: lorareg data check {shlex.quote(str(to))}")
        return
    if not to.resolve().is_relative_to(workspace.root):
        note(f"  to train on them, move them into {workspace.root.name}/data/")
        return
    path = to.resolve().relative_to(workspace.root).as_posix()
    changes = [f"dataset.path={path}"]
    if manifest.dataset.captions not in (None, "metadata.csv"):
        changes.append("dataset.captions=metadata.csv")
    options = " ".join(f"--set {shlex.quote(change)}" for change in changes)
    note(f"  next: lorareg data check {shlex.quote(path)}")
    note(f"        lorareg train {manifest.id} {options}")
