"""The chain of signed states of one asset, or of the policy, as it grows along the history.

A state is *valid* when its statement follows the last valid one and is signed by somebody who had
the right to bring it. What is not valid changes nothing: rights stay those of the last valid state,
so that a takeover needs a signature it cannot have.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Link:
    """One valid signed state.

    Attributes:
        digest: sha256 of the statement's file.
        serial: its number in the chain.
        by: who signed it.
        commit: that brought it.
        root: digest of the chain's first statement.
        files: governed file -> sha256, as signed.
        blobs: git's ids of the files that rights depend on.
        line: digests of all statements before it.
    """

    digest: str
    serial: int
    by: str
    commit: str
    root: str
    files: Mapping[str, str]
    blobs: Mapping[str, str]
    line: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Problem:
    """Why a state is not valid.

    Attributes:
        commit: that brought it.
        file: which of its files.
        why: in a few words.
    """

    commit: str
    file: str
    why: str


@dataclass(frozen=True)
class Place:
    """Where an asset, or the policy, stands at a commit.

    Attributes:
        commit: the last one that changed its files.
        blobs: governed file or statement -> git's id, as they are.
        links: its last valid state; several where branches with valid states of their own were
            merged and nobody has signed since; none before the first.
        problem: why the files as they are are not that state.
    """

    commit: str = ""
    blobs: Mapping[str, str] = field(default_factory=dict)
    links: tuple[Link, ...] = ()
    problem: Problem | None = None


def successor(before: Link, serial: int, previous: str | None) -> str | None:
    """Why a statement cannot follow a valid state; None if it can.

    A squash merge leaves states out, so only a statement that claims to be the very next one must
    name the one before.
    """
    if serial <= before.serial:
        return f"is an old state: serial {serial}, but {before.serial} was signed already"
    if serial == before.serial + 1 and previous != before.digest:
        return f"does not follow the state that {before.by} signed (serial {before.serial})"
    return None


def united(links: Iterable[Link]) -> tuple[Link, ...]:
    """Valid states of several branches, without those that another one grew out of."""
    known = {link.digest: link for link in links}
    return tuple(
        link
        for link in known.values()
        if not any(link.digest in other.line for other in known.values())
    )


def dump(place: Place, *, with_line: bool = True) -> str:
    """A place as JSON; the line of a link is only needed where the chain goes on."""
    links = place.links if with_line else [replace(link, line=frozenset()) for link in place.links]
    document = asdict(replace(place, links=()))
    document["links"] = [asdict(link) | {"line": sorted(link.line)} for link in links]
    return json.dumps(document, separators=(",", ":"))


def parse(text: str) -> Place:
    """Read a place."""
    document: dict[str, Any] = json.loads(text)
    links = tuple(Link(**each | {"line": frozenset(each["line"])}) for each in document["links"])
    problem = Problem(**document["problem"]) if document["problem"] else None
    return Place(document["commit"], document["blobs"], links, problem)
