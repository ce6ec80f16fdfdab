"""Bytes on their way between a registry, its cache and a remote that is a folder.

A copy is written beside the objects, hashed as it was written, and takes its place only under the
md5 of what it really holds. What a kill leaves behind lies in one folder and is swept up later.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from lorareg.errors import IntegrityError, LoraregError
from lorareg.registry.dvc.objects import Objects
from lorareg.registry.dvc.pointer import file_md5
from lorareg.registry.files import NO_PERMISSION, NO_ROOM

PARTIAL = ".lorareg-partial"  # beside files/, where DVC keeps nothing
KEPT_SECONDS = 24 * 3600  # of what may still be written by another machine
OBJECT_MODE = 0o444  # as DVC's; it trusts an object of this mode without hashing it
AT_A_TIME = 1 << 27  # bytes of one copy_file_range


def take(source: Path, into: Objects) -> str:
    """Copy a file among the objects, under its own md5, which is returned.

    Raises:
        LoraregError: no room, no permission, or the file is gone.
    """
    with _arriving(into) as temporary:
        copy_file(source, temporary)
        md5 = file_md5(temporary)
        _settle(temporary, into.place(md5))
    return md5


def put(data: bytes, md5: str, into: Objects) -> None:
    """Write a listing among the objects."""
    with _arriving(into) as temporary:
        temporary.write_bytes(data)
        _settle(temporary, into.place(md5))


def carry(md5: str, source: Objects, into: Objects) -> int:
    """Copy an object, unless it is there with as many bytes; returns the bytes copied.

    Raises:
        IntegrityError: what arrived are other bytes than the name says; nothing took its place.
        LoraregError: no room, no permission, or the source is gone.
    """
    origin, place = source.place(md5), into.place(md5)
    size = origin.stat().st_size
    if place.is_file() and place.stat().st_size == size:
        return 0
    with _arriving(into) as temporary:
        copy_file(origin, temporary)
        found = file_md5(temporary)
        if found != md5.removesuffix(".dir"):
            raise IntegrityError(
                f"the bytes of {md5} in {source.folder} are damaged",
                why=f"bytes changed on the way: md5 {found}, DVC says {md5}",
                fix=f"rm '{origin}'",
            )
        _settle(temporary, place)
    return size


def begin(objects: Objects) -> None:
    """Make the top folder, and remove what copies that never ended left there a day ago.

    Raises:
        LoraregError: no room, no permission.
    """
    folder = _partial(objects)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explained(error, folder.parent) from error
    for path in folder.iterdir() if folder.is_dir() else ():
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > KEPT_SECONDS:
                path.unlink()


def copy_file(source: Path, target: Path) -> None:
    """Copy bytes, sharing blocks where the file system can (Linux: btrfs, XFS)."""
    with source.open("rb") as stream, target.open("xb") as copy:
        if not _copied_by_the_system(stream, copy):
            stream.seek(0)
            copy.seek(0)
            copy.truncate()
            shutil.copyfileobj(stream, copy, 1 << 20)


def _copied_by_the_system(stream: BinaryIO, copy: BinaryIO) -> bool:
    if not hasattr(os, "copy_file_range"):
        return False
    try:
        while os.copy_file_range(stream.fileno(), copy.fileno(), AT_A_TIME):
            pass
    except OSError as error:
        if error.errno in NO_ROOM:
            raise
        return False  # across file systems, or one that cannot
    return os.fstat(copy.fileno()).st_size == os.fstat(stream.fileno()).st_size


def _settle(temporary: Path, place: Path) -> None:
    with suppress(OSError):  # file systems without modes
        temporary.chmod(OBJECT_MODE)
    try:
        temporary.replace(place)
    except FileNotFoundError:
        for folder in (place.parents[2], place.parents[1], place.parent):  # files/md5/ab
            folder.mkdir(exist_ok=True)
        temporary.replace(place)


@contextmanager
def _arriving(objects: Objects) -> Iterator[Path]:
    folder = _partial(objects)
    temporary = folder / secrets.token_hex(12)
    try:
        folder.mkdir(exist_ok=True)  # its parent is not made again where a disk was unplugged
        yield temporary
    except OSError as error:
        raise explained(error, folder.parent) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def explained(error: OSError, where: Path) -> LoraregError:
    """What the system refused, and what helps."""
    remedy = "check that the folder is there and can be written"
    if error.errno in NO_ROOM:
        remedy = "make room on the disk"
    elif error.errno in NO_PERMISSION:
        remedy = "ask the owner of the folder for access"
    return LoraregError(
        f"bytes could not be copied to {where}",
        why=f"{error.strerror or error}: {error.filename or where}",
        fix=f"{remedy}, then run the same command again: it goes on where it stopped",
    )


def _partial(objects: Objects) -> Path:
    return objects.folder.parents[1] / PARTIAL
