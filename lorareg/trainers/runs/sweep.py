"""A sweep: one adapter trained with every combination of some values, compared by held-out loss.

A variant is a run in ``.lorareg/runs``, found again by its fingerprint: a finished one is not
trained again, an interrupted one goes on. None of them is an asset until its values are written
into the manifest; then the asset's own fingerprint is that of the run, which is published as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from lorareg.errors import LoraregError, NotFoundError, listed
from lorareg.registry import lock
from lorareg.registry.ids import AssetId
from lorareg.registry.lock import ParentInput
from lorareg.registry.manifest import ImageManifest, TextManifest
from lorareg.registry.origin import Digest
from lorareg.registry.runfacts import Environment, Result
from lorareg.registry.schema import Strict, check
from lorareg.registry.workspace import Workspace
from lorareg.trainers.changes import fingerprint_now
from lorareg.trainers.run_folder import run_folder

RESULT = "result.json"
SAME_BASE = 1e-3  # relative difference of the base's own losses that rounding may make

Axes = Mapping[str, Sequence[Any]]


class VariantResult(Strict):
    """``result.json`` in the folder of a run that belongs to a sweep."""

    schema_: Annotated[Literal["lorareg/variant/1"], Field(alias="schema")] = "lorareg/variant/1"
    asset: str
    values: dict[str, Any]
    fingerprint: Digest
    config: dict[str, Any]
    environment: Environment
    result: Result
    bytes: int


@dataclass(frozen=True)
class Variant:
    """One combination of values.

    Attributes:
        values: dotted key -> value.
        fingerprint: of its run, which is in ``folder``.
    """

    values: Mapping[str, Any]
    fingerprint: str
    folder: Path

    @property
    def name(self) -> str:
        """``lora.rank=4 train.learning_rate=0.0001``."""
        return " ".join(f"{key}={shown(value)}" for key, value in self.values.items())

    def finished(self) -> VariantResult | None:
        """What came out, if it was trained to its end."""
        path = self.folder / RESULT
        try:
            document = lock.load_json(path, f"{self.folder.name}/{RESULT}")
        except NotFoundError:
            return None
        found = check(VariantResult, document, f"{self.folder.name}/{RESULT}", fix=f"rm {path}")
        if found.fingerprint != self.fingerprint:
            return None
        # the run may be of another sweep, which varied other keys
        return found.model_copy(update={"values": dict(self.values)})


def variants(
    workspace: Workspace, asset: AssetId, axes: Axes, parent: ParentInput | None
) -> list[Variant]:
    """Every combination of the values, checked as manifests, in the order they were given.

    Args:
        workspace: the registry.
        asset: whose manifest is varied.
        axes: dotted key -> values.
        parent: a file that all start from; an adapter stands in the manifest.

    Raises:
        LoraregError: a combination is no valid manifest, cannot be compared by held-out loss, or is
            the same run as another one.
    """
    found, problems, betas = dict[str, Variant](), list[str](), set[float | None]()
    for combination in product(*axes.values()):
        values = dict(zip(axes, combination, strict=True))
        name = Variant(values, "", Path()).name
        try:
            manifest = workspace.changed_manifest(asset, values)
            betas.add(_beta(manifest))
            _refuse_unmeasured(manifest)
            fingerprint = fingerprint_now(workspace, manifest, parent)
        except LoraregError as error:
            problems.append(f"{name}: {error.sentence}")
            continue
        if fingerprint in found:
            problems.append(f"{name}: the same run as {found[fingerprint].name}")
        folder = run_folder(workspace, asset, fingerprint)
        found[fingerprint] = Variant(values, fingerprint, folder)
    if len(betas) > 1:
        problems.append("train.dpo.beta: it scales the loss of a pair, so losses do not compare")
    if problems:
        raise LoraregError(
            f"the sweep of {asset} cannot be run",
            why="\n" + listed(problems),
            fix="sweep values that shape the weights and leave what the held-out loss means",
        )
    return list(found.values())


def ranked(results: Sequence[VariantResult]) -> list[VariantResult]:
    """The best first: by held-out loss, or, where that is not one measure, by its change.

    Another seed or share holds out other records; then the base's own loss differs, and only the
    change against it can be compared.
    """
    if measured_alike(results):
        return sorted(results, key=_loss)
    return sorted(results, key=lambda one: _loss(one) / (one.result.base_validation_loss or 1.0))


def measured_alike(results: Sequence[VariantResult]) -> bool:
    """Whether the base alone has the same held-out loss in all of them."""
    bases = [one.result.base_validation_loss or 0.0 for one in results]
    return all(math.isclose(base, bases[0], rel_tol=SAME_BASE) for base in bases)


def shown(value: Any) -> str:
    """A value as people type it.

    >>> shown(0.0001), shown(True), shown(["to_q", "to_k"])
    ('0.0001', 'true', '[to_q, to_k]')
    """
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return f"[{', '.join(map(shown, value))}]"
    return str(value)


def _loss(one: VariantResult) -> float:
    loss = one.result.validation_loss
    return math.inf if loss is None else loss


def _refuse_unmeasured(manifest: ImageManifest | TextManifest) -> None:
    if manifest.train.validation.share == 0:
        raise LoraregError("train.validation.share is 0, so nothing compares it")


def _beta(manifest: ImageManifest | TextManifest) -> float | None:
    """Reward of a nat, where pairs are learned: the base's own loss is log 2 with any."""
    dpo = manifest.train.dpo if isinstance(manifest, TextManifest) else None
    return dpo.beta if dpo else None
