"""Where and how precisely to compute, and what the lock remembers of it."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

import torch

from lorareg.registry.builtin import cache_folder
from lorareg.registry.files import write_atomically
from lorareg.registry.lock import Environment
from lorareg.trainers.tasks.base import Runtime

PACKAGES = ("torch", "diffusers", "transformers", "peft", "numpy", "pillow", "lorareg")
NAMES = {"fp32": "float32", "bf16": "bfloat16"}
ALIGNMENT = 64  # bytes, of what torch allocates
MARGIN = 1.2  # how much faster bfloat16 must be to be worth its rounding


def choose(precision: str, cache: Path, threads: int | None = None) -> Runtime:
    """The device, dtype and threads of a run.

    Args:
        precision: "fp32", "bf16", or "auto" to measure.
        cache: of the registry.
        threads: CPU threads; None takes torch's own choice, one a core.
    """
    if threads:
        torch.set_num_threads(threads)
    device = _device()
    if precision == "auto":
        precision = _measured(device)
    return Runtime(device, NAMES[precision], torch.get_num_threads(), cache)


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


def _measured(device: str) -> str:
    """bf16 where it is clearly faster, measured once for each machine and torch.

    The answer is kept, so that two runs on one machine never choose differently by chance.
    """
    if device.startswith("cuda"):
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if device != "cpu" or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return "fp32"
    name = f"{platform.node()} {platform.machine()} torch {torch.__version__}"
    path = cache_folder() / "precision.json"
    known = _known(path)
    if name not in known:
        known[name] = "bf16" if _speedup() > MARGIN else "fp32"
        write_atomically(path, json.dumps(known, indent=2, sort_keys=True) + "\n")
    return known[name]


def _known(path: Path) -> dict[str, str]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _speedup() -> float:
    """How much faster a convolution and a linear layer are in bfloat16, forward and backward."""
    times = {}
    for dtype in (torch.float32, torch.bfloat16):
        picture = torch.ones(4, 128, 16, 16, dtype=dtype, requires_grad=True)
        kernel = torch.ones(128, 128, 3, 3, dtype=dtype)
        rows = torch.ones(512, 512, dtype=dtype, requires_grad=True)
        matrix = torch.ones(512, 512, dtype=dtype)

        def once(
            picture: torch.Tensor = picture,
            kernel: torch.Tensor = kernel,
            rows: torch.Tensor = rows,
            matrix: torch.Tensor = matrix,
        ) -> None:
            convolved = torch.nn.functional.conv2d(picture, kernel, padding=1)
            (convolved.float().sum() + (rows @ matrix).float().sum()).backward()  # type: ignore[no-untyped-call]

        once()
        times[dtype] = min(_seconds(once) for _ in range(9))
    return times[torch.float32] / times[torch.bfloat16]


def _seconds(call: object) -> float:
    start = time.perf_counter()
    call()  # type: ignore[operator]
    return time.perf_counter() - start
