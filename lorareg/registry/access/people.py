"""The people of a policy: entered, given keys and removed, without touching its comments."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorareg.errors import LoraregError, NotFoundError
from lorareg.registry import yamlfile
from lorareg.registry.access import policy, signing
from lorareg.registry.files import read_utf8, write_atomically
from lorareg.registry.workspace import Workspace

PRIVATE = "PRIVATE KEY"
TEMPLATE = """\
# Who may do what in this registry. Only its maintainers change this file: edit it, then run
# lorareg policy apply, which checks it, signs it and commits it.
schema: lorareg/1
people:
  {person}: {details}
groups: {{}}
roles:
  maintainer: [{person}]  # may change this file, the keys and every asset
  user: [group:everyone]  # may use assets of visibility team
# kind -> who may add assets of it and owns those that name no owners; where no kind fits, everybody
kinds: {{}}
# protected channel -> who may move it; other channels are their owners'
channels: {{stable: [{person}]}}
licenses: []  # accepted for releases and publishing; empty accepts all
"""


@dataclass(frozen=True)
class Entry:
    """What is to be known of a person.

    Attributes:
        details: name, mail, github, hub; those that are given.
        groups: to join; they are made where they are missing.
        is_maintainer: whether to make them one.
        key: ``ssh-ed25519 AAAA...``.
    """

    person: str
    details: Mapping[str, str]
    groups: Sequence[str] = ()
    is_maintainer: bool = False
    key: str | None = None


def public_key(file: Path) -> str:
    """The key in a ``.pub`` file; a private key is never read.

    Raises:
        LoraregError: it is no public key.
    """
    text = read_utf8(file, max_bytes=100_000).strip()
    if PRIVATE in text:
        raise LoraregError(
            f"{file.name} is a private key",
            why="a registry holds public keys only, and nobody else needs yours",
            fix=f"give its public half: {file.name}.pub",
        )
    signing.fingerprint(text)
    return " ".join(text.split()[:2])


def start(workspace: Workspace, entry: Entry) -> None:
    """Write the first policy, with one maintainer."""
    pairs = (f"{key}: {yamlfile.as_scalar(value)}" for key, value in entry.details.items())
    document = TEMPLATE.format(person=entry.person, details="{" + ", ".join(pairs) + "}")
    policy.parse(yamlfile.parse(document, workspace.root / policy.FILE))
    write_atomically(workspace.root / policy.FILE, document)
    _write_keys(workspace, [*_lines(workspace), f"{entry.person} {entry.key}"])


def add(workspace: Workspace, entry: Entry) -> None:
    """Enter a person, or tell more about one who is there.

    Raises:
        LoraregError: the key is somebody else's already; or the policy would not be valid.
    """
    taken = [name for name, key in policy.keys(policy.signers(workspace)) if key == entry.key]
    if entry.key and any(name != entry.person for name in taken):
        raise LoraregError(
            f"this key is that of {taken[0]}",
            why="a signature says who signed by the key alone",
            fix=f"ask {entry.person} for another key: ssh-keygen -t ed25519",
        )

    def change(document: Any) -> None:
        known = document["people"].setdefault(entry.person, {})
        known.update(entry.details)
        for group in entry.groups:
            document["groups"] = document.get("groups") or {}
            _join(document["groups"].setdefault(group, []), entry.person)
        if entry.is_maintainer:
            _join(document["roles"]["maintainer"], entry.person)

    _rework(workspace, change)
    if entry.key and entry.person not in taken:
        _write_keys(workspace, [*_lines(workspace), f"{entry.person} {entry.key}"])


def remove(workspace: Workspace, person: str, key: str | None = None) -> None:
    """Take a person out of the policy, or only one of their keys; what they signed stays valid.

    Raises:
        NotFoundError: there is no such person or key.
        LoraregError: nobody would be left as maintainer.
    """
    known = [public for name, public in policy.keys(policy.signers(workspace)) if name == person]
    rules = policy.load(workspace)
    if rules is None or (person not in rules.people and not known):
        raise NotFoundError(f"there is no {person} in {policy.FILE}", fix="lorareg policy show")
    if key is not None and key not in known:
        raise NotFoundError(f"{person} has no such key", fix="lorareg policy show")
    if key is None:
        _rework(workspace, lambda document: _forget(document, person))
    gone = known if key is None else [key]
    _write_keys(workspace, [line for line in _lines(workspace) if not _is_of(line, person, gone)])


def _rework(workspace: Workspace, change: Callable[[Any], None]) -> None:
    file = workspace.root / policy.FILE
    text = yamlfile.reworked(read_utf8(file, max_bytes=policy.MAX_BYTES), change, file)
    policy.parse(yamlfile.parse(text, file))
    write_atomically(file, text)


def _join(names: Any, person: str) -> None:
    if person not in names:
        names.append(person)


def _forget(document: Any, person: str) -> None:
    document["people"].pop(person, None)
    for block in ("groups", "roles", "kinds", "channels"):
        for names in (document.get(block) or {}).values():
            while names and person in names:
                names.remove(person)


def _lines(workspace: Workspace) -> list[str]:
    return policy.signers(workspace).splitlines()


def _write_keys(workspace: Workspace, lines: Sequence[str]) -> None:
    write_atomically(workspace.root / policy.SIGNERS, "".join(f"{line}\n" for line in lines))


def _is_of(line: str, person: str, keys: Sequence[str]) -> bool:
    return any(name == person and key in keys for name, key in policy.keys(line))


def name_from(mail: str) -> str:
    """A short name out of a mail address.

    >>> name_from("Alice.Chen@example.org")
    'alice.chen'
    """
    return re.sub(r"[^a-z0-9_.-]", "", mail.partition("@")[0].lower()).lstrip("_.-") or "me"
