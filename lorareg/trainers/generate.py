"""Generating with a composition at run time, without writing a merged file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from lorareg.registry.base import ResolvedBase
from lorareg.registry.manifest import ImageManifest, Sampling, TextManifest
from lorareg.registry.text_training import TextTraining
from lorareg.registry.workspace import Workspace
from lorareg.trainers.adapters import inject
from lorareg.trainers.core.task import Runtime, Sample
from lorareg.trainers.image.pipelines import DiffusionBase
from lorareg.trainers.machine import runtime
from lorareg.trainers.prepare import resolve_base
from lorareg.trainers.quiet import quiet_libraries
from lorareg.weights import compose
from lorareg.weights.adapter import LoraAdapter
from lorareg.weights.members import Composition

if TYPE_CHECKING:
    from lorareg.trainers.text.task import TextTask


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
        self._sampling = sampling
        self._runtime = runtime.choose(precision, workspace.cache)
        quiet_libraries()
        base = resolve_base(workspace, like)
        self._pipeline: Any = None
        self._replies: TextTask | None = None
        if isinstance(like, ImageManifest):
            self._training = like.train
            self._pipeline = _pipeline(base, self._runtime)
        else:
            self._replies, self._models = _language_model(base, like, sampling, self._runtime)

    def samples(
        self, composition: Composition | None, prompts: Sequence[str], seed: int
    ) -> list[Sample]:
        """One output a prompt, of the composition or, with None, of the base alone."""
        if composition is None:
            return self._draw(prompts, seed)
        return self.with_adapter(compose.build(composition), prompts, seed)

    def with_adapter(self, adapter: LoraAdapter, prompts: Sequence[str], seed: int) -> list[Sample]:
        """One output a prompt with an adapter on the base, which is taken off afterwards."""
        adapters = inject.apply(self._frozen(adapter), adapter)
        try:
            return self._draw(prompts, seed)
        finally:
            inject.remove(adapters)

    def _frozen(self, adapter: LoraAdapter) -> Mapping[str, torch.nn.Module]:
        """The models that an adapter changes, by the component its paths begin with."""
        if self._replies is not None:
            return self._models
        parts = sorted({name.partition(".")[0] for name in adapter.layers})
        return {p: getattr(self._pipeline, p) for p in parts if hasattr(self._pipeline, p)}

    def _draw(self, prompts: Sequence[str], seed: int) -> list[Sample]:
        if self._replies is not None:
            return self._replies.sample(prompts, seed)
        from lorareg.trainers.image.drawing import draw

        return draw(self._pipeline, prompts, seed, self._sampling, self._training)


def _pipeline(base: ResolvedBase, place: Runtime) -> Any:
    dtype = getattr(torch, place.dtype)
    return DiffusionBase.of(base).pipeline(dtype).to(place.device)


def _language_model(
    base: ResolvedBase, like: TextManifest, sampling: Sampling, place: Runtime
) -> tuple[TextTask, Mapping[str, torch.nn.Module]]:
    from lorareg.trainers.text.task import TextTask

    task = TextTask(base, (), TextTraining(max_length=like.train.max_length))
    task.max_new_tokens = sampling.max_new_tokens
    return task, task.load(place)
