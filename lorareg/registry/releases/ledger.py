"""``releases.json``: what was released, in the order it was; beside the tags, and kept with them.

A tag can be deleted, moved or made anew by anybody who may push. The ledger is a file of the
asset's folder: it is reviewed, signed and merged like the manifest, and remembers which tag object
each version was. Order is that of the file and of version numbers; no clock is asked.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from lorareg.errors import IntegrityError, InvalidFileError, NotFoundError
from lorareg.registry import digest, jsontext, lock
from lorareg.registry.access import authority, policy
from lorareg.registry.fields import Revision
from lorareg.registry.files import read_own
from lorareg.registry.ids import VERSION, AssetId
from lorareg.registry.origin import Digest
from lorareg.registry.releases.levels import Level
from lorareg.registry.schema import Strict, check
from lorareg.registry.workspace import Workspace

SCHEMA: Literal["lorareg/releases/1"] = "lorareg/releases/1"
MAX_BYTES = 16_000_000
SHORT = 10  # characters of a commit in a sentence
Version = Annotated[str, Field(pattern=rf"^{VERSION.pattern}$", description="v1.2.0")]


class Entry(Strict):
    """One release.

    Attributes:
        commit: the state that was released.
        tag: id of the tag object: another object of that name is another tag.
        lock: sha256 of ``lock.json`` at that commit.
        manifest: sha256 of ``manifest.yaml`` at that commit.
        level: the step from the release before.
        why: a line for each difference.
        by: who released it.
    """

    version: Version
    commit: Revision
    tag: Revision
    lock: Digest
    manifest: Digest
    level: Level
    why: tuple[str, ...] = ()
    by: str


class Ledger(Strict):
    """All releases of an asset, in the order they were made."""

    schema_: Annotated[Literal["lorareg/releases/1"], Field(alias="schema")] = SCHEMA
    asset: str
    releases: tuple[Entry, ...] = ()

    @model_validator(mode="after")
    def _once_each(self) -> Ledger:
        versions = [entry.version for entry in self.releases]
        twice = sorted({each for each in versions if versions.count(each) > 1})
        if twice:
            raise ValueError(f"releases: {', '.join(twice)} is there twice")
        return self

    def entry(self, version: str) -> Entry | None:
        """The release of that number, or None."""
        return next((each for each in self.releases if each.version == version), None)


def load(workspace: Workspace, asset: AssetId) -> Ledger:
    """The ledger as it is checked out; an empty one where nothing was released.

    Raises:
        InvalidFileError: it is none, or that of another asset.
    """
    file = workspace.folder(asset).releases
    if not file.is_file():
        return Ledger(asset=str(asset))
    return parse(read_own(file, max_bytes=MAX_BYTES), asset)


def at(workspace: Workspace, asset: AssetId, revision: str) -> Ledger:
    """The ledger at a commit; raises as ``load``."""
    try:
        data = workspace.history.read(workspace.folder(asset).releases, revision)
    except NotFoundError:
        return Ledger(asset=str(asset))
    return parse(data.decode("utf-8", "replace"), asset)


def commit_of(workspace: Workspace, asset: AssetId, version: str) -> str:
    """The commit of a release, by its tag, unless the tag means other bytes than it did.

    A tag that no ledger knows is taken for what it is where the registry has no policy; in a team
    it is no release.

    Raises:
        NotFoundError: there is no such tag.
        IntegrityError: it was moved, nobody released it, or nobody who may signed the ledger.
    """
    name = f"{asset}@{version}"
    commit = _tagged(workspace, name)
    known = load(workspace, asset).entry(version)
    if known is None:
        if (workspace.root / policy.FILE).is_file():
            raise IntegrityError(
                f"{name} is no release: the ledger of {asset} does not know it",
                why="whoever may push could make a tag of that name",
                fix=f"lorareg pull gets a ledger that is newer; lorareg verify {asset} says more",
            )
        return commit
    authority.refuse_unsigned(workspace, asset)
    if commit != known.commit:
        folder = workspace.folder(asset)
        here = [
            digest.of_bytes(workspace.history.read(file, commit))
            for file in (folder.lock, folder.manifest)
        ]
        if here != [known.lock, known.manifest]:
            raise IntegrityError(
                f"the tag {name} was moved",
                why=f"it was {known.commit[:SHORT]} when it was released, here it is "
                f"{commit[:SHORT]}, with another lock or manifest",
                fix=f"git tag -d {name} && git fetch origin tag {name}; where it was moved at the "
                f"remote, too, ask {known.by} to push it again",
            )
    return commit


def _tagged(workspace: Workspace, name: str) -> str:
    try:
        return workspace.history.resolve(f"refs/tags/{name}")
    except NotFoundError as error:
        raise NotFoundError(
            f"there is no release {name}",
            why="no tag of that name is here",
            fix=f"git fetch --tags; or look what there is: git tag --list '{name.split('@')[0]}@*'",
        ) from error


def add(workspace: Workspace, asset: AssetId, entry: Entry) -> bool:
    """Write a release down, unless it is there already; nothing is committed.

    Returns:
        Whether it was added.

    Raises:
        IntegrityError: the ledger knows another release of that number.
    """
    known = load(workspace, asset)
    before = known.entry(entry.version)
    if before == entry:
        return False
    if before:
        raise IntegrityError(
            f"{asset}@{entry.version} is in the ledger as another tag",
            why=f"the ledger names tag {before.tag[:10]}, here is {entry.tag[:10]}",
            fix=f"lorareg verify {asset} says which of them moved",
        )
    grown = known.model_copy(update={"releases": (*known.releases, entry)})
    lock.save(workspace.folder(asset).releases, grown)
    return True


def parse(text: str, asset: AssetId) -> Ledger:
    """Read a ledger from text; raises as ``load``."""
    name = _name(asset)
    try:
        document: Any = jsontext.parse(text)
    except ValueError as error:
        raise InvalidFileError(
            f"{name} is not JSON", why=str(error), fix=f"git checkout -- {name}"
        ) from error
    found = check(Ledger, document, name, fix=f"restore it: git checkout -- {name}")
    if found.asset != str(asset):
        raise InvalidFileError(
            f"{name} is the ledger of {found.asset}",
            why="a copied folder brings the ledger of the asset it was copied from",
            fix=f"rm {name}",
        )
    return found


def _name(asset: AssetId) -> str:
    return Path("manifests", str(asset), "releases.json").as_posix()
