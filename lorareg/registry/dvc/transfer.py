"""Bytes to and from DVC's remotes: folders are copied to directly, all others by DVC itself.

A folder remote is read and written in DVC's own layout, object by object, each verified before it
takes its place; so a stopped transfer goes on where it was, and a remote that lost files is mended.
Of other remotes DVC tells only that it is done, so they are served in batches, and progress is
counted by batch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from lorareg.errors import (
    ExternalToolError,
    IntegrityError,
    LoraregError,
    NotFoundError,
    listed,
)
from lorareg.registry.dvc import copying
from lorareg.registry.dvc.objects import Objects
from lorareg.registry.dvc.pointer import Pointer
from lorareg.registry.sharing.meter import Meter

WORKERS = 4
BATCH_BYTES = 256_000_000  # of pointers that one dvc command is given
BATCH_POINTERS = 500

Run = Callable[[Sequence[Pointer]], int]  # a dvc command for these; returns objects moved


@dataclass(frozen=True)
class Moved:
    """What a transfer did.

    Attributes:
        objects: how many were copied: files, and a listing for each folder.
        size: their bytes; of a remote that is no folder, those of the pointers it was asked for.
        failed: pointer file -> why its bytes could not be had.
    """

    objects: int
    size: int
    failed: Mapping[Path, LoraregError]


def total(pointers: Sequence[Pointer]) -> int:
    """Bytes that pointers stand for."""
    return sum(tracked.size for tracked in pointers)


def lacking(pointers: Sequence[Pointer], source: Objects, into: Objects) -> dict[str, int]:
    """Objects that a folder has not, or has with another size: md5 -> bytes.

    Raises:
        NotFoundError: the source has not all of them either.
    """
    found: dict[str, int] = {}
    for tracked in pointers:
        if not source.holds(tracked):
            if into.holds(tracked):
                continue  # never fetched here, but the remote has it all
            source.files(tracked)
        md5s = dict.fromkeys([*source.listing(tracked).values(), tracked.md5])
        absent = [md5 for md5 in md5s if md5 not in found and not _same(source, into, md5)]
        found |= {md5: source.place(md5).stat().st_size for md5 in absent}
    return found


def up(pointers: Sequence[Pointer], cache: Objects, remote: Objects, meter: Meter) -> Moved:
    """Copy what a folder remote lacks. A folder's listing goes last: it vouches for its files.

    Raises:
        NotFoundError: the bytes are not here.
        IntegrityError: the cache holds other bytes than it says.
        LoraregError: the remote is full, or cannot be written.
    """
    missing = lacking(pointers, cache, remote)
    copying.begin(remote)
    files = [md5 for md5 in missing if not md5.endswith(".dir")]
    listings = [md5 for md5 in missing if md5.endswith(".dir")]

    def one(md5: str) -> int:
        try:
            size = copying.carry(md5, cache, remote)
        except IntegrityError as error:
            cache.discard([cache.place(md5)])
            remedy = "it was removed from the cache; run the same command again"
            raise IntegrityError(error.what, why=error.why, fix=remedy) from error
        meter.advance(size)
        return size

    meter.begin("uploading", sum(missing.values()))
    try:
        with ThreadPoolExecutor(WORKERS) as pool:
            size = sum(pool.map(one, files)) + sum(pool.map(one, listings))
        if missing:
            os.sync()  # git announces them next: they, and the commit, survive a power cut
    finally:
        meter.end()
    return Moved(len(missing), size, {})


def down(pointers: Sequence[Pointer], cache: Objects, remote: Objects, meter: Meter) -> Moved:
    """Copy what the cache lacks out of a folder remote; one that fails does not stop the others."""
    failed: dict[Path, LoraregError] = {}
    objects = size = 0
    wanted = [tracked for tracked in pointers if not cache.holds(tracked)]
    meter.begin("fetching", total(wanted))
    try:
        with ThreadPoolExecutor(WORKERS) as pool:
            for tracked, found in zip(
                wanted, pool.map(lambda each: _fetched(each, cache, remote), wanted), strict=True
            ):
                meter.advance(tracked.size)
                if isinstance(found, LoraregError):
                    failed[tracked.file] = found
                else:
                    objects, size = objects + found[0], size + found[1]
    finally:
        meter.end()
    return Moved(objects, size, failed)


def by_dvc(what: str, pointers: Sequence[Pointer], run: Run, meter: Meter) -> int:
    """Let DVC carry them, a batch at a time; returns the number of objects."""
    count = 0
    meter.begin(what, total(pointers))
    try:
        for batch in batches(pointers):
            count += run(batch)
            meter.advance(total(batch))
    finally:
        meter.end()
    return count


def batches(pointers: Sequence[Pointer]) -> Iterator[list[Pointer]]:
    """Pointers in groups that one dvc command is given."""
    batch: list[Pointer] = []
    for tracked in pointers:
        if batch and (len(batch) >= BATCH_POINTERS or total([*batch, tracked]) > BATCH_BYTES):
            yield batch
            batch = []
        batch.append(tracked)
    if batch:
        yield batch


def _fetched(tracked: Pointer, cache: Objects, remote: Objects) -> tuple[int, int] | LoraregError:
    """Number and bytes of the objects copied; or why not, with the name of every bad file."""
    try:
        sizes = [_carried(tracked.md5, remote, cache)] if tracked.is_folder else []
        refused: dict[str, LoraregError] = {}
        for name, md5 in cache.listing(tracked).items():
            try:
                sizes.append(_carried(md5, remote, cache))
            except (IntegrityError, NotFoundError) as error:
                refused[name] = error
    except IntegrityError as error:
        return _refusal(tracked, {"the listing of its files": error})
    except NotFoundError as error:
        return _absence(tracked, remote, {"the listing of its files": error})
    except LoraregError as error:
        return error
    bad = {name: why for name, why in refused.items() if isinstance(why, IntegrityError)}
    if bad:
        return _refusal(tracked, bad)
    if refused:
        return _absence(tracked, remote, refused)
    return sum(size > 0 for size in sizes), sum(sizes)


def _carried(md5: str, remote: Objects, cache: Objects) -> int:
    """Bytes copied; 0 where the cache has it."""
    if cache.place(md5).is_file():
        return 0
    if not remote.place(md5).is_file():
        raise NotFoundError(f"there is no object {md5}")
    return copying.carry(md5, remote, cache)


def _refusal(tracked: Pointer, bad: Mapping[str, LoraregError]) -> IntegrityError:
    """A push leaves alone what has the right name and size: damaged bytes must go first."""
    fixes = dict.fromkeys(error.fix for error in bad.values() if error.fix)
    remedy = " && ".join(fixes) or "remove it there"
    return IntegrityError(
        f"{_called(tracked)} from the remote is refused",
        why="\n" + listed([f"{name}: {error.why}" for name, error in sorted(bad.items())]),
        fix=f"nothing of it was put in place; {remedy}; then its owner: lorareg push",
    )


def _absence(
    tracked: Pointer, remote: Objects, missing: Mapping[str, LoraregError]
) -> LoraregError:
    top = remote.folder.parents[1]
    if not top.is_dir():
        return ExternalToolError(
            f"the remote of {_called(tracked)} is not there",
            why=f"there is no folder {top}",
            fix="mount it, or correct its address: dvc remote list",
        )
    names = [f"{name}: {error.what} in {top}" for name, error in sorted(missing.items())]
    return NotFoundError(
        f"the bytes of {_called(tracked)} are on no remote",
        why="\n" + listed(names),
        fix="ask the owner of the data to run: lorareg push",
    )


def _same(source: Objects, into: Objects, md5: str) -> bool:
    place = into.place(md5)
    return place.is_file() and place.stat().st_size == source.place(md5).stat().st_size


def _called(tracked: Pointer) -> str:
    """The end of a path, enough to know it by."""
    return "/".join(tracked.path.parts[-3:])
