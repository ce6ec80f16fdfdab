"""Several rows in one sequence, none of which sees another: no padding is computed.

The loss is that of the padded batch, and a batch still counts records. How rows are kept apart
depends on the place:

* "segments", on the CPU: one sequence of all rows, attended one by one (``segment_attention``);
* "flash", on CUDA with flash-attn: one sequence too, whose kernel reads where rows begin from the
  position ids;
* "mask", on CUDA without it: rows best-fit into sequences of ``max_length``, and a block mask.

Whichever it is, it is tried on short rows of the model itself before training.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from transformers.utils import is_flash_attn_2_available

from lorareg.errors import TrainingError
from lorareg.trainers.core.task import Runtime
from lorareg.trainers.text import response_loss, segment_attention
from lorareg.trainers.text.chat import TokenRow
from lorareg.trainers.text.response_loss import PAD_MULTIPLE, Batch

PROBE_LENGTHS = (11, 5, 8)
TOLERANCES = {torch.float32: 1e-4}  # of logits, relative; a row that sees another: above 0.1
HALF_TOLERANCE = 5e-2


@dataclass(frozen=True)
class Packing:
    """How rows are laid out.

    Attributes:
        way: "segments", "flash" or "mask"; see the module.
        capacity: tokens of a sequence, for "mask".
    """

    way: Literal["segments", "flash", "mask"]
    capacity: int

    def collate(self, rows: Sequence[TokenRow], pad_id: int, device: str) -> Batch:
        """The batch of ``response_loss.collate`` without its padding."""
        lengths = [len(row.ids) for row in rows]
        together = [list(range(len(rows)))]
        bins = best_fit(lengths, self.capacity) if self.way == "mask" else together
        batch, segments = pack(rows, bins, pad_id, device)
        return replace(batch, segments=segments) if self.way == "segments" else batch


def choose(model: Any, runtime: Runtime, capacity: int) -> Packing:
    """Prepare a frozen model for packed rows; call it once, before adapters.

    Raises:
        TrainingError: rows cannot be kept apart in this model.
    """
    if "position_ids" not in inspect.signature(model.forward).parameters:
        raise _refusal("it takes no position ids, so a row could not begin at 0")
    rows = _probe_rows(model)
    alone = [_logits(model, response_loss.collate([row], 0, runtime.device)) for row in rows]
    packing = Packing(_install(model, runtime), capacity)
    batch = packing.collate(rows, 0, runtime.device)
    try:
        packed = _logits(model, batch)
    except (AttributeError, RuntimeError, TypeError, ValueError) as error:
        raise _refusal(f"its layers cannot be given rows one by one ({error})") from error
    theirs = torch.cat(alone)
    apart = float((packed - theirs).norm() / theirs.norm())
    if not apart <= TOLERANCES.get(theirs.dtype, HALF_TOLERANCE):
        raise _refusal(
            f"a row in a sequence is read otherwise than alone (logits {apart:.2g} apart): "
            "something besides attention carries from one token to the next"
        )
    return packing


def best_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Numbers of the rows in each sequence: the longest first, each where it leaves least room.

    >>> best_fit([3, 9, 7, 1], capacity=10)
    [[1, 3], [2, 0]]
    """
    bins: list[list[int]] = []
    room: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        fits = [number for number, left in enumerate(room) if left >= lengths[row]]
        if not fits:
            bins.append([])
            room.append(max(capacity, lengths[row]))
            fits = [len(bins) - 1]
        best = min(fits, key=room.__getitem__)
        bins[best].append(row)
        room[best] -= lengths[row]
    return bins


def pack(
    rows: Sequence[TokenRow], bins: Sequence[Sequence[int]], pad_id: int, device: str
) -> tuple[Batch, tuple[int, ...]]:
    """Lay rows out in the sequences of ``bins``; position ids begin at 0 in each row.

    What is left of a sequence, up to a multiple of 8, is one more row, of padding.

    Returns:
        The batch, and the lengths of all rows of the first sequence, padding included.
    """
    used = [sum(len(rows[row].ids) for row in chosen) for chosen in bins]
    width = -(-max(used) // PAD_MULTIPLE) * PAD_MULTIPLE
    ids, places = [], []
    start: dict[int, tuple[int, int]] = {}
    for number, chosen in enumerate(bins):
        ids.append([pad_id] * width)
        places.append([*range(width)])
        at = 0
        for row in chosen:
            start[row] = number, at
            length = len(rows[row].ids)
            ids[-1][at : at + length] = rows[row].ids
            places[-1][at:] = range(width - at)
            at += length
        places[-1][at:] = range(width - at)
    learned = [(*start[number], at) for number, row in enumerate(rows) for at in row.learned]
    index = torch.tensor(learned, device=device).reshape(-1, 3)
    batch = Batch(
        ids=torch.tensor(ids, device=device),
        sequences=index[:, 0],
        positions=index[:, 1] + index[:, 2] - 1,
        targets=torch.tensor([row.ids[at] for row in rows for at in row.learned], device=device),
        counts=tuple(len(row.learned) for row in rows),
        places=torch.tensor(places, device=device),
    )
    segments = (*(len(rows[row].ids) for row in bins[0]), width - used[0])
    return batch, tuple(length for length in segments if length)


def _install(model: Any, runtime: Runtime) -> Literal["segments", "flash", "mask"]:
    if not runtime.device.startswith("cuda"):
        own = sys.modules[type(model).__module__]
        if not (model._can_set_attn_implementation() and hasattr(own, "eager_attention_forward")):
            raise _refusal("its attention does not go through transformers' AttentionInterface")
        segment_attention.install(model)
        return "segments"
    half = runtime.dtype != "float32"
    if half and is_flash_attn_2_available() and model._supports_flash_attn:
        model.set_attn_implementation("flash_attention_2")
        return "flash"
    return "mask"


def _probe_rows(model: Any) -> list[TokenRow]:
    vocabulary = model.config.get_text_config().vocab_size
    numbers = iter(range(3, 10**6, 7))
    rows = [[next(numbers) % vocabulary for _ in range(length)] for length in PROBE_LENGTHS]
    return [TokenRow(tuple(ids), tuple(range(1, len(ids))), cut=False) for ids in rows]


def _logits(model: Any, batch: Batch) -> torch.Tensor:
    with torch.no_grad():
        return response_loss.from_all_positions(model, batch)


def _refusal(why: str) -> TrainingError:
    return TrainingError(
        "train.packing: this base cannot keep rows apart that stand in one sequence",
        why=why,
        fix="set train.packing: false",
    )
