"""Generating with a composition at run time, without writing a merged file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from lorareg.registry.bases.base import ResolvedBase, default_resolution
from lorareg.registry.image_training import ImageTraining
from lorareg.registry.manifest import ImageManifest, TextManifest
from lorareg.registry.sampling import Sampling
from lorareg.registry.text_training import TextTraining
from lorareg.registry.workspace import Workspace
from lorareg.trainers.core.task import Runtime, Sample
from lorareg.trainers.image.pipelines import DiffusionBase
from lorareg.trainers.machine import runtime
from lorareg.trainers.prepare import resolve_base
from lorareg.trainers.quiet import quiet_libraries
from lorareg.trainers.worn import Models, models_of, worn
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
            self._training = _drawn_like(like, base)
            self._pipeline = _pipeline(base, self._runtime)
            self._models = models_of(self._pipeline)
        else:
            self._replies, self._models = _language_model(base, like, sampling, self._runtime)

    def samples(
        self, composition: Composition | None, prompts: Sequence[str], seed: int
    ) -> list[Sample]:
        """One output a prompt, of the composition or, with None, of the base alone.

        Windows, schedule and negative prompt of the composition hold.
        """
        if composition is None:
            return self._draw(prompts, seed, "")
        with worn(self._models, composition, lambda: self._pipeline.scheduler.timesteps):
            return self._draw(prompts, seed, composition.negative_prompt)

    def _draw(self, prompts: Sequence[str], seed: int, negative: str) -> list[Sample]:
        if self._replies is not None:
            return self._replies.sample(prompts, seed)
        from lorareg.trainers.image.drawing import draw

        return draw(
            self._pipeline, prompts, seed, self._sampling, self._training, negative=negative
        )


def _drawn_like(like: ImageManifest, base: ResolvedBase) -> ImageTraining:
    """As the adapter was trained; one that was imported is drawn at the base's own size."""
    if like.origin is None or base.layout != "diffusers":
        return like.train
    return like.train.model_copy(update={"resolution": default_resolution(base.path)})


def _pipeline(base: ResolvedBase, place: Runtime) -> Any:
    dtype = getattr(torch, place.dtype)
    return DiffusionBase.of(base).pipeline(dtype).to(place.device)


def _language_model(
    base: ResolvedBase, like: TextManifest, sampling: Sampling, place: Runtime
) -> tuple[TextTask, Models]:
    from lorareg.trainers.text.task import TextTask

    task = TextTask(base, (), TextTraining(max_length=like.train.max_length))
    task.max_new_tokens = sampling.max_new_tokens
    return task, task.load(place)
