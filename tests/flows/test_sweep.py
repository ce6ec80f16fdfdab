"""Variants of one adapter: trained as runs, compared, and the best one kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lorareg.cli.watch import RunWatcher
from lorareg.errors import LoraregError
from lorareg.registry.ids import AssetId
from lorareg.registry.workspace import Workspace
from lorareg.trainers.runs import sweep
from lorareg.trainers.runs.orders import Order, carry_out
from tests.flows.conftest import lorareg

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the processes of a command, which are on this machine beside other tests."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.mark.slow
def test_variants_are_compared_and_the_best_becomes_the_adapter_without_training_again(
    registry: Path,
) -> None:
    manifest = registry / "manifests" / "character" / "dot" / "manifest.yaml"
    manifest.write_text(manifest.read_text() + "# a person's remark\n")
    axis = "lora.targets=attention,attention+ff"

    # no schema knows which modules a base has: the third variant fails when it is loaded
    sweep = ["--sweep", f"{axis},[no_such_module]"]
    first = lorareg(registry, "train", "dot", *sweep, "--jobs", "2", "--json")

    assert first.code == 2
    *variants, failed = first.json["variants"]
    losses = [variant["result"]["validation_loss"] for variant in variants]
    assert len(losses) == 2
    assert losses == sorted(losses)
    assert first.json["best"] == variants[0]["values"]
    assert "no_such_module" in str(failed["error"])
    assert "lora.targets=[no_such_module]: " in first.err
    assert not (registry / "manifests" / "character" / "dot" / "lock.json").exists()
    runs = registry / ".lorareg" / "runs" / "character" / "dot"
    assert (runs / "sweep.png").is_file()

    logs = {path: path.read_bytes() for path in runs.rglob("metrics.jsonl")}
    kept = lorareg(registry, "train", "dot", "--sweep", axis, "--keep", "best")

    assert kept.code == 0, kept.err
    assert kept.err.count("up to date") == 2  # neither variant was trained again
    best = variants[0]["values"]["lora.targets"]
    assert f"\n{best} " in kept.out
    assert "resumed after step 12 of 12" in kept.err
    assert {path: path.read_bytes() for path in runs.rglob("metrics.jsonl")} == logs
    text = manifest.read_text()
    assert f"targets: {best}" in text
    assert "# a person's remark" in text
    lock = json.loads((manifest.parent / "lock.json").read_text())
    assert lock["fingerprint"] == variants[0]["fingerprint"]
    assert lock["result"]["validation_loss"] == losses[0]
    assert lock["environment"]["threads"] == variants[0]["environment"]["threads"]
    assert lorareg(registry, "status", "--json").json[0]["state"] == "up-to-date"
    assert lorareg(registry, "verify", "character/dot").code == 0


REFUSED = {
    "train.validation.share=0,0.2": "train.validation.share is 0, so nothing compares it",
    "train.save_steps=1,2": "the same run as train.save_steps=1",
    "lora.rank=0,2": "greater than or equal to 1",
    "lora.rnk=1,2": "did you mean rank?",
    "title=a,b": "title",
}


def test_a_sweep_that_compares_nothing_is_refused_with_its_reasons(registry: Path) -> None:
    manifest = registry / "manifests" / "character" / "dot" / "manifest.yaml"
    before = manifest.read_bytes()

    for asked, words in REFUSED.items():
        answer = lorareg(registry, "train", "dot", "--sweep", asked, "--keep", "best")
        assert answer.code == 2
        assert words in answer.err

    assert manifest.read_bytes() == before
    assert not (registry / ".lorareg" / "runs").exists()


def test_a_variant_of_a_manifest_that_was_edited_meanwhile_is_refused(registry: Path) -> None:
    workspace, asset = Workspace(registry), AssetId("character", "dot")
    (variant,) = sweep.variants(workspace, asset, {"lora.rank": [2]}, None)
    workspace.edit_manifest(asset, {"train.epochs": 7})
    order = Order(
        str(registry), str(asset), changes=variant.values, fingerprint=variant.fingerprint
    )

    with pytest.raises(LoraregError, match="was edited while its sweep ran"):
        carry_out(order, RunWatcher("dot"))

    assert not variant.folder.exists()
