"""Making a release: the folder committed, a signed tag on that commit, a line in the ledger.

In this order, so that a kill in between leaves nothing half: a tag without its line is finished by
running the same command again, and before the tag nothing was released.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lorareg.errors import LoraregError, NotFoundError, listed
from lorareg.registry import card, digest, lock, versions, yamlfile
from lorareg.registry import manifest as manifests
from lorareg.registry import recipe as recipes
from lorareg.registry.access import policy, signatures, signing
from lorareg.registry.git import blobs, trail
from lorareg.registry.ids import RECIPE, AssetId
from lorareg.registry.releases import bump, ledger, readiness, tags, tagtext
from lorareg.registry.releases.bump import Snapshot
from lorareg.registry.releases.ledger import Entry
from lorareg.registry.releases.levels import FIRST, LEVELS, Level, Reason, following
from lorareg.registry.sharing import pushing
from lorareg.registry.workspace import Workspace

Say = Callable[[str], None]
LEFT_BY_A_KILL = re.compile(r"\.(releases\.json|signature\.json|README\.md)\.[0-9a-f]{16}\.tmp")


@dataclass(frozen=True)
class Plan:
    """What a release would be.

    Attributes:
        before: the release it follows; None for the first one.
        reasons: the weightiest first.
    """

    asset: AssetId
    version: str
    level: Level
    reasons: tuple[Reason, ...]
    before: str | None


@dataclass(frozen=True)
class Released:
    """A release that was made.

    Attributes:
        commit: the state that was released, 40 hex digits.
        tag: id of the tag object.
        reasons: why it has its number, a line each.
        finished: whether an earlier run had begun it.
    """

    asset: AssetId
    version: str
    commit: str
    tag: str
    level: Level
    reasons: tuple[str, ...]
    finished: bool = False


def make(workspace: Workspace, asset: AssetId, level: Level | None, say: Say) -> Released:
    """Release an asset as it is on disk, or finish a release that was interrupted.

    Args:
        workspace: the registry.
        asset: an adapter or a recipe.
        level: the least step that is wanted; None is what the rule says.
        say: progress, a line each.

    Raises:
        LoraregError: it cannot be released, and every reason; or nothing has changed.
    """
    unfinished = _unfinished(workspace, asset)
    if unfinished:
        with workspace.history.alone():
            return _finish(workspace, asset, unfinished, say)
    readiness.require(workspace, asset)
    key = signing.key(workspace.root)
    with workspace.history.alone():
        wanted = plan(workspace, asset, level)
        commit = _commit(workspace, wanted, say)
        claims = tagtext.claims_at(workspace, asset, wanted.version, commit, wanted.reasons)
        _refuse_unrecognised(workspace, asset, commit, key)
        name = tagtext.name(asset, wanted.version)
        workspace.history.sign_tag(name, commit, tagtext.message(claims), key.path)
        say(f"signed the tag {name}")
        return _record(workspace, tags.read(workspace, asset, wanted.version))


def plan(workspace: Workspace, asset: AssetId, level: Level | None) -> Plan:
    """The number that the next release gets, and why.

    Raises:
        LoraregError: nothing has changed; a lower step was asked for than the rule says; or the
            newest release has no tag here, or is not in the history of what is checked out.
    """
    known = versions.recorded(workspace, asset)
    _refuse_without_tags(workspace, asset, known)
    if not known:
        first = Reason("major", "the first release")
        return Plan(asset, FIRST, _at_least(asset, level, (first,)), (first,), None)
    newest = known[-1]
    commit = ledger.commit_of(workspace, asset, newest)
    _refuse_elsewhere(workspace, asset, newest, commit)
    found = bump.decide(snapshot(workspace, asset, commit), snapshot(workspace, asset, None))
    if found is None:
        raise LoraregError(
            f"nothing changed in {asset} since {newest}",
            why="manifest, lock and card are those of that release",
            fix=f"use it: {asset}@{newest}",
        )
    step, reasons = _at_least(asset, level, found.reasons), found.reasons
    if step != found.level:
        reasons = (Reason(step, f"asked for: --{step}"), *reasons)
    return Plan(asset, following(newest, step), step, reasons, newest)


def snapshot(workspace: Workspace, asset: AssetId, commit: str | None) -> Snapshot:
    """An asset as a version number sees it, at a commit or (None) on disk."""
    folder = workspace.folder(asset)
    files = [folder.manifest, folder.lock, folder.card, folder.preview, folder.sheet]
    if commit is None:
        texts = {path.name: path.read_bytes() for path in files if path.is_file()}
    else:
        names = {path: path.relative_to(workspace.root).as_posix() for path in files}
        found = blobs.read(workspace.root, [f"{commit}:{each}" for each in names.values()])
        texts = {path.name: found[f"{commit}:{each}"] for path, each in names.items()
                 if f"{commit}:{each}" in found}  # fmt: skip
    for path in (folder.manifest, folder.lock):
        if path.name not in texts:
            raise NotFoundError(f"there is no {path.name} of {asset} at {commit or 'this place'}")
    document = yamlfile.parse(
        texts.pop("manifest.yaml").decode("utf-8", "replace"), folder.manifest
    )
    check = recipes.check_document if asset.kind == RECIPE else manifests.check_document
    wanted = check(document, asset)
    known = lock.parse(texts.pop(folder.lock.name).decode("utf-8", "replace"), folder.lock)
    members = readiness.members_of(workspace, wanted, known, past=commit is not None)
    shown = {name: digest.of_bytes(data) for name, data in texts.items()}
    return Snapshot(wanted, known, tuple(members.values()), shown)


def _at_least(asset: AssetId, level: Level | None, reasons: tuple[Reason, ...]) -> Level:
    """The step of the weightiest reason, or the larger one that was asked for."""
    needed = reasons[0].level
    if level is None or LEVELS.index(level) >= LEVELS.index(needed):
        return level or needed
    raise LoraregError(
        f"this release of {asset} is {needed}, not {level}",
        why="\n" + listed([each.text for each in reasons if each.level == needed]),
        fix=f"lorareg release {asset}",
    )


def _refuse_without_tags(workspace: Workspace, asset: AssetId, known: list[str]) -> None:
    """A number that the ledger has given is never given again, whether its tag is here or not."""
    noted = sorted((e.version for e in ledger.load(workspace, asset).releases), key=versions.number)
    if noted and noted[-1] not in known:
        name = tagtext.name(asset, noted[-1])
        raise LoraregError(
            f"{name} is released, and its tag is not here",
            why="a second tag of that name would be another release",
            fix=f"git fetch origin tag {name}",
        )


def _refuse_elsewhere(workspace: Workspace, asset: AssetId, newest: str, commit: str) -> None:
    if not trail.is_ancestor(workspace.root, commit, "HEAD"):
        raise LoraregError(
            f"{asset}@{newest} is not in the history of what is checked out",
            why="a release follows the one before it; others released it, or on another branch",
            fix="lorareg pull, or: git merge " + tagtext.name(asset, newest),
        )


def _refuse_unrecognised(
    workspace: Workspace, asset: AssetId, commit: str, key: signing.Key
) -> None:
    """A tag counts by the policy before its commit: one that would not is never made."""
    if why := tags.objection(workspace, asset, commit, key):
        raise LoraregError(
            f"a release of {asset} on {commit[:10]} would not be recognised",
            why=why,
            fix="where the policy was changed by that very commit: git commit --allow-empty "
            f"-m 'Policy is in force' && lorareg release {asset}",
        )


def _commit(workspace: Workspace, wanted: Plan, say: Say) -> str:
    asset = wanted.asset
    _sweep(workspace.folder(asset).path)
    card.refresh(workspace, asset)
    pushing.track(workspace, asset)
    paths = pushing.commit_paths(workspace, [asset])
    made = signatures.commit(workspace, [asset], f"Release {asset} {wanted.version}", paths)
    commit = made or workspace.history.head()
    if commit is None:
        raise NotFoundError(f"there is nothing of {asset} to commit")
    say(f"committed {commit[:10]}" if made else f"{commit[:10]} holds this state already")
    return commit


def _sweep(folder: Path) -> None:
    """Remove what a killed release was writing; it would be committed with the folder."""
    for path in folder.glob(".*.tmp"):
        if LEFT_BY_A_KILL.fullmatch(path.name):
            path.unlink(missing_ok=True)


def _record(workspace: Workspace, tag: tags.Tag, *, finished: bool = False) -> Released:
    """Write a release into the ledger, and commit that."""
    if tag.claims is None:
        raise NotFoundError(f"the tag {tag.name} is no release")
    entry = _entry(workspace, tag, tag.claims, finished)
    ledger.add(workspace, tag.asset, entry)
    signatures.commit(workspace, [tag.asset], f"Record {tag.asset} {tag.version}")
    return Released(
        tag.asset, tag.version, entry.commit, entry.tag, entry.level, entry.why, finished
    )


def _entry(workspace: Workspace, tag: tags.Tag, claims: tagtext.Claims, finished: bool) -> Entry:
    person = tags.signer(workspace, tag) if finished else policy.me(workspace)
    return tagtext.entry(claims, tag.object, person or tag.object.tagger.partition(" <")[0])


def _unfinished(workspace: Workspace, asset: AssetId) -> tags.Tag | None:
    """The oldest release that has its tag and not yet its line in the ledger."""
    if workspace.history.head() is None:
        return None
    known = ledger.at(workspace, asset, "HEAD")
    for version in versions.releases(workspace, asset):
        if known.entry(version):
            continue
        try:
            tag = tags.read(workspace, asset, version)
        except NotFoundError:
            continue  # made by hand
        here = trail.is_ancestor(workspace.root, tag.object.commit, "HEAD")
        if here and not tags.forged(workspace, tag):
            return tag
    return None


def _finish(workspace: Workspace, asset: AssetId, tag: tags.Tag, say: Say) -> Released:
    folder = workspace.folder(asset)
    _sweep(folder.path)
    own = {path.relative_to(workspace.root) for path in (folder.releases, folder.signature)}
    changed = [path for path in workspace.history.changed([folder.path]) if path not in own]
    if changed:
        raise LoraregError(
            f"{tag.name} was begun and is not in the ledger yet, and {asset} was changed since",
            why="\n" + listed([path.as_posix() for path in changed]),
            fix=f"put it aside (git stash push -u -- manifests/{asset}), run this again, then "
            "git stash pop",
        )
    say(f"{tag.name} was begun before: finishing it")
    return _record(workspace, tag, finished=True)
