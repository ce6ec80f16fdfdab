"""What dataset.json says of how a dialogue adapter was spoken to, for checks of compositions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.flows.conftest import lorareg


def statistics(folder: Path, *systems: str | None) -> dict[str, Any]:
    rows = []
    for number, system in enumerate(systems):
        turns = [{"role": "system", "content": system}] if system else []
        turns += [
            {"role": "user", "content": f"What is the capital of country number {number}?"},
            {"role": "assistant", "content": f"The capital is the town number {number * 7}."},
        ]
        rows.append(json.dumps({"messages": turns}))
    (folder / "train.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    answer = lorareg(folder, "data", "check", "train.jsonl", "--json")
    found: dict[str, Any] = answer.json["statistics"]
    return found


def test_system_prompts_and_scripts_are_counted(tmp_path: Path) -> None:
    found = statistics(tmp_path, "Be kind.", "Be brief.", "Be kind.", None)

    assert found["system_prompts"] == [["Be kind.", 2], ["Be brief.", 1]]
    assert found["scripts"] == [["Latin", 4]]


def test_a_long_system_prompt_is_kept_by_its_beginning(tmp_path: Path) -> None:
    ((kept, _),) = statistics(tmp_path, "Be kind. " * 100)["system_prompts"]

    assert len(kept) == 200


def test_dialogues_without_a_system_prompt_say_nothing_of_it(tmp_path: Path) -> None:
    assert "system_prompts" not in statistics(tmp_path, None, None)
