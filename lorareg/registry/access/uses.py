"""``.lorareg/uses.jsonl``: uses that leave no commit, a line each, every line bound to the last.

A line holds the digest of the line before it, so that one that is changed, removed or moved breaks
the chain. How many lines there are, and the digest of the last, is also kept in git's own folder:
a file cut off at its end, or gone with ``.lorareg/``, is noticed too.

What it cannot show: it is one clone's log, made by whoever works there. Who rewrites all of it,
and the note in git's folder too, or copies weights without lorareg, leaves no trace here; nothing
on a machine binds its owner. It serves people who want to know and to show what was used for what.
"""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorareg.errors import InvalidFileError, LoraregError
from lorareg.registry import digest, jsontext
from lorareg.registry.access import policy
from lorareg.registry.finding import Finding
from lorareg.registry.git.command import call
from lorareg.registry.ids import AssetId
from lorareg.registry.workspace import Workspace

FILE = "uses.jsonl"
TORN = "uses.torn"
HEAD = "lorareg-uses.json"
PURPOSE = "LORAREG_PURPOSE"
ALGORITHM = "use-sha256-v1"
TAIL = 1 << 16  # bytes from the end that surely hold the last line
MAX_LINE = 1 << 15
MAX_BYTES = 512_000_000
LOCK_SECONDS = 20.0


@dataclass(frozen=True)
class Head:
    """How far the log goes: number of lines, and the digest of the last; (0, None) is empty."""

    count: int
    digest: str | None


def record(
    workspace: Workspace, use: str, asset: AssetId | str, details: Mapping[str, Any] | None = None
) -> None:
    """Append one use, and return when it is on disk.

    Args:
        workspace: the registry.
        use: "generate", "export", "load" ...
        asset: what is used: an asset, a release of it, or an expression.
        details: ``members`` (``used``), ``out`` (the name of a file, no path), ``sha256`` ...

    Raises:
        LoraregError: it cannot be recorded, so it is not to be done: a log that may be skipped is
            none. In a registry without a policy, where nobody asks, the use goes on.
    """
    try:
        _append(workspace, {"use": use, "asset": str(asset), **(details or {})})
    except OSError as error:
        if policy.load(workspace) is None:
            return
        raise LoraregError(
            f"this use of {asset} cannot be recorded, so it is refused",
            why=f"{error.strerror or error} (.lorareg/{FILE})",
            fix="make room, or give write permission to .lorareg/ in the registry; then run it "
            "again",
        ) from error


def used(ref: str, tensors: str | None) -> dict[str, str | None]:
    """One adapter of a use, in ``members`` of its details."""
    return {"ref": ref, "tensors": tensors}


def entries(workspace: Workspace) -> list[dict[str, Any]]:
    """Every use that can be read, oldest first; ``check`` says whether they are what was written.

    Raises:
        InvalidFileError: the file is larger than can be read.
    """
    return [entry for line in _lines(workspace) if (entry := _parsed(line)) is not None]


def tells_of(entry: Mapping[str, Any], asset: str) -> bool:
    """Whether an asset, in whatever state, was used in an entry."""
    members = entry.get("members")
    refs = [str(each.get("ref")) for each in members or () if isinstance(each, dict)]
    return any(ref.partition("@")[0] == asset for ref in [str(entry.get("asset")), *refs])


def check(workspace: Workspace) -> list[Finding]:
    """Whether every line is as it was written, in its place, and none is missing at the end."""
    lines = _lines(workspace)
    findings: list[Finding] = []
    before = Head(0, None)
    heads = [before]
    for number, line in enumerate(lines, 1):
        entry = _parsed(line)
        what = f"{FILE} line {number}"
        if entry is None:
            findings.append(_broken(what, "is not a line that lorareg wrote"))
            before = Head(before.count + 1, None)
            continue
        if entry.get("hash") != _hash(entry) or _line(entry) != line:
            findings.append(_broken(what, "was changed: its digest is not that of its content"))
        if entry.get("n") != before.count + 1 or entry.get("previous") != before.digest:
            findings.append(_broken(what, "does not follow the line before it"))
        before = _head_of(entry)
        heads.append(before)
    findings += _missing(workspace, heads)
    torn = workspace.scratch / TORN
    if torn.is_file():
        detail = f"a line that a kill or a full disk cut off is kept in .lorareg/{TORN}"
        findings.append(Finding(True, FILE, detail))
    if all(finding.ok for finding in findings):
        findings.append(Finding(True, FILE, f"uses: {len(lines)}, each bound to the one before"))
    return findings


def _broken(what: str, detail: str) -> Finding:
    return Finding(False, what, detail, "compare it with a backup; lorareg cannot restore it")


def _missing(workspace: Workspace, heads: list[Head]) -> Iterator[Finding]:
    """A log that is shorter, or ends otherwise, than git's folder remembers."""
    known = _known_head(workspace)
    if known.count == 0 or known in heads:
        return
    shown = f"it had {known.count} lines, the last with digest {known.digest}"
    if heads[-1].count < known.count:
        detail = f"{shown}; now it ends after {heads[-1].count}: lines are missing at the end"
    else:
        detail = f"{shown}; now that line is another one"
    yield _broken(FILE, detail)


