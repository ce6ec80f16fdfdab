"""Single-file checkpoints train as the same model in diffusers layout does, without the Hub."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lorareg.errors import InvalidFileError
from lorareg.registry.bases import base as bases
from lorareg.registry.bases.base import ResolvedBase
from lorareg.registry.digest import DigestCache
from lorareg.registry.manifest import Base
from lorareg.trainers.image.pipelines import DiffusionBase
from tests.trainers import original_format
from tests.trainers.pico_images import Case

WRITERS = {"pico_sd1": original_format.write_sd, "pico_sdxl": original_format.write_sdxl}


def only_configs(base: ResolvedBase, folder: Path) -> None:
    """The folder without its weights."""
    ignored = shutil.ignore_patterns("*.safetensors")
    shutil.copytree(base.path, folder, ignore=ignored)


def resolve(root: Path, config: str | None = "config") -> ResolvedBase:
    base = Base(model="model.safetensors", config=config)
    return bases.resolve(base, "text-to-image", root, DigestCache(None))


@pytest.fixture(params=WRITERS)
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[ResolvedBase, ResolvedBase]:
    """The same model as a folder and as one file."""
    folder: ResolvedBase = request.getfixturevalue(request.param)
    write: Callable[[Path, Path], None] = WRITERS[request.param]
    write(folder.path, tmp_path / "model.safetensors")
    only_configs(folder, tmp_path / "config")
    return folder, resolve(tmp_path)


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any look at the network fails at once."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")


def test_the_parts_of_a_checkpoint_are_those_of_the_folder(
    pair: tuple[ResolvedBase, ResolvedBase],
) -> None:
    folder, file = (DiffusionBase.of(base) for base in pair)

    assert file.family == folder.family
    theirs, ours = folder.pipeline(torch.float32), file.pipeline(torch.float32)
    for name, part in theirs.components.items():
        if isinstance(part, torch.nn.Module):
            expected, found = part.state_dict(), getattr(ours, name).state_dict()
            assert found.keys() == expected.keys()
            assert all(torch.equal(value, found[key]) for key, value in expected.items()), name
    assert file.vae_config()["scaling_factor"] == folder.vae_config()["scaling_factor"]
    assert file.scheduler_config()["beta_end"] == folder.scheduler_config()["beta_end"]
    assert file.has_zero_unconditional == folder.has_zero_unconditional


def test_training_from_one_file_gives_the_bits_of_training_from_the_folder(
    pair: tuple[ResolvedBase, ResolvedBase], case: Case
) -> None:
    runs = [replace(case, base=base).with_training(epochs=2).start(base.layout) for base in pair]

    for run in runs:
        run.loop.run()

    folder, file = (run.adapters.named_parameters() for run in runs)
    assert all(torch.equal(value, file[name]) for name, value in folder.items())


def test_a_checkpoint_draws_what_the_folder_draws(
    pair: tuple[ResolvedBase, ResolvedBase], case: Case
) -> None:
    folder, file = (
        replace(case, base=base).start(base.layout).task.sample(["a red disc"], 3) for base in pair
    )

    assert folder[0].output == file[0].output


def test_a_file_that_is_no_checkpoint_is_refused(pico_sd1: ResolvedBase, tmp_path: Path) -> None:
    weights = pico_sd1.path / "unet" / "diffusion_pytorch_model.safetensors"
    shutil.copyfile(weights, tmp_path / "model.safetensors")

    with pytest.raises(InvalidFileError, match="no Stable Diffusion checkpoint"):
        DiffusionBase.of(resolve(tmp_path, config=None))


def test_a_config_folder_without_words_is_refused(pair: tuple[ResolvedBase, ResolvedBase]) -> None:
    _, file = pair
    assert file.config is not None
    shutil.rmtree(file.config / "tokenizer")

    with pytest.raises(InvalidFileError, match="has no tokenizer/"):
        DiffusionBase.of(file).pipeline(torch.float32, unet=None, vae=None)


def test_a_config_of_another_shape_is_an_error_that_says_so(
    pair: tuple[ResolvedBase, ResolvedBase],
) -> None:
    _, file = pair
    assert file.config is not None
    unet = file.config / "unet" / "config.json"
    unet.write_text(unet.read_text().replace('"layers_per_block": 1', '"layers_per_block": 2'))

    with pytest.raises(InvalidFileError, match="its unet") as caught:
        DiffusionBase.of(file).denoiser(torch.float32)

    assert caught.value.why
    assert "Traceback" not in caught.value.why
