"""What is expected of a dataset: from the manifest that uses it, or from the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lorareg.registry.bases.base import ResolvedBase
from lorareg.registry.image_training import Buckets
from lorareg.registry.manifest import ImageManifest, TextManifest
from lorareg.registry.training import Training

RESOLUTION = 512
MAX_LENGTH = 1024


@dataclass(frozen=True)
class Wishes:
    """The standard a dataset is held to.

    Attributes:
        resolution: pixels that the shorter side of a picture has at least; with buckets the side
            of a square of their area.
        buckets: shapes that pictures are trained in; None is the square in their middle.
        alpha_is_mask: whether what is transparent says what not to learn.
        kind: of the adapter; a character needs more pictures than a style.
        captions, vocabulary: as in ``dataset`` of a manifest.
        skip: as ``Manifest.left_alone``.
        max_length: tokens of a dialogue that are kept.
        overlong: what becomes of longer dialogues: "cut", "drop" or "error".
        pairs: whether training learns from preference pairs; None without a manifest.
        training: settings that split the records; None: no split to leak across.
        base: whose tokenizer counts; None leaves out what needs one.
    """

    task: Literal["text-to-image", "text-generation"]
    resolution: int = RESOLUTION
    buckets: Buckets | None = None
    alpha_is_mask: bool = False
    kind: str | None = None
    trigger: str | None = None
    captions: str | None = None
    skip: tuple[str, ...] = ()
    vocabulary: str | None = None
    max_length: int = MAX_LENGTH
    overlong: str = "cut"
    pairs: bool | None = None
    training: Training | None = None
    base: ResolvedBase | None = None

    @classmethod
    def of(cls, manifest: ImageManifest | TextManifest, base: ResolvedBase | None) -> Wishes:
        """What a manifest asks for."""
        masks = getattr(manifest.train, "masked_loss", None)
        return cls(
            task=manifest.task,
            resolution=getattr(manifest.train, "resolution", RESOLUTION),
            buckets=getattr(manifest.train, "buckets", None),
            alpha_is_mask=masks is not None and masks.folder is None,
            kind=manifest.kind,
            trigger=manifest.trigger,
            captions=manifest.dataset.captions,
            skip=manifest.left_alone,
            vocabulary=manifest.dataset.vocabulary,
            max_length=getattr(manifest.train, "max_length", MAX_LENGTH),
            overlong=getattr(manifest.train, "overlong", "cut"),
            pairs=_learns_from_pairs(manifest),
            training=manifest.train,
            base=base,
        )

    def held_out(self, ids: Sequence[str]) -> frozenset[str]:
        """Records that training will only measure on."""
        from lorareg.trainers.core.plan import Plan

        if self.training is None or len(ids) < 2:
            return frozenset()
        return frozenset(Plan.of(ids, self.training).held_out)

    def document(self) -> dict[str, Any]:
        """All of it as JSON: equal documents ask the same."""
        training = self.training
        return {
            "task": self.task,
            "resolution": self.resolution,
            "buckets": self.buckets.model_dump() if self.buckets else None,
            "alpha_is_mask": self.alpha_is_mask,
            "kind": self.kind,
            "trigger": self.trigger,
            "captions": self.captions,
            "skip": sorted(self.skip),
            "vocabulary": self.vocabulary,
            "max_length": self.max_length,
            "overlong": self.overlong,
            "pairs": self.pairs,
            "split": [training.seed, training.validation.share] if training else None,
            "base": self.base.digest if self.base else None,
        }


def _learns_from_pairs(manifest: ImageManifest | TextManifest) -> bool | None:
    return manifest.train.dpo is not None if isinstance(manifest, TextManifest) else None
