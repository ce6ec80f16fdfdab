"""A denoiser out of the cache of laid-out weights is the one that went in, to the bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lorareg.registry.bases.base import ResolvedBase
from lorareg.registry.digest import DigestCache
from lorareg.trainers.adapters.inject import Adapters
from lorareg.trainers.core.task import Runtime
from lorareg.trainers.image.pipelines import DiffusionBase
from lorareg.trainers.machine.runtime import ALIGNMENT
from lorareg.trainers.packed import kernels, layers, shelf
from lorareg.trainers.packed.install import install
from lorareg.trainers.packed.layers import FrozenConv2d
from tests.trainers.pico_flow import pico_flux, pico_sd3  # noqa: F401  (fixtures, by name)
from tests.trainers.pico_images import Case

NONE = Adapters({}, {}, {})
BASES = ["pico_sd1", "pico_sdxl", "pico_sd3", "pico_flux"]


@pytest.fixture(autouse=True)
def _some_convolutions_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pico convolutions are all below the size that is laid out."""
    for module in (kernels, layers, shelf):
        monkeypatch.setattr(module, "DIRECT_NUMEL", 10_000)


@pytest.fixture
def place(runtime: Runtime) -> Runtime:
    return replace(runtime, kernels="packed")


def kept(place: Runtime) -> list[Path]:
    return sorted((place.cache / "denoisers").iterdir())


@pytest.mark.parametrize("fixture", BASES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_mapped_is_what_the_base_loads_as(
    fixture: str, dtype: str, place: Runtime, request: pytest.FixtureRequest
) -> None:
    base = DiffusionBase.of(request.getfixturevalue(fixture))
    place = replace(place, dtype=dtype)

    loaded = base.denoiser(getattr(torch, dtype))
    for found in (shelf.denoiser(base, place, DigestCache(None)) for _ in range(2)):
        weights = found.state_dict()
        storages = {tensor.untyped_storage().data_ptr() for tensor in weights.values()}
        assert len(kept(place)) == len(storages) == 1
        assert {**loaded.config, "_name_or_path": ""} == {**found.config, "_name_or_path": ""}
        assert weights.keys() == loaded.state_dict().keys()
        for name, tensor in loaded.state_dict().items():
            assert torch.equal(tensor, weights[name]), name
            assert weights[name].dtype is getattr(torch, dtype)
            assert weights[name].data_ptr() % ALIGNMENT == 0


def test_large_convolutions_need_not_be_laid_out_again(
    pico_sd1: ResolvedBase, place: Runtime
) -> None:
    base = DiffusionBase.of(pico_sd1)
    shelf.denoiser(base, place, DigestCache(None))
    unet = shelf.denoiser(base, place, DigestCache(None)).requires_grad_(False)
    before = {name: tensor.data_ptr() for name, tensor in unet.state_dict().items()}
    file = kept(place)[0].read_bytes()

    install({"unet": unet}, NONE, place)

    large = [m for m in unet.modules() if type(m) is FrozenConv2d and m.weight.numel() >= 10_000]
    assert any(module.kernel_size == (3, 3) for module in large)
    assert {name: tensor.data_ptr() for name, tensor in unet.state_dict().items()} == before
    assert kept(place)[0].read_bytes() == file


def test_a_run_out_of_the_cache_is_the_run_without_it_to_the_bit(
    case: Case, place: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = replace(case, runtime=place).with_training(epochs=1)
    runs = []
    for room in (0, shelf.MOST_BYTES):
        monkeypatch.setattr(shelf, "MOST_BYTES", room)
        run = case.start(f"with {room}")
        install(run.adapters.models, run.adapters, place)
        run.loop.run()
        runs.append(run.adapters.named_parameters())

    assert len(kept(place)) == 1
    for name, parameter in runs[0].items():
        assert torch.equal(parameter, runs[1][name])


@pytest.mark.parametrize("damage", [b"\1", b""])
def test_a_damaged_file_is_made_again(
    pico_sd1: ResolvedBase, place: Runtime, damage: bytes
) -> None:
    base = DiffusionBase.of(pico_sd1)
    first = shelf.denoiser(base, place, DigestCache(None))
    (file,) = kept(place)
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + damage)

    again = shelf.denoiser(base, place, DigestCache(None))

    assert kept(place) == [file]
    assert file.read_bytes() == whole
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])


def test_plain_kernels_leave_the_cache_alone(pico_sd1: ResolvedBase, runtime: Runtime) -> None:
    shelf.denoiser(DiffusionBase.of(pico_sd1), runtime, DigestCache(None))

    assert not (runtime.cache / "denoisers").exists()


def test_the_oldest_files_make_room(
    pico_sd1: ResolvedBase, place: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf, "MOST_FILES", 1)
    base = DiffusionBase.of(pico_sd1)
    shelf.denoiser(base, place, DigestCache(None))
    (first,) = kept(place)

    shelf.denoiser(base, replace(place, dtype="bfloat16"), DigestCache(None))

    assert len(kept(place)) == 1
    assert not first.exists()


@pytest.mark.parametrize(("limit", "value"), [("MOST_BYTES", 10), ("SPARE", 1 << 60)])
def test_what_would_fill_the_disk_is_not_kept(
    pico_sd1: ResolvedBase,
    place: Runtime,
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
    value: int,
) -> None:
    monkeypatch.setattr(shelf, limit, value)

    model = shelf.denoiser(DiffusionBase.of(pico_sd1), place, DigestCache(None))

    assert kept(place) == []
    assert model.config.in_channels == 4
