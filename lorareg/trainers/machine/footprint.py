"""How much memory a run will need, said before its first step, and what to do if it is too much."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from lorareg.registry.bases.base import ResolvedBase
from lorareg.registry.header import TensorEntry, read_header
from lorareg.registry.text_training import TextTraining
from lorareg.registry.training import Training
from lorareg.trainers.adapters.inject import Adapters
from lorareg.trainers.core.task import Runtime
from lorareg.trainers.machine.rehearsal import Pass, Rehearse, peak_bytes

STATE_BYTES = {
    "adamw": 8, "adamw-8bit": 2, "adafactor": 1, "prodigy": 16, "lion": 4, "schedule-free": 8,
}  # fmt: skip
"""What an optimizer keeps for each trained value; adafactor's rows and columns come to less."""
HEAP = 1.6
"""Bytes that a process holds for each byte of activations that lives, on the CPU: freed pieces
between living ones do not go back. Measured with glibc, 1.4 to 2.1."""
KERNELS = 50_000_000
"""Code and buffers of the CPU's kernels, which come with the first step."""
CACHING = 1.1
"""The same of a GPU's caching allocator."""
RELAYOUT = 1.5
"""Copies of the largest convolution's weights that oneDNN makes on the CPU to compute with it."""
CGROUP = Path("/sys/fs/cgroup")
DENOISER = "model.diffusion_model."  # in a single-file checkpoint


