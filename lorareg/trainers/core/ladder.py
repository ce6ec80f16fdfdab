"""What is given up, one thing after the other, when a step does not fit into memory.

First the activations, which are then computed a second time instead of being kept: the weights come
out the same. Then the size of a forward pass, which is halved: gradients of the same records are
summed, so the effective batch and all draws of the records stay, and sums differ by rounding alone.
Encoders are no rung: they are never in memory while a run trains.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch

from lorareg.errors import TrainingError
from lorareg.registry.runfacts import Rung
from lorareg.registry.training import Training
from lorareg.trainers.core import recompute

WORDS = (
    "out of memory", "not enough memory", "allocate memory", "DefaultCPUAllocator",
    "could not create a primitive", "could not create a memory",
)  # fmt: skip
"""How those say it that have no error class for it: torch on a CPU, MPS, oneDNN."""


class OutOfMemory(Exception):  # noqa: N818  (no error of a person; a step is begun again)
    """A forward or backward pass found no memory."""


@contextmanager
def noticing_memory() -> Iterator[None]:
    """Within the block every way to say that memory is out is an ``OutOfMemory``."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        known = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if known or any(word in str(error) for word in WORDS):
            raise OutOfMemory(str(error)) from None
        raise


class Ladder:
    """The rungs a run has come down, and the next one.

    Args:
        models: that are trained through.
        settings: batch size, and whether activations are computed again from the start.
        say: tells a person.
        rungs: known before: of the run to resume, or of the lock to reproduce.
    """

    def __init__(
        self,
        models: Iterable[torch.nn.Module],
        settings: Training,
        say: Callable[[str], None],
        rungs: Sequence[Rung] = (),
    ) -> None:
        self.rungs = tuple(rungs)
        self._models = list(models)
        self._batch = settings.batch_size
        self._say = say
        self._recomputes = False
        if settings.gradient_checkpointing and not self._recompute():
            say("train.gradient_checkpointing: this model has no form for it, so it stays off")

    def limit(self, step: int) -> int | None:
        """Take the rung that holds at a step.

        Returns:
            The most records of a forward pass; None for all of the micro-batch.
        """
        rung = self._at(step)
        if rung and rung.gradient_checkpointing and not self._recomputes:
            self._recompute()
        return rung.micro_batch if rung else None

    def lower(self, step: int, said: str) -> None:
        """Go one rung down before a step that did not fit is begun again.

        Args:
            step: from 0.
            said: words of the allocator.

        Raises:
            TrainingError: one record a forward pass is too much already.
        """
        gc.collect()  # the failed pass is held by the error that it raised
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        whole = self.limit(step)
        before = f"out of memory in step {step + 1}: "
        if not self._recomputes and self._recompute():
            rung = Rung(step=step, micro_batch=whole, gradient_checkpointing=True)
            self._say(before + "gradient checkpointing is on from here; same weights, but slower")
        else:
            again = "run lorareg train once more: a fresh process begins with single records; else "
            records = halved(whole or self._batch, f"step {step + 1}", said, again)
            rung = Rung(step=step, micro_batch=records, gradient_checkpointing=self._recomputes)
            self._say(
                f"{before}{records} record(s) a forward pass from here, summed to the same batch; "
                "same weights up to rounding, and to the masks of lora.dropout if that is set"
            )
        self.rungs = (*(r for r in self.rungs if r.step < step), rung)

    def _at(self, step: int) -> Rung | None:
        return next((rung for rung in reversed(self.rungs) if rung.step <= step), None)

    def _recompute(self) -> bool:
        self._recomputes = recompute.enable(self._models)
        return self._recomputes


def halved(records: int, what: str, said: str, first: str = "") -> int:
    """Half as many records in a forward pass.

    Args:
        records: that did not fit.
        what: was computed.
        said: words of the allocator.
        first: what to try before the usual remedies.

    Raises:
        TrainingError: it is one already.
    """
    if records > 1:
        return (records + 1) // 2
    raise TrainingError(
        f"there is not enough memory for {what}",
        why=f"a single record at a time does not fit: {said.strip().partition(chr(10))[0]}",
        fix=f"{first}end other programs, or lower train.resolution, train.max_length or lora.rank",
    )
