"""Copies of a dataset's pictures made fit for training; the originals are only read.

A run can be stopped at any moment and run again: ``provenance.json`` says what is done. A picture
that was added later gets its copy, one that is gone loses it, and nothing is done twice.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from lorareg.errors import NotFoundError
from lorareg.registry.dataset import kept, scan
from lorareg.registry.digest import DigestCache
from lorareg.trainers.data.caption_files import on_disk, read_captions
from lorareg.trainers.data.copies import carry, destination
from lorareg.trainers.data.copies.ledger import Ledger
from lorareg.trainers.data.copies.picture import Job, versions
from lorareg.trainers.data.copies.plan import Dataset, Plan, pixel_duplicates, plan
from lorareg.trainers.data.copies.provenance import LeftOut, Provenance, Settings
from lorareg.trainers.data.copies.workers import run
from lorareg.trainers.data.unread import FIX, unread, why_unread


@dataclass(frozen=True)
class Source:
    """Where the pictures are.

    Attributes:
        captions, vocabulary, skip: as in ``dataset`` of a manifest.
        cache: remembers digests of files.
    """

    folder: Path
    captions: str | None = None
    vocabulary: str | None = None
    skip: tuple[str, ...] = ()
    cache: DigestCache = field(default_factory=lambda: DigestCache(None))


@dataclass(frozen=True)
class Outcome:
    """What a run did.

    Attributes:
        provenance: all copies and everything left out.
        made: how many copies were made now; the others were there.
        removed: copies of pictures that the dataset no longer has.
    """

    provenance: Provenance
    made: int
    removed: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """There is something to train on, and no picture was broken or unread."""
        lost = self.provenance.without("broken") + self.provenance.without("unread")
        return bool(self.provenance.copies) and not lost


@dataclass(frozen=True)
class _Run:
    """Who is told how far a run is, and how many processes it has."""

    stage: Callable[[str, int, int], None]
    workers: int | None


def prepare(
    source: Source,
    out: Path,
    settings: Settings,
    stage: Callable[[str, int, int], None],
    *,
    dry_run: bool = False,
    workers: int | None = None,
) -> Outcome:
    """Make copies of all pictures in ``out``, or with ``dry_run`` find out what would come of it.

    Args:
        source: the dataset.
        out: folder of the copies, new or of an earlier run.
        settings: how copies are made.
        stage: told what is done, how much of it, and of how much.
        dry_run: decode and cut everything, write nothing.
        workers: processes; default one a core.

    Raises:
        NotFoundError: there is no picture.
        LoraregError: ``out`` cannot be used, or the disk is full; what is finished is kept.
        InvalidFileError: files or captions of the dataset that cannot be used, all named.
    """
    before = destination.existing(source.folder, out, settings)
    dataset = _dataset(source)
    ledger = Ledger(None if dry_run else out, settings, versions(settings), before)
    work = plan(dataset, settings, out, before if ledger.is_current else None)
    stale = sorted((before.copies if before else {}).keys() - set(work.names.values()))
    _remove(ledger.out, stale)
    ledger.copies, ledger.left_out = dict(work.kept), [*work.left_out, *_unread(source)]
    with ledger.saved():
        _make(source.folder, work, dataset, ledger, _Run(stage, workers))
        ledger.carried = carry.files(
            source.folder, out, source.vocabulary, ledger.carried, dry_run=dry_run
        )
        ledger.copies = carry.captions(
            source.folder, out, ledger.copies, dataset.captions, dry_run=dry_run
        )
    made = ledger.copies.keys() - work.kept.keys()
    return Outcome(ledger.provenance, len(made), tuple(stale))


def _dataset(source: Source) -> Dataset:
    listing = scan(source.folder, source.cache)
    names = kept(listing.images, source.skip)
    if not names:
        raise NotFoundError(
            f"dataset {source.folder.name}/ has no picture",
            why="it holds no .jpg, .jpeg, .png or .webp file that is not skipped",
            fix="put pictures into it, then run the command again",
        )
    captions = read_captions(source.folder, names, source.captions)
    return Dataset({name: listing.files[name] for name in names}, captions)


def _unread(source: Source) -> list[LeftOut]:
    """Pictures of other formats, which nobody should miss without being told."""
    names = kept(unread(source.folder), source.skip)
    return [LeftOut(source=n, reason="unread", why=f"{why_unread(n)}; {FIX}") for n in names]


def _make(folder: Path, work: Plan, dataset: Dataset, ledger: Ledger, how: _Run) -> None:
    todo, out = work.todo, ledger.out
    jobs = [
        Job(p, dataset.digests[p], on_disk(folder, p), out / name if out else None, ledger.settings)
        for p, name in todo.items()
    ]
    if jobs:
        how.stage("preparing pictures", 0, len(jobs))
    for done, result in enumerate(run(jobs, how.workers), start=1):
        if isinstance(result, LeftOut):
            ledger.left_out.append(result)
        else:
            ledger.add(todo[result.source], result)
        ledger.save_now_and_then()
        how.stage("preparing pictures", done, len(jobs))
    twins = pixel_duplicates(dataset, ledger.copies)
    ledger.left_out += twins.values()
    ledger.copies = {name: copy for name, copy in ledger.copies.items() if name not in twins}
    _remove(out, twins)


def _remove(out: Path | None, names: Collection[str]) -> None:
    """Copies that should not be there; nobody changed them, or the run had been refused."""
    if out:
        for name in names:
            (out / name).unlink(missing_ok=True)
        carry.forget(out, names)
