"""Out to other programs and in from them, with the committed samples, on the command line."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lorareg.registry import tensors
from lorareg.registry.header import read_header
from lorareg.registry.tensors import tensor_digest
from lorareg.weights.adapter import LoraAdapter, to_raw
from lorareg.weights.formats import diffusers, peft
from tests.flows.conftest import git, lorareg
from tests.trainers.pico_families import FAMILIES
from tests.weights.conftest import random_layer
from tests.weights.test_kohya_format import make_encoder

REPOSITORY = Path(__file__).parents[2]
SAMPLES = ("style/lorelei-ink", "character/zhangsan", "tone/pirate")
FAMILY_KEYS = ("ss_base_model_version", "ss_v2", "ss_network_dim", "ss_network_alpha")


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with the samples of this repository, their weights in place."""
    root = tmp_path_factory.mktemp("samples") / "registry"
    root.mkdir()
    for name in ("lorareg.yaml", ".dvc/config", ".dvcignore", ".gitignore"):
        if (REPOSITORY / name).is_file():
            (root / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(REPOSITORY / name, root / name)
    shutil.copytree(REPOSITORY / "dvc-remote", root / "dvc-remote")
    bytes_ = shutil.ignore_patterns("weights")
    for sample in SAMPLES:
        shutil.copytree(
            REPOSITORY / "manifests" / sample, root / "manifests" / sample, ignore=bytes_
        )
    (root / "data").mkdir()
    for pointer in (REPOSITORY / "data").glob("*.dvc"):
        shutil.copyfile(pointer, root / "data" / pointer.name)
    git(root, "init", "--quiet", "--initial-branch=main")
    git(root, "config", "user.name", "Test")
    git(root, "config", "user.email", "test@example.org")
    pulled = lorareg(root, "pull", *SAMPLES)
    assert pulled.code == 0, pulled.err
    return root


@pytest.fixture(scope="session")
def exported(samples: Path) -> Path:
    """``style/lorelei-ink`` in kohya's form."""
    file = samples / "ink.safetensors"
    told = lorareg(samples, "export", "lorelei-ink", "--format", "kohya", "--out", str(file))
    assert told.code == 0, told.err
    assert "read back by its own reader, diffusers" in told.out
    return file


@pytest.fixture(scope="session")
def taken(samples: Path, exported: Path) -> str:
    """The exported file, imported under another name."""
    told = lorareg(samples, "import", str(exported), "style/ink-again", "--trigger", "ink again")
    assert told.code == 0, told.err
    return "style/ink-again"


def test_the_header_tells_a1111_the_family_and_everyone_the_trigger(exported: Path) -> None:
    told = read_header(exported).metadata

    assert [told[key] for key in FAMILY_KEYS] == ["sd_v1", "False", "8", "8"]
    assert told["modelspec.architecture"] == "stable-diffusion-v1/lora"
    assert told["modelspec.trigger_phrase"] == "lorelei style"
    assert told["modelspec.prediction_type"] == "v"
    tags = json.loads(told["ss_tag_frequency"])["style_lorelei_ink"]
    assert tags["lorelei style"] == 60
    assert told["modelspec.hash_sha256"] == f"0x{told['sshs_model_hash']}"
    body = exported.read_bytes()
    body = body[8 + int.from_bytes(body[:8], "little") :]
    assert told["sshs_model_hash"] == hashlib.sha256(body).hexdigest()
    whole = " ".join(told.values())
    assert str(exported.parent) not in whole
    assert "/root" not in whole
    assert "/home" not in whole


def test_for_the_public_the_tensors_are_the_same_and_the_data_is_not_told(
    samples: Path, exported: Path
) -> None:
    file = samples / "public.safetensors"

    told = lorareg(
        samples, "export", "lorelei-ink", "--format", "kohya", "--out", str(file), "--public"
    )

    assert told.code == 0, told.err
    before, after = read_header(exported).metadata, read_header(file).metadata
    gone = before.keys() - after.keys()
    assert {"ss_tag_frequency", "ss_dataset_dirs", "modelspec.author"} <= gone
    assert after["ss_base_model_version"] == "sd_v1"
    assert after["sshs_model_hash"] == before["sshs_model_hash"]
    assert tensor_digest(file) == tensor_digest(exported)


def test_what_was_exported_and_imported_has_the_same_tensors(samples: Path, taken: str) -> None:
    def identity(asset: str) -> str:
        return tensor_digest(samples / "manifests" / asset / "weights" / diffusers.FILE)

    assert identity(taken) == identity("style/lorelei-ink")


def test_an_imported_adapter_is_an_asset_like_any_other(samples: Path, taken: str) -> None:
    status = lorareg(samples, "status", taken, "--json")
    checked = lorareg(samples, "verify", taken)
    shown = lorareg(samples, "show", taken, "--json").json
    listed = {row["asset"]: row for row in lorareg(samples, "list", "--json").json}
    composed = lorareg(samples, "compose", f"{taken}:0.5+character/zhangsan:0.9", "--as", "both")

    assert status.json[0]["state"] == "up-to-date", status.out
    assert checked.code == 0, checked.out
    assert shown["manifest"]["origin"]["file"] == "ink.safetensors"
    assert shown["manifest"]["trigger"] == "ink again"
    assert "train" not in shown["manifest"]
    assert shown["lock"]["inputs"]["header"]["ss_network_dim"] == "8"
    assert "ss_tag_frequency" not in shown["lock"]["inputs"]["header"]
    assert listed[taken]["imported"] is True
    assert composed.code == 0, composed.err


def test_an_imported_adapter_is_pushed_and_pulled(
    samples: Path, taken: str, tmp_path: Path
) -> None:
    assert lorareg(samples, "push", taken).code == 0
    git(tmp_path, "clone", "--quiet", str(samples), "mate")
    mate = tmp_path / "mate"
    shutil.copytree(samples / "dvc-remote", mate / "dvc-remote", dirs_exist_ok=True)

    pulled = lorareg(mate, "pull", taken)

    assert pulled.code == 0, pulled.err
    assert lorareg(mate, "verify", taken).code == 0


@pytest.mark.parametrize("command", ["train", "reproduce"])
def test_training_an_imported_adapter_again_is_refused_with_the_reason(
    samples: Path, taken: str, command: str
) -> None:
    refused = lorareg(samples, command, taken)

    assert refused.code == 2
    assert "was imported" in refused.err


def test_a_manifest_that_names_another_file_is_stale(samples: Path, taken: str) -> None:
    manifest = samples / "manifests" / taken / "manifest.yaml"
    text = manifest.read_text(encoding="utf-8")
    start = text.index("sha256:", text.index("sha256:") + 1)
    try:
        manifest.write_text(text[: start + 7] + "0" * 64 + text[start + 71 :], encoding="utf-8")
        status = lorareg(samples, "status", taken, "--json")
    finally:
        manifest.write_text(text, encoding="utf-8")

    assert status.code == 1
    assert status.json[0]["state"] == "stale"


def test_a_composition_is_exported_as_its_exact_sum(samples: Path) -> None:
    file = samples / "both.safetensors"
    expression = "style/lorelei-ink:0.7+character/zhangsan:0.9"

    told = lorareg(
        samples, "export", expression, "--format", "diffusers", "--out", str(file), "--json"
    )

    assert told.code == 0, told.err
    assert told.json["worst"] <= 1e-5
    assert told.json["readers"] == ["its own reader", "diffusers"]
    assert diffusers.read(file).rank == 16


def test_a_member_that_may_not_be_merged_is_not(samples: Path) -> None:
    manifest = samples / "manifests/character/zhangsan/manifest.yaml"
    before = manifest.read_text(encoding="utf-8")
    try:
        manifest.write_text(before.replace("merge: true", "merge: false"), encoding="utf-8")
        told = lorareg(
            samples, "export", "lorelei-ink:0.7+zhangsan:0.9", "--format", "kohya", "--out", "no"
        )
    finally:
        manifest.write_text(before, encoding="utf-8")

    assert told.code == 2
    assert "merge" in told.err
    assert not (samples / "no").exists()


def test_peft_and_the_servers_requests(samples: Path) -> None:
    folder = samples / "pirate"
    files = lorareg(
        samples, "export", "pirate", "--format", "peft", "--out", str(folder),
        "--base-name", "org/model", "--json",
    )  # fmt: skip
    asked = json.loads(lorareg(samples, "export", "pirate", "--format", "vllm").out)

    assert files.code == 0, files.err
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "org/model"
    assert config["r"] == config["lora_alpha"] == 4
    assert config["rank_pattern"] == config["alpha_pattern"] == {}
    assert "--max-lora-rank 8" in asked["serve"]
    assert asked["request"]["model"] == "pirate"


def test_prompt_and_workflow_say_weights_triggers_and_order(samples: Path) -> None:
    expression = "style/lorelei-ink:0.7+character/zhangsan:0.9{te=0.5}"

    prompt = subprocess.run(
        [sys.executable, "-m", "lorareg", "export", expression, "--format", "a1111"],
        cwd=samples, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    graph = json.loads(lorareg(samples, "export", expression, "--format", "comfyui").out)

    assert "<lora:lorelei-ink:0.7><lora:zhangsan:te=0.5:unet=0.9>" in prompt
    assert "lorelei style" in prompt
    assert "zzhangsan" in prompt
    chain = [node["inputs"] for node in graph.values() if node["class_type"] == "LoraLoader"]
    assert [(x["strength_model"], x["strength_clip"]) for x in chain] == [(0.7, 0.7), (0.9, 0.5)]
    assert chain[1]["model"] == ["2", 0]
    links = [v for node in graph.values() for v in node["inputs"].values() if isinstance(v, list)]
    assert all(source in graph for source, _ in links)


@pytest.mark.parametrize(
    ("what", "form", "words"),
    [
        ("pirate", "kohya", "text-generation"),
        ("lorelei-ink", "gguf", "text-to-image"),
        ("lorelei-ink:0.7{up=0.4}", "comfyui", "cannot say"),
        ("lorelei-ink:0.7{steps=0-0.5}", "kohya", "step to step"),
    ],
)
def test_what_a_form_cannot_say_is_refused(samples: Path, what: str, form: str, words: str) -> None:
    refused = lorareg(samples, "export", what, "--format", form, "--out", "never")

    assert refused.code == 2
    assert words in refused.err
    assert not (samples / "never").exists()


def test_a_pickle_is_imported_only_on_request_and_never_run(
    samples: Path, exported: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    torch.save(load_file(exported), tmp_path / "ink.pt")
    refused = lorareg(samples, "import", str(tmp_path / "ink.pt"), "style/pickled")
    taken = lorareg(samples, "import", str(tmp_path / "ink.pt"), "style/pickled", "--from-pickle")
    mark = tmp_path / "harm"
    (tmp_path / "harm.pt").write_bytes(
        b"cposix\nsystem\n(S'touch " + str(mark).encode() + b"'\ntR."
    )
    harmful = lorareg(samples, "import", str(tmp_path / "harm.pt"), "style/harm", "--from-pickle")

    assert refused.code == 2
    assert "can run code" in refused.err
    assert taken.code == 0, taken.err
    origin = lorareg(samples, "show", "style/pickled", "--json").json["manifest"]["origin"]
    assert origin["file"] == "ink.pt"
    assert harmful.code == 2
    assert not mark.exists()
    assert not (samples / "manifests/style/harm").exists()


def test_a_file_of_another_base_is_refused_with_the_modules_that_do_not_fit(
    samples: Path, exported: Path, tiny_base: Path
) -> None:
    refused = lorareg(samples, "import", str(exported), "style/elsewhere", "--base", str(tiny_base))

    assert refused.code == 2
    assert "does not belong to" in refused.err
    assert not (samples / "manifests/style/elsewhere").exists()


def make_sdxl(folder: Path) -> Path:
    """A random SDXL in diffusers' layout, as far as an import looks at it."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, 16, 16), layers_per_block=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 2), cross_attention_dim=12, attention_head_dim=4,
        norm_num_groups=4,
    ).save_pretrained(folder / "unet")  # fmt: skip
    AutoencoderKL(block_out_channels=(8,), norm_num_groups=4).save_pretrained(folder / "vae")
    make_encoder(projected=True).save_pretrained(folder / "text_encoder_2")
    index = {"_class_name": "StableDiffusionXLPipeline"}
    (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


def test_kohya_s_own_sdxl_names_are_taken_in_and_go_out_as_an_sdxl_that_a1111_lists(
    samples: Path, tmp_path: Path
) -> None:
    base = make_sdxl(tmp_path / "base")
    shapes = {
        "lora_unet_input_blocks_4_1_transformer_blocks_1_attn2_to_k": (16, 12),
        "lora_unet_output_blocks_2_1_proj_in": (16, 16),
        "lora_te2_text_model_encoder_layers_1_self_attn_q_proj": (12, 12),
    }
    raw = {}
    for seed, (name, (out, wide)) in enumerate(shapes.items()):
        layer = random_layer(2, 1.0, (wide,), out, seed)
        raw |= {f"{name}.lora_down.weight": to_raw(layer.down)}
        raw |= {f"{name}.lora_up.weight": to_raw(layer.up)}
        raw |= {f"{name}.alpha": to_raw(np.float32(1.0))}
    tensors.write(tmp_path / "xl.safetensors", raw, {"ss_sd_model_name": "C:\\me\\xl.ckpt"})

    taken = lorareg(
        samples, "import", str(tmp_path / "xl.safetensors"), "style/xl", "--base", str(base)
    )
    told = lorareg(
        samples, "export", "style/xl", "--format", "kohya", "--out", str(tmp_path / "o.safetensors")
    )

    assert taken.code == 0, taken.err
    lock = (samples / "manifests/style/xl/lock.json").read_text(encoding="utf-8")
    assert "me" not in json.loads(lock)["inputs"]["header"].get("ss_sd_model_name", "")
    assert str(tmp_path) not in lock
    weights = read_header(samples / "manifests/style/xl/weights" / diffusers.FILE)
    assert {entry.name.rpartition(".lora")[0] for entry in weights.tensors} == {
        "unet.down_blocks.1.attentions.0.transformer_blocks.1.attn2.to_k",
        "unet.up_blocks.0.attentions.2.proj_in",
        "text_encoder_2.text_model.encoder.layers.1.self_attn.q_proj",
    }
    assert told.code == 0, told.err
    header = read_header(tmp_path / "o.safetensors").metadata
    assert header["ss_base_model_version"].startswith("sdxl_")
    assert header["modelspec.architecture"] == "stable-diffusion-xl-v1-base/lora"


def test_a_peft_folder_is_taken_in_and_goes_out_to_llama_cpp(samples: Path, tmp_path: Path) -> None:
    FAMILIES["llama"].save(tmp_path / "base")
    name = "model.layers.1.self_attn.q_proj"
    peft.write(tmp_path / "p", LoraAdapter({name: random_layer(2, 3.0, (48,), 48)}), "x/y", {})

    taken = lorareg(
        samples, "import", str(tmp_path / "p"), "tone/tiny", "--base", str(tmp_path / "base")
    )
    told = lorareg(
        samples, "export", "tone/tiny", "--format", "gguf", "--out", str(tmp_path / "t.gguf"),
        "--json",
    )  # fmt: skip

    assert taken.code == 0, taken.err
    assert lorareg(samples, "verify", "tone/tiny").code == 0
    assert told.code == 0, told.err
    assert told.json["worst"] <= 1e-5
    assert (tmp_path / "t.gguf").is_file()
