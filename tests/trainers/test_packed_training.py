"""Whole runs on packed kernels: as plain ones up to rounding, and to the bit as themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from lorareg.errors import InterruptedTrainingError
from lorareg.registry.bases.base import ResolvedBase
from lorareg.registry.manifest import Lora
from lorareg.registry.text_training import TextTraining
from lorareg.registry.training import Validation
from lorareg.trainers.adapters import inject
from lorareg.trainers.adapters.inject import Adapters
from lorareg.trainers.core.randomness import Draws
from lorareg.trainers.core.task import Runtime
from lorareg.trainers.data.dialogues import DialogueRecord
from lorareg.trainers.packed import products
from lorareg.trainers.packed.install import install
from lorareg.trainers.packed.layers import FrozenConv2d, FrozenLinear
from lorareg.trainers.report import metrics
from lorareg.trainers.text.task import TextTask
from tests.trainers.pico_images import Case, Run

TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2", "proj_in", "ff.net.2")


@pytest.fixture(autouse=True)
def _every_product_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pico models are below the size at which oneDNN begins to pay."""
    monkeypatch.setattr(products, "SMALL", 0)


def packed(case: Case, dtype: str = "float32") -> Case:
    return replace(case, runtime=replace(case.runtime, dtype=dtype, kernels="packed"))


def start(case: Case, folder: str, stop: int | None = None) -> Run:
    run = case.start(folder, stop=lambda step: step == stop)
    install(run.adapters.models, run.adapters, case.runtime)
    return run


def losses(case: Case, folder: str) -> list[float]:
    """Of every step, and of every validation."""
    start(case, folder).loop.run()
    values = metrics.read(case.folder / folder / "metrics.jsonl")
    return [line["validation_loss" if "validation_loss" in line else "loss"] for line in values]


@pytest.fixture
def twenty_steps(case: Case) -> Case:
    """Convolutions adapted too; the last batch of each epoch is smaller."""
    case = replace(case, lora=Lora(rank=4, alpha=8, targets=TARGETS))
    rare = Validation(share=0.2, every_steps=20)
    return case.with_training(epochs=5, learning_rate=1e-3, validation=rare)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-4), ("bfloat16", 2e-2)])
def test_a_diffusion_run_goes_the_way_of_a_plain_one(
    twenty_steps: Case, dtype: str, tolerance: float
) -> None:
    plain = replace(twenty_steps, runtime=replace(twenty_steps.runtime, dtype=dtype))

    found = losses(packed(plain, dtype), "packed")

    assert len(found) > 20
    assert found == pytest.approx(losses(plain, "plain"), rel=tolerance)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_two_packed_runs_and_a_resumed_one_are_equal_to_the_bit(case: Case, dropout: float) -> None:
    case = replace(case, lora=Lora(rank=4, alpha=8, targets=TARGETS, dropout=dropout))
    case = packed(case).with_training(epochs=2, validation=Validation(share=0))
    first, second = start(case, "first"), start(case, "second")
    first.loop.run()
    second.loop.run()
    with pytest.raises(InterruptedTrainingError):
        start(case, "stopped", stop=3).loop.run()
    resumed = start(case, "stopped")
    resumed.loop.run()

    for name, parameter in first.adapters.named_parameters().items():
        assert torch.equal(parameter, second.adapters.named_parameters()[name])
        assert torch.equal(parameter, resumed.adapters.named_parameters()[name])


def test_gradient_checkpointing_changes_nothing(case: Case) -> None:
    case = packed(case).with_training(epochs=1, validation=Validation(share=0))
    straight, checkpointed = start(case, "straight"), start(case, "checkpointed")
    checkpointed.unet.train()
    checkpointed.unet.enable_gradient_checkpointing()
    straight.loop.run()
    checkpointed.loop.run()

    for name, parameter in straight.adapters.named_parameters().items():
        assert torch.equal(parameter, checkpointed.adapters.named_parameters()[name])


def test_pictures_can_be_sampled_with_and_without_the_adapter(case: Case) -> None:
    run = start(packed(case), "run")
    run.loop.run()

    adapted = run.task.sample(["a red disc"], seed=1)[0].output
    with run.adapters.disabled():
        base = run.task.sample(["a red disc"], seed=1)[0].output

    assert any(type(module) is FrozenConv2d for module in run.unet.modules())
    assert adapted.tobytes() != base.tobytes()


@pytest.mark.parametrize("fixture", ["pico_sd2", "pico_sdxl"])
def test_other_families_train_too(case: Case, fixture: str, request: pytest.FixtureRequest) -> None:
    case = replace(case, base=request.getfixturevalue(fixture)).with_training(epochs=1)

    assert losses(packed(case), "packed") == pytest.approx(losses(case, "plain"), rel=1e-4)


def text_run(
    base: ResolvedBase, dialogues: Sequence[DialogueRecord], runtime: Runtime, steps: int = 20
) -> tuple[TextTask, Adapters, torch.nn.Module, list[float]]:
    """Train all linear layers, the head included."""
    task = TextTask(base, dialogues, TextTraining(max_length=128), max_new_tokens=8)
    models = task.load(runtime)
    lora = Lora(rank=4, alpha=8, targets="all-linear")
    names = [*task.targets(lora), "lm_head"]
    adapters = inject.inject(models, dict.fromkeys(names, 4), lora, Draws(5))
    install(models, adapters, runtime)
    parameters = list(adapters.named_parameters().values())
    optimizer = torch.optim.AdamW(parameters, lr=1e-3)
    seen = []
    bf16 = runtime.dtype == "bfloat16"
    for step in range(steps):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16), adapters.uncast_inputs(bf16):
            loss = task.losses(task.ids, Draws(5).at("train", step)).sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seen.append(float(loss.detach()))
    return task, adapters, models[""], seen


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-4), ("bfloat16", 2e-2)])
def test_a_language_model_learns_as_on_plain_kernels(
    pico_llama: ResolvedBase,
    dialogues: Sequence[DialogueRecord],
    runtime: Runtime,
    dtype: str,
    tolerance: float,
) -> None:
    plain = replace(runtime, dtype=dtype)

    *_, found = text_run(pico_llama, dialogues, replace(plain, kernels="packed"))
    *_, expected = text_run(pico_llama, dialogues, plain)

    assert found == pytest.approx(expected, rel=tolerance)
    assert found[-1] < found[0]


@pytest.mark.parametrize("fixture", ["pico_llama", "pico_gpt2", "pico_gemma2"])
def test_replies_are_those_of_plain_kernels(
    fixture: str,
    dialogues: Sequence[DialogueRecord],
    runtime: Runtime,
    request: pytest.FixtureRequest,
) -> None:
    base = request.getfixturevalue(fixture)
    replies = []
    for kernels in ("plain", "packed"):
        task = TextTask(base, dialogues, TextTraining(max_length=128), max_new_tokens=8)
        models = task.load(replace(runtime, kernels=kernels))
        install(models, Adapters(models, {}, {}), replace(runtime, kernels=kernels))
        replies.append([sample.output for sample in task.sample(["Who are you?"], seed=1)])

    assert replies[0] == replies[1]


def test_a_tied_head_stays_tied(
    pico_gemma2: ResolvedBase, dialogues: Sequence[DialogueRecord], runtime: Runtime
) -> None:
    task = TextTask(pico_gemma2, dialogues, TextTraining(max_length=128))
    models = task.load(runtime)

    install(models, Adapters(models, {}, {}), replace(runtime, kernels="packed"))

    head = models[""].get_output_embeddings()
    assert type(head) is FrozenLinear
    assert head.weight is models[""].get_input_embeddings().weight
