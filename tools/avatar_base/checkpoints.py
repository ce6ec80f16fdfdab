"""Resumable training state in safetensors: weights, moving average and optimizer in one file."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn

    Tensors = dict[str, torch.Tensor]


Record = dict[str, float | str]
"""One line of the training log."""


@dataclass
class Progress:
    """How far a run is: optimizer steps done and wall seconds spent, over all its resumptions."""

    step: int = 0
    seconds: float = 0.0


def save(
    path: Path,
    networks: dict[str, nn.Module],
    average: Tensors,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
) -> None:
    """Write the whole state to a temporary file, flush it to disk, rename it over `path`."""
    from safetensors.torch import save_file

    tensors: Tensors = {f"weights.{name}": value for name, value in named(networks).items()}
    tensors |= {f"average.{name}": value for name, value in average.items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in moments.items()}
    tensors = {name: value.detach().contiguous() for name, value in sorted(tensors.items())}
    temporary = path.with_suffix(".tmp")
    save_file(tensors, temporary, {"progress": json.dumps(vars(progress))})
    with temporary.open("rb") as written:
        os.fsync(written.fileno())
    temporary.replace(path)


def load(
    path: Path, networks: dict[str, nn.Module], optimizer: torch.optim.Optimizer
) -> tuple[Tensors, Progress]:
    """Put a saved state back; returns the moving average and the progress."""
    import torch

    tensors, progress = read(path)
    with torch.no_grad():
        for name, parameter in named(networks).items():
            parameter.copy_(tensors[f"weights.{name}"])
    moments: dict[int, Tensors] = {}
    for name, value in part(tensors, "optimizer").items():
        index, moment = name.split(".", 1)
        moments.setdefault(int(index), {})[moment] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    return part(tensors, "average"), progress


def read(path: Path) -> tuple[Tensors, Progress]:
    """All tensors of a checkpoint and its progress."""
    from safetensors import safe_open

    with safe_open(path, "pt") as stored:
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        return tensors, Progress(**json.loads(stored.metadata()["progress"]))


def part(tensors: Tensors, prefix: str) -> Tensors:
    """Tensors below a prefix, without it."""
    start = prefix + "."
    return {name[len(start) :]: t for name, t in tensors.items() if name.startswith(start)}


def named(networks: dict[str, nn.Module]) -> dict[str, nn.Parameter]:
    """Parameters of several networks under `network.parameter` names."""
    return {
        f"{name}.{inner}": parameter
        for name, network in networks.items()
        for inner, parameter in network.named_parameters()
    }
