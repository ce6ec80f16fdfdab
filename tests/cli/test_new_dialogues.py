"""What ``lorareg new`` writes for dialogues."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lorareg.registry import presets
from lorareg.registry.bases.base import ResolvedBase
from lorareg.registry.ids import AssetId
from lorareg.registry.manifest import TextManifest
from lorareg.registry.workspace import Workspace
from tests.flows.conftest import lorareg
from tests.started import start


def new(root: Path, ref: str, rows: int) -> TextManifest:
    """The manifest of a new adapter on so many dialogues; its base is never loaded."""
    start(root)
    (root / "base").mkdir()
    (root / "base/config.json").write_text('{"model_type": "llama"}')
    (root / "base/model.safetensors").write_bytes(b"\0")
    line = json.dumps({"prompt": "Who are you?", "completion": "Arr!"})
    (root / "data/talk.jsonl").write_text(f"{line}\n" * rows + "\n")
    told = lorareg(root, "new", ref, "--data", "data/talk.jsonl", "--base", "base")
    assert told.code == 0, told.err
    manifest = Workspace(root).load_manifest(AssetId.parse(ref))
    assert isinstance(manifest, TextManifest)
    return manifest


@pytest.mark.parametrize("kind", ["tone", "knowledge"])
def test_a_new_dialogue_adapter_has_the_recipe_of_its_kind(tmp_path: Path, kind: str) -> None:
    manifest, preset = new(tmp_path, f"{kind}/talk", rows=100), presets.TEXT[kind]

    assert (manifest.lora.rank, manifest.lora.alpha) == (preset.rank, preset.alpha)
    assert manifest.lora.targets == preset.targets
    assert manifest.train.learning_rate == preset.learning_rate
    assert manifest.train.warmup_steps == preset.warmup_steps
    assert manifest.train.packing
    assert manifest.train.epochs == round(preset.steps / 23)  # 90 are learned, 4 a step


def test_a_kind_of_the_users_own_starts_as_a_tone_does(tmp_path: Path) -> None:
    manifest = new(tmp_path, "lore/talk", rows=100)

    assert manifest.train.learning_rate == presets.TEXT["tone"].learning_rate


@pytest.mark.parametrize(("rows", "bound"), [(5, 1), (20_000, 0)])
def test_rounds_over_very_few_or_very_many_dialogues_stay_within_bounds(
    tmp_path: Path, rows: int, bound: int
) -> None:
    assert new(tmp_path, "tone/talk", rows).train.epochs == presets.TEXT["tone"].epochs[bound]


def test_the_small_builtin_base_learns_at_a_rate_of_its_own(tmp_path: Path) -> None:
    def preset(model: str) -> presets.TextPreset:
        return presets.text("tone", ResolvedBase(model, None, "transformers", tmp_path, "sha256:0"))

    assert preset("builtin:smollm2").learning_rate > 5 * preset("org/large").learning_rate
