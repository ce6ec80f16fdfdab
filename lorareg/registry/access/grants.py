"""``grants.yaml`` of an asset: who else may use it, for what, and until when.

A grant is for one person and one purpose (the purpose limitation of a licence or of a consent): it
holds on its day and before, for the uses it names, and for nothing else.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from lorareg.errors import LoraregError, NotFoundError
from lorareg.registry import yamlfile
from lorareg.registry.access import signatures
from lorareg.registry.files import as_before_if_refused, read_own, write_atomically
from lorareg.registry.ids import AssetId
from lorareg.registry.schema import Strict, check
from lorareg.registry.workspace import Workspace

SCHEMA = "lorareg/1"
Use = Literal["train", "compose", "generate", "pull", "export", "publish"]
USES: tuple[Use, ...] = get_args(Use)
UNSAID: tuple[Use, ...] = ("train", "compose", "generate", "pull", "export")
"""What a grant that names no uses allows: everything but to publish, which is the owners'."""
HEAD = f"# Who else may use it. lorareg access grant and revoke write here.\nschema: {SCHEMA}\n"

Name = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$",
        max_length=64,
        description="a name such as mia; letters, digits, - _ and .",
    ),
]
HubName = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$",
        max_length=96,
        description="a user name of the Hub",
    ),
]
Purpose = Annotated[
    str,
    Field(
        pattern=r"^\S(?:[^\x00-\x1f\x7f]*\S)?$",
        max_length=200,
        description="a few words on one line",
    ),
]


class Grant(Strict):
    """One permission.

    Attributes:
        who: a person of the policy, or somebody outside of it who is known by the Hub name.
        hub: user name on the Hub, for the gate.
        purpose: what for; whoever uses it says the same words (``--purpose``).
        scope: the uses it allows; empty is all of ``UNSAID``.
        until: last day on which it holds; None is until it is revoked.
        by: who gave it.
        on: the day it was given.
    """

    who: Name
    hub: HubName | None = None
    purpose: Purpose
    scope: tuple[Use, ...] = ()
    until: datetime.date | None = None
    by: Name
    on: datetime.date

    def holds(self, today: datetime.date) -> bool:
        """Whether it has not expired."""
        return self.until is None or today <= self.until

    def covers(self, use: Use) -> bool:
        """Whether it allows a use."""
        return use in (self.scope or UNSAID)

    def is_for(self, purpose: str) -> bool:
        """Whether a stated purpose is its own, letter case and spacing aside."""
        return _plain(purpose) == _plain(self.purpose)

    @property
    def document(self) -> dict[str, Any]:
        """As YAML has it; what is not said is left out."""
        return {
            key: list(value) if isinstance(value, tuple) else str(value)
            for key in ("who", "hub", "purpose", "scope", "until", "by", "on")
            if (value := getattr(self, key))
        }


class Grants(Strict):
    """``grants.yaml``."""

    schema_: Annotated[Literal["lorareg/1"], Field(alias="schema")]
    grants: tuple[Grant, ...] = ()


@dataclass(frozen=True)
class Changed:
    """A ``grants.yaml`` as it would be.

    Attributes:
        text: of the file.
        grants: what it says.
        gone: grants that are no longer in it, or were renewed.
    """

    text: str
    grants: tuple[Grant, ...]
    gone: tuple[Grant, ...] = ()


def load(workspace: Workspace, asset: AssetId) -> tuple[Grant, ...]:
    """The grants of an asset, expired ones too; none if there is no file.

    Raises:
        InvalidFileError: lists every problem of the file.
    """
    path = workspace.folder(asset).grants
    if not path.is_file():
        return ()
    return _checked(yamlfile.load(path), asset).grants


def given(workspace: Workspace, asset: AssetId, new: Grant) -> Changed:
    """The file with one more grant; one to the same person for the same purpose is replaced."""
    path = workspace.folder(asset).grants
    before = load(workspace, asset)
    renewed = tuple(g for g in before if g.who == new.who and g.is_for(new.purpose))
    kept = _without(_text(path), before, renewed, path) if renewed else _text(path)

    def add(document: Any) -> None:
        if not document.get("grants"):
            document["grants"] = []
        # unquoted, and each a date of its own: one object in two places would become an alias
        days = {"until": new.until, "on": new.on}
        document["grants"].append(
            new.document | {key: day.replace() for key, day in days.items() if day}
        )

    text = yamlfile.reworked(kept, add, path)
    return Changed(text, _checked(yamlfile.parse(text, path), asset).grants, renewed)


def withdrawn(
    workspace: Workspace, asset: AssetId, who: str, purpose: str | None = None
) -> Changed:
    """The file without the grants of a person, or without the one for a purpose.

    Raises:
        NotFoundError: there is none.
    """
    path = workspace.folder(asset).grants
    before = load(workspace, asset)
    gone = tuple(
        g for g in before if who in (g.who, g.hub) and (purpose is None or g.is_for(purpose))
    )
    if not gone:
        held = ", ".join(dict.fromkeys(grant.who for grant in before))
        raise NotFoundError(
            f"{who} has no grant for {asset}" + (f" and {purpose!r}" if purpose else ""),
            why=f"grants there are for {held}" if held else "nobody has one",
            fix=f"lorareg access list {asset}",
        )
    text = _without(_text(path), before, gone, path)
    return Changed(text, _checked(yamlfile.parse(text, path), asset).grants, gone)


def write(workspace: Workspace, asset: AssetId, changed: Changed) -> Path:
    """Write the file; returns its path."""
    path = workspace.folder(asset).grants
    write_atomically(path, changed.text)
    return path


def commit(workspace: Workspace, asset: AssetId, changed: Changed, message: str) -> str | None:
    """Write, sign and commit; what is refused leaves the file as it was.

    Raises:
        LoraregError: who works here may not change the asset.
    """
    with as_before_if_refused(workspace.folder(asset).grants):
        write(workspace, asset, changed)
        return signatures.commit(workspace, [asset], message)


def day(text: str) -> datetime.date:
    """Read a date as people type it.

    Raises:
        LoraregError: it is none.

    >>> day("2027-06-30")
    datetime.date(2027, 6, 30)
    """
    try:
        return datetime.date.fromisoformat(text)
    except ValueError as error:
        raise LoraregError(
            f"{text!r} is no date", why=str(error), fix="write 2027-06-30"
        ) from error


def _plain(purpose: str) -> str:
    return " ".join(purpose.casefold().split())


def _text(path: Path) -> str:
    return read_own(path, max_bytes=yamlfile.MAX_BYTES) if path.is_file() else HEAD


def _without(text: str, before: Sequence[Grant], gone: Sequence[Grant], path: Path) -> str:
    places = [number for number, grant in enumerate(before) if grant in gone]

    def remove(document: Any) -> None:
        for number in reversed(places):
            del document["grants"][number]

    return yamlfile.reworked(text, remove, path)


def _checked(document: dict[str, Any], asset: AssetId) -> Grants:
    return check(Grants, document, f"manifests/{asset}/grants.yaml")
