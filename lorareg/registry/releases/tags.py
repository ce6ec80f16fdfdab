"""Whether the tags of an asset are still the releases that were made: a list of findings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lorareg.errors import LoraregError, NotFoundError
from lorareg.registry import digest, versions
from lorareg.registry.access import authority, policy, signing
from lorareg.registry.access.ledger import at_commit
from lorareg.registry.finding import Finding
from lorareg.registry.git import blobs
from lorareg.registry.git.tags import TagObject
from lorareg.registry.ids import AssetId
from lorareg.registry.releases import ledger, tagtext, trail
from lorareg.registry.releases.ledger import SHORT, Entry, Ledger
from lorareg.registry.releases.tagtext import Claims
from lorareg.registry.workspace import Workspace

GIT = "git"  # the namespace of git's own signatures
ORIGIN = "origin"


@dataclass(frozen=True)
class Tag:
    """A tag as git has it.

    Attributes:
        claims: what its message says; None if it is not that of a release.
        key: fingerprint of the key that made its signature; None if none did.
    """

    asset: AssetId
    version: str
    object: TagObject
    claims: Claims | None
    key: str | None

    @property
    def name(self) -> str:
        """``kind/name@v1.2.0``."""
        return tagtext.name(self.asset, self.version)


def read(workspace: Workspace, asset: AssetId, version: str) -> Tag:
    """Read an annotated tag and check that its signature, if any, is over these very bytes.

    Raises:
        NotFoundError: there is none of that name, or it is not annotated.
    """
    found = workspace.history.tag_object(tagtext.name(asset, version))
    key = signing.maker(found.payload, found.signature, GIT) if found.signature else None
    return Tag(asset, version, found, tagtext.parse(found.message), key)


@dataclass(frozen=True)
class Authority:
    """Who might release an asset as of a commit, by the states that were validly signed then.

    Attributes:
        signers: texts of allowed_signers; several after a merge that nobody signed, and then a key
            must be the same person's in all.
        may: owners and maintainers.
    """

    signers: tuple[str, ...]
    may: frozenset[str]

    def person(self, tag: TagObject) -> str | None:
        """Whose key signed a tag."""
        if tag.signature is None:
            return None
        found = {signing.signer(tag.payload, tag.signature, each, GIT) for each in self.signers}
        return found.pop() if len(found) == 1 else None


def authority_at(workspace: Workspace, asset: AssetId, commit: str) -> Authority | None:
    """Who might release an asset by a tag on a commit: as of the commit before, or of a first one.

    Returns:
        None where there was no policy then.

    Raises:
        LoraregError: the policy's history cannot be followed.
    """
    before = workspace.history.parent(commit) or commit
    if policy.at(workspace, before) is None:
        return None
    known = authority.ledger(workspace)
    rules, place = at_commit(workspace, known, before, asset)
    valid = [known.judge.rules(link) for link in rules.links]
    signers = tuple(each.signers for each in valid)
    return Authority(signers, known.judge.owners(asset, place, valid))


def signer(workspace: Workspace, tag: Tag) -> str | None:
    """The person of the policy who signed a tag, by the keys as of the commit before it."""
    found = authority_at(workspace, tag.asset, tag.object.commit)
    return found.person(tag.object) if found else None


def check(workspace: Workspace, asset: AssetId) -> list[Finding]:
    """Every release of an asset, with what is wrong with it; empty where there never was one.

    In a registry of one that has no ledger, a tag made by hand is a remark; else it is a failure.
    """
    if workspace.history.head() is None:
        return []
    try:
        known = ledger.load(workspace, asset)
    except LoraregError as error:
        return [Finding(False, "releases.json", error.sentence, error.fix)]
    tagged = versions.releases(workspace, asset)
    noted = [each.version for each in known.releases]
    strict = bool(noted) or policy.load(workspace) is not None
    found: list[Finding] = []
    for version in sorted({*tagged, *noted}, key=versions.number):
        entry = known.entry(version)
        if version in tagged:
            found += _of_tag(workspace, asset, version, entry, strict)
        else:
            detail = "the ledger knows it, but there is no tag of that name here"
            fix = "git fetch --tags; if nobody has it: ask who released it to push it again"
            found.append(Finding(False, f"release {version}", detail, fix))
    if found:
        found += [*_rewritten(workspace, asset, known), *_collisions(workspace, asset, known)]
    return found


def _of_tag(
    workspace: Workspace, asset: AssetId, version: str, entry: Entry | None, strict: bool
) -> Iterator[Finding]:
    what, again = f"release {version}", f"lorareg release {asset} makes one that is"
    back = f"git tag -d {asset}@{version} && git fetch origin tag {asset}@{version}"
    again = back if entry else again
    try:
        tag = read(workspace, asset, version)
    except NotFoundError as error:
        yield Finding(False, what, f"unsigned: {error.what}", again, is_hard=strict)
        return
    if tag.object.signature is None or tag.claims is None:
        detail = "the tag is not signed" if tag.object.signature is None else (
            "the message of the tag is not that of a release")  # fmt: skip
        yield Finding(False, what, detail, again, is_hard=strict)
        return
    lies = list(_forged(workspace, tag, tag.claims))
    problems = [*lies, *_moved(tag, entry)]
    who, objection = _authority(workspace, tag)
    problems += [objection] if objection else []
    fix = back if entry or lies else f"lorareg release {asset}"
    for problem in problems:
        yield Finding(False, what, problem, fix)
    if not problems:
        yield Finding(True, what, f"{tag.object.commit[:SHORT]}, {who}")


def _forged(workspace: Workspace, tag: Tag, claims: Claims) -> Iterator[str]:
    """What in a tag contradicts itself or the commit it points to."""
    commit = tag.object.commit
    if tag.key is None:
        yield "its signature is over other bytes than the tag"
    if (claims.asset, claims.version) != (str(tag.asset), tag.version):
        yield f"it says that it is {claims.asset} {claims.version}"
    if not tag.object.payload.startswith(f"object {commit}\ntype commit\n".encode()):
        yield "it does not point to a commit"
        return
    folder = workspace.folder(tag.asset)
    names = {
        file: f"{commit}:{file.relative_to(workspace.root).as_posix()}"
        for file in (folder.lock, folder.manifest)
    }
    read = blobs.read(workspace.root, list(names.values()))
    for file, promised in ((folder.lock, claims.lock), (folder.manifest, claims.manifest)):
        data = read.get(names[file])
        now = "not there" if data is None else digest.of_bytes(data)
        if now != promised:
            yield f"{file.name} at {commit[:SHORT]} is {now}, the tag says {promised}"


def _moved(tag: Tag, entry: Entry | None) -> Iterator[str]:
    """How a tag is not the one of the ledger."""
    if entry is None:
        yield f"the ledger does not know it: lorareg release {tag.asset} finishes a release"
    elif entry.tag != tag.object.id:
        yield (
            f"it was moved: the ledger names tag {entry.tag[:SHORT]} on {entry.commit[:SHORT]}, "
            f"this is {tag.object.id[:SHORT]} on {tag.object.commit[:SHORT]}"
        )
    elif entry.commit != tag.object.commit or (
        tag.claims and (entry.lock, entry.manifest) != (tag.claims.lock, tag.claims.manifest)
    ):
        yield "the ledger says another commit, lock or manifest than the tag"


def forged(workspace: Workspace, tag: Tag) -> list[str]:
    """What speaks against a tag, whatever a ledger says of it; empty if it is a release."""
    if tag.object.signature is None or tag.claims is None:
        return ["it is no signed release"]
    objection = _authority(workspace, tag)[1]
    return [*_forged(workspace, tag, tag.claims), *([objection] if objection else [])]


def objection(workspace: Workspace, asset: AssetId, commit: str, key: signing.Key) -> str | None:
    """Why a tag on a commit, signed with a key, would not be taken for a release; or None."""
    found = authority_at(workspace, asset, commit)
    if found is None:
        return None
    if not found.signers:
        return "the policy itself was not signed by then: lorareg policy sign"
    people = {
        person
        for text in found.signers
        for person, public in policy.keys(text)
        if public == key.public
    }
    if people & found.may:
        return None
    who = ", ".join(sorted(people)) or "nobody"
    return f"before that commit the key was {who}'s, and {_named(found.may)} might release"


def _authority(workspace: Workspace, tag: Tag) -> tuple[str, str | None]:
    """Who signed, and why they may not have."""
    try:
        found = authority_at(workspace, tag.asset, tag.object.commit)
    except LoraregError as error:
        return "", error.sentence
    if found is None:
        return f"signed by {tag.key}; no policy says whose key that is", None
    person = found.person(tag.object)
    if person is None:
        return "", f"signed by {tag.key}, which was nobody's key in {policy.SIGNERS} by then"
    if person not in found.may:
        return person, f"signed by {person}, who was no owner: {_named(found.may)}"
    return f"signed by {person}", None


def _named(people: frozenset[str]) -> str:
    return ", ".join(sorted(people)) or "nobody"


def _rewritten(workspace: Workspace, asset: AssetId, known: Ledger) -> Iterator[Finding]:
    """Releases that an earlier ledger had otherwise: a ledger only grows."""
    folder = workspace.folder(asset).path.relative_to(workspace.root).as_posix()
    head = workspace.history.head()
    if head is None or not known.releases:
        return
    told: set[str] = set()
    for commit, then in trail.states(workspace, asset, head):
        for entry in then.releases:
            now = known.entry(entry.version)
            if now != entry and entry.version not in told:
                told.add(entry.version)
                how = "is no longer in the ledger" if now is None else "was another one"
                yield Finding(
                    False,
                    f"release {entry.version}",
                    f"it {how}: at {commit[:SHORT]} it was tag {entry.tag[:SHORT]} by {entry.by}",
                    f"git log -p -- {folder}/releases.json",
                )


def _collisions(workspace: Workspace, asset: AssetId, known: Ledger) -> Iterator[Finding]:
    """Releases that somebody else made under the same number, as far as they were fetched."""
    branch = workspace.history.branch()
    theirs = f"refs/remotes/{ORIGIN}/{branch}"
    try:
        there = ledger.at(workspace, asset, workspace.history.resolve(theirs))
    except NotFoundError:
        return
    except LoraregError as error:
        yield Finding(False, f"releases.json of {ORIGIN}", error.sentence)
        return
    for entry in there.releases:
        here = known.entry(entry.version)
        if here and here.tag != entry.tag:
            detail = f"{entry.by} released {entry.version}, too: tag {entry.tag[:SHORT]}"
            fix = _way_out(workspace, asset, entry.version)
            yield Finding(False, f"release {entry.version}", detail, fix)


def _way_out(workspace: Workspace, asset: AssetId, version: str) -> str:
    """How to give up a number that somebody else's release has, and to keep everything else."""
    noted = workspace.history.last_change(workspace.folder(asset).releases)[:SHORT]
    return (
        f"give yours the next number: git tag -d {tagtext.name(asset, version)} && "
        f"git rebase --onto {noted}~1 {noted} && lorareg pull && lorareg release {asset}"
    )
