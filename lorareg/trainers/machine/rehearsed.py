"""What the rehearsals of a run came to, kept for when it starts again: 3 CPU s for a large UNet."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version

from lorareg.registry.lock import Inputs
from lorareg.registry.memory import Memory
from lorareg.trainers.cache import key
from lorareg.trainers.core.task import Runtime
from lorareg.trainers.machine import rehearsal
from lorareg.trainers.machine.rehearsal import Models, Pass

LIBRARIES = ("torch", "diffusers", "transformers", "peft", "lorareg")


@dataclass(frozen=True)
class Rehearsed:
    """``rehearsal.peak_bytes`` of one run, which is asked for once.

    Attributes:
        memory: of all runs.
        run: digest of all that a rehearsal depends on but for ``checkpointing``.
    """

    memory: Memory
    run: str

    @classmethod
    def of(cls, inputs: Inputs, runtime: Runtime) -> Rehearsed:
        """Those of a run with these inputs, in this place and with the libraries that are here."""
        where = (runtime.device, runtime.dtype, *(version(name) for name in LIBRARIES))
        memory = Memory(runtime.cache / "rehearsals.sqlite", "peaks", "run", "bytes")
        return cls(memory, key(inputs.fingerprint(), *where))

    def peak_bytes(
        self, models: Models, forward: Pass, *, checkpointing: bool = False
    ) -> int | None:
        """See ``rehearsal.peak_bytes``."""
        name = f"{self.run} {checkpointing}"
        known = self.memory.recall([name]).get(name, "")
        if known.isdigit():
            return int(known)
        found = rehearsal.peak_bytes(models, forward, checkpointing=checkpointing)
        if found is not None:
            self.memory.remember({name: str(found)})
        return found
