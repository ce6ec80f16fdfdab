"""``manifests/policy.yaml``: the people of a registry, their groups, and who may do what.

A registry without it is one person's: nobody is asked anything. It is governed like an asset
(``signatures``): a change binds once a maintainer of the state before has signed it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from lorareg.errors import InvalidFileError, LoraregError, NotFoundError
from lorareg.registry import yamlfile
from lorareg.registry.access import signing
from lorareg.registry.fields import Person, Slug, Text
from lorareg.registry.files import read_own, refuse_elsewhere
from lorareg.registry.schema import Strict, check
from lorareg.registry.workspace import Workspace

FILE = "manifests/policy.yaml"
SIGNERS = "manifests/allowed_signers"
EVERYONE = "everyone"
ANY_KIND = "*"
MAX_BYTES = 1_000_000

Name = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=64, description="alice")
]
Entries = tuple[Person, ...]
Kind = Annotated[str, Field(pattern=r"^(\*|[a-z0-9][a-z0-9_-]*)$", max_length=64)]


class Human(Strict):
    """One person, as other places know them."""

    name: Text | None = None
    mail: Annotated[str, Field(pattern=r"^[^@\s<>]+@[^@\s<>]+$", max_length=254)] | None = None
    github: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)?$")] | None = None
    hub: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$", max_length=96)] | None = None


class Roles(Strict):
    """Roles that hold for the whole registry.

    Attributes:
        maintainer: may change the policy, the keys and every asset.
        user: may use assets of visibility team; everybody in ``people`` where it is empty.
    """

    maintainer: Annotated[Entries, Field(min_length=1)]
    user: Entries = ()


class Policy(Strict):
    """Who may do what.

    Attributes:
        people: name -> what other places call them; the name is the principal in allowed_signers.
        groups: name -> people or ``group:other``; ``everyone`` is built in.
        kinds: kind, or ``*`` -> who may add assets of it, and owns those that name no owner.
        channels: protected channel -> who may move it; any other channel is its owners'.
        licenses: accepted for releases and publishing; empty accepts all.
    """

    schema_: Annotated[Literal["lorareg/1"], Field(alias="schema")]
    people: Annotated[dict[Name, Human], Field(min_length=1)]
    groups: dict[Name, Entries] = {}
    roles: Roles
    kinds: dict[Kind, Entries] = {}
    channels: dict[Slug, Annotated[Entries, Field(min_length=1)]] = {}
    licenses: tuple[Text, ...] = ()

    @model_validator(mode="after")
    def _all_are_known(self) -> Policy:
        if EVERYONE in self.groups:
            raise ValueError(f"groups: {EVERYONE} is built in; choose another name")
        unknown = sorted(set(self._unknown()))
        if unknown:
            raise ValueError(f"neither in people nor in groups: {', '.join(unknown)}")
        circles = sorted(name for name in self.groups if self._reaches(name, name))
        if circles:
            raise ValueError(f"groups that contain themselves: {', '.join(circles)}")
        if not self.maintainers:
            raise ValueError("roles.maintainer: nobody is left in it")
        return self

    @property
    def maintainers(self) -> frozenset[str]:
        """People who may change the policy, the keys and every asset."""
        return self.expand(self.roles.maintainer)

    @property
    def users(self) -> frozenset[str]:
        """People who may use assets of visibility team."""
        return self.expand(self.roles.user) if self.roles.user else frozenset(self.people)

    def expand(self, entries: Iterable[str]) -> frozenset[str]:
        """People behind names and ``group:name``; unknown names are nobody."""
        found: set[str] = set()
        for entry in entries:
            group = entry.removeprefix("group:")
            if group == entry:
                found |= {entry} & self.people.keys()
            elif group == EVERYONE:
                found |= self.people.keys()
            else:
                found |= self.expand(self.groups.get(group, ()))
        return frozenset(found)

    def owners(self, kind: str, named: Sequence[str]) -> frozenset[str]:
        """Owners of an asset: those its manifest names, else those of its kind."""
        return self.expand(named) or self.creators(kind)

    def creators(self, kind: str) -> frozenset[str]:
        """Who may add assets of a kind; where no rule fits, everybody in ``people``."""
        entries = self.kinds.get(kind, self.kinds.get(ANY_KIND))
        return frozenset(self.people) if entries is None else self.expand(entries)

    def promoters(self, channel: str) -> frozenset[str] | None:
        """Who may move a protected channel; None if it is not protected."""
        entries = self.channels.get(channel)
        return None if entries is None else self.expand(entries)

    def _unknown(self) -> Iterator[str]:
        lists = [self.roles.maintainer, self.roles.user, *self.groups.values()]
        for entries in [*lists, *self.kinds.values(), *self.channels.values()]:
            for entry in entries:
                group = entry.removeprefix("group:")
                known = self.people if group == entry else {*self.groups, EVERYONE}
                if group not in known:
                    yield entry

    def _reaches(self, group: str, wanted: str, seen: frozenset[str] = frozenset()) -> bool:
        inner = {e.removeprefix("group:") for e in self.groups[group] if e.startswith("group:")}
        deeper = (inner & self.groups.keys()) - seen
        return wanted in inner or any(self._reaches(g, wanted, seen | {group}) for g in deeper)


def load(workspace: Workspace) -> Policy | None:
    """The policy as it is checked out; None in a registry of one.

    Raises:
        InvalidFileError: it names every problem.
    """
    file = workspace.root / FILE
    refuse_elsewhere(file)  # what cannot be read is not taken for a registry of one
    return parse(yamlfile.load(file)) if file.is_file() else None


def at(workspace: Workspace, revision: str) -> Policy | None:
    """The policy at a commit; raises as ``load``."""
    text = _text_at(workspace, FILE, revision)
    return None if text is None else parse(yamlfile.parse(text, workspace.root / FILE))


def parse(document: Mapping[str, Any]) -> Policy:
    """Check a policy's content; raises as ``load``."""
    return check(Policy, dict(document), FILE)


