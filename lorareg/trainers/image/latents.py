"""Pictures and masks to tensors at latent resolution, through the cache.

With a warm cache the autoencoder is not loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from lorareg.registry.digest import DigestCache
from lorareg.trainers.cache import TensorCache, key
from lorareg.trainers.core.task import Runtime
from lorareg.trainers.data import masks
from lorareg.trainers.data.copies.buckets import Size
from lorareg.trainers.data.cuts import Cut
from lorareg.trainers.data.images import ImageRecord, load_image
from lorareg.trainers.image.pipelines import DiffusionBase

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class View:
    """One way to show a picture.

    Attributes:
        size: width and height of the training picture, pixels.
    """

    picture: ImageRecord
    size: Size
    is_mirrored: bool = False

    @property
    def name(self) -> str:
        """What was done to the picture, in a key of the cache."""
        width, height = self.size
        cut = f"square-{width}" if width == height else f"bucket-{width}x{height}"
        return f"{cut}-mirrored" if self.is_mirrored else cut

    def cut(self, picture: Size) -> Cut:
        """The cut of a picture of this width and height."""
        return Cut.of(picture, self.size, mirrored=self.is_mirrored)


Values = dict[View, Mapping[str, torch.Tensor]]


@dataclass
class Encoder:
    """The frozen autoencoder of a base, loaded only when the cache lacks something."""

    base: DiffusionBase
    runtime: Runtime
    digests: DigestCache
    progress: Progress

    def latents(self, views: Sequence[View]) -> Values:
        """Latent distribution of each view, in memory maps of the cache.

        A mirrored picture is encoded for itself: its latents are not the mirrored latents.

        Returns:
            mean and logvar, (C, h, w) float32, so that every step samples afresh; frame, (4,)
            int32, as ``Cut.frame``.
        """
        return self._cached(
            "latents",
            ("mean", "logvar", "frame"),
            {view: self._key(view) for view in views},
            self._encode,
            "encoding pictures",
        )

    def masks(self, views: Sequence[View]) -> Values:
        """Mask of each view: mask, (1, h, w) float32 from 0 to 1, each the mean of its pixels."""
        keys = {
            view: key("mask", view.picture.mask.sha256 if view.picture.mask else "alpha", name)
            for view, name in ((view, self._key(view)) for view in views)
        }
        return self._cached("masks", ("mask",), keys, self._average, "reading masks")

    def _cached(
        self,
        folder: str,
        fields: Sequence[str],
        keys: Mapping[View, str],
        compute: Callable[[View], Mapping[str, torch.Tensor]],
        what: str,
    ) -> Values:
        by_key = {name: view for view, name in keys.items()}
        cache = TensorCache(self.runtime.cache / folder, fields, self.digests)
        cache.fill(
            list(keys.values()),
            lambda name: compute(by_key[name]),
            lambda done, total: self.progress(what, done, total),
        )
        return dict(zip(keys, cache.get(list(keys.values())), strict=True))

    def _key(self, view: View) -> str:
        """Digest of all that latents depend on."""
        how = (view.name, self._vae_digest, "float32", self._makers)
        return key("latent", view.picture.sha256, *how)

    @cached_property
    def _makers(self) -> str:
        """What else can change the last bit of a value; read once, since versions are in files."""
        device = torch.device(self.runtime.device).type
        return f"torch {torch.__version__} pillow {version('pillow')} {device}"

    @cached_property
    def _vae_digest(self) -> str:
        return self.base.part_digest(("vae",), self.digests)

    @cached_property
    def _vae(self) -> Any:
        return self.base.vae().to(self.runtime.device).requires_grad_(False).eval()

    @cached_property
    def _pixels_a_latent(self) -> int:
        """Sides of a picture by sides of its latents: every block but the last halves them."""
        return 1 << len(self.base.vae_config()["block_out_channels"]) - 1

    def _encode(self, view: View) -> Mapping[str, torch.Tensor]:
        image = load_image(view.picture.path)
        cut = view.cut(image.size)
        pixels = torch.from_numpy(np.asarray(cut.of_picture(image)).copy()).permute(2, 0, 1).float()
        with torch.no_grad():
            batch = pixels.div(127.5).sub(1)[None].to(self.runtime.device)
            posterior = self._vae.encode(batch).latent_dist
        frame = torch.tensor(cut.frame, dtype=torch.int32)
        mean, logvar = posterior.mean[0].float().cpu(), posterior.logvar[0].float().cpu()
        return {"mean": mean, "logvar": logvar, "frame": frame}

    def _average(self, view: View) -> Mapping[str, torch.Tensor]:
        mask, picture = masks.read(view.picture)
        width, height = view.size
        size = (width // self._pixels_a_latent, height // self._pixels_a_latent)
        values = np.asarray(view.cut(picture).of_mask(mask, size)) / 255
        return {"mask": torch.from_numpy(values.clip(0, 1).astype(np.float32))[None]}
