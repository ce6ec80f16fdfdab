"""A composition on a denoiser: what it adds at which step, and that it comes off again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lorareg.registry.ids import AssetId
from lorareg.registry.lock import Lock
from lorareg.registry.manifest import ImageManifest
from lorareg.registry.recipe import Schedule
from lorareg.registry.strength import Strength
from lorareg.registry.versions import State
from lorareg.trainers.adapters import inject
from lorareg.trainers.schedule import Scheduled, factors
from lorareg.weights import compose, members
from lorareg.weights.adapter import LoraAdapter, LoraLayer
from lorareg.weights.formats import diffusers
from lorareg.weights.members import Component, Composition

Make = Callable[..., Composition]
PLAIN = Schedule()
WINDOWS = ((0.0, 0.5, 1.0), (0.5, 0.75, 0.5))


class Denoiser(torch.nn.Module):
    """One layer that is asked as a pipeline asks a UNet."""

    def __init__(self) -> None:
        super().__init__()
        self.to_q = torch.nn.Linear(6, 6, bias=False)
        torch.nn.init.eye_(self.to_q.weight)

    def forward(self, sample: torch.Tensor, timestep: Any, **_: Any) -> tuple[torch.Tensor]:
        return (self.to_q(sample),)


@pytest.fixture
def composition(tmp_path: Path) -> Make:
    """Members "ink" and "face", each of which adds a multiple of one matrix."""

    def make(windows: Mapping[str, Any] | None = None, schedule: Schedule = PLAIN) -> Composition:
        parts = []
        for seed, name in enumerate(("ink", "face")):
            random = np.random.default_rng(seed)
            down, up = (random.normal(size=s).astype(np.float32) for s in ((2, 6), (6, 2)))
            file = tmp_path / f"{name}.safetensors"
            diffusers.write(file, LoraAdapter({"unet.to_q": LoraLayer(down, up, 2.0)}), {})
            document = {
                "schema": "lorareg/1", "kind": "style", "name": name, "task": "text-to-image",
                "base": {"model": "builtin:avatar"}, "dataset": {"path": "data/x"},
            }  # fmt: skip
            manifest = ImageManifest.model_validate(document)
            state = State(AssetId("style", name), None, manifest, Lock.model_construct(), None)
            on = (windows or {}).get(name, ())
            parts.append(Component(state, Strength(0.5), file, on))
        return Composition(tuple(parts), (), schedule=schedule)

    return make


def deltas(composition: Composition) -> list[torch.Tensor]:
    """What each member adds to the layer, at its weight."""
    return [
        part.strength.weight * torch.from_numpy(members.read(part).layers["unet.to_q"].delta())
        for part in composition.components
    ]


@pytest.fixture
def steps() -> Callable[[Composition], list[torch.Tensor]]:
    """The layer as it is at each of eight steps, less the base."""

    def run(composition: Composition) -> list[torch.Tensor]:
        denoiser, known = Denoiser(), torch.tensor([875, 750, 625, 500, 375, 250, 125, 0])
        adapters = inject.apply({"unet": denoiser}, compose.build(composition))
        with torch.no_grad(), Scheduled(denoiser, lambda: known, adapters, composition):
            seen = [denoiser(torch.eye(6), step)[0].T - torch.eye(6) for step in known]
        inject.remove(adapters)
        return seen

    return run


def test_a_window_turns_a_member_on_and_off_and_weakens_it(composition: Make, steps: Any) -> None:
    wanted = composition({"ink": WINDOWS})
    ink, face = deltas(wanted)

    seen = steps(wanted)

    expected = [ink + face] * 4 + [0.5 * ink + face] * 2 + [face] * 2
    for found, right in zip(seen, expected, strict=True):
        torch.testing.assert_close(found, right, atol=1e-5, rtol=1e-5)


def test_switching_has_one_member_on_at_a_time(composition: Make, steps: Any) -> None:
    wanted = composition(schedule=Schedule(mode="switch", every=2))
    ink, face = deltas(wanted)

    seen = steps(wanted)

    for found, right in zip(seen, [ink, ink, face, face] * 2, strict=True):
        torch.testing.assert_close(found, right, atol=1e-5, rtol=1e-5)


def test_composite_averages_what_the_members_predict_alone(composition: Make, steps: Any) -> None:
    wanted = composition(schedule=Schedule(mode="composite"))
    ink, face = deltas(wanted)

    for found in steps(wanted):
        torch.testing.assert_close(found, (ink + face) / 2, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("mode", ["sum", "switch", "composite"])
def test_a_block_that_ended_leaves_forward_as_it_was(composition: Make, mode: Any) -> None:
    denoiser, wanted = Denoiser(), composition(schedule=Schedule(mode=mode))
    adapters = inject.apply({"unet": denoiser}, compose.build(wanted))

    with Scheduled(denoiser, lambda: torch.tensor([500, 0]), adapters, wanted):
        denoiser(torch.eye(6), torch.tensor(500))
    inject.remove(adapters)

    torch.testing.assert_close(denoiser(torch.eye(6), 0)[0], torch.eye(6))


def test_the_windows_of_a_schedule_without_steps_between_count_once(composition: Make) -> None:
    wanted = composition({"ink": ((0.0, 0.1, 1.0),)})

    assert factors(wanted, 0, 1) == ((0.0, 1.0),)
    assert factors(wanted, 0, 20) == ((1.0, 1.0),)
    assert factors(wanted, 2, 20) == ((0.0, 1.0),)
