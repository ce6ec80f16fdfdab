"""An adapter at rest: for each module two thin matrices and an alpha, as numpy arrays.

delta = (alpha / rank) up @ down, after arXiv 2106.09685, where ``down`` is A and ``up`` is B. A
DoRA has a magnitude too: the length that each row of base + delta is given (arXiv 2402.09353).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lorareg.errors import InvalidFileError, LoraregError
from lorareg.registry.tensors import RawTensor

Array = NDArray[np.float32]


@dataclass(frozen=True)
class LoraLayer:
    """The adapter of one module.

    Attributes:
        down: (rank, in) or, for a convolution, (rank, in, height, width).
        up: (out, rank) or (out, rank, 1, 1).
        alpha: the delta is scaled by alpha / rank.
        magnitude: (out,) of a DoRA; None for any other LoRA.
    """

    down: Array
    up: Array
    alpha: float
    magnitude: Array | None = None

    def __post_init__(self) -> None:
        down, up = self.down.shape, self.up.shape
        if (len(down), len(up)) not in ((2, 2), (4, 4)) or 0 in down + up:
            raise ValueError(f"no factors of a linear layer or a convolution: {down}, {up}")
        if up[2:] not in ((), (1, 1)):
            raise ValueError(f"the up factor of a convolution is 1x1: {up}")
        if up[1] != down[0]:
            raise ValueError(f"ranks differ: down {down}, up {up}")
        if not math.isfinite(self.alpha):
            raise ValueError(f"alpha is {self.alpha}")
        if self.magnitude is not None and self.magnitude.shape != (up[0],):
            raise ValueError(f"{self.magnitude.shape} magnitudes for {up[0]} outputs")

    @property
    def rank(self) -> int:
        """Number of rows of ``down``."""
        return int(self.down.shape[0])

    @property
    def scale(self) -> float:
        """Strength of the delta, alpha / rank."""
        return self.alpha / self.rank

    def delta(self) -> Array:
        """The change of the module's weight, dense, shape (out, in * height * width).

        Raises:
            LoraregError: of a DoRA, whose change depends on the base.
        """
        refuse_dora(self.magnitude is not None)
        return np.asarray(self.scale * (flat(self.up) @ flat(self.down)), dtype=np.float32)


@dataclass(frozen=True)
class LoraAdapter:
    """All layers of an adapter, by module path.

    In a diffusers pipeline a path begins with the component: ``unet.mid_block...``,
    ``text_encoder.encoder...``; in a language model it is the model's own.
    """

    layers: Mapping[str, LoraLayer]

    @property
    def rank(self) -> int:
        """The highest rank of all layers."""
        return max((layer.rank for layer in self.layers.values()), default=0)

    @property
    def is_dora(self) -> bool:
        """Whether any layer has a magnitude."""
        return any(layer.magnitude is not None for layer in self.layers.values())


def refuse_dora(found: bool) -> None:
    """Say why a DoRA cannot take part in arithmetic.

    Raises:
        LoraregError: if one was found.
    """
    if found:
        raise LoraregError(
            "a DoRA has no delta that can be added up",
            why="it sets the length of every row of base + delta: on another sum the same numbers "
            "mean something else",
            fix="use it alone, at weight 1; or train it with lora.use_dora: false",
        )


def flat(matrix: Array) -> Array:
    """A convolution's factor as a matrix: everything after the first axis in one."""
    return matrix.reshape(matrix.shape[0], -1)


def to_raw(array: Array) -> RawTensor:
    """float32 bytes, little-endian, row-major."""
    values = np.ascontiguousarray(array, dtype="<f4")
    return RawTensor("F32", values.shape, values.tobytes())


def from_raw(name: str, tensor: RawTensor) -> Array:
    """Values of a floating-point tensor as float32, checked to be finite.

    Raises:
        InvalidFileError: another dtype, or NaN or infinity.
    """
    match tensor.dtype:
        case "F32":
            values = np.frombuffer(tensor.data, dtype="<f4")
        case "F16":
            values = np.frombuffer(tensor.data, dtype="<f2").astype(np.float32)
        case "BF16":  # the upper half of a float32
            halves = np.frombuffer(tensor.data, dtype="<u2").astype(np.uint32) << 16
            values = halves.view(np.float32)
        case "F64":
            with np.errstate(over="ignore"):  # too large becomes infinity, which is refused below
                values = np.frombuffer(tensor.data, dtype="<f8").astype(np.float32)
        case _:
            raise InvalidFileError(
                f"tensor {name!r} is {tensor.dtype}",
                why="the factors of an adapter are F32, F16, BF16 or F64",
                fix="export the adapter again in one of these",
            )
    if not np.isfinite(values).all():
        raise InvalidFileError(
            f"tensor {name!r} holds NaN or infinity",
            why="the run that made it diverged, or the file was damaged",
            fix="train again with a lower learning rate, or fetch the file again",
        )
    return values.reshape(tensor.shape).astype(np.float32, copy=False)
