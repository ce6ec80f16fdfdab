"""A training step on tensors without memory: what it would hold at its peak.

The models are copied with fake tensors in place of their weights, so nothing that the pass leaves
behind in a module is ever seen by the run. Every operation is asked for the shapes of its results
only, by the very path (attention kernel, autocast, checkpointing) that the device would take.
Source: torch.fx.experimental documentation, "Fake tensor".
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from lorareg.trainers.core import recompute

Models = Mapping[str, torch.nn.Module]
Pass = Callable[[Models], torch.Tensor]
"""Some records through copies of the models, to a number to differentiate."""


class Rehearse(Protocol):
    """``peak_bytes``, or what it came to before."""

    def __call__(self, models: Models, forward: Pass, *, checkpointing: bool = False) -> int | None:
        """See ``peak_bytes``."""
        ...


def peak_bytes(models: Models, forward: Pass, *, checkpointing: bool = False) -> int | None:
    """Bytes of activations that a step holds at most; scratch memory within a kernel is not seen.

    The peak is the end of the forward pass, give or take 3 %: the backward pass, which takes twice
    as long to rehearse, is only gone through where it computes activations again.

    Args:
        models: by component; they are not changed, and their weights not read.
        forward: the pass.
        checkpointing: compute activations twice instead of keeping them.

    Returns:
        None where an operation cannot say what it would return without computing it.
    """
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    copies = _without_weights(models, fake)
    if checkpointing:
        recompute.enable(copies.values())
    known = [t for model in copies.values() for t in _tensors(model)]
    live = _Live(known)
    with _seeded(), fake, live:
        try:
            loss = forward(copies)
            if checkpointing:
                loss.backward()  # type: ignore[no-untyped-call]
        except (RuntimeError, NotImplementedError):
            return None
    return live.peak


class _Live(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all storages that are alive, but for those known before."""

    def __init__(self, known: list[torch.Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak: int = 0
        self._now = 0
        self._known = [t.untyped_storage() for t in known]  # held, so that no other gets its place
        self._sizes = dict.fromkeys((s._cdata for s in self._known), 0)

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is torch.ops.prim.device.default:  # asked twice as often as anything is computed
            return args[0].fake_device
        out = func(*args, **(kwargs or {}))
        for found in out if isinstance(out, tuple | list) else (out,):
            if isinstance(found, FakeTensor):
                self._count(found.untyped_storage())
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        place = storage._cdata
        if place in self._sizes:
            return
        self._sizes[place] = storage.nbytes()
        self._now += storage.nbytes()
        self.peak = max(self.peak, self._now)
        weakref.finalize(storage, self._forget, place)

    def _forget(self, place: int) -> None:
        self._now -= self._sizes.pop(place)


def _without_weights(models: Models, fake: FakeTensorMode) -> dict[str, torch.nn.Module]:
    memo: dict[int, Any] = {}
    for model in models.values():
        memo |= {id(tensor): fake.from_tensor(tensor) for tensor in _tensors(model)}
    return {name: copy.deepcopy(model, memo) for name, model in models.items()}


def _tensors(model: torch.nn.Module) -> Iterator[torch.Tensor]:
    yield from model.parameters()
    yield from model.buffers()


@contextmanager
def _seeded() -> Iterator[None]:
    """Dropout draws, even of nothing: torch's own stream is put back."""
    with torch.random.fork_rng():
        yield
