"""Everything that training changes: the adapter, its optimizer, its average, the best so far."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import torch

from lorareg.errors import TrainingError
from lorareg.registry.training import Training
from lorareg.trainers.core import optim
from lorareg.trainers.core.checkpoints import Bundle
from lorareg.trainers.core.ema import Average

Parameters = Mapping[str, torch.nn.Parameter]


class State:
    """The part of a run that a checkpoint holds.

    Args:
        parameters: trainable, by name.
        settings: of the manifest.
        total: optimizer steps of the run.
    """

    def __init__(self, parameters: Parameters, settings: Training, total: int) -> None:
        self.parameters = parameters
        self.optimizer = optim.build(parameters, settings, total)
        self.average = Average(parameters, settings.ema) if settings.ema else None
        self.best: dict[str, torch.Tensor] = {}
        ups = {name: p for name, p in parameters.items() if name.endswith(".up")}
        self._start = {name: p.detach().clone() for name, p in ups.items()}

    @property
    def begins_changed(self) -> bool:
        """Whether the run starts from more than the base: a parent, or components of the base."""
        return any(value.any() for value in self._start.values())

    @property
    def moved(self) -> bool:
        """Whether any up matrix is not what it was at the start: without them nothing changes."""
        return any(not torch.equal(self.parameters[n], value) for n, value in self._start.items())

    def step(self, step: int) -> None:
        """Move along the gradients that stand in the parameters."""
        self.optimizer.step(step)
        if self.average:
            self.average.update()

    @contextmanager
    def judged(self) -> Iterator[None]:
        """Within the block the parameters are those to validate, to show and to keep."""
        with ExitStack() as stack:
            stack.enter_context(self.optimizer.evaluating())
            if self.average:
                stack.enter_context(self.average.applied())
            yield

    def remember_best(self) -> None:
        """Keep a copy of the parameters as they are, within ``judged``."""
        self.best = {name: p.detach().cpu().clone() for name, p in self.parameters.items()}

    def bundle(self) -> Bundle:
        """All of it, by group and name; the tensors are the live ones.

        Raises:
            TrainingError: the last step made a weight infinite or not a number, which must not
                take the place of a good checkpoint.
        """
        bad = [name for name, p in self.parameters.items() if not torch.isfinite(p).all()]
        if bad:
            raise TrainingError(
                f"the last step made {len(bad)} matrices of the adapter infinite",
                why=f"the first is {bad[0]}; checkpoints from before are untouched",
                fix="lower train.learning_rate, or set train.max_grad_norm: 1.0",
            )
        return {
            "adapter": {name: p.detach() for name, p in self.parameters.items()},
            "best": self.best,
            "optimizer": self.optimizer.state(),
            "average": self.average.state() if self.average else {},
        }

    def restore(self, bundle: Bundle) -> None:
        """Put back what ``bundle`` took."""
        self._put(bundle["adapter"])
        self.best = bundle.get("best", {})
        self.optimizer.restore(bundle.get("optimizer", {}))
        if self.average:
            self.average.restore(bundle["average"])

    def settle(self) -> None:
        """Leave the adapter to keep in the parameters: the best one, else the last one."""
        if not self.best:
            with self.judged():
                self.remember_best()
        self._put(self.best)

    def _put(self, values: Mapping[str, torch.Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(values[name])
