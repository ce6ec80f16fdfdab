"""What a new manifest starts from, by task, base and kind; docs/presets.md says why."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lorareg.registry.bases.base import ResolvedBase
from lorareg.registry.header import read_header

SMALL_IMAGE_BASE = "builtin:avatar"
SMALL_TEXT_BASE = "builtin:smollm2"
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
        buckets: whether pictures keep their shape, where the base's resolution allows it.
        resolution: side in pixels, where the base does not tell its own.
    """

    rank: int = 16
    alpha: int = 16
    targets: str = "attention+ff"
    batch_size: int = 4
    learning_rate: float = 1e-4
    warmup_steps: int = 0
    caption_dropout: float = 0.05
    steps: int = 500
    guidance: float = 7.0
    buckets: bool = True
    resolution: int = 512


@dataclass(frozen=True)
class TextPreset:
    """Of one kind of dialogue adapter.

    Attributes:
        targets: as it is written in a manifest.
        steps: optimizer steps that a small dataset wants; epochs follow from the dialogues.
        epochs: the fewest and the most.
        packing: several dialogues in one sequence: the same loss and as many steps, no padding.
    """

    rank: int = 16
    alpha: int = 32
    targets: str = "all-linear"
    batch_size: int = 4
    learning_rate: float = 2e-4
    warmup_steps: int = 5
    steps: int = 100
    epochs: tuple[int, int] = (2, 10)
    max_length: int = 512
    packing: bool = True


KINDS = ("character", "style", "scene")
SMALL_IMAGE = {
    kind: ImagePreset(
        targets=SMALL_TARGETS,
        batch_size=8,
        learning_rate=rate,
        warmup_steps=10,
        steps=300,
        guidance=3.0,
        buckets=False,
    )
    for kind, rate in (("character", 3e-3), ("style", 3e-3), ("scene", 2e-3))
}
IMAGE = {kind: ImagePreset() for kind in KINDS}
SMALL_TEXT = {
    kind: TextPreset(alpha=16, learning_rate=3e-3, steps=50) for kind in ("tone", "knowledge")
}
TEXT = {kind: TextPreset() for kind in ("tone", "knowledge")}


def image(kind: str, base: ResolvedBase) -> ImagePreset:
    """The preset of a kind on a base; a kind of the user's own starts as a character does."""
    if base.model == SMALL_IMAGE_BASE:
        return SMALL_IMAGE.get(kind, SMALL_IMAGE["character"])
    preset = IMAGE.get(kind, IMAGE["character"])
    if (base.path / "transformer").is_dir():  # SD3, Flux
        return replace(preset, guidance=4.0)
    if _is_sdxl(base):
        return replace(preset, rank=32, resolution=1024)
    return preset


def text(kind: str, base: ResolvedBase) -> TextPreset:
    """The preset of a kind on a base; a kind of the user's own starts as a tone does."""
    presets = SMALL_TEXT if base.model == SMALL_TEXT_BASE else TEXT
    return presets.get(kind, presets["tone"])


def _is_sdxl(base: ResolvedBase) -> bool:
    """Stable Diffusion's denoiser with a second text encoder, as a folder or a single file."""
    if base.layout == "checkpoint":
        names = (tensor.name for tensor in read_header(base.path).tensors)
        return any(name.startswith("conditioner.embedders.1.") for name in names)
    return (base.path / "text_encoder_2").is_dir()
