"""Configs of lora-scripts and kohya become manifests; what they cannot say here is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lorareg.errors import InvalidFileError
from lorareg.registry.foreign_config import Taken, one_repeated_folder, read
from lorareg.registry.foreign_keys import SAYS
from lorareg.registry.image_training import ImageTraining
from lorareg.registry.manifest import parse

LORA_SCRIPTS = """\
task_type: text-to-image
base_model: ./models/sd-v1-5-pruned.safetensors
train_data_dir: ./data/style_train
metadata_path: ./data/style_train/metadata.csv
lora_rank: 8
lora_alpha: 16
batch_size: 4
gradient_accumulation_steps: 2
epochs: 10
learning_rate: 2e-4
optimizer: AdamW
scheduler: cosine
output_dir: ./output/my_style
save_steps: 100
logging_dir: ./logs
"""
KOHYA = """\
[model_arguments]
pretrained_model_name_or_path = "models/base.safetensors"
[dataset_arguments]
train_data_dir = "data/zhangsan"
resolution = "768,768"
[training]
network_module = "networks.lora"
network_dim = 32
network_alpha = 16
network_args = ["conv_dim=4", "loraplus_lr_ratio=16"]
network_train_unet_only = true
text_encoder_lr = 1e-5
unet_lr = 3e-4
learning_rate = 1e-4
optimizer_type = "AdamW8bit"
lr_scheduler = "cosine_with_restarts"
lr_scheduler_num_cycles = 3
max_train_epochs = 12
clip_skip = 2
xformers = true
"""


def document(changes: dict[str, Any]) -> dict[str, Any]:
    """A whole manifest with these values in it."""
    found: dict[str, Any] = {
        "schema": "lorareg/1", "kind": "style", "name": "ink", "task": "text-to-image",
        "base": {"model": "builtin:avatar"}, "dataset": {"path": "data/ink"},
    }  # fmt: skip
    for dotted, value in changes.items():
        *parents, key = dotted.split(".")
        place = found
        for parent in parents:
            place = place.setdefault(parent, {})
        place[key] = value
    return found


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def kohya(folder: Path, *lines: str) -> Taken:
    return read(written(folder, "config.toml", "\n".join(["network_dim = 8", *lines])))


def test_every_key_of_lora_scripts_is_taken_over_or_explained(tmp_path: Path) -> None:
    taken = read(written(tmp_path, "train.yaml", LORA_SCRIPTS))

    assert (taken.task, taken.data) == ("text-to-image", "./data/style_train")
    assert taken.base == "./models/sd-v1-5-pruned.safetensors"
    assert taken.changes == {
        "dataset.captions": "metadata.csv",
        "lora.rank": 8,
        "lora.alpha": 16.0,
        "train.batch_size": 4,
        "train.gradient_accumulation_steps": 2,
        "train.epochs": 10,
        "train.learning_rate": 2e-4,
        "train.optimizer": "adamw",
        "train.scheduler": "cosine",
        "train.save_steps": 100,
    }
    assert taken.needless.keys() == {"output_dir", "logging_dir"}
    assert not taken.unknown


def test_a_kohya_config_is_taken_over_and_what_is_left_is_named(tmp_path: Path) -> None:
    taken = read(written(tmp_path, "config.toml", KOHYA))

    assert taken.changes["lora.targets"] == "kohya"
    assert taken.changes["lora.alpha"] == 16.0
    assert taken.changes["train.learning_rate"] == 3e-4, "unet_lr decides over learning_rate"
    assert taken.changes["train.loraplus_lr_ratio"] == 16.0
    assert taken.changes["train.optimizer"] == "adamw-8bit"
    assert taken.changes["train.scheduler_cycles"] == 3
    assert taken.changes["lora.text_encoder"] is False
    assert "train.text_encoder_learning_rate" not in taken.changes
    assert taken.unknown == {"network_args conv_dim": "4", "clip_skip": 2}
    assert "xformers" in taken.needless


def test_what_kohya_does_without_being_told_is_said(tmp_path: Path) -> None:
    taken = kohya(tmp_path)

    assert taken.changes["lora.alpha"] == 1.0
    assert taken.changes["lora.text_encoder"] is True
    assert taken.changes["train.caption_dropout"] == 0.0
    assert taken.changes["train.scheduler"] == "constant"
    assert taken.changes["train.warmup_steps"] == 0


def test_switches_that_are_off_leave_their_settings_out(tmp_path: Path) -> None:
    off = kohya(tmp_path, "keep_tokens = 2", "bucket_reso_steps = 32", "enable_bucket = false")
    on = kohya(tmp_path, "keep_tokens = 2", "shuffle_caption = true", "enable_bucket = true")

    assert not [key for key in off.changes if key.startswith(("train.tags", "train.buckets."))]
    assert off.changes["train.buckets"] is None, "a preset may have some"
    assert on.changes["train.tags.keep_first"] == 2
    assert on.changes["train.buckets.upscale"] is True, "kohya enlarges unless it is forbidden"


def test_zeros_that_mean_off_are_off(tmp_path: Path) -> None:
    found = kohya(tmp_path, "min_snr_gamma = 0", "noise_offset = 0.0", "text_encoder_lr = 0")

    assert "train.min_snr_gamma" not in found.changes
    assert "train.text_encoder_learning_rate" not in found.changes
    assert found.changes["lora.text_encoder"] is False
    assert parse(document(found.changes), "manifest.yaml")


@pytest.mark.parametrize("text", [LORA_SCRIPTS, KOHYA])
def test_what_is_taken_over_is_a_manifest(tmp_path: Path, text: str) -> None:
    taken = read(written(tmp_path, "c.yaml" if text is LORA_SCRIPTS else "c.toml", text))

    manifest = parse(document(taken.changes), "m")

    assert manifest.lora.rank == taken.changes["lora.rank"]


def test_every_key_that_is_taken_over_exists_in_a_manifest() -> None:
    samples: list[Any] = [True, "1", "cosine", "adamw", "bf16", "metadata.csv"]
    for key, say in SAYS.items():
        said = []
        for sample in samples:
            try:
                said.append(say(sample))
            except (ValueError, TypeError):
                continue
        assert said, key
        keys = {dotted for changes in said for dotted in changes}
        for dotted in keys - {"train.max_length"}:  # of a dialogue
            block, _, rest = dotted.partition(".")
            fields = type(getattr(parse(document({}), "m"), block)).model_fields
            assert rest.partition(".")[0] in fields, dotted


def test_values_that_are_none_are_named_together(tmp_path: Path) -> None:
    path = written(
        tmp_path, "x.yaml", "lora_rank: many\nscheduler: zigzag\nresolution: '512,768'\n"
    )

    with pytest.raises(InvalidFileError) as caught:
        read(path)

    for word in ("lora_rank: 'many'", "zigzag", "512,768"):
        assert word in caught.value.why


def test_a_folder_with_repeats_is_found_and_its_repeats_become_epochs(tmp_path: Path) -> None:
    (tmp_path / "set" / "10_zhangsan").mkdir(parents=True)
    taken = Taken(changes={"train.epochs": 3})

    found = one_repeated_folder(taken, tmp_path / "set")

    assert found.name == "10_zhangsan"
    assert taken.changes["train.epochs"] == 30


def test_several_folders_with_repeats_are_refused(tmp_path: Path) -> None:
    for name in ("10_a", "2_b"):
        (tmp_path / "set" / name).mkdir(parents=True)

    with pytest.raises(InvalidFileError, match="2 datasets: 10_a, 2_b"):
        one_repeated_folder(Taken(), tmp_path / "set")


def test_text_that_is_no_toml_is_refused_with_the_line(tmp_path: Path) -> None:
    with pytest.raises(InvalidFileError, match="not valid TOML") as caught:
        read(written(tmp_path, "x.toml", "a = \n"))
    assert "line 1" in caught.value.why


@pytest.mark.parametrize(
    ("lines", "scheduler"),
    [
        (['optimizer_type = "AdamWScheduleFree"', 'lr_scheduler = "cosine"'], "constant"),
        (['lr_scheduler = "cosine"', "lr_scheduler_num_cycles = 3"], "cosine"),
        (['lr_scheduler = "linear"', "lr_scheduler_power = 2.0"], "linear"),
    ],
)
def test_what_a_schedule_has_no_use_for_is_left_out(
    tmp_path: Path, lines: list[str], scheduler: str
) -> None:
    taken = kohya(tmp_path, *lines)

    assert taken.changes["train.scheduler"] == scheduler
    assert not {"train.scheduler_cycles", "train.scheduler_power"} & taken.changes.keys()
    train = {k.removeprefix("train."): v for k, v in taken.changes.items() if "train." in k}
    ImageTraining(**train)  # which refuses such keys
