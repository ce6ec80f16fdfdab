"""A composition on a loaded pipeline or language model: put on, swapped, taken off."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import torch

from lorareg.errors import LoraregError
from lorareg.registry.expression import Expression
from lorareg.registry.workspace import Workspace
from lorareg.trainers.adapters import inject
from lorareg.trainers.adapters.inject import Adapters
from lorareg.trainers.schedule import Scheduled
from lorareg.weights import compose, members
from lorareg.weights.adapter import LoraAdapter
from lorareg.weights.members import Composition

DENOISERS = ("unet", "transformer")


class Attached:
    """What ``lorareg.load`` gives: the composition as it is on the target now.

    A context manager too: at the end of the block the target is the base that it was.

    Attributes:
        composition: the members, with their weights.
    """

    def __init__(self, target: Any, workspace: Workspace, composition: Composition) -> None:
        self._target, self._workspace = target, workspace
        self._on = ExitStack()
        self.composition = composition
        self._put(composition)

    def swap(self, expression: str) -> None:
        """Take the composition off and put another one on; the base is not loaded again.

        Raises:
            LoraregError: the other one cannot be put on; the one before stays.
        """
        before, after = (
            self.composition,
            members.resolve(self._workspace, Expression.parse(expression)),
        )
        self.remove()
        try:
            self._put(after)
        except LoraregError:
            self._put(before)
            raise
        self.composition = after

    def remove(self) -> None:
        """Take it off; the target is the base that it was."""
        self._on.close()

    def __enter__(self) -> Attached:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.remove()

    def _put(self, composition: Composition) -> None:
        adapter = compose.build(composition)
        adapters = inject.apply(models_of(self._target, adapter), adapter)
        self._on.callback(inject.remove, adapters)
        if composition.is_scheduled:
            self._on.enter_context(_scheduled(self._target, adapters, composition))


def models_of(target: Any, adapter: LoraAdapter) -> Mapping[str, torch.nn.Module]:
    """The models that an adapter changes, by the component its paths begin with.

    Args:
        target: a diffusers pipeline, or a transformers model.
        adapter: whose paths begin with a component of a pipeline, or with none.
    """
    if isinstance(target, torch.nn.Module):
        return {"": target}
    parts = sorted({name.partition(".")[0] for name in adapter.layers})
    return {part: getattr(target, part) for part in parts if hasattr(target, part)}


def attach(target: Any, workspace: Workspace, expression: str) -> Attached:
    """Put a composition on a pipeline or model.

    Raises:
        LoraregError: it does not exist, or does not fit.
    """
    return Attached(target, workspace, members.resolve(workspace, Expression.parse(expression)))


def _scheduled(target: Any, adapters: Adapters, composition: Composition) -> Scheduled:
    name = next((name for name in DENOISERS if hasattr(target, name)), None)
    if name is None:
        raise LoraregError(
            "a language model has no denoising steps",
            why="the composition has windows or a schedule",
            fix="leave steps=... and the schedule out",
        )
    denoiser = getattr(target, name)
    return Scheduled(denoiser, lambda: target.scheduler.timesteps, adapters, composition)
