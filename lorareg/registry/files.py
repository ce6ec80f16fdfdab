"""Files that appear whole or not at all, and text that is UTF-8 or named."""

from __future__ import annotations

import codecs
import errno
import os
import re
import secrets
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from lorareg.errors import InvalidFileError, LoraregError, NotFoundError
from lorareg.registry.encodings import SPOKEN, likely_encoding

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_PERMISSION = (errno.EACCES, errno.EPERM, errno.EROFS)
IN_THE_WAY = (errno.ENOTDIR, errno.EEXIST, errno.EISDIR)
TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}\.tmp", re.DOTALL)
"""Names of what is being written, or was when its writer was killed; it is nobody's work."""


@contextmanager
def replaced_atomically(path: Path) -> Iterator[BinaryIO]:
    """Write to a temporary file that takes the place of ``path`` when the block ends well.

    The old file stays as it was until the new one is on disk (write, fsync, rename, fsync of the
    folder); after an exception, a kill or a full disk it is still the old one.

    Raises:
        LoraregError: the disk is full, or the file cannot be written there.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        if error.errno in NO_ROOM:
            remedy = "make room"
        elif error.errno in NO_PERMISSION:
            remedy = "give write permission"
        elif error.errno in IN_THE_WAY:
            remedy = "move away what is in the way"
        else:
            raise
        raise LoraregError(
            f"cannot write {path.name}",
            why=f"{error.strerror} ({path.parent})",
            fix=f"{remedy}, then run the command again; the file is as it was",
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes | str) -> None:
    """Replace the content of ``path``; text is written as UTF-8."""
    with replaced_atomically(path) as stream:
        stream.write(data.encode() if isinstance(data, str) else data)


@contextmanager
def as_before_if_refused(*files: Path) -> Iterator[None]:
    """Put files back as they were, or away where they were not, if the block ends in a refusal."""
    before = {file: file.read_bytes() if file.is_file() else None for file in files}
    try:
        yield
    except LoraregError:
        for file, data in before.items():
            if data is None:
                file.unlink(missing_ok=True)
            else:
                write_atomically(file, data)
        raise


def sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_utf8(path: Path, *, max_bytes: int) -> str:
    """Read a text file that people wrote; a byte-order mark is dropped.

    Raises:
        NotFoundError: there is no such file.
        InvalidFileError: too large, unreadable, or not UTF-8; then the line is named, and the
            encoding it probably is.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(max_bytes + 1)
    except FileNotFoundError as error:
        folder = path.absolute().parent.name
        raise NotFoundError(f"there is no {path.name} in {folder}/") from error
    except OSError as error:
        raise InvalidFileError(f"cannot read {path.name}", why=str(error.strerror)) from error
    if len(data) > max_bytes:
        raise InvalidFileError(
            f"{path.name} is too large",
            why=f"{path.stat().st_size} bytes, at most {max_bytes} are read",
            fix="shorten it, or split it",
        )
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        guess = likely_encoding(data)
        raise InvalidFileError(
            f"{path.name} is not UTF-8: line {line}, byte 0x{data[error.start]:02x}",
            why=f"it reads as {spoken(guess)}; lorareg files are UTF-8",
            fix=conversion(path, guess),
        ) from error


def read_own(path: Path, *, max_bytes: int) -> str:
    """Read a file that belongs to a registry itself, such as a manifest, a lock or a policy.

    A commit can bring a link in its place, and what is wrong with a file is shown with its words:
    so it may not lead to somebody's file elsewhere. Raises as ``read_utf8``.

    Raises:
        InvalidFileError: a link that leads out of the registry, or no file at all.
    """
    refuse_elsewhere(path)
    return read_utf8(path, max_bytes=max_bytes)


def refuse_elsewhere(path: Path) -> None:
    """Refuse what stands in a file's place and is none of the registry; what is missing passes."""
    fix = f"look at where it comes from, then restore it: git checkout -- {path.name}"
    if path.is_symlink():
        tops = (each for each in path.absolute().parents if (each / "lorareg.yaml").exists())
        top = next(tops, None)
        try:
            leads_out = top is not None and not path.resolve().is_relative_to(top.resolve())
        except (OSError, RuntimeError) as error:  # a loop
            raise InvalidFileError(f"cannot read {path.name}", why=str(error), fix=fix) from error
        if leads_out:
            why = "it is a symbolic link that leads out of the registry"
            raise InvalidFileError(f"{path.name} is refused", why=why, fix=fix)
    if os.path.lexists(path) and not path.is_file():
        what = "a folder" if path.is_dir() else "a link to nothing, a device or a pipe"
        raise InvalidFileError(f"{path.name} is no file", why=f"it is {what}", fix=fix)


def spoken(encoding: str | None) -> str:
    """How people call an encoding."""
    return SPOKEN.get(encoding, encoding) if encoding else "no text encoding known here"


def conversion(path: Path, encoding: str | None) -> str:
    """How to make a file UTF-8: a command to paste where its encoding is known."""
    if encoding is None:
        return "save it as UTF-8 in the program that made it"
    # GB18030 is GBK with the characters that GBK has not
    source, name = "GB18030" if encoding == "GBK" else encoding, shlex.quote(str(path))
    return f"convert it: iconv -f {source} -t UTF-8 {name} > utf8.tmp && mv utf8.tmp {name}"