def signers(workspace: Workspace, revision: str | None = None) -> str:
    """Text of the allowed-signers file, checked out or at a commit; empty if there is none."""
    if revision is not None:
        return _text_at(workspace, SIGNERS, revision) or ""
    file = workspace.root / SIGNERS
    return read_own(file, max_bytes=MAX_BYTES) if file.is_file() else ""


def me(workspace: Workspace) -> str | None:
    """Who works here: whose key git signs with, else whose mail is git's; None if nobody known."""
    policy = load(workspace)
    if policy is None:
        return None
    try:
        mine = signing.key(workspace.root).public
    except LoraregError:
        mine = ""
    for principal, public in keys(signers(workspace)):
        if public == mine and principal in policy.people:
            return principal
    return _by_mail(workspace, policy)


def keys(allowed: str) -> list[tuple[str, str]]:
    """(person, ``type key``) of every line of an allowed-signers file; options are left out."""
    found = []
    for line in allowed.splitlines():
        match = re.match(r"\s*([^#\s]\S*)\s+(?:.*\s)?((?:ssh|sk|ecdsa)-[\w@.-]+ [\w+/=]+)", line)
        if match:
            found += [(name, match[2]) for name in match[1].split(",")]
    return found


def _by_mail(workspace: Workspace, policy: Policy) -> str | None:
    try:
        mail = workspace.history.identity().rpartition("<")[2].rstrip(">")
    except LoraregError:
        return None
    found = [name for name, human in policy.people.items() if human.mail == mail]
    return found[0] if len(found) == 1 else None


def _text_at(workspace: Workspace, name: str, revision: str) -> str | None:
    try:
        data = workspace.history.read(Path(name), revision)
    except NotFoundError:
        return None
    if len(data) > MAX_BYTES:
        raise InvalidFileError(f"{name} is too large", why=f"{len(data)} bytes, not {MAX_BYTES}")
    return data.decode("utf-8", "replace")
