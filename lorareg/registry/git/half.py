"""A checkout that was killed half-way: what is already as it is to become is nobody's change."""

from __future__ import annotations

from pathlib import Path

from lorareg.registry.git.command import call


def take_back(root: Path, target: str) -> None:
    """Put files that a killed git had moved to ``target`` back to HEAD, so that it can move again.

    Nothing is lost: their bytes are those of the target, which is in git.
    """
    status = ["status", "--porcelain", "-z", "--no-renames", "--untracked-files=all"]
    entries = call(root, status).must_succeed().text.split("\0")
    changed = [entry[3:] for entry in entries if entry]
    if not changed:
        return
    before, after = _blobs(root, "HEAD"), _blobs(root, target)
    moved = [
        name
        for name in changed
        if before.get(name) != after.get(name) and _on_disk(root, name) == after.get(name)
    ]
    known = [f":(literal){name}" for name in moved if name in before]
    for name in moved:
        if name not in before:
            (root / name).unlink()
    if known:
        call(root, ["checkout", "--quiet", "HEAD", "--", *known]).must_succeed()


def _blobs(root: Path, revision: str) -> dict[str, str]:
    """Files at a revision: name -> id of its blob."""
    listed = call(root, ["ls-tree", "-r", "-z", revision]).must_succeed().text
    pairs = (line.partition("\t") for line in listed.split("\0") if line)
    return {name: fields.split()[2] for fields, _, name in pairs}


def _on_disk(root: Path, name: str) -> str | None:
    """The id that a file would have in git; None: it is not there."""
    path = root / name
    if path.is_symlink() or not path.is_file():
        return None
    return call(root, ["hash-object", "--", name]).must_succeed().line
