"""The resume bundle: everything a run needs to go on as if it had never stopped.

One safetensors file a checkpoint (adapter, optimizer, average, best adapter so far) whose metadata
holds the cursor and a checksum over both. It appears by rename, so a kill in the middle of a write
leaves the checkpoint before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError
from safetensors.torch import load_file

from lorareg.errors import InvalidFileError, TrainingError
from lorareg.registry import tensors
from lorareg.registry.digest import of_json
from lorareg.registry.header import read_header
from lorareg.registry.runfacts import Rung
from lorareg.registry.training import Validation
from lorareg.trainers.tensor_bytes import raw_tensor


@dataclass(frozen=True)
class Cursor:
    """Where a run is.

    Attributes:
        step: optimizer steps done.
        best_loss: lowest validation loss so far, None before the first validation.
        best_step: the step it was reached.
        bad_rounds: validations since then.
        start_loss: validation loss of what the run starts from: the base, or a parent on it.
        base_loss: validation loss of the base alone.
        validation_loss: of the latest validation.
        seconds: spent so far.
        finished: "finished" or "early" once the run is over.
        rungs: what was given up for want of memory.
        place: device, precision, kernels and processes that it was computed with last.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    step: int = 0
    best_loss: float | None = None
    best_step: int = 0
    bad_rounds: int = 0
    start_loss: float | None = None
    base_loss: float | None = None
    validation_loss: float | None = None
    train_loss: float = 0.0
    seconds: float = 0.0
    finished: str | None = None
    rungs: tuple[Rung, ...] = ()
    place: str = ""

    def validated(self, loss: float, rule: Validation) -> Cursor:
        """Where the run is after a validation: at a new best, or nearer to giving up."""
        if self.step == 0:
            return replace(self, validation_loss=loss, start_loss=loss, base_loss=loss)
        here = replace(self, validation_loss=loss)
        if self.best_loss is None or loss < self.best_loss - rule.min_delta:
            return replace(here, best_loss=loss, best_step=self.step, bad_rounds=0)
        here = replace(here, bad_rounds=self.bad_rounds + 1)
        gives_up = rule.patience is not None and here.bad_rounds >= rule.patience
        return replace(here, finished="early") if gives_up else here


# The groups of a checkpoint ("adapter", "best", "optimizer", "average"), each of named tensors.
Bundle = dict[str, dict[str, torch.Tensor]]

_CURSOR = TypeAdapter(Cursor)


def save(
    folder: Path, cursor: Cursor, bundle: Mapping[str, Mapping[str, torch.Tensor]], keep: int
) -> None:
    """Write a checkpoint and remove all but the last ones.

    One of a later step goes too: the run would have gone on from it if it were whole.

    Args:
        folder: of the checkpoints of a run.
        cursor: where the run is.
        bundle: what it holds there; each bundle has the best adapter so far.
        keep: how many checkpoints stay; the older ones cover a newer one that the disk damaged.
    """
    raw = {
        f"{group}/{name}": raw_tensor(value)
        for group, values in bundle.items()
        for name, value in values.items()
    }
    state = _CURSOR.dump_json(cursor).decode()
    metadata = {"state": state, "checksum": of_json([state, tensors.digest_of(raw)])}
    path = _file(folder, cursor.step)
    tensors.write(path, raw, metadata)
    saved = files(folder)
    here = saved.index(path)
    for useless in saved[:here] + saved[here + keep :]:
        useless.unlink()


def latest(folder: Path) -> tuple[Cursor, Bundle] | None:
    """The newest checkpoint whose checksum holds, or None."""
    for path in files(folder):
        if cursor := cursor_of(path):
            return cursor, _grouped(load_file(path))
    return None


def steps(folder: Path) -> list[int]:
    """The steps that a run can go on from, oldest first."""
    return sorted(cursor.step for path in files(folder) if (cursor := cursor_of(path)))


def described(folder: Path) -> str:
    """A sentence that says which checkpoints a run has."""
    found = steps(folder)
    if not found:
        return "there is no checkpoint yet"
    return f"the checkpoints of step {', '.join(map(str, found))} are untouched"


def roll_back(folder: Path, step: int) -> None:
    """Forget the checkpoints after a step, so that the run goes on from there.

    Raises:
        TrainingError: there is none of this step; those there are are listed.
    """
    found = steps(folder)
    if step not in found:
        raise TrainingError(
            f"there is no checkpoint of step {step}",
            why=f"there are those of step {', '.join(map(str, found))}"
            if found
            else "with these inputs no run has written one",
            fix=f"lorareg train --from-step {found[-1]}, or --restart to begin anew; "
            "train.keep_checkpoints says how many are kept"
            if found
            else "lorareg train without --from-step begins one",
        )
    for path in files(folder):  # the last one first: a kill leaves a run that can be rolled back
        if path > _file(folder, step):
            path.unlink()


def cursor_of(path: Path) -> Cursor | None:
    """Where the run was at a checkpoint; None if it is damaged, or of another version."""
    try:
        metadata = read_header(path).metadata
        state = metadata.get("state", "")
        if metadata.get("checksum") == of_json([state, tensors.tensor_digest(path)]):
            return _CURSOR.validate_json(state)
    except (InvalidFileError, ValidationError):
        return None
    return None


def _grouped(values: Mapping[str, torch.Tensor]) -> Bundle:
    bundle: Bundle = {}
    for key, value in values.items():
        group, _, name = key.partition("/")
        bundle.setdefault(group, {})[name] = value
    return bundle


def _file(folder: Path, step: int) -> Path:
    return folder / f"step-{step:08d}.safetensors"


def files(folder: Path) -> list[Path]:
    """Every checkpoint, whole or damaged, the newest first."""
    return sorted(folder.glob("step-*.safetensors"), reverse=True)
