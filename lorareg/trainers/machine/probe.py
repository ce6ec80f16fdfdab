"""Which precision and kernels are fastest here, measured on layers like those of the base.

A large convolution alone would mislead: it is twice as fast in bfloat16, while a step of a small
base spends its time between the products. So a whole block is timed, with norms, attention, LoRA
and autocast, in the width and for the number of rows that the run will have.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median_low

import torch
import torch.nn.functional as F  # noqa: N812

from lorareg.registry.bases.base import ResolvedBase
from lorareg.registry.header import read_header
from lorareg.registry.image_training import ImageTraining
from lorareg.registry.manifest import Lora
from lorareg.registry.text_training import TextTraining
from lorareg.trainers.adapters import inject
from lorareg.trainers.core.randomness import Draws
from lorareg.trainers.core.task import Kernels, Runtime
from lorareg.trainers.packed.attention import SHORT
from lorareg.trainers.packed.install import install

Way = tuple[str, Kernels]  # dtype and kernels
DENOISERS = ("unet", "transformer")
DENOISER_PREFIX = "model.diffusion_model."  # in an original-format checkpoint
SMALLEST = 16  # rows and columns of a weight that counts as a layer's
MOST_ROWS = 512  # beyond this and this width, ratios hardly change
MOST_WIDTH = 1280
ROUNDS = 9
ENOUGH_ROUNDS = 3  # and no more once so many seconds are over
ENOUGH_SECONDS = 4.0
HEAD = 64  # width of an attention head


@dataclass(frozen=True)
class Work:
    """A typical layer of a base in a run.

    Attributes:
        width: its channels.
        rows: pixels or tokens of a forward pass, seen by it.
        convolves: whether the base has 3 x 3 convolutions.
    """

    width: int = 640
    rows: int = 512
    convolves: bool = True

    @classmethod
    def of(cls, base: ResolvedBase, settings: ImageTraining | TextTraining) -> Work:
        """The median over all square weights; half-way down, a UNet sees 16 x 16 pixels as one."""
        if isinstance(settings, ImageTraining):
            rows = settings.batch_size * (settings.resolution // 16) ** 2
        else:
            rows = settings.batch_size * settings.max_length
        shapes = list(_shapes(base))
        square = [shape[0] for shape in shapes if shape[0] == shape[1] >= SMALLEST]
        width = median_low(square) if square else cls.width
        kernels = any(shape[2:] == (3, 3) for shape in shapes)
        return cls(min(width, MOST_WIDTH), max(1, min(rows, MOST_ROWS)), kernels)

    def __str__(self) -> str:
        kind = "convolutions" if self.convolves else "linear layers"
        return f"{kind} of {self.width} on {self.rows} rows"


def fastest(work: Work, ways: Sequence[Way], margin: Callable[[Way], float]) -> Way:
    """The way with the shortest step, each step made longer by its ``margin`` first.

    The ways take turns, and the shortest of several times counts: what else the machine does at
    that moment makes times longer, never shorter.
    """
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    steps = {way: _step(work, *way) for way in ways}
    seconds: dict[Way, list[float]] = {way: [] for way in ways}
    began = time.monotonic()
    for done in range(-1, ROUNDS):  # the first round warms up
        if done >= ENOUGH_ROUNDS and time.monotonic() - began > ENOUGH_SECONDS:
            break
        for way, step in steps.items():
            started = clock()
            step()
            seconds[way].append(clock() - started)
    return min(ways, key=lambda way: min(seconds[way][1:]) * margin(way))


def _shapes(base: ResolvedBase) -> Iterator[tuple[int, ...]]:
    """Shapes of the weights that are trained on, (out, in, ...)."""
    if base.layout == "gguf":
        import gguf

        for tensor in gguf.GGUFReader(base.path).tensors:
            if len(tensor.shape) >= 2:
                yield tuple(int(size) for size in reversed(tensor.shape))
        return
    parts = [base.path / part for part in DENOISERS if (base.path / part).is_dir()]
    folder = parts[0] if parts else base.path
    prefix = DENOISER_PREFIX if base.layout == "checkpoint" else ""
    for file in [folder] if folder.is_file() else sorted(folder.glob("*.safetensors")):
        for entry in read_header(file).tensors:
            if entry.name.startswith(prefix) and len(entry.shape) >= 2:
                yield entry.shape


class _Block(torch.nn.Module):
    """A convolution between residual sums, attention, and a feed-forward net four times as wide."""

    def __init__(self, work: Work, *, keeps_probabilities: bool) -> None:
        super().__init__()
        width = work.width
        self.heads = 1 if width % HEAD else width // HEAD
        self.keeps_probabilities = keeps_probabilities
        self.norm = torch.nn.LayerNorm(width)
        self.convolution = torch.nn.Conv2d(width, width, 3, padding=1) if work.convolves else None
        self.q, self.k, self.v, self.out = (torch.nn.Linear(width, width) for _ in range(4))
        self.wider = torch.nn.Linear(width, 4 * width)
        self.narrower = torch.nn.Linear(4 * width, width)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Values (1, rows, width), in and out."""
        if self.convolution:
            side = int(values.shape[1] ** 0.5)
            square = F.silu(self.norm(values[:, : side * side])).transpose(1, 2)
            picture = self.convolution(square.reshape(1, -1, side, side))
            values = values[:, : side * side] + picture.flatten(2).transpose(1, 2)
        normed = self.norm(values)
        q, k, v = (
            layer(normed).view(1, values.shape[1], self.heads, -1).transpose(1, 2)
            for layer in (self.q, self.k, self.v)
        )
        if self.keeps_probabilities:
            seen = ((q @ k.transpose(2, 3)) * q.shape[3] ** -0.5).softmax(3) @ v
        else:
            seen = F.scaled_dot_product_attention(q, k, v)
        values = values + self.out(seen.transpose(1, 2).flatten(2))
        deeper: torch.Tensor = self.narrower(F.gelu(self.wider(self.norm(values))))
        return values + deeper


def _block(work: Work, dtype: str, kernels: Kernels) -> tuple[_Block, inject.Adapters]:
    """A frozen block with LoRA on its attention."""
    short = dtype == "bfloat16" and kernels == "packed" and work.rows**2 <= SHORT
    block = _Block(work, keeps_probabilities=short)
    block.requires_grad_(False).to(getattr(torch, dtype))
    models, targets = {"": block}, ("q", "k", "v", "out")
    lora = Lora(rank=8, targets=targets)
    adapters = inject.inject(models, dict.fromkeys(targets, 8), lora, Draws(0))
    install(models, adapters, Runtime("cpu", dtype, torch.get_num_threads(), Path(), kernels))
    return block, adapters


def _step(work: Work, dtype: str, kernels: Kernels) -> Callable[[], None]:
    """Forward and backward through a block, as the loop does it."""
    block, adapters = _block(work, dtype, kernels)
    values = torch.zeros(1, work.rows, work.width, dtype=getattr(torch, dtype), requires_grad=True)

    def step() -> None:
        with adapters.computing("cpu", dtype):
            loss = block(values).float().square().mean()
        loss.backward()

    return step
