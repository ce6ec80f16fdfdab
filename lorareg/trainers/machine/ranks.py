"""Several processes that train as one: who writes, who waits, and how they agree.

Every method is a plain call where there is one process. With several, each process calls the same
methods in the same order; what only one of them knows, fails at or is told becomes what all know.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch

from lorareg.errors import InterruptedTrainingError, LoraregError, TrainingError
from lorareg.trainers.core.ladder import OutOfMemory
from lorareg.trainers.core.watching import StepFacts

T = TypeVar("T")

# The longest that others wait for the first process, which alone encodes and samples; when one
# dies, the launcher ends all.
PATIENCE = timedelta(hours=12)


@dataclass(frozen=True)
class Ranks:
    """Which of the processes of a run this one is.

    Attributes:
        rank: its number; number 0 leads: it alone writes and speaks.
        count: of processes.
        device: what they exchange tensors on; with several processes also where they compute.
    """

    rank: int = 0
    count: int = 1
    device: str = "cpu"

    @classmethod
    def current(cls) -> Ranks:
        """As the launcher set the environment of this process; without one it is alone."""
        if "LOCAL_RANK" not in os.environ or int(os.environ.get("WORLD_SIZE", "1")) < 2:
            return cls()
        from accelerate import PartialState
        from accelerate.utils import parse_flag_from_env

        cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.cuda.is_available()
        state = PartialState(cpu=cpu, timeout=PATIENCE)
        return cls(state.process_index, state.num_processes, state.device.type)

    @property
    def leads(self) -> bool:
        """Whether this process writes files and speaks to people."""
        return self.rank == 0

    def leave_to_leader(self) -> None:
        """Go on in the first process alone.

        Raises:
            SystemExit: in all others.
        """
        if not self.leads:
            raise SystemExit(0)

    def any(self, flag: bool) -> bool:
        """Whether any process says so."""
        if self.count == 1:
            return flag
        value = torch.tensor(int(flag), device=self.device)
        torch.distributed.all_reduce(value, torch.distributed.ReduceOp.MAX)
        return bool(value)

    def decided(self, value: T) -> T:
        """What the first process says."""
        if self.count == 1:
            return value
        said = [value]
        torch.distributed.broadcast_object_list(said, src=0, device=torch.device(self.device))
        return said[0]

    def summed(self, values: Sequence[float]) -> list[float]:
        """The sum over all processes, in double precision."""
        if self.count == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(total)
        return [float(value) for value in total]

    def gathered(self, value: T) -> list[T]:
        """What every process says, the first one first."""
        said: list[T] = [value] * self.count
        if self.count > 1:
            torch.distributed.all_gather_object(said, value)
        return said

    def sum_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Give every process the sum of all gradients; one that nobody has stays None."""
        if self.count == 1:
            return
        present = torch.tensor([float(p.grad is not None) for p in parameters], device=self.device)
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([present, *(part.flatten() for part in parts)])
        torch.distributed.all_reduce(flat)
        sizes = [len(parameters), *(part.numel() for part in parts)]
        owned, *sums = torch.split(flat, sizes)
        for parameter, has, total in zip(parameters, owned.tolist(), sums, strict=True):
            parameter.grad = total.view_as(parameter).clone() if has else None

    def together(self, work: Callable[[], T]) -> T:
        """Do this process's part of something; where one fails, all fail alike.

        Raises:
            OutOfMemory: some process had not enough, and nothing else went wrong.
            LoraregError: of the first process that failed; only the leading one raises it.
            SystemExit: in all others, which have nothing to say.
        """
        if self.count == 1:
            return work()
        failure: LoraregError | OutOfMemory | None = None
        try:
            done = work()
        except (LoraregError, OutOfMemory) as error:
            failure = error
        if not self.any(failure is not None):
            return done
        raise self._agreed(failure)

    def leader_first(self, work: Callable[[], T]) -> T:
        """Do the same in every process, in the first one before the others: it fills caches."""
        if self.count == 1:
            return work()
        mine: list[T] = []

        def take_turn(leading: bool) -> None:
            if self.leads == leading:
                mine.append(work())

        self.together(lambda: take_turn(True))
        self.together(lambda: take_turn(False))
        return mine[0]

    def _agreed(self, mine: LoraregError | OutOfMemory | None) -> BaseException:
        """The one failure of all, from what went wrong in each."""
        said = self.gathered(_told(mine))
        kinds = {kind for kind, *_ in filter(None, said)}
        if kinds == {OutOfMemory.__name__}:
            return mine if isinstance(mine, OutOfMemory) else OutOfMemory("in another process")
        if not self.leads:
            return SystemExit(0)  # a failing status would have the launcher end the first process
        if isinstance(mine, LoraregError):
            return mine
        kind, what, why, fix = next(s for s in said if s and s[0] != OutOfMemory.__name__)
        interrupted = kind == InterruptedTrainingError.__name__
        return (InterruptedTrainingError if interrupted else TrainingError)(what, why=why, fix=fix)


def _told(error: LoraregError | OutOfMemory | None) -> tuple[str, str, str, str] | None:
    """An error in words, for other processes."""
    if error is None:
        return None
    if isinstance(error, OutOfMemory):
        return type(error).__name__, str(error), "", ""
    return type(error).__name__, error.what, error.why, error.fix


class Unheard:
    """A watcher (``watching.Watcher``) that tells nobody: the first process speaks for all."""

    def stage(self, what: str, done: int, total: int) -> None:
        """Tell nobody."""

    def step(self, facts: StepFacts) -> None:
        """Tell nobody."""

    def validated(self, step: int, loss: float, base: float) -> None:
        """Tell nobody."""

    def note(self, text: str) -> None:
        """Tell nobody."""
