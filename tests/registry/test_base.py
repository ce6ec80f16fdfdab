from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from lorareg.errors import InvalidFileError, NotFoundError
from lorareg.registry.bases import base as bases
from lorareg.registry.bases.base import ResolvedBase
from lorareg.registry.bases.modelfiles import is_complete, select
from lorareg.registry.digest import DigestCache
from lorareg.registry.manifest import Base

WEIGHTS = {"w": np.ones(2, np.float32)}
INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "safety_checker": [None, None],
}


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def diffusers_folder(folder: Path) -> Path:
    write_json(folder / "model_index.json", INDEX)
    write_json(folder / "scheduler/scheduler_config.json", {})
    write_json(folder / "tokenizer/vocab.json", {})
    (folder / "tokenizer/merges.txt").write_text("a b\n")
    write_json(folder / "unet/config.json", {"sample_size": 64})
    write_json(folder / "vae/config.json", {"block_out_channels": [1, 2, 3, 4]})
    write_json(folder / "text_encoder/config.json", {})
    save_file(WEIGHTS, folder / "unet/diffusion_pytorch_model.safetensors")
    save_file(WEIGHTS, folder / "vae/diffusion_pytorch_model.safetensors")
    save_file(WEIGHTS, folder / "text_encoder/model.safetensors")
    return folder


def transformers_folder(folder: Path) -> Path:
    write_json(folder / "config.json", {"model_type": "llama"})
    write_json(folder / "tokenizer.json", {})
    save_file(WEIGHTS, folder / "model.safetensors")
    return folder


def resolve(root: Path, task: str = "text-to-image", **fields: str) -> ResolvedBase:
    return bases.resolve(Base(**fields), task, root, DigestCache(None))


def test_a_diffusers_folder_is_an_image_base(registry: Path) -> None:
    diffusers_folder(registry / "models/tiny")

    found = resolve(registry, model="models/tiny")

    assert (found.layout, found.path) == ("diffusers", (registry / "models/tiny").resolve())
    assert found.digest.startswith("base-sha256-v1:")


def test_a_transformers_folder_is_a_text_base(registry: Path) -> None:
    transformers_folder(registry / "models/lm")

    assert resolve(registry, "text-generation", model="models/lm").layout == "transformers"


@pytest.mark.parametrize(
    ("name", "task", "layout"),
    [
        ("v1-5.safetensors", "text-to-image", "checkpoint"),
        ("tiny.GGUF", "text-generation", "gguf"),
    ],
)
def test_a_single_file_is_a_base(registry: Path, name: str, task: str, layout: str) -> None:
    save_file(WEIGHTS, registry / name)

    assert resolve(registry, task, model=name).layout == layout
    assert resolve(registry, task, model=str(registry / name)).layout == layout


def test_the_digest_is_unchanged_when_the_model_moves(registry: Path, tmp_path: Path) -> None:
    diffusers_folder(registry / "tiny")
    save_file(WEIGHTS, registry / "one.safetensors")
    before = [resolve(registry, model=name).digest for name in ("tiny", "one.safetensors")]

    shutil.copytree(registry / "tiny", tmp_path / "elsewhere")
    (registry / "one.safetensors").rename(tmp_path / "renamed.safetensors")

    after = [resolve(tmp_path, model=name).digest for name in ("elsewhere", "renamed.safetensors")]
    assert after == before


@pytest.mark.parametrize(
    "extra",
    [
        "README.md", "grid.png", "checksums.json", "LICENSE.txt", ".cache/a.json",
        "v1-5-pruned.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors",
        "unet/diffusion_pytorch_model.non_ema.safetensors", "safety_checker/model.safetensors",
        "unet/diffusion_pytorch_model.bin", "feature_extractor/preprocessor_config.json",
        "text_encoder/model.safetensors.index.fp16.json", "onnx/unet/config.json",
    ],
)  # fmt: skip
def test_the_digest_does_not_see_what_is_not_loaded(registry: Path, extra: str) -> None:
    folder = diffusers_folder(registry / "tiny")
    before = resolve(registry, model="tiny").digest

    write_json(folder / extra, {"x": 1})

    assert resolve(registry, model="tiny").digest == before


@pytest.mark.parametrize(
    "changed",
    ["model_index.json", "unet/config.json", "tokenizer/merges.txt",
     "vae/diffusion_pytorch_model.safetensors", "scheduler/scheduler_config.json"],
)  # fmt: skip
def test_the_digest_changes_with_weights_configs_and_tokenizers(
    registry: Path, changed: str
) -> None:
    folder = diffusers_folder(registry / "tiny")
    before = resolve(registry, model="tiny").digest

    with (folder / changed).open("ab") as stream:
        stream.write(b" ")

    assert resolve(registry, model="tiny").digest != before


def test_the_config_of_a_checkpoint_is_part_of_its_digest(registry: Path) -> None:
    save_file(WEIGHTS, registry / "one.safetensors")
    write_json(registry / "shape/model_index.json", INDEX)
    write_json(registry / "shape/unet/config.json", {"sample_size": 64})
    alone = resolve(registry, model="one.safetensors")
    shaped = resolve(registry, model="one.safetensors", config="shape")
    write_json(registry / "shape/unet/config.json", {"sample_size": 96})

    other = resolve(registry, model="one.safetensors", config="shape")

    assert len({alone.digest, shaped.digest, other.digest}) == 3
    assert shaped.config == (registry / "shape").resolve()


