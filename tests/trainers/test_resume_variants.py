"""A run of every variant and optimizer that was stopped ends as the run that never was."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from lorareg.errors import InterruptedTrainingError
from lorareg.registry.manifest import Lora
from lorareg.weights.formats import diffusers
from tests.trainers.pico_images import Case, Run

SHAPE: dict[str, Any] = {"rank": 3, "alpha": 6, "dropout": 0.2}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "DoRA by Prodigy": (
        {"use_dora": True, "targets": ("to_q", "conv1")},
        {"optimizer": "prodigy", "learning_rate": 1.0},
    ),
    "PiSSA, schedule-free": (
        {"init": "pissa"},
        {"optimizer": "schedule-free", "scheduler": "constant", "weight_decay": 0.0},
    ),
    "rsLoRA and LoRA+ by Adafactor, averaged": (
        {"use_rslora": True},
        {"optimizer": "adafactor", "loraplus_lr_ratio": 4.0, "ema": 0.9, "scheduler": "rex"},
    ),
    "Lion with restarts": (
        {},
        {"optimizer": "lion", "learning_rate": 1e-3, "scheduler": "cosine-restarts",
         "scheduler_cycles": 2},
    ),
}  # fmt: skip


def state(run: Run) -> dict[str, torch.Tensor]:
    groups = run.loop.state.bundle()
    return {f"{group}/{name}": value for group in groups for name, value in groups[group].items()}


@pytest.mark.parametrize("name", CASES)
def test_a_stopped_run_of_a_variant_ends_as_the_straight_one(case: Case, name: str) -> None:
    lora, training = CASES[name]
    chosen = replace(case, lora=Lora(**SHAPE | lora)).with_training(
        epochs=2, warmup_steps=2, save_steps=1000, **training
    )
    straight = chosen.start("straight")
    straight.loop.run()

    with pytest.raises(InterruptedTrainingError):
        chosen.start("stopped", stop=lambda step: step == 5).loop.run()
    resumed = chosen.start("stopped")
    resumed.loop.run()

    expected, found = state(straight), state(resumed)
    assert found.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in found.items())
    files = []
    for run in (straight, resumed):
        files.append(chosen.folder / f"{len(files)}.safetensors")
        diffusers.write(files[-1], run.adapters.snapshot(), {})
    assert files[0].read_bytes() == files[1].read_bytes()
