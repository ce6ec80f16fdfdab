"""A composition on a loaded pipeline or language model: put on, swapped, taken off."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import Any

import torch

from lorareg.errors import LoraregError
from lorareg.registry.access import uses
from lorareg.registry.expression import Expression
from lorareg.registry.workspace import Workspace
from lorareg.trainers.worn import models_of, worn
from lorareg.weights import members
from lorareg.weights.checks import run
from lorareg.weights.members import Composition


class Attached:
    """What ``lorareg.load`` gives: the composition as it is on the target now.

    A context manager too: at the end of the block the target is the base that it was.

    Args:
        target: a diffusers pipeline, or a transformers model.
        workspace: the registry.
        expression: as people type it.

    Attributes:
        composition: the members, with their weights; ``negative_prompt`` is for the caller to use.
        warnings: what may go wrong although it could be loaded, a sentence each.

    Raises:
        LoraregError: it does not exist, may not be composed, or does not fit.
    """

    def __init__(self, target: Any, workspace: Workspace, expression: str) -> None:
        self._target, self._workspace = target, workspace
        self._models = models_of(target)
        self._on = ExitStack()
        self.composition, self.warnings = self._checked(expression)
        self._put(self.composition)

    def swap(self, expression: str) -> None:
        """Take the composition off and put another one on; the base is not loaded again.

        Raises:
            LoraregError: the other one cannot be put on; the one before stays.
        """
        before = self.composition
        after, warnings = self._checked(expression)
        self.remove()
        try:
            self._put(after)
        except LoraregError:
            self._put(before)
            raise
        self.composition, self.warnings = after, warnings

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

    def _checked(self, expression: str) -> tuple[Composition, tuple[str, ...]]:
        found = members.resolve(self._workspace, Expression.parse(expression))
        report = run.check(self._workspace, found, use="generate")
        report.refuse()
        uses.record(self._workspace, "load", expression, {"members": found.used})
        soft = (f"{finding.what}: {finding.detail}" for finding in report.soft)
        return found, (*found.warnings, *soft)

    def _put(self, composition: Composition) -> None:
        self._on.enter_context(worn(self._models, composition, self._timesteps))

    def _timesteps(self) -> torch.Tensor:
        steps: torch.Tensor = self._target.scheduler.timesteps
        return steps
