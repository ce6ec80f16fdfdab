"""What composing costs: ours beside PEFT's ``add_weighted_adapter``, in one process.

Three LoRAs of ranks 16, 32 and 8 over all 192 attention and feed-forward modules of a UNet in the
shape of Stable Diffusion 1.5: summed exactly, then compressed to rank 32; and a pair for a language
model, 4096 wide with 32 layers. Random factors with spectra that fall as 1/k, three in ten
directions shared. One BLAS thread; CPU seconds are medians of five, of PEFT a single run. Memory is
the peak above what was held just before, the result included. Writes nothing.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy and torch read it

import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from lorareg.registry.strength import Strength
from lorareg.weights import algebra, lowrank, resize
from lorareg.weights.adapter import Array, LoraAdapter, LoraLayer

RANKS, ALPHAS, WEIGHTS = (16, 32, 8), (16.0, 16.0, 4.0), (0.7, 0.9, 0.5)
KEPT = 32
ROUNDS = 5
SHARED = 0.3
STAGES = {"down_blocks.0": (320, 2), "down_blocks.1": (640, 2), "down_blocks.2": (1280, 2),
          "mid_block": (1280, 1), "up_blocks.1": (1280, 3), "up_blocks.2": (640, 3),
          "up_blocks.3": (320, 3)}  # fmt: skip
TEXT_WIDTH = 768
MIB = 1 << 20
Shapes = Mapping[str, tuple[int, tuple[int, ...]]]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Cost:
    """What a call took.

    Attributes:
        cpu: seconds of all threads.
        peak: bytes above what was held before; None where the system cannot tell.
    """

    cpu: float
    peak: int | None


def main() -> None:
    """Print the tables."""
    machine()
    stable_diffusion()
    language_model()


def stable_diffusion() -> None:
    """The three LoRAs of a UNet: exact, compressed, and compressed by PEFT."""
    parts = adapters(unet_shapes(), RANKS, ALPHAS)
    weighted = list(zip(parts, WEIGHTS, strict=True))
    exact, exact_cost = measured(lambda: algebra.weighted_sum(weighted))
    strong = [algebra.at(adapter, Strength(weight)) for adapter, weight in weighted]
    small, small_cost = measured(lambda: lowrank.compress(strong, lowrank.Budget(rank=KEPT)))
    print(f"\nSD1.5 shapes, {len(exact.layers)} modules, ranks {RANKS}\n")
    header()
    row(f"lorareg exact, rank {exact.rank}", exact_cost, 0.0)
    row(f"lorareg, rank {KEPT}", small_cost, resize.error(small.adapter, exact))
    print(f"| (its error as known before writing) | | | {small.error:.6f} | |")
    from benchmarks import compose_peft  # after ours: torch alone holds more than all of it

    theirs, their_cost = compose_peft.run(weighted, KEPT)
    times = their_cost.cpu / small_cost.cpu
    row(f"peft svd, rank {KEPT}", their_cost, resize.error(theirs, exact), f"{times:.0f}x")


def language_model() -> None:
    """A pair of ranks 32 and 16 for all seven projections of 32 layers."""
    pair = adapters(llm_shapes(), (32, 16), (32.0, 32.0))
    found, cost = measured(lambda: lowrank.compress(pair, lowrank.Budget(rank=KEPT)), rounds=1)
    print(f"\nLanguage model, 4096 wide, 32 layers, {len(found.ranks)} modules, ranks (32, 16)\n")
    header()
    row(f"lorareg, rank {KEPT}", cost, found.error)


def unet_shapes() -> Shapes:
    """(out, inputs) of what LoRAs adapt in a UNet of Stable Diffusion 1.5."""
    shapes: dict[str, tuple[int, tuple[int, ...]]] = {}
    for stage, (width, count) in STAGES.items():
        for number in range(count):
            path = f"unet.{stage}.attentions.{number}"
            block = f"{path}.transformer_blocks.0"
            shapes |= {f"{path}.{x}": (width, (width, 1, 1)) for x in ("proj_in", "proj_out")}
            for name in ("to_q", "to_k", "to_v", "to_out.0"):
                cross = TEXT_WIDTH if name in ("to_k", "to_v") else width
                shapes[f"{block}.attn1.{name}"] = (width, (width,))
                shapes[f"{block}.attn2.{name}"] = (width, (cross,))
            shapes[f"{block}.ff.net.0.proj"] = (8 * width, (width,))
            shapes[f"{block}.ff.net.2"] = (width, (4 * width,))
    return shapes


def llm_shapes() -> Shapes:
    """(out, inputs) of the projections of a language model of 7 billion weights."""
    wide = {"mlp.gate_proj": (11008, (4096,)), "mlp.up_proj": (11008, (4096,)),
            "mlp.down_proj": (4096, (11008,))}  # fmt: skip
    square = {f"self_attn.{x}_proj": (4096, (4096,)) for x in "qkvo"}
    layers = range(32)
    return {f"model.layers.{n}.{x}": s for n in layers for x, s in (square | wide).items()}


def adapters(
    shapes: Shapes, ranks: tuple[int, ...], alphas: tuple[float, ...]
) -> list[LoraAdapter]:
    """Random adapters of all modules."""
    random = np.random.default_rng(0)
    found: list[dict[str, LoraLayer]] = [{} for _ in ranks]
    for name, (out, inputs) in shapes.items():
        most, width = max(ranks), int(np.prod(inputs))
        pool = _directions(random, out, width, most)
        for layers, rank, alpha in zip(found, ranks, alphas, strict=True):
            up, down = _directions(random, out, width, rank)
            shared = round(SHARED * rank)
            up[:, :shared], down[:shared] = pool[0][:, :shared], pool[1][:shared]
            up *= 1 / np.arange(1, rank + 1, dtype=np.float32)
            tail = tuple(1 for _ in inputs[1:])
            layers[name] = LoraLayer(
                down.reshape(rank, *inputs), up.reshape(out, rank, *tail), alpha
            )
    return [LoraAdapter(layers) for layers in found]


def measured(function: Callable[[], Result], rounds: int = ROUNDS) -> tuple[Result, Cost]:
    """The result of a call, the CPU seconds of the median one and the peak of the first."""
    before = _reset_peak()
    started = time.process_time()
    result = function()
    seconds = [time.process_time() - started]
    after = _memory("VmHWM")
    for _ in range(rounds - 1):
        started = time.process_time()
        function()
        seconds.append(time.process_time() - started)
    peak = None if before is None or after is None else after - before
    return result, Cost(statistics.median(seconds), peak)


def machine() -> None:
    """Print what this runs on."""
    from importlib.metadata import version

    versions = ", ".join(f"{name} {version(name)}" for name in ("numpy", "torch", "peft"))
    print(f"{_cpu()}, {os.cpu_count()} cores, one BLAS thread; {versions}")


def header() -> None:
    """Print the head of a table."""
    print("| | CPU s | extra MiB | relative error | lorareg is faster by |")
    print("| --- | --- | --- | --- | --- |")


def row(name: str, cost: Cost, error: float, times: str = "") -> None:
    """Print one contestant."""
    peak = "?" if cost.peak is None else f"{cost.peak / MIB:.0f}"
    print(f"| {name} | {cost.cpu:.2f} | {peak} | {error:.6f} | {times} |", flush=True)


def _directions(
    random: np.random.Generator, out: int, width: int, rank: int
) -> tuple[Array, Array]:
    up = random.standard_normal((out, rank), dtype=np.float32) / np.float32(np.sqrt(out))
    down = random.standard_normal((rank, width), dtype=np.float32) / np.float32(np.sqrt(width))
    return up, down


def _reset_peak() -> int | None:
    """Let the peak be counted anew (Linux); returns the bytes held now."""
    reset = Path("/proc/self/clear_refs")
    if not reset.exists():
        return None
    reset.write_text("5")
    return _memory("VmRSS")


def _memory(field: str) -> int | None:
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    line = next(x for x in status.read_text().splitlines() if x.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


def _cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    names = [
        line.partition(":")[2].strip()
        for line in (cpuinfo.read_text() if cpuinfo.exists() else "").splitlines()
        if line.startswith("model name")
    ]
    return names[0] if names else platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
