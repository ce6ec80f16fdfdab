"""The newest release of every asset, by the names of tags: what a list shows, in milliseconds.

Starting git takes longer than listing ten thousand assets, so its two plain forms of references are
read as files (gitrepository-layout(5): refs, packed-refs); any other form is left to git.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from lorareg.registry.ids import VERSION

TAGS = "refs/tags/"


def of_all(root: Path) -> dict[str, str]:
    """``kind/name`` -> ``v1.4.0``, of the assets that have a release; signed or not."""
    return _newest(_names(root))


def of(root: Path, asset: str) -> str | None:
    """The newest release of one asset, or None."""
    return _newest(name for name in _names(root) if name.startswith(f"{asset}@")).get(asset)


def _newest(names: Iterable[str]) -> dict[str, str]:
    found: dict[str, tuple[int, ...]] = {}
    for name in names:
        asset, mark, version = name.partition("@v")
        if mark and VERSION.fullmatch(f"v{version}"):
            number = tuple(map(int, version.split(".")))
            found[asset] = max(number, found.get(asset, number))
    return {asset: "v" + ".".join(map(str, number)) for asset, number in found.items()}


def _names(root: Path) -> Iterator[str]:
    top = root / ".git"
    if top.is_dir() and not (top / "reftable").exists():
        yield from _packed(top / "packed-refs")
        yield from _loose(str(top / TAGS))
    elif top.exists():  # another checkout of a repository elsewhere
        from lorareg.registry.git.command import call

        yield from call(root, ["tag", "--list"]).must_succeed().text.splitlines()


def _packed(file: Path) -> Iterator[str]:
    if file.is_file():
        for line in file.read_text("utf-8", "surrogateescape").splitlines():
            _, _, name = line.partition(" ")
            if name.startswith(TAGS):
                yield name.removeprefix(TAGS)


def _loose(folder: str) -> Iterator[str]:
    if os.path.isdir(folder):
        for parent, _, files in os.walk(folder):
            place = os.path.relpath(parent, folder)
            yield from files if place == "." else (f"{place}/{file}" for file in files)