@pytest.mark.parametrize(
    ("model", "task", "right"),
    [("tiny", "text-generation", "text-to-image"), ("lm", "text-to-image", "text-generation")],
)
def test_a_base_of_another_task_is_refused(
    registry: Path, model: str, task: str, right: str
) -> None:
    diffusers_folder(registry / "tiny")
    transformers_folder(registry / "lm")

    with pytest.raises(InvalidFileError, match=f"does not fit task {task}") as caught:
        resolve(registry, task, model=model)

    assert f"task: {right}" in caught.value.fix


def test_a_folder_with_pickles_only_is_refused(registry: Path) -> None:
    folder = transformers_folder(registry / "lm")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")

    with pytest.raises(InvalidFileError, match=r"no \.safetensors weights") as caught:
        resolve(registry, "text-generation", model="lm")

    assert "run code" in caught.value.why
    assert "safe_serialization=True" in caught.value.fix


def test_a_folder_that_is_no_model_is_refused(registry: Path) -> None:
    (registry / "data").mkdir()

    with pytest.raises(InvalidFileError, match="no model folder"):
        resolve(registry, model="data")


def test_a_file_that_is_no_model_is_refused(registry: Path) -> None:
    (registry / "model.onnx").write_text("x")

    with pytest.raises(InvalidFileError, match="is refused"):
        resolve(registry, model="model.onnx")


def test_a_checkpoint_with_a_hostile_header_is_refused(registry: Path) -> None:
    (registry / "one.safetensors").write_bytes(b"\xff" * 100)

    with pytest.raises(InvalidFileError, match="not a valid safetensors file"):
        resolve(registry, model="one.safetensors")


@pytest.mark.parametrize("model", ["builtin:nothing", "builtin:", "builtin:../avatar"])
def test_an_unknown_built_in_base_names_those_there_are(registry: Path, model: str) -> None:
    with pytest.raises(NotFoundError, match="no built-in base") as caught:
        resolve(registry, model=model)

    assert "builtin:avatar" in caught.value.why


@pytest.mark.parametrize("model", ["models/of/nobody", "gone", "~/nobody/has/this", "~nobody/x"])
def test_a_base_that_is_not_there_is_named(registry: Path, model: str) -> None:
    with pytest.raises(NotFoundError, match="is not here"):
        resolve(registry, model=model)


def test_a_missing_folder_that_looks_like_a_hub_id_is_not_taken_for_one_in_silence(
    registry: Path,
) -> None:
    with pytest.raises(NotFoundError, match="has no revision") as caught:
        resolve(registry, model="models/tiny")

    assert "no folder or file here" in caught.value.why


def test_the_side_a_base_was_trained_for_is_read_from_its_configs(registry: Path) -> None:
    folder = diffusers_folder(registry / "tiny")

    assert bases.default_resolution(folder) == 512

    write_json(folder / "vae/config.json", {"latent_channels": 4})
    with pytest.raises(InvalidFileError, match="resolution") as caught:
        bases.default_resolution(folder)
    assert "train.resolution" in caught.value.fix


def test_of_a_hub_repository_only_what_is_loaded_is_wanted() -> None:
    names = [
        "model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors",
        "unet/diffusion_pytorch_model.bin", "unet/diffusion_pytorch_model.fp16.safetensors",
        "unet/diffusion_pytorch_model-00001-of-00002.safetensors",
        "unet/diffusion_pytorch_model.safetensors.index.json", "unet/.hidden.json",
        "v1-5-pruned.safetensors", "v1-5-pruned.ckpt", "tokenizer/vocab.json", "README.md",
    ]  # fmt: skip

    assert select(names) == [
        "model_index.json", "tokenizer/vocab.json", "unet/config.json",
        "unet/diffusion_pytorch_model-00001-of-00002.safetensors",
        "unet/diffusion_pytorch_model.safetensors",
        "unet/diffusion_pytorch_model.safetensors.index.json",
    ]  # fmt: skip


def test_of_a_language_model_the_top_folder_is_wanted() -> None:
    names = [
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
        "tokenizer.model", "chat_template.jinja", "merges.txt", "vocab.txt", "pytorch_model.bin",
        "pytorch_model.bin.index.json", "consolidated.safetensors", "original/params.json",
        "onnx/model.safetensors", "LICENSE.txt", "USE_POLICY.md",
    ]  # fmt: skip

    assert select(names) == sorted(names[:8])


def test_a_folder_is_complete_when_all_that_it_promises_is_there(registry: Path) -> None:
    image = diffusers_folder(registry / "tiny")
    text = transformers_folder(registry / "lm")
    complete = [is_complete(image), is_complete(text)]

    (image / "vae/diffusion_pytorch_model.safetensors").unlink()
    (text / "model.safetensors").rename(text / "model-00001-of-00002.safetensors")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    write_json(text / "model.safetensors.index.json", {"weight_map": shards})
    without = [is_complete(image), is_complete(text)]
    save_file(WEIGHTS, text / shards["b"])

    assert (complete, without) == ([True, True], [False, False])
    assert is_complete(text)
