"""The resume bundle: everything a run needs to go on as if it had never stopped.

One safetensors file a checkpoint (adapter, optimizer moments, best adapter so far) whose metadata
holds the cursor and a checksum over both. It appears by rename, so a kill in the middle of a write
leaves the checkpoint before it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file

from lorareg.errors import InvalidFileError
from lorareg.registry import tensors
from lorareg.registry.digest import of_json
from lorareg.registry.header import read_header
from lorareg.registry.training import Validation
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

    def validated(self, loss: float, rule: Validation) -> Cursor:
        """Where the run is after a validation: at a new best, or nearer to giving up."""
        if self.step == 0:
            return replace(self, validation_loss=loss, base_loss=loss)
        here = replace(self, validation_loss=loss)
        if self.best_loss is None or loss < self.best_loss - rule.min_delta:
            return replace(here, best_loss=loss, best_step=self.step, bad_rounds=0)
        here = replace(here, bad_rounds=self.bad_rounds + 1)
        gives_up = rule.patience is not None and here.bad_rounds >= rule.patience
        return replace(here, finished="early") if gives_up else here


# The groups of a checkpoint ("adapter", "best", "optimizer"), each of named tensors.
Bundle = dict[str, dict[str, torch.Tensor]]


def save(folder: Path, cursor: Cursor, bundle: Mapping[str, Mapping[str, torch.Tensor]]) -> None:
    """Write a checkpoint and remove all but the last ones.

    One of a later step goes too: the run would have gone on from it if it were whole.
    """
    raw = {
        f"{group}/{name}": raw_tensor(value)
        for group, values in bundle.items()
        for name, value in values.items()
    }
    state = json.dumps(asdict(cursor), sort_keys=True)
    metadata = {"state": state, "checksum": of_json([state, tensors.digest_of(raw)])}
    path = folder / f"step-{cursor.step:08d}.safetensors"
    tensors.write(path, raw, metadata)
    saved = _saved(folder)
    here = saved.index(path)
    for useless in saved[:here] + saved[here + KEEP :]:
        useless.unlink()


def latest(folder: Path) -> tuple[Cursor, Bundle] | None:
    """The newest checkpoint whose checksum holds, or None."""
    for path in _saved(folder):
        try:
            metadata = read_header(path).metadata
            state = metadata.get("state", "")
            if metadata.get("checksum") == of_json([state, tensors.tensor_digest(path)]):
                return Cursor(**json.loads(state)), _grouped(load_file(path))
        except (InvalidFileError, TypeError):  # TypeError: another version's cursor
            continue
    return None


def _grouped(values: Mapping[str, torch.Tensor]) -> Bundle:
    bundle: Bundle = {}
    for key, value in values.items():
        group, _, name = key.partition("/")
        bundle.setdefault(group, {})[name] = value
    return bundle


def _saved(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.safetensors"), reverse=True)
