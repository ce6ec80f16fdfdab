"""Which members of a composition are on at which step of the denoising, and how strongly."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

import torch

from lorareg.trainers.adapters.inject import Adapters
from lorareg.weights import algebra
from lorareg.weights.adapter import LoraAdapter
from lorareg.weights.members import Composition, read

Factors = tuple[float, ...]
"""One factor a member, on all of its weights."""


def factors(composition: Composition, step: int, steps: int) -> tuple[Factors, ...]:
    """The passes of one denoising step: usually one, with "composite" one a member.

    Args:
        composition: with its windows and schedule.
        step: counted from 0.
        steps: of the whole denoising.

    Returns:
        For every forward pass, the factor of each member; the passes' outputs are averaged.
    """
    on = tuple(_within(part.windows, (step + 0.5) / steps) for part in composition.components)
    count = len(on)
    alone = tuple(
        tuple(on[member] if member == other else 0.0 for other in range(count))
        for member in range(count)
    )
    match composition.schedule.mode:
        case "switch":
            return (alone[step // composition.schedule.every % count],)
        case "composite":
            return alone
        case _:
            return (on,)


def _within(windows: tuple[tuple[float, float, float], ...], progress: float) -> float:
    if not windows:
        return 1.0
    return next((factor for start, stop, factor in windows if start <= progress < stop), 0.0)


class Scheduled:
    """A denoiser whose adapters change from step to step, as long as the block lasts.

    Text encoders are asked once, before the first step: there every member is on.

    Args:
        denoiser: ``pipe.unet`` or ``pipe.transformer``.
        timesteps: asks the scheduler for those of the picture that is being drawn.
        adapters: on the denoiser, holding ``whole(composition)``.
        composition: the members.
    """

    def __init__(
        self,
        denoiser: torch.nn.Module,
        timesteps: Callable[[], torch.Tensor],
        adapters: Adapters,
        composition: Composition,
    ) -> None:
        self._denoiser, self._timesteps = denoiser, timesteps
        self._adapters, self._composition = adapters, composition
        self._parts = [algebra.at(read(part), part.strength) for part in composition.components]
        self._made: dict[Factors, LoraAdapter] = {}
        self._now: Factors = ()
        self._forward: Any = denoiser.forward

    def __enter__(self) -> Scheduled:
        self._denoiser.forward = self._step
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._denoiser.forward = self._forward
        self._put((1.0,) * len(self._parts))

    def _step(self, *positional: Any, **named: Any) -> Any:
        told = named["timestep"] if "timestep" in named else positional[1]
        known = self._timesteps()
        outputs = []
        for wanted in factors(self._composition, _index(told, known), len(known)):
            self._put(wanted)
            outputs.append(self._forward(*positional, **named))
        return _mean(outputs)

    def _put(self, wanted: Factors) -> None:
        if wanted == self._now:
            return
        if wanted not in self._made:
            self._made[wanted] = algebra.weighted_sum(list(zip(self._parts, wanted, strict=True)))
        self._adapters.restore(self._made[wanted])
        self._now = wanted


def _index(told: Any, known: torch.Tensor) -> int:
    """Which step it is; Flux and its like are told a thousandth of the scheduler's own timestep."""
    first = torch.as_tensor(told).flatten()[0].to(known)
    if known.max() > 1 and first <= 1 and first not in known:
        first = first * 1000
    return int((known - first).abs().argmin())


def _mean(outputs: list[Any]) -> Any:
    """The passes' predictions averaged; guidance is linear in them, so it is averaged too."""
    first = outputs[0]
    if len(outputs) == 1:
        return first
    mean = torch.stack([output[0] for output in outputs]).mean(0)
    return (mean, *first[1:]) if isinstance(first, tuple) else type(first)(sample=mean)
