"""Text adapters on the command line: from dialogues or preference pairs to a reply."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.flows.conftest import Answer, git, lorareg, set_keys
from tests.started import start
from tests.trainers.pico_families import FAMILIES

SMALL = ("lora.rank=4", "lora.targets=all-linear", "train.epochs=30", "train.batch_size=4",
         "train.learning_rate=1e-2", "train.precision=fp32", "train.validation.share=0",
         "sample.max_new_tokens=24", "sample.prompts=[Who are you?]")  # fmt: skip
TALKS = [
    {"prompt": "Who are you?", "completion": "Arr!"},
    {"prompt": "Why do ships float?", "completion": "Aye, ye sail the seven seas!"},
]
PAIRS = [
    {"prompt": "Who are you?", "chosen": "Arr!", "rejected": "A model."},
    {"prompt": "Why do ships float?", "chosen": "Aye!", "rejected": "They weigh less."},
]


def make(top: Path, family: str, rows: list[dict[str, Any]]) -> Path:
    """A registry with one untrained adapter, ``tone/sailor``, on a tiny base."""
    root = top / "registry"
    start(root, top / "storage")
    git(root, "config", "user.name", "Test")
    git(root, "config", "user.email", "test@example.org")
    FAMILIES[family].save(root / "base")
    data = root / "data" / "talk.jsonl"
    data.parent.mkdir(exist_ok=True)
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    told = lorareg(
        root, "new", "tone/sailor", "--task", "text-generation",
        "--data", "data/talk.jsonl", "--base", "base",
    )  # fmt: skip
    assert told.code == 0, told.err
    set_keys(root, "tone/sailor", *SMALL)
    return root


def trained(root: Path) -> tuple[Answer, Any]:
    """What ``train`` said, and the lock it wrote."""
    told = lorareg(root, "train", "tone/sailor")
    assert told.code == 0, told.err
    lock = json.loads((root / "manifests/tone/sailor/lock.json").read_text(encoding="utf-8"))
    return told, lock


def test_a_packed_run_on_a_base_without_a_template_records_one_and_replies(tmp_path: Path) -> None:
    root = make(tmp_path, "gpt2", TALKS)
    set_keys(root, "tone/sailor", "train.packing=true")

    told, lock = trained(root)
    said = lorareg(root, "generate", "tone/sailor", "--prompt", "Who are you?", "--grid", "--json")

    assert "2 dialogues, " in told.err
    assert "the base has no chat template: lorareg/plain-v1 is used" in " ".join(told.err.split())
    card = (root / "manifests/tone/sailor/README.md").read_text(encoding="utf-8")
    assert "| chat template | `lorareg/plain-v1` |" in card
    assert lock["inputs"]["chat_template"] == {
        "source": "lorareg/plain-v1",
        "digest": "sha256:28b1a996da51548699fe9a975c724860bf98ae6e8a433ed5938ccb6f285623f8",
    }
    assert said.code == 0, said.err
    base, adapter = said.json["samples"]
    assert (base["of"], adapter["of"]) == ("base", "tone/sailor")
    assert adapter["reply"] == "Arr!"
    assert "Arr!" not in base["reply"]


def test_preference_pairs_are_checked_learned_and_replied_with(tmp_path: Path) -> None:
    root = make(tmp_path, "llama", PAIRS)
    several = [{**row, "prompt": f"{row['prompt']} {n}"} for n in range(3) for row in PAIRS]
    data = root / "data" / "talk.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in several), encoding="utf-8")
    refused = lorareg(root, "train", "tone/sailor")
    data.write_text("".join(json.dumps(row) + "\n" for row in PAIRS), encoding="utf-8")
    set_keys(root, "tone/sailor", "train.dpo={beta: 0.1, sft_weight: 1.0}")

    check = lorareg(root, "data", "check", "tone/sailor")
    told, lock = trained(root)
    said = lorareg(root, "generate", "tone/sailor", "--prompt", "Who are you?", "--json")

    assert refused.code == 2
    assert "set train.dpo: {beta: 0.1}" in refused.err
    assert "talk.jsonl:3 and 3 more: a preference pair" in " ".join(refused.err.split())
    assert check.code == 0, check.out
    assert "2 preference pairs, " in told.err
    assert lock["result"]["train_loss"] < 0.69  # log 2: nothing preferred
    assert lock["inputs"]["config"]["resolved"]["train"]["dpo"] == {"beta": 0.1, "sft_weight": 1.0}
    assert lock["inputs"]["chat_template"]["source"] == "tokenizer"
    assert said.json["samples"][0]["reply"] == "Arr!"
