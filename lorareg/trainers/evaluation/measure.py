"""Losses of compositions on the held-out records of their members."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import torch

from lorareg.errors import LoraregError
from lorareg.registry.lock import Inputs
from lorareg.registry.recipe import Method
from lorareg.registry.strength import Strength
from lorareg.registry.workspace import Workspace
from lorareg.trainers.core.plan import Plan
from lorareg.trainers.core.randomness import Draws
from lorareg.trainers.core.task import Runtime, Task
from lorareg.trainers.evaluation.survival import Losses, Survival, judge
from lorareg.trainers.machine import runtime
from lorareg.trainers.prepare import Prepared, prepare
from lorareg.trainers.quiet import quiet_libraries
from lorareg.trainers.worn import worn
from lorareg.weights.members import Component, Composition

Stage = Callable[[str, int, int], None]


def evaluate(workspace: Workspace, composition: Composition, stage: Stage) -> list[Survival]:
    """How every member survives, on the records that its own training held out.

    The adapter alone is measured at weight 1, as it was trained.

    Args:
        workspace: the registry.
        composition: the members.
        stage: told ("records of style/ink", done, total) as it goes on.

    Raises:
        LoraregError: the data of a member is not here or not what it learned from, it holds
            nothing out, or the weights of the composition change from step to step.
    """
    if composition.is_scheduled:
        raise LoraregError(
            "survival of a composition that changes from step to step is not measured",
            why="a loss belongs to one step; pictures are drawn by all of them",
            fix="leave steps=... and the schedule out to measure the members together",
        )
    quiet_libraries()
    found = []
    for done, part in enumerate(composition.components):
        stage(f"records of {part.state.ref}", done, len(composition.components))
        bench = Bench.of(workspace, part, composition, stage)
        found.append(judge(part.state.ref, bench.compare(part, composition)))
    return found


class Bench:
    """The held-out records of one adapter, on its base in memory."""

    def __init__(self, task: Task, place: Runtime, plan: Plan, seed: int) -> None:
        self._task, self._plan, self._seed = task, plan, seed
        self._models = task.load(place)

    @classmethod
    def of(
        cls, workspace: Workspace, part: Component, composition: Composition, stage: Stage
    ) -> Bench:
        """Read the data of an adapter as its training does, and split it the same way.

        Raises:
            LoraregError: it is not what the adapter learned from, or nothing was held out.
        """
        wanted = _with_encoders(part, composition)
        prepared = prepare(workspace, wanted.manifest, stage)
        _refuse_other_data(part, prepared)
        settings = part.manifest.train
        plan = Plan.of(prepared.task.ids, settings, prepared.task.shape)
        if not plan.held_out:
            raise LoraregError(
                f"{part.asset} holds no records out",
                why="train.validation.share is 0: what it learned cannot be told from what it saw",
                fix=f"set train.validation.share: 0.1 and lorareg train {part.asset}",
            )
        place = runtime.choose("fp32", workspace.cache)
        runtime.settle(place)
        return cls(prepared.task, place, plan, settings.seed)

    def compare(self, part: Component, composition: Composition) -> dict[str, Losses]:
        """Losses of "base", "solo", "composed" and, in company, "without" the member."""
        alone = replace(part, strength=Strength(1.0))
        others = tuple(other for other in composition.components if other is not part)
        found = {
            "base": self.losses(None),
            "solo": self.losses(Composition((alone,), ())),
            "composed": self.losses(composition),
        }
        if others:
            method = composition.method if len(others) > 1 else Method()
            rest = replace(composition, components=others, method=method)
            found["without"] = self.losses(rest)
        return found

    def losses(self, composition: Composition | None) -> Losses:
        """Mean loss of each held-out record under a composition, or of the base alone.

        Noise and timesteps are those of the validation in training, the same for every call.
        """
        batches = self._plan.held_out_batches
        on = worn(self._models, composition, _no_timesteps) if composition else nullcontext()
        with on, torch.no_grad():
            return np.concatenate([self._batch(batch) for batch in batches])

    def _batch(self, batch: Sequence[str]) -> Losses:
        task, total = self._task, np.zeros(len(batch))
        for number in range(task.validation_rounds):
            draws = Draws(self._seed).at("validation", number)
            total += task.losses(batch, draws, number).double().cpu().numpy()
        terms = np.array([task.weight(record) for record in batch], dtype=np.float64)
        return total / (terms * task.validation_rounds)


def _no_timesteps() -> torch.Tensor:
    """Nothing is drawn here, and schedules are refused."""
    return torch.empty(0)


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


def _refuse_other_data(part: Component, prepared: Prepared) -> None:
    """Without the very data and settings of the training, held-out records may be learned ones."""
    learned = part.lock.inputs
    if not isinstance(learned, Inputs):
        raise LoraregError(
            f"{part.asset} was imported: which records it learned from is not known",
            fix="leave it out: lorareg compose evaluate measures adapters that were trained here",
        )
    now = prepared.inputs
    differs = [
        what
        for what, before, after in (
            ("data", learned.dataset.digest, now.dataset.digest),
            ("base", learned.base.digest, now.base.digest),
            ("settings", learned.config.digest, part.manifest.config_digest()),
        )
        if before != after
    ]
    if differs:
        raise LoraregError(
            f"{' and '.join(differs)} of {part.state.ref} are not those it was trained with",
            why="then a record that is held out now may be one that it learned",
            fix=f"lorareg pull {part.asset}; or train it again: lorareg train {part.asset}",
        )
