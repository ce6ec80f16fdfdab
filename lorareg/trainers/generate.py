"""Generating with a composition at run time, without writing a merged file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from lorareg.registry.base import ResolvedBase
from lorareg.registry.manifest import ImageManifest, Sampling, TextManifest
from lorareg.registry.workspace import Workspace
from lorareg.trainers import inject, runtime
from lorareg.trainers.pipelines import DiffusionBase
from lorareg.trainers.prepare import resolve_base
from lorareg.trainers.quiet import quiet_libraries
from lorareg.trainers.tasks.base import Runtime, Sample
from lorareg.weights import compose
from lorareg.weights.adapter import LoraAdapter
from lorareg.weights.compose import Composition


class Generator:
    """A base model that takes compositions on and off.

    Args:
        workspace: the registry.
        like: a manifest of the base and task to generate with.
        sampling: steps, guidance, length of a reply.
        precision: "auto", "fp32" or "bf16".
    """

    def __init__(
        self,
        workspace: Workspace,
        like: ImageManifest | TextManifest,
        sampling: Sampling,
        precision: str = "auto",
    ) -> None:
        self._like = like
        self._sampling = sampling
        self._runtime = runtime.choose(precision, workspace.cache)
        quiet_libraries()
        base = resolve_base(workspace, like)
        self._model: Any
        if isinstance(like, ImageManifest):
            self._model = _pipeline(base, self._runtime)
        else:
            self._model = _language_model(base, like, sampling, self._runtime)

    def samples(
        self, composition: Composition | None, prompts: Sequence[str], seed: int
    ) -> list[Sample]:
        """One output a prompt, of the composition or, with None, of the base alone."""
        if composition is None:
            return self._draw(prompts, seed)
        return self.with_adapter(compose.build(composition), prompts, seed)

    def with_adapter(self, adapter: LoraAdapter, prompts: Sequence[str], seed: int) -> list[Sample]:
        """One output a prompt with an adapter on the base, which is taken off afterwards."""
        adapters = inject.apply(self._target, adapter)
        try:
            return self._draw(prompts, seed)
        finally:
            inject.remove(self._target, adapters)

    @property
    def _target(self) -> torch.nn.Module:
        image = isinstance(self._like, ImageManifest)
        target: torch.nn.Module = self._model.unet if image else self._model.model
        return target

    def _draw(self, prompts: Sequence[str], seed: int) -> list[Sample]:
        if isinstance(self._like, TextManifest):
            replies: list[Sample] = self._model.sample(prompts, seed)
            return replies
        from lorareg.trainers.tasks.image import draw

        side = self._like.train.resolution
        return draw(self._model, prompts, seed, self._sampling, side)


def _pipeline(base: ResolvedBase, place: Runtime) -> Any:
    dtype = getattr(torch, place.dtype)
    return DiffusionBase.of(base).pipeline(dtype).to(place.device)


def _language_model(
    base: ResolvedBase, like: TextManifest, sampling: Sampling, place: Runtime
) -> Any:
    from lorareg.trainers.tasks.text import TextTask

    task = TextTask(base, (), like.train.max_length)
    task.max_new_tokens = sampling.max_new_tokens
    task.load(place)
    return task
