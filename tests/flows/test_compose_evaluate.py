"""compose evaluate on adapters that were really trained: its controls, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lorareg.registry.expression import Expression
from lorareg.registry.workspace import Workspace
from lorareg.trainers.evaluation.measure import Bench
from lorareg.weights import members
from tests.flows.conftest import git, lorareg, make_pictures, make_registry, set_keys
from tests.started import start
from tests.trainers.pico_families import FAMILIES

SMALL = ("lora.rank=4", "lora.targets=all-linear", "train.epochs=8", "train.batch_size=4",
         "train.learning_rate=5e-3", "train.precision=fp32",
         "train.validation={share: 0.3}")  # fmt: skip
ASKED = ("Who are you?", "Tell me more.", "Why do ships float?", "What is the capital of France?")
ANSWERS = {
    "tone/sailor": "Aye, ye sail the seven seas!",
    "tone/twin": "Aye, ye sail the seven seas!",
    "tone/model": "Because they weigh less than the water.",
    "tone/idle": "The capital of France be Paris.",
}
HELD_OUT = 6


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four trained adapters of one tiny language model; "idle" learned nothing."""
    top = tmp_path_factory.mktemp("talk")
    root = top / "registry"
    start(root, top / "storage")
    git(root, "config", "user.name", "Test")
    git(root, "config", "user.email", "test@example.org")
    FAMILIES["llama"].save(root / "base")
    for asset, answer in ANSWERS.items():
        data = root / "data" / asset.partition("/")[2] / "talk.jsonl"
        data.parent.mkdir(parents=True)
        asked = [f"{ASKED[number % 4]} {number}" for number in range(20)]
        rows = [{"prompt": prompt, "completion": answer} for prompt in asked]
        data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        told = lorareg(
            root, "new", asset, "--task", "text-generation", "--data",
            str(data.parent.relative_to(root)), "--base", "base",
        )  # fmt: skip
        assert told.code == 0, told.err
        set_keys(root, asset, *SMALL)
    set_keys(root, "tone/idle", "train.learning_rate=1e-30", "train.epochs=1")
    train(root, *ANSWERS)
    return root


def train(root: Path, *assets: str) -> None:
    """One after the other in this process: ``--all`` starts one for each, which takes seconds."""
    for asset in assets:
        trained = lorareg(root, "train", asset)
        assert trained.code == 0, trained.err


def test_an_adapter_alone_at_weight_one_keeps_all_of_itself(talk: Path, tmp_path: Path) -> None:
    file = tmp_path / "figures" / "survival.json"

    said = lorareg(talk, "compose", "evaluate", "tone/sailor:1", "--json", "--out", str(file))

    assert said.code == 0, said.err
    (member,) = said.json["members"]
    assert member["survival"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert member["records"] == HELD_OUT
    assert member["losses"]["solo"] < 0.5 * member["losses"]["base"]
    assert member["attribution"] is None
    assert json.loads(file.read_text(encoding="utf-8")) == said.json
    assert str(talk) not in file.read_text(encoding="utf-8")


def test_at_weight_zero_nothing_is_left_and_the_exit_status_says_so(talk: Path) -> None:
    said = lorareg(talk, "compose", "evaluate", "tone/sailor:0", "--min-survival", "0.1", "--json")

    assert said.json["survival"] == 0.0
    assert said.code == 1
    assert "below --min-survival 0.1" in said.err


def test_adapters_that_cancel_are_told_by_attribution(talk: Path) -> None:
    said = lorareg(talk, "compose", "evaluate", "tone/sailor:1+tone/twin:-1", "--json")

    assert said.code == 0, said.err
    sailor, twin = said.json["members"]
    assert sailor["survival"]["value"] == pytest.approx(0, abs=1e-3)
    assert sailor["attribution"]["low"] > 0
    assert twin["attribution"]["high"] < 0
    assert said.json["survival"] == min(sailor["survival"]["value"], twin["survival"]["value"])


def test_on_records_that_no_member_learned_about_nothing_survives(talk: Path) -> None:
    workspace = Workspace(talk)
    own, other = (
        members.resolve(workspace, Expression.parse(text)) for text in ("sailor:1", "model:1")
    )
    bench = Bench.of(workspace, own.components[0], own, lambda what, done, total: None)

    base, solo, foreign = (bench.losses(each).mean() for each in (None, own, other))

    assert abs((base - foreign) / (base - solo)) < 0.3


def test_an_adapter_that_learned_nothing_is_unmeasurable(talk: Path) -> None:
    said = lorareg(talk, "compose", "evaluate", "tone/sailor+tone/idle", "--min-survival", "0")

    assert said.code == 1
    assert "tone/idle is unmeasurable" in said.out
    assert "tone/sailor is unmeasurable" not in said.out


@pytest.mark.parametrize(
    ("expression", "said"),
    [("tone/sailor{steps=0-0.5}", "no denoising steps"), ("tone/nobody", "tone/nobody")],
)
def test_what_cannot_be_measured_is_refused(talk: Path, expression: str, said: str) -> None:
    answer = lorareg(talk, "compose", "evaluate", expression)

    assert answer.code == 2
    assert said in answer.err


def test_other_data_than_the_adapter_learned_from_are_refused(talk: Path) -> None:
    file = talk / "data" / "sailor" / "talk.jsonl"
    before = file.read_bytes()
    file.write_bytes(before + b'{"prompt": "Why?", "completion": "Arr!"}\n')

    answer = lorareg(talk, "compose", "evaluate", "tone/sailor")
    file.write_bytes(before)

    assert answer.code == 2
    assert "data of tone/sailor are not those it was trained with" in answer.err


def test_of_pictures_the_losses_are_those_of_training_also_beside_a_text_encoder(
    tmp_path: Path, tiny_base: Path
) -> None:
    root = make_registry(tmp_path, tiny_base)
    make_pictures(root / "data" / "rings", count=6)
    assert lorareg(root, "new", "style/ring", "--data", "data/rings", "--base", "base").code == 0
    small = ["lora.rank=2", "train.batch_size=4", "train.epochs=1", "train.precision=fp32"]
    set_keys(root, "style/ring", *small, "lora.text_encoder=true")
    set_keys(root, "character/dot", "train.validation={share: 0.25}")
    train(root, "character/dot", "style/ring")
    result = json.loads((root / "manifests/character/dot/lock.json").read_text())["result"]

    said = lorareg(root, "compose", "evaluate", "character/dot:1+style/ring:0", "--json")

    assert said.code == 0, said.err
    losses = said.json["members"][0]["losses"]
    assert losses["base"] == pytest.approx(result["base_validation_loss"], rel=1e-5)
    assert losses["solo"] == pytest.approx(result["validation_loss"], rel=1e-5)
    assert losses["composed"] == pytest.approx(losses["solo"], rel=1e-6)
    assert losses["without"] == pytest.approx(losses["base"], rel=1e-6)
