"""What the shared core asks of a task; what it does not ask, it does itself (``core.loop``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from lorareg.registry.manifest import Lora
    from lorareg.trainers.core.randomness import Draws
    from lorareg.trainers.machine.rehearsal import Pass

Kernels = Literal["plain", "packed"]


@dataclass(frozen=True)
class Runtime:
    """Where and how precisely to compute.

    Attributes:
        device: "cpu", "cuda", "cuda:1", "mps".
        dtype: of the frozen base ("float32", "bfloat16", "float16"); adapters are always float32.
        threads: CPU threads torch may use.
        cache: folder for content-addressed tensors; may be deleted at any time.
        kernels: "plain" is torch's own way, "packed" that of ``trainers.packed``; results agree up
            to rounding, so a lock records it.
    """

    device: str
    dtype: str
    threads: int
    cache: Path
    kernels: Kernels = "plain"


@dataclass(frozen=True)
class Sample:
    """One thing generated for a prompt: a picture or a reply."""

    prompt: str
    seed: int
    output: Image | str


class Task(Protocol):
    """One kind of model to adapt.

    The life of a task: construct (reads and checks the dataset; no torch) -> ``load`` (fills the
    caches, loads the frozen base) -> ``losses`` many times -> ``sample`` now and then.
    """

    @property
    def ids(self) -> Sequence[str]:
        """One stable name a record, in dataset order; validation splits choose among them."""
        ...

    @property
    def unit(self) -> str:
        """What ``weight`` counts: "image", "token", or "pair" of answers."""
        ...

    @property
    def validation_rounds(self) -> int:
        """How many fixed draws the validation loss averages for each record."""
        ...

    def describe(self) -> list[str]:
        """What will be learned, a sentence each: told before training, read after ``load``."""
        ...

    def load(self, runtime: Runtime) -> Mapping[str, torch.nn.Module]:
        """Return the frozen models that may get adapters, on the device, ready for ``losses``.

        Returns:
            By the component that begins their paths in the weights file: "unet", "text_encoder",
            or "" for a language model.
        """
        ...

    def targets(self, lora: Lora) -> list[str]:
        """Full paths of the modules to adapt, component included.

        Raises:
            TrainingError: nothing matches; names what there is to match.
        """
        ...

    def shape(self, record: str) -> str:
        """What the records of one forward pass have in common, such as their size in pixels."""
        ...

    def weight(self, record: str) -> int:
        """Loss terms of a record: 1 for a picture, its supervised tokens for a dialogue."""
        ...

    def losses(
        self, records: Sequence[str], draws: Draws, fixed_round: int | None = None
    ) -> torch.Tensor:
        """Loss of each record, shape (len(records),), each the *sum* over its ``weight`` terms.

        Args:
            records: a micro-batch.
            draws: place of all randomness of this step; record ids go into every draw.
            fixed_round: None in training; in validation the number of the round, 0 up to
                ``validation_rounds``, which fixes what training draws (timesteps, no dropout).
        """
        ...

    def rehearsal(self, count: int) -> Pass:
        """The heaviest forward pass of so many records, on copies of the models (``footprint``)."""
        ...

    def measured(self) -> dict[str, float]:
        """What a validation showed beside its loss, by name; {} if nothing. Asked once after each.

        Of several processes each has measured its own share of the records.
        """
        ...

    def sample(self, prompts: Sequence[str], seed: int) -> list[Sample]:
        """Generate one output a prompt with the model as it is now (adapters included)."""
        ...
