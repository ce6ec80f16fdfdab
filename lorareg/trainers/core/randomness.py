"""Counter-based randomness: a draw is a pure function of (seed, purpose, step or epoch, sample).

Nothing depends on how many numbers were drawn before, so a run that is resumed, re-batched or
split over workers draws what the straight run draws. Numbers come from Philox 4x64 (Salmon et al.,
"Parallel random numbers: as easy as 1, 2, 3", SC 2011) on the CPU, whatever the device.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Draws:
    """A place in the tree of random draws.

    Two equal places draw equal numbers; two different places draw independent ones.

    >>> Draws(42).at("train", 7).uniform("flip", "img01.jpg") == Draws(42).at("train", 7).uniform(
    ...     "flip", "img01.jpg")
    True
    """

    seed: int
    scope: tuple[str | int, ...] = ()

    def at(self, *scope: str | int) -> Draws:
        """The same stream, one level deeper: ``draws.at("train", step)``."""
        return Draws(self.seed, (*self.scope, *scope))

    def key(self, *names: str | int) -> int:
        """A 64-bit seed for this place; also for generators that are not ours."""
        return int.from_bytes(self._hash(names)[:8], "little") >> 1

    def generator(self, *names: str | int) -> np.random.Generator:
        """A fresh generator that belongs to this place alone."""
        words = np.frombuffer(self._hash(names)[:16], dtype="<u8")
        return np.random.Generator(np.random.Philox(key=words))

    def uniform(self, *names: str | int) -> float:
        """One number in [0, 1)."""
        return float(self.generator(*names).random())

    def normal(self, shape: Sequence[int], *names: str | int) -> torch.Tensor:
        """Standard normal float32 values of ``shape``."""
        import torch

        values = self.generator(*names).standard_normal(tuple(shape), dtype=np.float32)
        return torch.from_numpy(values)

    def permutation(self, length: int, *names: str | int) -> list[int]:
        """The numbers 0..length-1 in random order."""
        return [int(i) for i in self.generator(*names).permutation(length)]

    def _hash(self, names: Sequence[str | int]) -> bytes:
        parts = [self.seed, *self.scope, *names]
        text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
        return hashlib.sha256(text.encode()).digest()
