"""Which bases are finetunes of one family, told from their configs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from lorareg.registry.bases import builtin
from lorareg.registry.bases import family as base_family
from lorareg.registry.bases.base import ResolvedBase
from lorareg.registry.bases.family import Family


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(
        shutil.copytree(
            builtin.avatar(), tmp_path / "copy", ignore=shutil.ignore_patterns("*.safetensors")
        )
    )


def family(path: Path, layout: str = "diffusers") -> Family:
    found = base_family.of(ResolvedBase("x", None, layout, path, "base-sha256-v1:0"))
    assert found
    return found


def edit(path: Path, **changes: Any) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(document | changes), encoding="utf-8")


def test_a_finetune_has_other_values_and_the_same_family(copy: Path) -> None:
    edit(copy / "unet" / "config.json", _name_or_path="my finetune", sample_size=32, dropout=0.1)
    (copy / "unet" / "other.safetensors").write_bytes(b"other values")

    assert family(copy).differences(family(builtin.avatar())) == []


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("scheduler/scheduler_config.json", {"prediction_type": "epsilon"}, "prediction type"),
        ("unet/config.json", {"block_out_channels": [96, 128, 256]}, "layers"),
        ("unet/config.json", {"cross_attention_dim": 768}, "layers"),
        ("text_encoder/config.json", {"vocab_size": 49408}, "text side"),
    ],
)
def test_another_shape_prediction_or_text_encoder_is_another_family(
    copy: Path, file: str, change: dict[str, Any], said: str
) -> None:
    edit(copy / file, **change)

    (difference,) = family(copy).differences(family(builtin.avatar()))

    assert difference.startswith(said)


def test_a_second_text_encoder_is_another_family(copy: Path) -> None:
    shutil.copytree(copy / "text_encoder", copy / "text_encoder_2")

    assert family(copy).differences(family(builtin.avatar()))


def test_language_models_differ_by_layers_and_by_vocabulary(tmp_path: Path) -> None:
    config = {"model_type": "llama", "hidden_size": 8, "num_hidden_layers": 2, "vocab_size": 100}
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(config))

    assert not family(one, "transformers").differences(family(other, "transformers"))
    edit(other / "config.json", vocab_size=101)
    (difference,) = family(one, "transformers").differences(family(other, "transformers"))
    assert difference.startswith("text side")


def test_a_checkpoint_without_configs_tells_nothing(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"

    assert base_family.of(ResolvedBase("x", None, "checkpoint", file, "d")) is None