@dataclass(frozen=True)
class Footprint:
    """Bytes of memory that a run needs, on the device that it trains on.

    Attributes:
        base: frozen weights; they are in memory when this is known.
        adapter: trained weights and their gradients.
        optimizer: its moments, and copies of the adapter (average, best).
        kernels: their code, buffers and re-laid weights, whatever the batch.
        activations: of a forward pass of ``records`` records.
        free: on the device, beside what is in memory already.
    """

    base: int
    adapter: int
    optimizer: int
    kernels: int
    activations: int
    records: int
    free: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.base + self.fixed + self.activations

    @property
    def fixed(self) -> int:
        """What is yet to come whatever the batch."""
        return self.adapter + self.optimizer + self.kernels

    @property
    def fits(self) -> bool:
        """Whether what is yet to come is free."""
        return self.fixed + self.activations <= self.free

    def sentence(self) -> str:
        """For people."""
        return (
            f"memory: about {shown(self.total)} GB: base {shown(self.base)}, activations "
            f"{shown(self.activations + self.kernels)}, adapter and optimizer "
            f"{shown(self.adapter + self.optimizer)}; {shown(self.free)} GB are free"
        )

    def fitting(self) -> int:
        """How many records at a time would fit."""
        return max(0, (self.free - self.fixed) * self.records // max(1, self.activations))


def estimate(
    adapters: Adapters,
    forward: Pass,
    settings: Training,
    runtime: Runtime,
    rehearse: Rehearse = peak_bytes,
) -> Footprint | None:
    """What a run will need, from the shapes of its models and of its heaviest forward pass.

    Args:
        adapters: freshly injected.
        forward: of ``settings.batch_size`` records.
        settings: of the manifest.
        runtime: where the models are.
        rehearse: goes through the pass, or knows what came of it.

    Returns:
        None where the models cannot be gone through without computing (quantized ones).
    """
    trained = [p for m in adapters.models.values() for p in m.parameters() if p.requires_grad]
    checkpointing = settings.gradient_checkpointing
    activations = _activations(adapters, forward, checkpointing, runtime, rehearse)
    if activations is None:
        return None
    values, weights = sum(p.numel() for p in trained), sum(p.nbytes for p in trained)
    copies = (settings.ema is not None) + (settings.validation.share > 0)
    return Footprint(
        base=_held(t for m in adapters.models.values() for t in (*m.parameters(), *m.buffers()))
        - weights,
        adapter=2 * weights,
        optimizer=values * STATE_BYTES[settings.optimizer] + copies * weights,
        kernels=_kernels(adapters, runtime),
        activations=activations,
        records=settings.batch_size,
        free=free(runtime.device),
    )


def notes(
    adapters: Adapters,
    forward: Pass,
    settings: Training,
    runtime: Runtime,
    rehearse: Rehearse = peak_bytes,
) -> list[str]:
    """What a person is told before the first step: the estimate, and what to do if it is much."""
    found = estimate(adapters, forward, settings, runtime, rehearse)
    if found is None:
        return []
    told = advice(found, adapters, forward, settings, runtime)
    return [found.sentence(), *([told] if told else [])]


def load_note(base: ResolvedBase, settings: Training, runtime: Runtime) -> str | None:
    """What to say before the base is loaded, if its weights alone are more than is free."""
    if isinstance(settings, TextTraining) and settings.quantization:
        return None  # how many bits a weight takes differs from layer to layer
    room, size = free(runtime.device), getattr(torch, runtime.dtype).itemsize
    needed = size * sum(math.prod(entry.shape) for entry in _weights(base))
    if needed <= room:
        return None
    smaller = "" if size < 4 else f", set train.precision: bf16 ({shown(needed // 2)} GB)"
    return (
        f"the weights of the base take about {shown(needed)} GB, and {shown(room)} GB are free: "
        f"end other programs{smaller}, or choose a smaller base"
    )


def _weights(base: ResolvedBase) -> list[TensorEntry]:
    """What stays in memory while a run trains; of a GGUF nothing is known before it is unpacked."""
    match base.layout:
        case "diffusers":
            found = [*base.path.glob("unet/*"), *base.path.glob("transformer/*")]
        case "transformers":
            found = list(base.path.glob("*"))
        case _:
            found = [base.path]
    # a second dot in the name is a variant, such as .fp16, which is not read
    files = [file for file in found if file.suffix == ".safetensors" and "." not in file.stem]
    inside = DENOISER if base.layout == "checkpoint" else ""
    entries = (entry for file in files for entry in read_header(file).tensors)
    return [entry for entry in entries if entry.name.startswith(inside)]


def advice(
    found: Footprint, adapters: Adapters, forward: Pass, settings: Training, runtime: Runtime
) -> str | None:
    """What to change if it does not fit; None if it does."""
    if found.fits:
        return None
    ways = []
    if not settings.gradient_checkpointing:
        less = _activations(adapters, forward, True, runtime, peak_bytes)
        if less is not None and less < found.activations:
            size = shown(found.total - found.activations + less)
            ways.append(f"train.gradient_checkpointing: true (about {size} GB, slower)")
    records, steps = found.fitting(), settings.gradient_accumulation_steps
    if 0 < records < settings.batch_size:
        records = max(n for n in range(1, records + 1) if settings.batch_size % n == 0)
        steps *= settings.batch_size // records
        ways.append(
            f"train.batch_size: {records} with train.gradient_accumulation_steps: {steps} (the "
            "same records a step)"
        )
    fix = ", or ".join(ways) or "lower train.resolution or train.max_length"
    return f"that may be too much: set {fix}" if ways else f"that may be too much: {fix}"


def free(device: str) -> int:
    """Bytes that can still be had, on the GPU or in main memory, within a container's limit."""
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0])
    import psutil

    found = int(psutil.virtual_memory().available)
    limit, used = CGROUP / "memory.max", CGROUP / "memory.current"
    if limit.is_file() and used.is_file() and (most := limit.read_text().strip()).isdigit():
        found = min(found, int(most) - int(used.read_text()))
    return max(0, found)


def shown(count: int) -> str:
    """Bytes in GB, of which the reader wants the first digits.

    >>> shown(12_345_000_000), shown(34_000_000)
    ('12.3', '0.03')
    """
    return f"{count / 1e9:.1f}" if count >= 95_000_000 else f"{count / 1e9:.2f}"


def _activations(
    adapters: Adapters, forward: Pass, checkpointing: bool, runtime: Runtime, rehearse: Rehearse
) -> int | None:
    adapters.train(True)
    with adapters.computing(runtime.device, runtime.dtype):
        found = rehearse(adapters.models, forward, checkpointing=checkpointing)
    if found is None:
        return None
    return int((HEAP if runtime.device == "cpu" else CACHING) * found)


def _kernels(adapters: Adapters, runtime: Runtime) -> int:
    if runtime.device != "cpu":
        return 0
    parts = (part for model in adapters.models.values() for part in model.modules())
    sizes = (part.weight.nbytes for part in parts if isinstance(part, torch.nn.Conv2d))
    return KERNELS + int(RELAYOUT * max(sizes, default=0))


def _held(tensors: Iterable[torch.Tensor]) -> int:
    """Bytes of tensors, those that share memory counted once."""
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())
