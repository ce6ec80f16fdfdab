"""What a new manifest starts from, by task, base and kind; docs/presets.md says why."""

from __future__ import annotations

from dataclasses import dataclass

SMALL_IMAGE_BASE = "builtin:avatar"
SMALL_TARGETS = (
    "[to_q, to_k, to_v, to_out.0, ff.net.0.proj, ff.net.2, proj_in, proj_out, conv1, conv2]"
)
"""A small base keeps most of a drawing's look in its convolutions."""


@dataclass(frozen=True)
class ImagePreset:
    """Of one kind of picture adapter.

    Attributes:
        targets: as it is written in a manifest.
        steps: optimizer steps that a small dataset wants; epochs follow from the pictures.
    """

    rank: int = 16
    alpha: int = 16
    targets: str = "attention"
    batch_size: int = 4
    learning_rate: float = 1e-4
    steps: int = 450
    guidance: float = 7.0


@dataclass(frozen=True)
class TextPreset:
    """Of one kind of dialogue adapter."""

    rank: int = 16
    alpha: int = 16
    targets: str = "all-linear"
    batch_size: int = 4
    learning_rate: float = 3e-4
    epochs: int = 4
    max_length: int = 512


SMALL_IMAGE = {
    kind: ImagePreset(
        rank=8,
        alpha=8,
        targets=SMALL_TARGETS,
        batch_size=8,
        learning_rate=2e-3,
        steps=steps,
        guidance=3.0,
    )
    for kind, steps in (("character", 450), ("style", 450), ("scene", 600))
}
IMAGE = {
    "character": ImagePreset(),
    "style": ImagePreset(),
    "scene": ImagePreset(steps=600),
}
TEXT = {"tone": TextPreset(), "knowledge": TextPreset()}


def image(kind: str, base: str) -> ImagePreset:
    """The preset of a kind on a base; a kind of the user's own starts as a character does."""
    presets = SMALL_IMAGE if base == SMALL_IMAGE_BASE else IMAGE
    return presets.get(kind, presets["character"])


def text(kind: str) -> TextPreset:
    """The preset of a kind; a kind of the user's own starts as a tone does."""
    return TEXT.get(kind, TEXT["tone"])
