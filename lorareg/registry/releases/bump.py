"""Semver by rule: which number steps up, and why, line by line. A pure function of two states.

Major is what breaks those who use a release: another base, trigger, task, shape or name of the
files, or fewer rights. Minor is other weights, or more rights. Patch is what is said about it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lorareg.registry.lock import (
    BaseInput,
    ImportedLock,
    Lock,
    Member,
    Output,
    RecipeLock,
    TrainedLock,
)
from lorareg.registry.manifest import Manifest
from lorareg.registry.recipe import RecipeManifest
from lorareg.registry.releases import rights_change, rules
from lorareg.registry.releases.levels import LEVELS, Level, Reason, highest
from lorareg.registry.releases.rules import said

DIGEST = 26  # characters of a digest in a reason: its algorithm and the beginning


@dataclass(frozen=True)
class Snapshot:
    """One state of an asset, as far as a version number speaks of it.

    Attributes:
        members: of a recipe: the manifest of each member, as the lock pins it.
        card: name -> digest of the files that show the asset: README.md, preview.png.
    """

    manifest: Manifest | RecipeManifest
    lock: Lock | RecipeLock
    members: tuple[Manifest, ...] = ()
    card: Mapping[str, str] = field(default_factory=dict)

    @property
    def base(self) -> BaseInput:
        """The model it belongs to."""
        return self.lock.base if isinstance(self.lock, RecipeLock) else self.lock.inputs.base

    @property
    def granting(self) -> tuple[Manifest, ...]:
        """Those whose terms hold for it."""
        return (self.manifest,) if isinstance(self.manifest, Manifest) else self.members


@dataclass(frozen=True)
class Bump:
    """The step from one release to the next.

    Attributes:
        reasons: the weightiest first; at least one.
    """

    level: Level
    reasons: tuple[Reason, ...]


def decide(before: Snapshot, after: Snapshot) -> Bump | None:
    """The step from one state to another; None if nothing that a release holds has changed."""
    rights, locks = list(_rights(before, after)), list(_locks(before, after))
    told = (rules.RIGHTS if rights else ()) + (rules.LOCKED if locks else ())
    keys = rules.changed(_document(before), _document(after))
    reasons = [*rights, *locks, *(each for each in keys if not _repeats(each, told))]
    if not reasons:
        reasons = [Reason("patch", f"card: {name}") for name in _differing(before, after)]
    level = highest(reasons)
    if level is None:
        return None
    ordered = sorted(reasons, key=lambda reason: -LEVELS.index(reason.level))
    return Bump(level, tuple(dict.fromkeys(ordered)))


def _document(state: Snapshot) -> dict[str, Any]:
    return state.manifest.model_dump(mode="json", by_alias=True)


def _repeats(key: Reason, told: tuple[str, ...]) -> bool:
    """Whether a patch of a key only repeats what was judged already."""
    name = key.text.partition(":")[0]
    inside = any(name == top or name.startswith(f"{top}.") for top in told)
    return key.level == "patch" and inside


def _differing(before: Snapshot, after: Snapshot) -> list[str]:
    names = sorted(before.card.keys() | after.card.keys())
    return [name for name in names if before.card.get(name) != after.card.get(name)]


def _rights(before: Snapshot, after: Snapshot) -> Iterator[Reason]:
    yield from rights_change.audience(before.manifest, after.manifest)
    yield from rights_change.between(before.granting, after.granting)
    old, new = before.manifest, after.manifest
    if isinstance(old, Manifest) and isinstance(new, Manifest):
        yield from rights_change.consent(old.consent, new.consent)


def _locks(before: Snapshot, after: Snapshot) -> Iterator[Reason]:
    yield from _bases(before.base, after.base)
    yield from _files(before.lock.outputs, after.lock.outputs)
    if isinstance(before.lock, RecipeLock) and isinstance(after.lock, RecipeLock):
        yield from _triggers(before.members, after.members)
        yield from _members(before.lock.members, after.lock.members)
    elif isinstance(before.lock, Lock) and isinstance(after.lock, Lock):
        yield from _inputs(before.lock, after.lock)


def _bases(before: BaseInput, after: BaseInput) -> Iterator[Reason]:
    told = False
    for key in ("model", "revision"):
        old, new = getattr(before, key), getattr(after, key)
        if old != new:
            told = True
            yield Reason("major", f"base {key}: {said(old)} -> {said(new)}")
    if before.digest != after.digest and not told:
        what = f"{_short(before.digest)} -> {_short(after.digest)}"
        yield Reason("major", f"base {after.model} has other weights: {what}")


def _files(before: Mapping[str, Output], after: Mapping[str, Output]) -> Iterator[Reason]:
    for name in sorted(before.keys() - after.keys()):
        yield Reason("major", f"weights/{name} is gone: who loads it by name finds nothing")
    for name in sorted(after.keys() - before.keys()):
        yield Reason("minor", f"weights/{name} is new")
    for name in sorted(before.keys() & after.keys()):
        old, new = before[name], after[name]
        if old.tensors != new.tensors:
            yield Reason("minor", f"weights/{name}: other tensors")
        elif old.sha256 != new.sha256:
            level: Level = "patch" if new.tensors else "minor"
            what = "other header, equal tensors" if new.tensors else "other content"
            yield Reason(level, f"weights/{name}: {what}")


def _inputs(before: Lock, after: Lock) -> Iterator[Reason]:
    if before.fingerprint == after.fingerprint:
        if before.outputs == after.outputs and before != after:
            yield Reason("patch", "lock: made again, with equal weights")
        return
    told = False
    if isinstance(before, TrainedLock) and isinstance(after, TrainedLock):
        for reason in _training(before, after):
            told = True
            yield reason
    elif isinstance(before, ImportedLock) and isinstance(after, ImportedLock):
        told = before.inputs.importer != after.inputs.importer
        if told:
            old, new = before.inputs.importer, after.inputs.importer
            yield Reason("minor", f"importer: version {old} -> {new}")
    else:
        told = True
        yield Reason("minor", f"{_way(before)} before, {_way(after)} now")
    if not told:
        what = f"{_short(before.fingerprint)} -> {_short(after.fingerprint)}"
        yield Reason("minor", f"fingerprint: {what}")


def _training(before: TrainedLock, after: TrainedLock) -> Iterator[Reason]:
    old, new = before.inputs, after.inputs
    if old.dataset.digest != new.dataset.digest:
        yield Reason("minor", f"data: {_counted(old.dataset)} -> {_counted(new.dataset)}")
    if (old.prior and old.prior.digest) != (new.prior and new.prior.digest):
        yield Reason("minor", f"class pictures: {_counted(old.prior)} -> {_counted(new.prior)}")
    if (old.parent and old.parent.tensors) != (new.parent and new.parent.tensors):
        refs = [each.ref if each else "none" for each in (old.parent, new.parent)]
        yield Reason("minor", f"parent: {refs[0]} -> {refs[1]}, other weights")
    if old.trainer != new.trainer:
        yield Reason("minor", f"trainer: version {old.trainer} -> {new.trainer}")
    if old.chat_template and new.chat_template and old.chat_template != new.chat_template:
        yield Reason("major", "chat template: prompts are put together in another way")


def _triggers(before: tuple[Manifest, ...], after: tuple[Manifest, ...]) -> Iterator[Reason]:
    old, new = ({each.trigger for each in members if each.trigger} for members in (before, after))
    for trigger in sorted(old - new):
        yield Reason("major", f"trigger {said(trigger)} is gone")
    for trigger in sorted(new - old):
        yield Reason("minor", f"trigger {said(trigger)} is new")


def _members(before: tuple[Member, ...], after: tuple[Member, ...]) -> Iterator[Reason]:
    then, now = ({_name(each): each for each in members} for members in (before, after))
    for name in dict.fromkeys([*then, *now]):
        old, new = then.get(name), now.get(name)
        if old is None or new is None:
            yield Reason("minor", f"member {name} {'came' if old is None else 'went'}")
        elif old.tensors != new.tensors:
            yield Reason("minor", f"member {old.ref} -> {new.ref}, other weights")
        elif old.strength != new.strength or old.windows != new.windows:
            yield Reason("minor", f"member {name}: {_strength(old)} -> {_strength(new)}")
        elif old.ref != new.ref:
            yield Reason("patch", f"member {old.ref} -> {new.ref}, equal weights")


def _strength(member: Member) -> str:
    blocks = f" {{{said(member.blocks)}}}" if member.blocks else ""
    windows = f" {said(member.windows)}" if member.windows else ""
    return f"{member.weight:g}{blocks}{windows}"


def _name(member: Member) -> str:
    return member.ref.partition("@")[0]


def _counted(data: Any) -> str:
    return f"{data.records} records, {_short(data.digest)}" if data else "none"


def _way(lock: Lock) -> str:
    return "imported" if isinstance(lock, ImportedLock) else "trained"


def _short(digest: str) -> str:
    return digest[:DIGEST]
