"""What a rehearsal came to is known when the same run starts again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from lorareg.registry.lock import TRAINER, BaseInput, ConfigInput, DatasetInput, Inputs
from lorareg.trainers.core.task import Runtime
from lorareg.trainers.machine.rehearsal import peak_bytes
from lorareg.trainers.machine.rehearsed import Rehearsed

MODELS = {"unet": torch.nn.Linear(8, 8)}


class Forward:
    """A pass that counts how often it is gone through."""

    times = 0

    def __call__(self, models: Mapping[str, torch.nn.Module]) -> torch.Tensor:
        self.times += 1
        made: torch.Tensor = models["unet"](torch.zeros(4, 8)).sum()
        return made


def inputs(data: str = "0") -> Inputs:
    tree = f"tree-sha256-v1:{data * 64}"
    return Inputs(
        base=BaseInput(model="base", revision=None, digest=f"base-sha256-v1:{'0' * 64}"),
        dataset=DatasetInput(path="data/a", digest=tree, files=1, records=1, md5=None),
        config=ConfigInput(digest=f"sha256:{'0' * 64}", resolved={}),
        trainer=TRAINER,
    )


def test_a_run_that_starts_again_is_not_rehearsed_again(runtime: Runtime) -> None:
    forward = Forward()

    found = [
        Rehearsed.of(inputs(), runtime).peak_bytes(MODELS, forward, checkpointing=checkpointing)
        for checkpointing in (False, False, True, True)
    ]

    assert forward.times == 2
    assert found[:2] == [peak_bytes(MODELS, Forward())] * 2
    assert found[2:] == [peak_bytes(MODELS, Forward(), checkpointing=True)] * 2


def test_other_data_and_another_precision_are_rehearsed(runtime: Runtime) -> None:
    forward, bf16 = Forward(), replace(runtime, dtype="bfloat16")

    for given, place in ((inputs(), runtime), (inputs("1"), runtime), (inputs(), bf16)):
        Rehearsed.of(given, place).peak_bytes(MODELS, forward)

    assert forward.times == 3


def test_a_rehearsal_that_cannot_be_is_tried_again(runtime: Runtime) -> None:
    tries = []

    def fails(models: Mapping[str, torch.nn.Module]) -> torch.Tensor:
        tries.append(models)
        raise NotImplementedError

    for _ in range(2):
        assert Rehearsed.of(inputs(), runtime).peak_bytes(MODELS, fails) is None

    assert len(tries) == 2
