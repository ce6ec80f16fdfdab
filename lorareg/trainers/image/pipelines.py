"""Diffusers models by their parts, so that training never holds a part it does not use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from lorareg.errors import InvalidFileError
from lorareg.registry.bases.base import ResolvedBase
from lorareg.registry.digest import DigestCache, of_tree
from lorareg.registry.lock import load_json
from lorareg.trainers.image.families.family import Family, Reader
from lorareg.trainers.image.families.known import FAMILIES, family_of
from lorareg.trainers.machine import runtime

LOCAL = {"use_safetensors": True, "local_files_only": True}
# What diffusers and transformers raise at files that are missing, cut short or of another shape.
LOADING_ERRORS = (
    OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, SafetensorError,
)  # fmt: skip


@dataclass(frozen=True)
class DiffusionBase:
    """A text-to-image base on disk.

    Attributes:
        family: "sd" (Stable Diffusion 1.x and 2.x), "sdxl", "sd3" or "flux".
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
        return cls(family_of(base), base)

    @property
    def architecture(self) -> Family:
        """What is particular to the family."""
        return FAMILIES[self.family]

    @cached_property
    def readers(self) -> tuple[Reader, ...]:
        """The text encoders that this base has."""
        every, optional = self.architecture.readers, self.architecture.optional
        if not optional or self._configs is None:
            return every
        index = self._read("model_index.json")
        return tuple(r for r in every if r.encoder not in optional or any(index.get(r.encoder, ())))

    def denoiser(self, dtype: torch.dtype, *, aligned: bool = True) -> Any:
        """The denoiser: a UNet or a transformer; if not ``aligned``, as the file has it."""
        import diffusers

        kind = getattr(diffusers, self.architecture.denoiser)
        return self._model(kind, self.architecture.component, dtype, aligned)

    def vae(self) -> Any:
        """The autoencoder, always float32: SDXL's overflows in half precision."""
        from diffusers import AutoencoderKL

        return self._model(AutoencoderKL, "vae", torch.float32)

    def pipeline(self, dtype: torch.dtype, **parts: Any) -> Any:
        """The whole pipeline; ``parts`` replace components, None leaves one out.

        Raises:
            InvalidFileError: a file is missing, damaged or of another shape than its config.
        """
        import diffusers

        kind = getattr(diffusers, self.architecture.pipeline)
        if self.family == "sd":
            parts |= {"safety_checker": None, "requires_safety_checker": False}
        for reader in set(self.architecture.readers) - set(self.readers):
            parts |= {reader.encoder: None, reader.tokenizer: None}
        self._require_tokenizers(parts)
        with self._loading("pipeline"):
            if self.source.layout == "checkpoint":
                pipeline = kind.from_single_file(
                    str(self.source.path), dtype=dtype, **self._config(None), **parts
                )
            else:
                parts = self._text_encoders(dtype, parts) | parts
                pipeline = kind.from_pretrained(self.source.path, dtype=dtype, **LOCAL, **parts)
        for name, part in pipeline.components.items():
            if isinstance(part, torch.nn.Module):
                self._refuse_meta(name, part)
                runtime.align(part)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def text_part(self, reader: Reader, dtype: torch.dtype) -> tuple[Any, Any]:
        """One tokenizer and its text encoder, frozen, and nothing else of the base."""
        mine = (reader.tokenizer, reader.encoder)
        others = [part for part in self._text_parts if part not in mine]
        nothing = dict.fromkeys((self.architecture.component, "vae", *others))
        pipeline = self.pipeline(dtype, **nothing)
        encoder = getattr(pipeline, reader.encoder).requires_grad_(False).eval()
        return getattr(pipeline, reader.tokenizer), encoder

    def scheduler_config(self) -> Any:
        """The noise schedule as the base was trained."""
        if self._configs is None:
            nothing = dict.fromkeys((self.architecture.component, "vae", *self._text_parts))
            return self.pipeline(torch.float32, **nothing).scheduler.config
        return self._read("scheduler/scheduler_config.json")

    def vae_config(self) -> Any:
        """Config of the autoencoder."""
        if self._configs is None:
            return self.vae().config
        return self._read("vae/config.json")

    def denoiser_config(self) -> Any:
        """Config of the denoiser."""
        component = self.architecture.component
        if self._configs is None:
            return self.denoiser(torch.float32).config
        return self._read(f"{component}/config.json")

    @property
    def grid(self) -> int:
        """Sides of a picture are multiples of this many pixels."""
        blocks = self.vae_config()["block_out_channels"]
        return int(2 ** (len(blocks) - 1) * self.architecture.patch)

    @property
    def has_zero_unconditional(self) -> bool:
        """Whether guidance starts from zeros, as SDXL's does, and not from the empty caption."""
        if self.family != "sdxl" or self._configs is None:
            return self.family == "sdxl"
        index = self._read("model_index.json")
        return bool(index.get("force_zeros_for_empty_prompt", True))

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

    @property
    def _configs(self) -> Path | None:
        """Folder with the configs; None for a checkpoint whose configs diffusers looks up."""
        return self.source.config if self.source.layout == "checkpoint" else self.source.path

    def _model(self, kind: Any, part: str, dtype: torch.dtype, aligned: bool = True) -> Any:
        with self._loading(part):
            if self.source.layout == "checkpoint":
                model = kind.from_single_file(
                    str(self.source.path), dtype=dtype, **self._config(part)
                )
            else:
                model = kind.from_pretrained(self.source.path, subfolder=part, dtype=dtype, **LOCAL)
        self._refuse_meta(part, model)
        if aligned:
            runtime.align(model)
        return model

    @property
    def _text_parts(self) -> tuple[str, ...]:
        return tuple(part for reader in self.readers for part in (reader.encoder, reader.tokenizer))

    def _text_encoders(self, dtype: torch.dtype, given: dict[str, Any]) -> dict[str, Any]:
        """The text encoders, whole: transformers would fill holes with random weights."""
        import transformers

        found = {}
        for reader in self.readers:
            part = reader.encoder
            if part in given:
                continue
            self._require(f"{part}/config.json")
            found[part], report = getattr(transformers, reader.kind).from_pretrained(
                self.source.path / part, dtype=dtype, output_loading_info=True, **LOCAL
            )
            self._refuse_holes(part, sorted(report["missing_keys"]))
        return found

    def _refuse_meta(self, part: str, model: torch.nn.Module) -> None:
        self._refuse_holes(part, [n for n, p in model.named_parameters() if p.is_meta])

    def _refuse_holes(self, part: str, names: list[str]) -> None:
        if names:
            raise InvalidFileError(
                f"base {self.source.model!r}: its {part} is not whole",
                why=f"{len(names)} tensors are missing, such as {names[0]}",
                fix="fetch the base again; it may be of another shape than its config",
            )

    def _require_tokenizers(self, given: dict[str, Any]) -> None:
        """Without its words a tokenizer would read every word as unknown, and say nothing."""
        for reader in self.readers:
            part = reader.tokenizer
            if part not in given:
                words = "vocab.json" if reader.is_clip else "spiece.model"
                self._require(f"{part}/tokenizer.json", f"{part}/{words}")

    def _require(self, *names: str) -> None:
        """At least one of these files must be there, unless diffusers looks them up."""
        folder = self._configs
        if folder and not any((folder / name).is_file() for name in names):
            raise InvalidFileError(
                f"base {self.source.model!r} has no {' or '.join(names)}",
                why=f"the folder {folder.name}/ is not a whole model in diffusers layout",
                fix="fetch the base again, or correct base.config in the manifest",
            )

    def _read(self, name: str) -> Any:
        self._require(name)
        return load_json((self._configs or self.source.path) / name, name)

    @contextmanager
    def _loading(self, part: str) -> Iterator[None]:
        try:
            yield
        except LOADING_ERRORS as error:
            looked_up = self._configs is None
            raise InvalidFileError(
                f"base {self.source.model!r}: its {part} cannot be loaded",
                why=str(error).strip().partition("\n")[0],
                fix="set base.config to a folder with the configs of this model in diffusers layout"
                if looked_up
                else "fetch the base again; weights are read from .safetensors, without a variant",
            ) from error

    def _config(self, subfolder: str | None) -> dict[str, Any]:
        if self.source.config is None:
            return {}
        local: dict[str, Any] = {"config": str(self.source.config), "local_files_only": True}
        return local | ({"subfolder": subfolder} if subfolder else {})
