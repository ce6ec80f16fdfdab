"""Losses of compositions on the held-out records of their members."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch

from lorareg.errors import LoraregError
from lorareg.registry.strength import Strength
from lorareg.registry.workspace import Workspace
from lorareg.trainers.adapters import inject
from lorareg.trainers.core.plan import Plan
from lorareg.trainers.core.randomness import Draws
from lorareg.trainers.core.task import Runtime, Task
from lorareg.trainers.evaluation.survival import Losses, Survival, judge
from lorareg.trainers.machine import runtime
from lorareg.trainers.prepare import prepare
from lorareg.trainers.quiet import quiet_libraries
from lorareg.weights import compose
from lorareg.weights.members import Component, Composition

Stage = Callable[[str, int, int], None]


def evaluate(workspace: Workspace, composition: Composition, stage: Stage) -> list[Survival]:
    """How every member survives, on the records that its own training held out.

    The adapter alone is measured at weight 1, as it was trained.

    Raises:
        LoraregError: the data of a member is not here, or it holds nothing out.
    """
    quiet_libraries()
    return [_survival(workspace, composition, part, stage) for part in composition.components]


def _survival(
    workspace: Workspace, composition: Composition, part: Component, stage: Stage
) -> Survival:
    bench = Bench.of(workspace, _with_encoders(part, composition), stage)
    alone = replace(part, strength=Strength(1.0), windows=())
    others = tuple(other for other in composition.components if other is not part)
    losses = {
        "base": bench.losses(None),
        "solo": bench.losses(replace(composition, components=(alone,))),
        "composed": bench.losses(composition),
    }
    if others:
        losses["without"] = bench.losses(replace(composition, components=others))
    return judge(part.state.ref, losses)


def _with_encoders(part: Component, composition: Composition) -> Component:
    """The member, as if its training had loaded every text encoder that another member changes."""
    wanted = part.manifest
    if wanted.lora.text_encoder or not any(
        other.manifest.lora.text_encoder for other in composition.components
    ):
        return part
    lora = wanted.lora.model_copy(update={"text_encoder": True})
    manifest = wanted.model_copy(update={"lora": lora})
    return replace(part, state=replace(part.state, manifest=manifest))


class Bench:
    """The held-out records of one adapter, on its base in memory."""

    def __init__(self, task: Task, place: Runtime, plan: Plan, seed: int) -> None:
        self._task, self._place, self._plan, self._seed = task, place, plan, seed
        self._models = task.load(place)

    @classmethod
    def of(cls, workspace: Workspace, part: Component, stage: Stage) -> Bench:
        """Read the data of an adapter as its training does, and split it the same way.

        Raises:
            LoraregError: nothing was held out.
        """
        prepared = prepare(workspace, part.manifest, stage)
        settings = part.manifest.train
        plan = Plan.of(prepared.task.ids, settings, prepared.task.shape)
        if not plan.held_out:
            raise LoraregError(
                f"{part.asset} holds no records out",
                why="train.validation.share is 0: what it learned cannot be told from what it saw",
                fix=f"set train.validation.share: 0.1 and lorareg train {part.asset}",
            )
        place = runtime.choose("fp32", workspace.cache, kernels="plain")
        runtime.settle(place)
        return cls(prepared.task, place, plan, settings.seed)

    def losses(self, composition: Composition | None) -> Losses:
        """Mean loss of each held-out record under a composition, or of the base alone.

        Noise and timesteps are those of the validation in training, the same for every call.
        """
        with self._wearing(composition), torch.no_grad():
            return np.concatenate([self._batch(batch) for batch in self._plan.held_out_batches])

    def _batch(self, batch: Sequence[str]) -> Losses:
        task, total = self._task, np.zeros(len(batch))
        for number in range(task.validation_rounds):
            draws = Draws(self._seed).at("validation", number)
            total += task.losses(batch, draws, number).double().cpu().numpy()
        terms = np.array([task.weight(record) for record in batch], dtype=np.float64)
        return total / (terms * task.validation_rounds)

    @contextmanager
    def _wearing(self, composition: Composition | None) -> Iterator[None]:
        if composition is None:
            yield
            return
        adapters = inject.apply(self._models, compose.build(composition))
        try:
            yield
        finally:
            inject.remove(adapters)
