"""What is measured to choose precision and kernels, and what the choice does not depend on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from lorareg.registry.bases.base import ResolvedBase
from lorareg.registry.image_training import ImageTraining
from lorareg.registry.text_training import TextTraining
from lorareg.trainers.machine import probe
from lorareg.trainers.machine.probe import Way, Work

WAYS: tuple[Way, ...] = (
    ("float32", "plain"), ("float32", "packed"), ("bfloat16", "plain"), ("bfloat16", "packed"),
)  # fmt: skip


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_the_work_of_a_diffusion_base_is_its_denoiser_s(pico_sd1: ResolvedBase) -> None:
    settings = ImageTraining(resolution=64, batch_size=3)

    work = Work.of(pico_sd1, settings)

    assert work == Work(width=32, rows=3 * 16, convolves=True)
    assert str(work) == "convolutions of 32 on 48 rows"


def test_a_single_file_is_asked_for_its_denoiser_alone(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    from safetensors.torch import save_file

    path = tmp_path_factory.mktemp("models") / "one.safetensors"
    weights = {
        "model.diffusion_model.out.weight": torch.zeros(32, 32, 3, 3),
        "first_stage_model.a.weight": torch.zeros(512, 512),
        "model.diffusion_model.norm.weight": torch.zeros(32),
    }
    save_file(weights, path)
    base = ResolvedBase("one", None, "checkpoint", path, "")

    assert Work.of(base, ImageTraining(resolution=64, batch_size=1)).width == 32


def test_the_work_of_a_language_model_is_its_tokens(pico_llama: ResolvedBase) -> None:
    settings = TextTraining(batch_size=2, max_length=100)

    assert Work.of(pico_llama, settings) == Work(width=64, rows=200, convolves=False)


def test_a_gguf_tells_the_same_as_its_folder(
    pico_llama: ResolvedBase, pico_gguf: tuple[ResolvedBase, object]
) -> None:
    settings = TextTraining(batch_size=2, max_length=100)

    assert Work.of(pico_gguf[0], settings) == Work.of(pico_llama, settings)


def test_large_work_is_measured_in_part(pico_sd1: ResolvedBase) -> None:
    work = Work.of(pico_sd1, ImageTraining(resolution=1024, batch_size=8))

    assert work.rows == probe.MOST_ROWS


@pytest.mark.parametrize("wanted", WAYS)
@pytest.mark.parametrize("convolves", [True, False])
def test_a_way_is_taken_unless_its_margin_eats_its_gain(wanted: Way, convolves: bool) -> None:
    work = Work(width=24, rows=20, convolves=convolves)

    assert probe.fastest(work, WAYS, lambda way: 1.0 if way == wanted else 1e9) == wanted


def test_the_block_computes_the_same_in_every_way() -> None:
    work = Work(width=128, rows=64)
    steps = [probe._block(replace(work), *way) for way in WAYS]
    torch.manual_seed(0)
    state = steps[0][0].state_dict()
    values = torch.randn(1, 64, 128)
    made = []
    for (block, _), (dtype, _) in zip(steps, WAYS, strict=True):
        block.load_state_dict(state)
        made.append(block(values.to(getattr(torch, dtype))).float())

    for other in made[1:]:
        torch.testing.assert_close(other, made[0], rtol=0.1, atol=0.1)
