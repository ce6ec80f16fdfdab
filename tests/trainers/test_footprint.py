"""What a run will need in memory: counted without computing, compared with what it really keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor

from lorareg.registry import tensors
from lorareg.registry.bases.base import ResolvedBase
from lorareg.registry.manifest import Lora
from lorareg.registry.tensors import RawTensor
from lorareg.registry.text_training import TextTraining
from lorareg.registry.training import Training, Validation
from lorareg.trainers.adapters import inject
from lorareg.trainers.adapters.inject import Adapters
from lorareg.trainers.core.randomness import Draws
from lorareg.trainers.core.task import Runtime
from lorareg.trainers.data.dialogues import DialogueRecord
from lorareg.trainers.machine import footprint
from lorareg.trainers.machine.footprint import Footprint
from lorareg.trainers.machine.rehearsal import Models, Pass, peak_bytes
from lorareg.trainers.text.task import TextTask
from tests.trainers.pico_families import FAMILIES
from tests.trainers.pico_flow import pico_flux, pico_sd3  # noqa: F401
from tests.trainers.pico_images import Case, make_unet

GB = 1_000_000_000
WIDE = {"sample_size": 16, "block_out_channels": (64, 128), "norm_num_groups": 16}


def adapted(targets: tuple[str, ...] = ("to_q", "to_v"), **unet: Any) -> Adapters:
    torch.manual_seed(3)
    model = make_unet(**unet).requires_grad_(False).eval()
    names = [f"unet.{name}" for name in inject.module_names(model, targets)]
    return inject.inject({"unet": model}, dict.fromkeys(names, 4), Lora(rank=4), Draws(1))


def noisy_pictures(rows: int, side: int = 16) -> Pass:
    noisy, text, t = torch.ones(rows, 4, side, side), torch.ones(rows, 7, 32), torch.ones(rows)
    return lambda models: models["unet"](noisy, t, text).sample.square().mean()


def really_kept(models: Models, forward: Pass) -> int:
    """Bytes that autograd keeps of a real forward pass, weights left out."""
    weights = {
        tensor.untyped_storage().data_ptr()
        for model in models.values()
        for tensor in (*model.parameters(), *model.buffers())
    }
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = forward(models)
    assert loss.requires_grad
    return sum(kept.values())


def test_a_rehearsal_counts_what_a_real_pass_keeps() -> None:
    models = adapted(**WIDE).models

    found = peak_bytes(models, noisy_pictures(3))

    assert found == pytest.approx(really_kept(models, noisy_pictures(3)), rel=0.1)


def test_activations_grow_with_the_rows_and_with_the_pixels() -> None:
    models = adapted(**WIDE).models

    one, two, four_times = (
        peak_bytes(models, noisy_pictures(*shape)) for shape in ((1, 16), (2, 16), (1, 32))
    )

    assert one
    assert two
    assert four_times
    assert two == pytest.approx(2 * one, rel=0.02)
    assert four_times == pytest.approx(4 * one, rel=0.2)


def test_computing_activations_twice_keeps_fewer_of_them() -> None:
    models = adapted(**WIDE).models

    kept = peak_bytes(models, noisy_pictures(4))
    again = peak_bytes(models, noisy_pictures(4), checkpointing=True)

    assert kept
    assert again
    assert again < 0.7 * kept


def test_a_rehearsal_leaves_no_trace() -> None:
    adapters = adapted()
    models, forward = adapters.models, noisy_pictures(2, side=8)
    before = forward(models).detach()
    stream = torch.get_rng_state()

    peak_bytes(models, forward, checkpointing=True)

    assert torch.equal(torch.get_rng_state(), stream)
    assert torch.equal(forward(models).detach(), before)
    values = [value for part in models["unet"].modules() for value in vars(part).values()]
    assert not any(isinstance(value, FakeTensor) for value in values)
    assert all(parameter.grad is None for parameter in adapters.named_parameters().values())


def test_what_depends_on_values_has_no_rehearsal() -> None:
    def forward(models: Mapping[str, torch.nn.Module]) -> torch.Tensor:
        found = noisy_pictures(1, side=8)(models)
        return found if found > 0 else -found

    assert peak_bytes(adapted().models, forward) is None


@pytest.mark.parametrize("base", ["pico_sd1", "pico_sdxl", "pico_sd3", "pico_flux"])
def test_every_family_of_pictures_can_be_rehearsed(
    base: str, case: Case, request: pytest.FixtureRequest
) -> None:
    lora = Lora(rank=4, text_encoder=True, targets=("to_q", "q_proj"))
    run = replace(case, base=request.getfixturevalue(base), lora=lora).start()

    one, two = (
        footprint.estimate(run.adapters, run.task.rehearsal(rows), case.training, case.runtime)
        for rows in (1, 2)
    )

    assert one
    assert two
    assert two.activations > 1.5 * one.activations


def test_a_step_of_pictures_keeps_what_was_rehearsed(case: Case) -> None:
    run = case.start()
    ids = run.task.ids[:2]

    found = peak_bytes(run.adapters.models, run.task.rehearsal(2))
    real = really_kept(run.adapters.models, lambda models: run.task.losses(ids, Draws(0)).mean())

    assert found == pytest.approx(real, rel=0.15)


def test_a_base_of_half_the_precision_keeps_less(case: Case) -> None:
    found = []
    for dtype in ("float32", "bfloat16"):
        place = replace(case.runtime, dtype=dtype)
        run = replace(case, runtime=place).start(dtype)
        estimate = footprint.estimate(run.adapters, run.task.rehearsal(2), case.training, place)
        assert estimate
        found.append(estimate)

    full, half = found
    assert half.base == pytest.approx(full.base / 2, rel=0.01)
    assert 0.4 * full.activations < half.activations < 0.8 * full.activations
    assert half.adapter == full.adapter


def text_task(
    base: ResolvedBase, records: tuple[DialogueRecord, ...], runtime: Runtime, **settings: Any
) -> tuple[TextTask, Adapters]:
    task = TextTask(base, records, TextTraining(max_length=256, **settings))
    models = task.load(runtime)
    lora = Lora(rank=4, targets="all-linear")
    ranks = dict.fromkeys(task.targets(lora), 4)
    return task, inject.inject(models, ranks, lora, Draws(1))


def compare(task: TextTask, adapters: Adapters) -> None:
    """The peak is at least what is kept; beside it stands the loss, much in so small a model."""
    found = peak_bytes(adapters.models, task.rehearsal(len(task.ids)))
    kept = really_kept(adapters.models, lambda models: task.losses(task.ids, Draws(0)).sum())
    assert found
    assert 0.99 * kept <= found <= 1.4 * kept


@pytest.mark.parametrize(
    "family", ["llama", "qwen3", "glm4", "gemma2", "gemma3", "mistral", "gpt2"]
)
def test_every_family_of_language_models_can_be_rehearsed(
    family: str, dialogues: tuple[DialogueRecord, ...], runtime: Runtime, tmp_path: Path
) -> None:
    base = FAMILIES[family].save(tmp_path / family)
    without_system = tuple(r for r in dialogues if r.messages[0].role == "user")

    compare(*text_task(base, without_system, runtime))


def test_packed_rows_can_be_rehearsed(
    pico_llama: ResolvedBase, dialogues: tuple[DialogueRecord, ...], runtime: Runtime
) -> None:
    compare(*text_task(pico_llama, dialogues, runtime, packing=True))


def test_the_longest_dialogues_are_rehearsed(
    pico_llama: ResolvedBase, dialogues: tuple[DialogueRecord, ...], runtime: Runtime
) -> None:
    task, adapters = text_task(pico_llama, dialogues, runtime)

    def kept(record: str) -> int:
        return really_kept(adapters.models, lambda _: task.losses([record], Draws(0)).sum())

    found = peak_bytes(adapters.models, task.rehearsal(1))

    assert found
    assert found > max(map(kept, task.ids)) > 2 * min(map(kept, task.ids))


OPTIMIZERS = {"adamw": 8, "adamw-8bit": 2, "prodigy": 16, "lion": 4, "schedule-free": 8}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_optimizer_counts_by_what_it_keeps(optimizer: str, runtime: Runtime) -> None:
    adapters = adapted()
    values = sum(p.numel() for p in adapters.named_parameters().values())
    settings = Training().model_copy(
        update={"optimizer": optimizer, "validation": Validation(share=0)}
    )

    found = footprint.estimate(adapters, noisy_pictures(1, 8), settings, runtime)

    assert found
    assert found.optimizer == values * OPTIMIZERS[optimizer]
    assert found.adapter == 2 * 4 * values


def test_an_average_and_a_best_adapter_are_copies(runtime: Runtime) -> None:
    adapters = adapted()
    values = sum(p.numel() for p in adapters.named_parameters().values())

    found = footprint.estimate(adapters, noisy_pictures(1, 8), Training(ema=0.99), runtime)

    assert found
    assert found.optimizer == values * (8 + 4 + 4)


def test_weights_that_are_tied_count_once(
    pico_gpt2: ResolvedBase, dialogues: tuple[DialogueRecord, ...], runtime: Runtime
) -> None:
    task, adapters = text_task(pico_gpt2, dialogues, runtime)
    trained = sum(p.nbytes for p in adapters.named_parameters().values())

    found = footprint.estimate(adapters, task.rehearsal(1), task.settings, runtime)

    assert found
    model = adapters.models[""]
    buffers = sum(buffer.nbytes for buffer in model.buffers())
    once = sum(p.nbytes for p in model.parameters()) + buffers - trained  # parameters() does so
    assert found.base == once
    assert model.lm_head.weight.data_ptr() == model.transformer.wte.weight.data_ptr()


NEEDS = Footprint(
    base=int(1.7 * GB), adapter=GB // 10, optimizer=GB // 10, kernels=GB // 5, activations=3 * GB,
    records=8, free=int(21.3 * GB),
)  # fmt: skip


def test_the_sentence_says_what_and_how_much() -> None:
    assert NEEDS.sentence() == (
        "memory: about 5.1 GB: base 1.7, activations 3.2, adapter and optimizer 0.2; "
        "21.3 GB are free"
    )


def test_what_fits_needs_no_advice(runtime: Runtime) -> None:
    assert NEEDS.fits
    assert footprint.advice(NEEDS, adapted(), noisy_pictures(1), Training(), runtime) is None


def test_what_does_not_fit_is_told_what_would(runtime: Runtime) -> None:
    adapters, forward = adapted(**WIDE), noisy_pictures(8)
    settings = Training(batch_size=8, gradient_accumulation_steps=2)
    found = footprint.estimate(adapters, forward, settings, runtime)
    assert found
    tight = replace(found, free=found.fixed + found.activations // 2)

    said = footprint.advice(tight, adapters, forward, settings, runtime)

    assert not tight.fits
    assert said
    assert "train.gradient_checkpointing: true (about " in said
    assert "train.batch_size: 4 with train.gradient_accumulation_steps: 4" in said


def test_what_cannot_fit_at_all_is_told_to_shrink(runtime: Runtime) -> None:
    settings = Training(batch_size=1, gradient_checkpointing=True)
    tight = replace(NEEDS, records=1, free=0)

    said = footprint.advice(tight, adapted(), noisy_pictures(1), settings, runtime)

    assert said == "that may be too much: lower train.resolution or train.max_length"


def test_a_containers_limit_is_the_end_of_its_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert footprint.free("cpu") > 10_000_000
    monkeypatch.setattr(footprint, "CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text("5000\n")
    (tmp_path / "memory.current").write_text("2000\n")

    assert footprint.free("cpu") == 3000

    (tmp_path / "memory.max").write_text("max\n")
    assert footprint.free("cpu") > 10_000_000


@pytest.mark.parametrize("base", ["pico_sd1", "pico_flux", "pico_llama"])
def test_a_base_that_is_larger_than_memory_is_told_before_it_is_loaded(
    base: str, request: pytest.FixtureRequest, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: ResolvedBase = request.getfixturevalue(base)
    settings = TextTraining() if base == "pico_llama" else Training()
    files = [f for name in ("unet", "transformer", "") for f in (found.path / name).glob("*.safe*")]
    weights = sum(file.stat().st_size for file in files)

    assert footprint.load_note(found, settings, runtime) is None
    monkeypatch.setattr(footprint, "free", lambda device: weights // 2)
    said = footprint.load_note(found, settings, runtime)

    assert said
    assert "train.precision: bf16" in said
    assert footprint.load_note(found, settings, replace(runtime, dtype="bfloat16")) is None


def test_a_quantized_base_is_not_judged_by_its_files(
    pico_llama: ResolvedBase, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(footprint, "free", lambda device: 0)

    settings = TextTraining().model_copy(update={"quantization": "nf4"})

    assert footprint.load_note(pico_llama, TextTraining(), runtime)
    assert footprint.load_note(pico_llama, settings, runtime) is None


def test_of_a_single_file_only_the_denoiser_stays_in_memory(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = RawTensor("F16", (100,), bytes(200))
    file = tmp_path / "sd.safetensors"
    names = ("model.diffusion_model.out.2.weight", "first_stage_model.encoder.conv_in.weight")
    tensors.write(file, dict.fromkeys(names, values), {})
    base = ResolvedBase(file.name, None, "checkpoint", file, "base-sha256-v1:" + "0" * 64)

    monkeypatch.setattr(footprint, "free", lambda device: 400)
    assert footprint.load_note(base, Training(), runtime) is None  # 100 values of 4 bytes
    monkeypatch.setattr(footprint, "free", lambda device: 399)
    assert footprint.load_note(base, Training(), runtime)
