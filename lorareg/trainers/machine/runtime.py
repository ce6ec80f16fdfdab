"""Where and how precisely to compute, and what the lock remembers of it."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from lorareg.registry.bases.builtin import cache_folder
from lorareg.registry.files import write_atomically
from lorareg.registry.runfacts import Environment
from lorareg.trainers.core.task import Kernels, Runtime

if TYPE_CHECKING:
    from lorareg.trainers.machine.probe import Way, Work

PACKAGES = ("torch", "diffusers", "transformers", "peft", "numpy", "pillow", "lorareg")
NAMES = {"fp32": "float32", "bf16": "bfloat16"}
ALIGNMENT = 64  # bytes, of what torch allocates
BF16_MARGIN = 1.3  # how much faster bfloat16 must be to be worth its rounding
PACKED_MARGIN = 1.05  # how much faster packed kernels must be


def choose(
    precision: str,
    cache: Path,
    threads: int | None = None,
    kernels: Kernels | None = "plain",
    work: Work | None = None,
) -> Runtime:
    """The device, dtype, threads and kernels of a run.

    Args:
        precision: "fp32", "bf16", or "auto" to measure.
        cache: of the registry.
        threads: CPU threads; None takes torch's own choice, one a core.
        kernels: None measures.
        work: what to measure, such as a layer of the base; None takes a typical one.
    """
    if threads:
        torch.set_num_threads(threads)
    device = _device()
    precisions = _precisions(precision, device)
    ways = [(NAMES[name], way) for name in precisions for way in _kernels(kernels, device)]
    dtype, chosen = ways[0] if len(ways) == 1 else _fastest(ways, work)
    return Runtime(device, dtype, torch.get_num_threads(), cache, chosen)


def settle(runtime: Runtime) -> None:
    """Make the run repeatable: deterministic kernels, and TF32 off."""
    on_cpu = runtime.device == "cpu"
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is not repeatable without
    # Some CUDA kernels have no deterministic form; there a warning is all that can be had.
    torch.use_deterministic_algorithms(True, warn_only=not on_cpu)
    # By default that also fills all memory with NaN before it is used, a debugging aid.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False


def align(model: torch.nn.Module) -> None:
    """Move weights that are mapped from a file into memory of their own, where a line begins.

    A file puts them at any multiple of its item size, and there kernels for a batch of one round
    differently: the same weights out of another file would train to other bits.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.data_ptr() % ALIGNMENT:
            tensor.data = tensor.data.clone()


def environment(runtime: Runtime, commit: str | None, dirty: bool) -> Environment:
    """What explains a difference when the inputs are equal."""
    short = {value: key for key, value in NAMES.items()}
    return Environment(
        python=platform.python_version(),
        packages={name: version(name) for name in PACKAGES},
        platform=f"{sys.platform} {platform.machine()} {_processor(runtime.device)}",
        device=runtime.device,
        precision=short[runtime.dtype],
        kernels=runtime.kernels,
        threads=runtime.threads,
        commit=commit,
        dirty=dirty,
    )


def _device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _processor(device: str) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name()
    return torch.backends.cpu.get_cpu_capability()


def _precisions(wish: str, device: str) -> Sequence[str]:
    if wish != "auto":
        return (wish,)
    if device.startswith("cuda"):
        whole = torch.cuda.is_bf16_supported(including_emulation=False)
        return ("bf16",) if whole else ("fp32",)
    fast = device == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return ("fp32", "bf16") if fast else ("fp32",)


def _kernels(wish: Kernels | None, device: str) -> Sequence[Kernels]:
    onednn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if device != "cpu" or not onednn:
        return ("plain",)  # also where a lock says "packed"
    return (wish,) if wish else ("plain", "packed")


def _fastest(ways: Sequence[Way], work: Work | None) -> Way:
    """The fastest of several ways, measured once for each machine, torch and kind of work.

    The answer is kept, so that two runs on one machine never choose differently by chance.
    """
    from lorareg.trainers.machine import probe

    work = work or probe.Work()
    among = ", ".join(" ".join(way) for way in ways)
    place = f"{platform.node()} {platform.machine()} torch {torch.__version__}"
    name = f"{place}, {torch.get_num_threads()} threads: {work}, of {among}"
    path = cache_folder() / "precision.json"
    known = _known(path)
    answers = {" ".join(way): way for way in ways}
    if known.get(name) not in answers:
        known[name] = " ".join(probe.fastest(work, ways, _margin))
        write_atomically(path, json.dumps(known, indent=2, sort_keys=True) + "\n")
    return answers[known[name]]


def _margin(way: Way) -> float:
    dtype, kernels = way
    return (BF16_MARGIN if dtype == "bfloat16" else 1) * (
        PACKED_MARGIN if kernels == "packed" else 1
    )


def _known(path: Path) -> dict[str, str]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}
