"""Pictures to latents and captions to embeddings, through the cache.

With a warm cache neither the autoencoder nor a text encoder is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from lorareg.registry.digest import DigestCache, of_bytes
from lorareg.trainers.cache import TensorCache, key
from lorareg.trainers.data.images import ImageRecord, load_image, square
from lorareg.trainers.pipelines import TEXT_PARTS, DiffusionBase
from lorareg.trainers.tasks.base import Runtime

Progress = Callable[[str, int, int], None]
Values = dict[str, Mapping[str, torch.Tensor]]


@dataclass
class Encoder:
    """The frozen encoders of a base, loaded only when the cache lacks something."""

    base: DiffusionBase
    runtime: Runtime
    digests: DigestCache
    progress: Progress

    def pictures(self, records: Sequence[ImageRecord], side: int) -> Values:
        """Latent distribution of each picture, by record id.

        Returns:
            mean and logvar, (C, H, W) float32, so that every step samples afresh; frame, int32
            (original height, width, top, left of the cut).
        """
        vae = self.base.part_digest(("vae",), self.digests)
        how = (f"square-{side}", vae, "float32", self._makers("pillow"))
        keys = {record.id: key("latent", record.sha256, *how) for record in records}
        by_key = {keys[record.id]: record for record in records}
        cache = TensorCache(self.runtime.cache / "latents", ("mean", "logvar", "frame"))
        cache.fill(
            list(keys.values()),
            lambda name: self._encode_picture(by_key[name], side),
            lambda done, total: self.progress("encoding pictures", done, total),
        )
        return dict(zip(keys, cache.get(list(keys.values())), strict=True))

    def captions(self, texts: Collection[str]) -> Values:
        """Embedding of each caption, by caption.

        Returns:
            embeds, (tokens, width) float32; for SDXL also pooled, (width,). Of the empty caption
            what guidance starts from.
        """
        encoder = self.base.part_digest(TEXT_PARTS[self.base.family], self.digests)
        how = (encoder, self.base.has_zero_unconditional, self._makers("transformers"))
        keys = {text: key("text", of_bytes(text.encode()), *how) for text in sorted(texts)}
        by_key = {name: text for text, name in keys.items()}
        fields = ("embeds", "pooled") if self.base.family == "sdxl" else ("embeds",)
        cache = TensorCache(self.runtime.cache / "texts", fields)
        cache.fill(
            list(keys.values()),
            lambda name: self._encode_caption(by_key[name]),
            lambda done, total: self.progress("encoding captions", done, total),
        )
        return dict(zip(keys, cache.get(list(keys.values())), strict=True))

    @property
    def scaling(self) -> float:
        """Factor that gives latents unit variance; 0.18215 where an old config lacks it."""
        return float(self.base.vae_config().get("scaling_factor", 0.18215))

    def _makers(self, package: str) -> str:
        """What else can change the last bit of a value: libraries and device."""
        device = torch.device(self.runtime.device).type
        return f"torch {torch.__version__} {package} {version(package)} {device}"

    @cached_property
    def _vae(self) -> Any:
        return self.base.vae().to(self.runtime.device).requires_grad_(False).eval()

    @cached_property
    def _text_pipeline(self) -> Any:
        return self.base.pipeline(torch.float32, unet=None, vae=None).to(self.runtime.device)

    def _encode_picture(self, record: ImageRecord, side: int) -> Mapping[str, torch.Tensor]:
        image = load_image(record.path)
        cut, (top, left) = square(image, side)
        pixels = torch.from_numpy(np.asarray(cut).copy()).permute(2, 0, 1).float()
        with torch.no_grad():
            batch = pixels.div(127.5).sub(1)[None].to(self.runtime.device)
            posterior = self._vae.encode(batch).latent_dist
        frame = torch.tensor([image.height, image.width, top, left], dtype=torch.int32)
        mean, logvar = posterior.mean[0].float().cpu(), posterior.logvar[0].float().cpu()
        return {"mean": mean, "logvar": logvar, "frame": frame}

    def _encode_caption(self, text: str) -> Mapping[str, torch.Tensor]:
        with torch.no_grad():
            encoded = self._text_pipeline.encode_prompt(
                text,
                device=self.runtime.device,
                num_images_per_prompt=1,
                do_classifier_free_guidance=False,
            )
        found = {"embeds": encoded[0][0].float().cpu()}
        if self.base.family == "sdxl":
            found["pooled"] = encoded[2][0].float().cpu()
        if not text and self.base.has_zero_unconditional:
            return {name: torch.zeros_like(value) for name, value in found.items()}
        return found
