"""Every optimizer: what it is, whom it gives which rate, and a state that survives a file."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from lorareg.errors import TrainingError
from lorareg.registry import tensors
from lorareg.registry.image_training import ImageTraining
from lorareg.registry.training import Training
from lorareg.trainers.core.optim import Optimizer, build, package
from lorareg.trainers.tensor_bytes import raw_tensor

Parameters = dict[str, torch.nn.Parameter]
TOTAL = 12
KINDS: tuple[str, ...] = get_args(Training.model_fields["optimizer"].annotation)
HERE = [
    pytest.param(
        kind,
        marks=pytest.mark.skipif(
            kind == "adamw-8bit" and importlib.util.find_spec("bitsandbytes") is None,
            reason="bitsandbytes is not installed",
        ),
    )
    for kind in KINDS
]
INPUTS = torch.randn(16, 320, generator=torch.Generator().manual_seed(2))
TARGETS = torch.randn(16, 8, generator=torch.Generator().manual_seed(3))
PICTURES = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(4))


def training(kind: str, **changes: Any) -> Training:
    needs: dict[str, dict[str, Any]] = {
        "prodigy": {"learning_rate": 1.0, "scheduler": "constant"},
        "schedule-free": {"scheduler": "constant"},
    }
    plain = {"optimizer": kind, "learning_rate": 1e-2, "weight_decay": 0.01, "warmup_steps": 2}
    return Training(**plain | needs.get(kind, {}) | changes)


def parameters() -> Parameters:
    """A linear DoRA layer, large enough for 8-bit moments, and a convolution."""
    generator = torch.Generator().manual_seed(1)

    def random(*shape: int) -> torch.nn.Parameter:
        return torch.nn.Parameter(torch.randn(*shape, generator=generator) * 0.1)

    return {
        "unet.a.down": random(16, 320),
        "unet.a.up": torch.nn.Parameter(torch.zeros(8, 16)),
        "unet.a.magnitude": torch.nn.Parameter(torch.ones(8)),
        "text_encoder.b.down": random(4, 3, 3, 3),
        "text_encoder.b.up": torch.nn.Parameter(torch.zeros(5, 4, 1, 1)),
    }


def copies(found: Parameters) -> Parameters:
    return {name: torch.nn.Parameter(value.detach().clone()) for name, value in found.items()}


def loss(found: Parameters, step: int) -> torch.Tensor:
    """A new loss every step, so that no state is a fixed point."""
    linear = (INPUTS @ found["unet.a.down"].T) @ found["unet.a.up"].T + 0.1
    kernel, mix = found["text_encoder.b.down"], found["text_encoder.b.up"]
    picture = torch.nn.functional.conv2d(torch.nn.functional.conv2d(PICTURES, kernel), mix)
    error = (linear * found["unet.a.magnitude"] - TARGETS).square().mean()
    return (error + (picture - 1).square().mean()) * (1 + 0.1 * step)


def advance(found: Parameters, optimizer: Optimizer, steps: Iterable[int]) -> None:
    for step in steps:
        optimizer.zero_grad()
        loss(found, step).backward()  # type: ignore[no-untyped-call]
        optimizer.step(step)


def through_a_file(state: dict[str, torch.Tensor], path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    tensors.write(path, {name: raw_tensor(value) for name, value in state.items()}, {})
    return load_file(path)


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and torch.equal(one[name], other[name]) for name in one
    )


@pytest.mark.parametrize("kind", HERE)
def test_a_run_stopped_anywhere_ends_like_the_straight_run_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, kind: str
) -> None:
    """Long enough for Prodigy's distance to grow, which takes it some twenty steps."""
    total, chosen = 40, training(kind, loraplus_lr_ratio=1.0 if kind == "prodigy" else 4.0)
    straight = parameters()
    whole = build(straight, chosen, total)
    advance(straight, whole, range(total))

    @settings(max_examples=6, derandomize=True, deadline=None)
    @given(st.lists(st.integers(0, total), min_size=1, max_size=2).map(sorted))
    def stopped_at(cuts: list[int]) -> None:
        found, before = parameters(), 0
        optimizer = build(found, chosen, total)
        for cut in cuts:
            advance(found, optimizer, range(before, cut))
            file = tmp_path_factory.mktemp("state") / "state.safetensors"
            state = through_a_file(optimizer.state(), file)
            found, before = copies(found), cut
            optimizer = build(found, chosen, total)
            optimizer.restore(state)
        advance(found, optimizer, range(before, total))
        assert same(found, straight)
        assert same(optimizer.state(), whole.state())

    stopped_at()


