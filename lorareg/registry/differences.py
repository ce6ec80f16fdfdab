"""What differs between two states of assets, beside their weights: from what git holds alone.

Weights are compared in ``weights.difference``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lorareg.registry import rights
from lorareg.registry.dataset import Difference, difference
from lorareg.registry.expression import Part
from lorareg.registry.ids import Ref
from lorareg.registry.lock import DatasetIndex, Lock, Member, RecipeLock, TrainedLock
from lorareg.registry.manifest import Manifest
from lorareg.registry.recipe import RecipeManifest
from lorareg.registry.runfacts import Environment
from lorareg.registry.states import State

EXPLAINS = ("python", "platform", "device", "precision", "kernels", "threads", "processes")
"""Keys of an environment that can explain other bits; packages are compared beside them."""


@dataclass(frozen=True)
class Change:
    """One value that differs; None where a state has none."""

    key: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Data:
    """How a dataset differs, by name.

    Attributes:
        records: name -> number, before and after.
        files: pictures, captions, rows: the bytes.
        captions: what a record says; ``records`` of dataset.json.
        prior: class pictures.
    """

    records: tuple[int, int]
    files: Difference
    captions: Difference
    prior: Difference


@dataclass(frozen=True)
class Differences:
    """Two states.

    Attributes:
        inputs: digests of what went in, the base first.
        data: None where one of the states does not say what it was trained on.
        members: of recipes: asset -> its pin.
    """

    before: State
    after: State
    manifest: tuple[Change, ...]
    inputs: tuple[Change, ...]
    data: Data | None
    environment: tuple[Change, ...]
    metrics: tuple[Change, ...]
    terms: tuple[Change, ...]
    members: tuple[Change, ...]

    @property
    def is_empty(self) -> bool:
        """Whether nothing but weights could differ."""
        listed = (self.manifest, self.inputs, self.environment, self.metrics, self.terms)
        data = self.data and (self.data.files or self.data.captions or self.data.prior)
        return not (any(listed) or data or self.members)

    def document(self) -> dict[str, Any]:
        """For JSON."""
        told: dict[str, Any] = {
            side: {"ref": state.ref, "commit": state.commit, "fingerprint": state.lock.fingerprint}
            for side, state in (("before", self.before), ("after", self.after))
        }
        for key in ("manifest", "inputs", "environment", "metrics", "terms", "members"):
            told[key] = [asdict(change) for change in getattr(self, key)]
        return told | {"dataset": asdict(self.data) if self.data else None}


def compare(before: State, after: State) -> Differences:
    """Everything that differs but the weights."""
    return Differences(
        before,
        after,
        manifest=changes(_manifest(before.manifest), _manifest(after.manifest)),
        inputs=changes(_inputs(before.lock), _inputs(after.lock)),
        data=_data(before.index, after.index),
        environment=tuple(_environment(before.lock, after.lock)),
        metrics=changes(_metrics(before.lock), _metrics(after.lock)),
        terms=changes(_terms(before), _terms(after)),
        members=changes(_members(before.lock), _members(after.lock)),
    )


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Change, ...]:
    """Values that differ between two trees, by dotted key, sorted.

    >>> changes({"lora": {"rank": 8}}, {"lora": {"rank": 16}})
    (Change(key='lora.rank', before=8, after=16),)
    """
    old, new = flat(before), flat(after)
    return tuple(
        Change(key, old.get(key), new.get(key))
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    )


def environment_changes(before: Environment, after: Environment) -> list[Change]:
    """What explains other bits where the inputs are equal: machine, precision, packages."""
    found = [Change(key, getattr(before, key), getattr(after, key)) for key in EXPLAINS]
    names = sorted(before.packages.keys() | after.packages.keys())
    found += [Change(n, before.packages.get(n), after.packages.get(n)) for n in names]
    return [change for change in found if change.before != change.after]


def flat(tree: Mapping[str, Any] | Sequence[Any], prefix: str = "") -> dict[str, Any]:
    """A tree by dotted keys; blocks in a list are numbered, plain lists stay values."""
    found: dict[str, Any] = {}
    items = tree.items() if isinstance(tree, Mapping) else enumerate(tree)
    for key, value in items:
        name = f"{prefix}.{key}" if prefix else str(key)
        blocks = isinstance(value, list) and any(isinstance(each, Mapping) for each in value)
        if isinstance(value, Mapping) or blocks:
            found |= flat(value, name)
        else:
            found[name] = value
    return found


def _manifest(wanted: Manifest | RecipeManifest) -> dict[str, Any]:
    """Its content, defaults filled in; of what was imported not those of a training."""
    untold = {"dataset_", "train"} if getattr(wanted, "origin", None) else set[str]()
    return wanted.model_dump(mode="json", by_alias=True, exclude=untold)


def _inputs(known: Lock | RecipeLock) -> dict[str, Any]:
    told = {"fingerprint": known.fingerprint}
    if isinstance(known, RecipeLock):
        return told | {"base": known.base.model_dump(mode="json")}
    inputs = known.inputs.model_dump(mode="json", exclude={"config": {"resolved"}, "header": True})
    return told | inputs


def _data(before: DatasetIndex | None, after: DatasetIndex | None) -> Data | None:
    if before is None or after is None:
        return None
    return Data(
        (len(before.records), len(after.records)),
        difference(before.files, after.files),
        difference(before.records, after.records),
        difference(before.prior, after.prior),
    )


def _environment(before: Lock | RecipeLock, after: Lock | RecipeLock) -> list[Change]:
    if isinstance(before, TrainedLock) and isinstance(after, TrainedLock):
        return environment_changes(before.environment, after.environment)
    return []


def _metrics(known: Lock | RecipeLock) -> dict[str, Any]:
    if isinstance(known, RecipeLock):
        return {"error": known.error, "retention": known.retention}
    if isinstance(known, TrainedLock):
        return known.result.model_dump(mode="json", exclude={"replies"})
    return {}


def _terms(of: State) -> dict[str, Any]:
    """What may be done with it, its licence and its sources taken together."""
    told: dict[str, Any] = {"visibility": of.manifest.visibility}
    if isinstance(of.manifest, RecipeManifest):
        return told
    terms = rights.meet(rights.of_member(str(of.asset), of.manifest))
    consent = of.manifest.consent
    return told | terms.document() | {"consent": consent.model_dump(mode="json") if consent else {}}


def _members(known: Lock | RecipeLock) -> dict[str, str]:
    if not isinstance(known, RecipeLock):
        return {}
    return {member.ref.partition("@")[0]: _pin(member) for member in known.members}


def _pin(member: Member) -> str:
    ref = Ref.parse(member.ref)
    part = Part(ref, member.weight, dict(sorted(member.blocks.items())), member.windows)
    return f"{part} {member.tensors.rpartition(':')[2][:12]}"
