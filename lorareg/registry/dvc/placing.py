"""Putting files in place out of the cache: a folder appears whole, or stays as it was.

A folder is built aside and then takes its place in one rename; one that is there already is moved
aside first. A kill between the two leaves nothing there, never half of it, and the next pull mends
that. Files that did not change are linked over from the folder that goes, not copied again.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from lorareg.errors import ExternalToolError, listed
from lorareg.registry.digest import DigestCache
from lorareg.registry.dvc import copying, pointer
from lorareg.registry.dvc.objects import Objects
from lorareg.registry.dvc.pointer import Pointer

SCRATCH = ".dvc/tmp/lorareg-arriving"  # git ignores it, and it is on the same disk


def place(tracked: Pointer, cache: Objects, md5s: DigestCache, scratch: Path) -> bool:
    """Make a tracked path hold what its pointer says.

    Args:
        tracked: the pointer; the cache has all its bytes.
        cache: where they are.
        md5s: remembered digests of files on disk.
        scratch: folder on the same disk to build in.

    Returns:
        Whether something had to be done.

    Raises:
        ExternalToolError: a change on disk that is not in the cache would be lost.
    """
    path = tracked.path
    if path.is_symlink():
        raise ExternalToolError(
            f"{path.parent.name}/{path.name} is a symbolic link",
            why="what it leads to would be replaced by a folder",
            fix=f"remove the link, then pull again: rm '{path}'",
        )
    promised = cache.listing(tracked)
    here = _md5s(path, md5s) if path.exists() else {}
    if path.exists() and here == promised and path.is_dir() == tracked.is_folder:
        return False
    _refuse_loss(path, here, cache)
    scratch.mkdir(parents=True, exist_ok=True)
    aside = scratch / secrets.token_hex(12)
    try:
        if tracked.is_folder:
            _build(aside, path, promised, here, cache)
            _exchange(aside, path, scratch)
        else:
            copying.copy_file(cache.place(tracked.md5), aside)
            aside.replace(path)
    except OSError as error:
        raise copying.explained(error, path) from error
    finally:
        _remove(aside)
    return True


def sweep(scratch: Path) -> None:
    """Remove what a killed process left in the scratch folder; only with DVC's lock held."""
    for left in scratch.iterdir() if scratch.is_dir() else ():
        _remove(left)


def _md5s(path: Path, md5s: DigestCache) -> dict[str, str]:
    files = pointer.files_of(path)
    return md5s.digests({name: file for name, file in files.items() if file.exists()}) | {
        name: "a link to nothing" for name, file in files.items() if not file.exists()
    }


def _refuse_loss(path: Path, here: Mapping[str, str], cache: Objects) -> None:
    lost = [name for name, md5 in here.items() if not cache.place(md5).is_file()]
    lost += _uncounted(path)
    if lost:
        raise ExternalToolError(
            f"{path.parent.name}/{path.name} has changes that are nowhere else",
            why="\n" + listed(sorted(lost)),
            fix=f"move these files away, or keep them: dvc add '{path}'; then pull again",
        )


def _uncounted(path: Path) -> list[str]:
    """What DVC does not look at in a folder: repositories, and links to other folders."""
    return [
        os.path.relpath(os.path.join(parent, name), path)
        for parent, folders, _ in os.walk(path)
        for name in folders
        if name in pointer.NEVER_TRACKED or os.path.islink(os.path.join(parent, name))
    ]


def _build(
    aside: Path, path: Path, promised: Mapping[str, str], here: Mapping[str, str], cache: Objects
) -> None:
    aside.mkdir()
    for name, md5 in promised.items():
        target, before = aside / name, path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if here.get(name) == md5 and not before.is_symlink():
            with suppress(OSError):  # file systems without links
                os.link(before, target)
                continue
        copying.copy_file(cache.place(md5), target)


def _exchange(aside: Path, path: Path, scratch: Path) -> None:
    if path.exists():
        old = scratch / secrets.token_hex(12)
        path.replace(old)
        aside.replace(path)
        _remove(old)
    else:
        aside.replace(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)