@pytest.mark.parametrize("kind", HERE)
def test_every_optimizer_lowers_the_loss_and_moves_every_matrix(kind: str) -> None:
    found = parameters()
    before, start = copies(found), loss(found, 0).item()
    steps = 100 if kind == "prodigy" else 20

    advance(found, build(found, training(kind), steps), range(steps))

    assert loss(found, 0).item() < 0.6 * start
    assert not any(torch.equal(value, before[name]) for name, value in found.items())


@pytest.mark.parametrize("kind", HERE)
def test_looking_at_the_weights_to_keep_changes_nothing(kind: str) -> None:
    alone, watched = parameters(), parameters()
    advance(alone, build(alone, training(kind), TOTAL), range(TOTAL))
    optimizer = build(watched, training(kind), TOTAL)

    for step in range(TOTAL):
        advance(watched, optimizer, [step])
        before = copies(watched)
        with optimizer.evaluating():
            seen = copies(watched)
        assert same(watched, before)
        averaged = kind == "schedule-free" and step > 0
        assert same(seen, before) != averaged

    assert same(watched, alone)


def test_schedule_free_shows_the_average_that_its_library_shows() -> None:
    from schedulefree import AdamWScheduleFree

    ours, theirs = parameters(), parameters()
    chosen = training("schedule-free", warmup_steps=0, weight_decay=0.0)
    optimizer = build(ours, chosen, TOTAL)
    advance(ours, optimizer, range(TOTAL))
    reference = AdamWScheduleFree(theirs.values(), lr=chosen.learning_rate, betas=(0.9, 0.999))
    reference.train()
    for step in range(TOTAL):
        reference.zero_grad()
        loss(theirs, step).backward()  # type: ignore[no-untyped-call]
        reference.step()
    reference.eval()

    with optimizer.evaluating():
        assert same(ours, theirs)


def test_adamw_is_torch_s_own() -> None:
    ours, theirs = parameters(), parameters()
    chosen = training("adamw", scheduler="constant", warmup_steps=0, weight_decay=0.05)
    decayed = [value for name, value in theirs.items() if not name.endswith(".magnitude")]
    reference = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05},
         {"params": [theirs["unet.a.magnitude"]], "weight_decay": 0.0}],
        lr=chosen.learning_rate,
    )  # fmt: skip

    advance(ours, build(ours, chosen, TOTAL), range(TOTAL))
    for step in range(TOTAL):
        reference.zero_grad()
        loss(theirs, step).backward()  # type: ignore[no-untyped-call]
        reference.step()

    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name])


def test_adamw_s_state_is_named_by_parameter_and_field_and_nothing_else() -> None:
    found = parameters()
    optimizer = build(found, training("adamw"), TOTAL)
    assert optimizer.state() == {}

    advance(found, optimizer, range(2))

    state = optimizer.state()
    fields = ("step", "exp_avg", "exp_avg_sq")
    assert set(state) == {f"{name}/{field}" for name in found for field in fields}
    assert float(state["unet.a.up/step"]) == 2


def test_prodigy_s_distance_and_schedule_free_s_weights_are_part_of_the_state() -> None:
    found = {kind: parameters() for kind in ("prodigy", "schedule-free")}
    states = {}
    for kind, values in found.items():
        optimizer = build(values, training(kind), 40)
        advance(values, optimizer, range(40))
        states[kind] = optimizer.state()

    assert float(states["prodigy"]["groups/0/d"]) > 1e-6, "the distance never grew"
    assert int(states["prodigy"]["groups/0/k"]) == 40
    assert float(states["schedule-free"]["groups/0/weight_sum"]) > 0
    assert int(states["schedule-free"]["groups/1/k"]) == 40


def test_a_restored_state_is_a_copy_of_what_it_was_restored_from() -> None:
    found = parameters()
    optimizer = build(found, training("adamw"), TOTAL)
    advance(found, optimizer, range(1))
    saved = {name: value.clone() for name, value in optimizer.state().items()}
    before = {name: value.clone() for name, value in saved.items()}

    optimizer.restore(saved)
    advance(found, optimizer, range(1, 3))

    assert same(saved, before)


def test_eight_bit_moments_take_a_quarter_of_the_memory() -> None:
    pytest.importorskip("bitsandbytes")
    found = parameters()
    optimizer = build(found, training("adamw-8bit"), TOTAL)

    advance(found, optimizer, range(1))

    state = optimizer.state()
    assert state["unet.a.down/state1"].dtype == torch.uint8
    assert state["unet.a.up/state1"].dtype == torch.float32, "below 4096 values"


