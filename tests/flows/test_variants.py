"""Variants and optimizers from the manifest to what a teammate can do with the adapter."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorareg.weights.formats import diffusers
from tests.flows.conftest import lorareg, set_keys

SMALL = ("train.epochs=1", "train.batch_size=2", "train.precision=fp32", "sample.steps=2")


@pytest.fixture
def dot(registry: Path) -> Path:
    """The weights of ``character/dot``, as soon as it is trained."""
    set_keys(registry, "character/dot", *SMALL, "lora.rank=2", "lora.alpha=4")
    return registry / "manifests" / "character" / "dot" / "weights" / diffusers.FILE


def test_a_dora_is_trained_by_prodigy_drawn_with_and_kept_out_of_compositions(
    registry: Path, dot: Path, tmp_path: Path
) -> None:
    set_keys(
        registry, "character/dot", "lora.use_dora=true", "train.optimizer=prodigy",
        "train.learning_rate=1.0", "weight.default=1.0",
    )  # fmt: skip

    trained = lorareg(registry, "train", "character/dot", "--json")

    assert trained.code == 0, trained.err
    assert "lorareg compose refuses it" in trained.err
    lock = lorareg(registry, "show", "character/dot", "--json").json["lock"]
    assert "prodigyopt" in lock["environment"]["packages"]
    assert diffusers.read(dot).is_dora
    drawn = lorareg(
        registry, "generate", "dot", "--prompt", "a red zdot", "--out", str(tmp_path / "a.png")
    )
    assert drawn.code == 0, drawn.err
    composed = lorareg(registry, "compose", "dot:0.5", "--as", "half")
    assert composed.code == 2
    assert "character/dot is a DoRA" in composed.err
    assert not (registry / "manifests" / "recipe" / "half").exists()


def test_pissa_with_rslora_is_published_as_a_plain_lora_of_the_same_scale(
    registry: Path, dot: Path
) -> None:
    set_keys(
        registry, "character/dot", "lora.init=pissa", "lora.use_rslora=true",
        "train.optimizer=schedule-free", "train.scheduler=constant", "train.weight_decay=0.0",
    )  # fmt: skip

    trained = lorareg(registry, "train", "character/dot", "--json")

    assert trained.code == 0, trained.err
    result = lorareg(registry, "show", "character/dot", "--json").json["lock"]["result"]
    layers = diffusers.read(dot).layers.values()
    assert {(layer.rank, layer.alpha) for layer in layers} == {(result["rank"], result["alpha"])}
    assert result["rank"] == 4
    assert result["alpha"] / result["rank"] == pytest.approx(4 / 2**0.5)
    assert lorareg(registry, "compose", "dot:0.5", "--as", "half").code == 0
