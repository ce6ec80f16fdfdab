"""The resume bundle: everything a run needs to go on as if it had never stopped.

One safetensors file a checkpoint (adapter, optimizer moments, best adapter so far) whose metadata
holds the cursor and a checksum over both. It appears by rename, so a kill in the middle of a write
leaves the checkpoint before it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from lorareg.errors import InvalidFileError
from lorareg.registry import tensors
from lorareg.registry.digest import of_json
from lorareg.registry.header import read_header
from lorareg.trainers.tensor_bytes import raw_tensor

KEEP = 2  # checkpoints; the older one covers a newer one that the disk damaged


@dataclass(frozen=True)
class Cursor:
    """Where a run is.

    Attributes:
        step: optimizer steps done.
        best_loss: lowest validation loss so far, None before the first validation.
        best_step: the step it was reached.
        bad_rounds: validations since then.
        base_loss: validation loss of the base alone.
        validation_loss: of the latest validation.
        seconds: spent so far.
        finished: "finished" or "early" once the run is over.
    """

    step: int = 0
    best_loss: float | None = None
    best_step: int = 0
    bad_rounds: int = 0
    base_loss: float | None = None
    validation_loss: float | None = None
    train_loss: float = 0.0
    seconds: float = 0.0
    finished: str | None = None


Bundle = dict[str, torch.Tensor]


def save(folder: Path, cursor: Cursor, bundle: Mapping[str, torch.Tensor]) -> None:
    """Write a checkpoint and remove all but the last ones."""
    raw = {name: raw_tensor(value) for name, value in bundle.items()}
    state = json.dumps(asdict(cursor), sort_keys=True)
    metadata = {"state": state, "checksum": of_json([state, tensors.digest_of(raw)])}
    tensors.write(folder / f"step-{cursor.step:08d}.safetensors", raw, metadata)
    for old in _saved(folder)[KEEP:]:
        old.unlink()


def latest(folder: Path) -> tuple[Cursor, Bundle] | None:
    """The newest checkpoint whose checksum holds, or None."""
    for path in _saved(folder):
        try:
            metadata = read_header(path).metadata
            state = metadata.get("state", "")
            if metadata.get("checksum") == of_json([state, tensors.tensor_digest(path)]):
                return Cursor(**json.loads(state)), load_file(path)
        except InvalidFileError:
            continue
    return None


def _saved(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.safetensors"), reverse=True)