def test_the_up_matrices_of_lora_plus_move_so_many_times_as_far() -> None:
    """The sign of Lion's update makes every entry move by exactly the rate."""
    found = parameters()
    before = copies(found)
    chosen = training("lion", loraplus_lr_ratio=8.0, weight_decay=0.0, warmup_steps=0)

    advance(found, build(found, chosen, TOTAL), range(2))

    moved = {name: (value - before[name]).abs().max().item() for name, value in found.items()}
    assert moved["unet.a.up"] == pytest.approx(8 * moved["unet.a.magnitude"], rel=1e-3)
    assert moved["unet.a.magnitude"] > 0


def test_a_text_encoder_has_a_rate_of_its_own() -> None:
    found = parameters()
    before = copies(found)
    chosen = ImageTraining(
        optimizer="lion", learning_rate=1e-3, text_encoder_learning_rate=1e-4, weight_decay=0.0,
        scheduler="constant",
    )  # fmt: skip

    optimizer = build(found, chosen, TOTAL)
    advance(found, optimizer, range(1))

    moved = {name: (value - before[name]).abs().max().item() for name, value in found.items()}
    assert moved["unet.a.up"] == pytest.approx(1e-3, rel=1e-3)
    assert moved["text_encoder.b.up"] == pytest.approx(1e-4, rel=1e-3)
    assert optimizer.rate(0) == 1e-3


@pytest.mark.parametrize("kind", HERE)
def test_weight_decay_draws_factors_towards_zero_and_leaves_magnitudes_alone(kind: str) -> None:
    found = parameters()
    before = copies(found)
    optimizer = build(found, training(kind, weight_decay=1.0, warmup_steps=0), TOTAL)

    for step in range(2):
        for value in found.values():  # without a gradient, decay is all that moves
            value.grad = torch.zeros_like(value)
        if kind == "prodigy":  # which does nothing at all on a zero gradient
            found["text_encoder.b.up"].grad = torch.full((5, 4, 1, 1), 1e-3)
        optimizer.step(step)

    down, magnitude = found["unet.a.down"], found["unet.a.magnitude"]
    assert down.detach().norm() < before["unet.a.down"].detach().norm()
    assert torch.equal(magnitude, before["unet.a.magnitude"])


def test_a_missing_library_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "path", [])

    with pytest.raises(TrainingError) as caught:
        build(parameters(), training("lion"), TOTAL)

    assert "lion needs lion-pytorch" in caught.value.what
    assert caught.value.fix == "pip install lion-pytorch"


@pytest.mark.parametrize("kind", HERE)
def test_the_package_that_does_the_work_is_known_with_its_version(kind: str) -> None:
    names = {"prodigy": "prodigyopt", "lion": "lion-pytorch", "schedule-free": "schedulefree",
             "adamw-8bit": "bitsandbytes"}  # fmt: skip

    found = package(training(kind))

    assert list(found) == ([names[kind]] if kind in names else [])
    assert all(version[0].isdigit() for version in found.values())


@pytest.mark.parametrize("kind", HERE)
def test_building_an_optimizer_prints_nothing(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    build(parameters(), training(kind), TOTAL)

    assert capsys.readouterr().out == "", "stdout carries the answer of a command"


REFUSED = [
    ({"optimizer": "prodigy"}, "set learning_rate: 1.0"),
    ({"optimizer": "prodigy", "learning_rate": 1.0, "loraplus_lr_ratio": 4.0}, "loraplus_lr_ratio"),
    (
        {"optimizer": "prodigy", "learning_rate": 1.0, "text_encoder_learning_rate": 0.5},
        "text_encoder_learning_rate",
    ),
    ({"optimizer": "schedule-free"}, "set scheduler: constant"),
    ({"optimizer": "schedule-free", "scheduler": "constant", "ema": 0.99}, "leave ema out"),
    ({"scheduler_cycles": 2}, "cosine-restarts"),
    ({"scheduler": "cosine", "scheduler_power": 2.0}, "polynomial"),
]


@pytest.mark.parametrize(("keys", "said"), REFUSED)
def test_keys_that_make_no_sense_together_are_refused(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ImageTraining(**keys)


def test_all_keys_that_make_no_sense_are_named_at_once() -> None:
    with pytest.raises(ValidationError) as caught:
        Training(optimizer="schedule-free", scheduler_power=2.0, ema=0.9)

    said = str(caught.value)
    assert all(word in said for word in ("scheduler: constant", "ema", "scheduler_power"))


def test_rates_are_finite_for_every_step_of_every_schedule() -> None:
    for scheduler in get_args(Training.model_fields["scheduler"].annotation):
        optimizer = build(parameters(), training("adamw", scheduler=scheduler), TOTAL)
        assert all(math.isfinite(optimizer.rate(step)) for step in range(TOTAL))
