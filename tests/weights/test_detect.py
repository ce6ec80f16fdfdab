"""Files of other programs: told apart by their keys, refused where they could harm or mislead."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from lorareg.errors import InvalidFileError, LoraregError
from lorareg.registry import tensors
from lorareg.weights.adapter import LoraAdapter, to_raw
from lorareg.weights.formats import detect, diffusers, kohya, peft
from tests.weights.conftest import random_layer

MakeAdapter = Callable[..., LoraAdapter]
UNET = LoraAdapter({"unet.mid_block.attentions.0.proj_in": random_layer(2, 3.0)})
TEXT = LoraAdapter({"model.layers.0.self_attn.q_proj": random_layer(2, 3.0)})


def test_each_form_is_told_by_its_keys(tmp_path: Path) -> None:
    kohya.write(tmp_path / "k.safetensors", UNET, "sd1", {"ss_v2": "False"})
    diffusers.write(tmp_path / "d.safetensors", UNET, {})
    peft.write(tmp_path / "p", TEXT, "meta/llama", {})

    found = {name: detect.read(tmp_path / name) for name in ("k.safetensors", "d.safetensors", "p")}

    assert {name: each.form for name, each in found.items()} == {
        "k.safetensors": "kohya", "d.safetensors": "diffusers", "p": "peft",
    }  # fmt: skip
    assert found["k.safetensors"].metadata["ss_v2"] == "False"
    assert found["p"].metadata == {"base_model_name_or_path": "meta/llama"}
    assert found["p"].task == "text-generation"


def test_old_and_new_spellings_of_a_text_encoder_are_one(tmp_path: Path) -> None:
    layer = random_layer(2, 3.0)
    names = ("encoder.layers.0.mlp.fc1", "text_model.encoder.layers.0.mlp.fc1")
    for number, name in enumerate(names):
        adapter = LoraAdapter({f"text_encoder.{name}": layer, f"text_encoder_2.{name}": layer})
        diffusers.write(tmp_path / f"{number}.safetensors", adapter, {})

    read = [detect.read(tmp_path / f"{number}.safetensors").adapter for number in range(2)]

    assert read[0].layers.keys() == read[1].layers.keys() == {
        f"text_encoder.{names[0]}", f"text_encoder_2.{names[1]}",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["ink.pt", "ink.ckpt", "adapter_model.bin", "ink.PKL"])
def test_a_pickle_is_refused_unopened(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"cos\nsystem\n(S'touch /tmp/harm'\ntR.")

    with pytest.raises(InvalidFileError, match="refused") as refused:
        detect.read(tmp_path / name)

    assert "--from-pickle" in refused.value.fix


def test_a_folder_with_nothing_but_a_pickle_is_refused_as_one(tmp_path: Path) -> None:
    (tmp_path / "adapter_model.bin").write_bytes(b"x")
    (tmp_path / "adapter_config.json").write_text("{}")

    with pytest.raises(InvalidFileError, match=re.escape("adapter_model.bin is refused")):
        detect.read(tmp_path)


def test_keys_of_no_known_form_are_listed(tmp_path: Path) -> None:
    raw = {"diffusion_model.blocks.0.lora_A.weight": to_raw(random_layer(2, 2.0).down)}
    tensors.write(tmp_path / "x.safetensors", raw, {})

    with pytest.raises(InvalidFileError, match="no form") as refused:
        detect.read(tmp_path / "x.safetensors")

    assert "diffusion_model.blocks.0.lora_A.weight" in refused.value.why


def test_peft_weights_without_their_configuration_are_refused(tmp_path: Path) -> None:
    peft.write(tmp_path / "p", TEXT, "meta/llama", {})
    (tmp_path / "p" / peft.CONFIG).unlink()

    with pytest.raises(LoraregError, match=re.escape(peft.CONFIG)):
        detect.read(tmp_path / "p")


def test_a_path_in_somebody_s_configuration_is_not_taken_over(tmp_path: Path) -> None:
    peft.write(tmp_path, TEXT, "x", {})
    config = json.loads((tmp_path / peft.CONFIG).read_text())
    (tmp_path / peft.CONFIG).write_text(
        json.dumps(config | {"base_model_name_or_path": "/home/alice/models/llama"})
    )

    assert detect.read(tmp_path).metadata == {}


def test_another_task_than_the_one_asked_for_is_refused(tmp_path: Path) -> None:
    diffusers.write(tmp_path / "d.safetensors", UNET, {})

    with pytest.raises(InvalidFileError, match="text-to-image"):
        detect.read(tmp_path / "d.safetensors", "text-generation")