def _append(workspace: Workspace, what: Mapping[str, Any]) -> None:
    whole = {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
        "who": policy.me(workspace) or _mail(workspace),
        "purpose": os.environ.get(PURPOSE) or None,
        **what,
    }
    workspace.scratch.mkdir(parents=True, exist_ok=True)
    with _alone(workspace), (workspace.scratch / FILE).open("a+b", buffering=0) as stream:
        last = _repaired(workspace, stream.fileno())
        entry: dict[str, Any] = {**whole, "n": last.count + 1, "previous": last.digest}
        entry["hash"] = _hash(entry)
        line = _line(entry)
        if len(line) > MAX_LINE:
            raise LoraregError("this use is too long to be recorded", why=f"{len(line)} bytes")
        _write(stream.fileno(), line + b"\n")
        _remember(workspace, _head_of(entry))


@contextmanager
def _alone(workspace: Workspace) -> Iterator[None]:
    from filelock import FileLock, Timeout

    try:
        with FileLock(workspace.scratch / f"{FILE}.lock", timeout=LOCK_SECONDS):
            yield
    except Timeout as error:
        raise OSError(None, "another lorareg has held its lock for long") from error


def _write(descriptor: int, data: bytes) -> None:
    """All of it, then fsync; what a full disk left of it is cut off again."""
    start = os.fstat(descriptor).st_size
    try:
        done = 0
        while done < len(data):
            done += os.write(descriptor, data[done:])
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, start)
        raise


def _repaired(workspace: Workspace, descriptor: int) -> Head:
    """The last line's place in the chain, after what a kill left behind it was put aside."""
    size = os.fstat(descriptor).st_size
    start = max(0, size - TAIL)
    tail = os.pread(descriptor, size - start, start)
    whole, _, rest = tail.rpartition(b"\n")
    if rest:
        if (entry := _parsed(rest)) and entry.get("hash") == _hash(entry):
            _write(descriptor, b"\n")  # only the end of the line was missing
            return _head_of(entry)
        _put_aside(workspace, rest)
        os.ftruncate(descriptor, size - len(rest))
        os.fsync(descriptor)
    entry = _parsed(whole.rpartition(b"\n")[2]) if whole else None
    last, known = _head_of(entry) if entry else Head(0, None), _known_head(workspace)
    # Where lines are missing, the chain goes on from the last one that there was, so that the gap
    # shows for ever. The note may lag by the one line before which a machine lost its power.
    return last if last.count > known.count else known


def _put_aside(workspace: Workspace, rest: bytes) -> None:
    with (workspace.scratch / TORN).open("ab", buffering=0) as stream:
        stream.write(rest + b"\n")
        os.fsync(stream.fileno())


def _head_of(entry: Mapping[str, Any]) -> Head:
    number, found = entry.get("n"), entry.get("hash")
    return Head(number if isinstance(number, int) else -1, found if isinstance(found, str) else "")


def _hash(entry: Mapping[str, Any]) -> str:
    return digest.of_json({key: entry[key] for key in entry if key != "hash"}, ALGORITHM)


def _line(entry: Mapping[str, Any]) -> bytes:
    return digest.canonical_json(entry)


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        found = jsontext.parse(line.decode())
    except ValueError:  # also what is not UTF-8
        return None
    return found if isinstance(found, dict) else None


def _lines(workspace: Workspace) -> list[bytes]:
    file = workspace.scratch / FILE
    if not file.is_file():
        return []
    if (size := file.stat().st_size) > MAX_BYTES:
        raise InvalidFileError(f".lorareg/{FILE} is too large", why=f"{size} bytes")
    text = file.read_bytes()
    return text.removesuffix(b"\n").split(b"\n") if text else []


def _known_head(workspace: Workspace) -> Head:
    try:
        found = json.loads(_head_file(workspace).read_bytes())
        return Head(int(found["count"]), str(found["hash"]))
    except (OSError, ValueError, KeyError, TypeError):
        return Head(0, None)


def _remember(workspace: Workspace, head: Head) -> None:
    """Overwrite in place, without fsync: after a power cut it may lag behind, never lead."""
    text = json.dumps({"count": head.count, "hash": head.digest}).encode().ljust(160) + b"\n"
    descriptor = os.open(_head_file(workspace), os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        os.pwrite(descriptor, text, 0)
    finally:
        os.close(descriptor)


def _head_file(workspace: Workspace) -> Path:
    """In git's folder, which survives ``rm -r .lorareg``; a linked worktree has one of its own."""
    git = workspace.root / ".git"
    if git.is_file():
        named = git.read_text("utf-8", "replace").removeprefix("gitdir:").strip()
        git = workspace.root / named
    return (git if git.is_dir() else workspace.scratch) / HEAD


def _mail(workspace: Workspace) -> str | None:
    return call(workspace.root, ["config", "--get", "user.email"]).line or None
