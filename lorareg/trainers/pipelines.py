"""Diffusers models by their parts, so that training never holds a part it does not use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lorareg.errors import InvalidFileError
from lorareg.registry.base import ResolvedBase
from lorareg.registry.digest import DigestCache, of_tree
from lorareg.registry.header import read_header
from lorareg.registry.lock import load_json

FAMILIES = {"StableDiffusionPipeline": "sd", "StableDiffusionXLPipeline": "sdxl"}
TEXT_PARTS = {
    "sd": ("text_encoder", "tokenizer"),
    "sdxl": ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"),
}


@dataclass(frozen=True)
class DiffusionBase:
    """A text-to-image base on disk.

    Attributes:
        family: "sd" (Stable Diffusion 1.x and 2.x) or "sdxl".
        source: the resolved base.
    """

    family: str
    source: ResolvedBase

    @classmethod
    def of(cls, base: ResolvedBase) -> DiffusionBase:
        """Recognise the family.

        Raises:
            InvalidFileError: another architecture.
        """
        if base.layout == "checkpoint":
            return cls(_checkpoint_family(base.path), base)
        index = load_json(base.path / "model_index.json", f"{base.path.name}/model_index.json")
        name = str(index.get("_class_name"))
        if name not in FAMILIES:
            raise InvalidFileError(
                f"base {base.model!r} is a {name}",
                why=f"lorareg trains {' and '.join(FAMILIES)}",
                fix="choose a base of one of these shapes",
            )
        return cls(FAMILIES[name], base)

    def unet(self, dtype: torch.dtype) -> Any:
        """The denoiser."""
        from diffusers import UNet2DConditionModel

        if self.source.layout == "checkpoint":
            return UNet2DConditionModel.from_single_file(
                str(self.source.path), dtype=dtype, **self._config("unet")
            )
        return UNet2DConditionModel.from_pretrained(
            self.source.path, subfolder="unet", dtype=dtype, **LOCAL
        )

    def vae(self) -> Any:
        """The autoencoder, always float32: SDXL's overflows in half precision."""
        from diffusers import AutoencoderKL

        if self.source.layout == "checkpoint":
            return AutoencoderKL.from_single_file(
                str(self.source.path), dtype=torch.float32, **self._config("vae")
            )
        return AutoencoderKL.from_pretrained(
            self.source.path, subfolder="vae", dtype=torch.float32, **LOCAL
        )

    def pipeline(self, dtype: torch.dtype, **parts: Any) -> Any:
        """The whole pipeline; ``parts`` replace components, None leaves one out."""
        from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

        kind = StableDiffusionXLPipeline if self.family == "sdxl" else StableDiffusionPipeline
        if self.family == "sd":
            parts |= {"safety_checker": None, "requires_safety_checker": False}
        if self.source.layout == "checkpoint":
            pipeline = kind.from_single_file(
                str(self.source.path), dtype=dtype, **self._config(None), **parts
            )
        else:
            pipeline = kind.from_pretrained(self.source.path, dtype=dtype, **LOCAL, **parts)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def scheduler_config(self) -> Any:
        """The noise schedule as the base was trained."""
        if self.source.layout == "checkpoint":
            return self.pipeline(
                torch.float32, unet=None, vae=None, **dict.fromkeys(TEXT_PARTS[self.family])
            ).scheduler.config
        path = self.source.path / "scheduler" / "scheduler_config.json"
        return load_json(path, "scheduler/scheduler_config.json")

    def vae_config(self) -> Any:
        """Config of the autoencoder."""
        if self.source.layout == "checkpoint":
            return self.vae().config
        return load_json(self.source.path / "vae" / "config.json", "vae/config.json")

    def part_digest(self, parts: tuple[str, ...], cache: DigestCache) -> str:
        """Digest of some components; of the whole file for a checkpoint, which has no parts."""
        if self.source.layout == "checkpoint":
            return self.source.digest
        files = {
            file.relative_to(self.source.path).as_posix(): file
            for part in parts
            for file in sorted((self.source.path / part).rglob("*"))
            if file.suffix in (".safetensors", ".json", ".txt")
        }
        return of_tree(cache.digests(files))

    def _config(self, subfolder: str | None) -> dict[str, Any]:
        if self.source.config is None:
            return {}
        local: dict[str, Any] = {"config": str(self.source.config), "local_files_only": True}
        return local | ({"subfolder": subfolder} if subfolder else {})


LOCAL = {"use_safetensors": True, "local_files_only": True}


def _checkpoint_family(path: Path) -> str:
    """Tell SD from SDXL by the text encoders' names in an original-format checkpoint."""
    names = {entry.name for entry in read_header(path).tensors}
    if any(name.startswith("conditioner.embedders.1.") for name in names):
        return "sdxl"
    if any(name.startswith("cond_stage_model.") for name in names):
        return "sd"
    raise InvalidFileError(
        f"{path.name} is no Stable Diffusion checkpoint",
        why="it holds neither cond_stage_model.* (SD) nor conditioner.embedders.1.* (SDXL)",
        fix="use a full checkpoint, not a LoRA, a VAE or another architecture",
    )
