"""What ``lorareg new`` writes: a recipe by the kind and the base."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from lorareg.registry import scaffold
from lorareg.registry.ids import AssetId
from lorareg.registry.manifest import ImageManifest
from lorareg.registry.scaffold import Wish
from lorareg.registry.workspace import Workspace
from tests.started import start

PICTURES = 20


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    made = Workspace(start(tmp_path_factory.mktemp("registry")))
    folder = made.root / "data" / "faces"
    folder.mkdir()
    for number in range(PICTURES):
        Image.new("RGB", (64, 64), (number, 0, 0)).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text("a face")
    return made


def new(workspace: Workspace, name: str, base: str | None = None) -> ImageManifest:
    asset = AssetId.parse(name)
    scaffold.write(workspace, Wish(asset, None, base, "data/faces"))
    found = workspace.load_manifest(asset)
    assert isinstance(found, ImageManifest)
    return found


def base_of(workspace: Workspace, latents: int, *parts: str) -> str:
    """A folder that looks like a diffusers model, as far as a new manifest asks."""
    folder = workspace.root / "-".join(parts)
    for part in (*parts, "vae"):
        (folder / part).mkdir(parents=True)
        save_file({"w": np.ones(2, np.float32)}, folder / part / "model.safetensors")
    (folder / "model_index.json").write_text("{}")
    config = json.dumps({"sample_size": latents})
    (folder / parts[0] / "config.json").write_text(config)
    (folder / "vae/config.json").write_text(json.dumps({"block_out_channels": [1, 2, 3, 4]}))
    return folder.name


@pytest.mark.parametrize("kind", ["character", "style", "scene", "pets"])
def test_on_the_small_base_every_kind_gets_its_recipe(workspace: Workspace, kind: str) -> None:
    made = new(workspace, f"{kind}/small")

    assert made.lora.rank == made.lora.alpha == 16
    assert "conv1" in made.lora.targets
    assert made.train.learning_rate == (2e-3 if kind == "scene" else 3e-3)
    assert made.train.scheduler == "cosine"
    assert made.train.warmup_steps == 10
    assert made.train.caption_dropout == 0.05
    assert made.train.buckets is None


def test_epochs_follow_from_the_pictures_that_are_learned(workspace: Workspace) -> None:
    made = new(workspace, "character/few")

    batches = -(-round(PICTURES * 0.9) // made.train.batch_size)
    assert abs(made.train.epochs * batches - 300) <= batches / 2


def test_a_base_of_real_size_gets_the_usual_settings_and_buckets(workspace: Workspace) -> None:
    made = new(workspace, "style/real", base_of(workspace, 64, "unet", "text_encoder"))

    assert (made.lora.rank, made.lora.alpha, made.lora.targets) == (16, 16, "attention+ff")
    assert made.train.learning_rate == 1e-4
    assert made.train.resolution == 512
    assert made.train.buckets


def test_sdxl_gets_a_higher_rank(workspace: Workspace) -> None:
    parts = ("unet", "text_encoder", "text_encoder_2")

    made = new(workspace, "style/xl", base_of(workspace, 128, *parts))

    assert (made.lora.rank, made.lora.alpha) == (32, 16)
    assert made.train.resolution == 1024


@pytest.mark.parametrize(
    ("tensor", "rank", "resolution"),
    [("conditioner.embedders.1.w", 32, 1024), ("cond_stage_model.w", 16, 512)],
)
def test_a_single_file_is_told_by_its_tensors(
    workspace: Workspace, tensor: str, rank: int, resolution: int
) -> None:
    save_file({tensor: np.ones(2, np.float32)}, workspace.root / f"{rank}.safetensors")

    made = new(workspace, f"style/file{rank}", f"{rank}.safetensors")

    assert made.lora.rank == rank
    assert made.train.resolution == resolution


def test_a_transformer_is_sampled_with_less_guidance(workspace: Workspace) -> None:
    parts = ("transformer", "text_encoder", "text_encoder_2")

    made = new(workspace, "style/flow", base_of(workspace, 128, *parts))

    assert made.sample.guidance == 4.0
    assert made.lora.rank == 16


def test_a_base_smaller_than_a_bucket_gets_squares(workspace: Workspace) -> None:
    made = new(workspace, "style/tiny", base_of(workspace, 4, "unet"))

    assert made.train.resolution == 32
    assert made.train.buckets is None
