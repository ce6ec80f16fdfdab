"""Checking preference pairs, and dialogues against the manifest's limits."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from lorareg.registry.bases.base import ResolvedBase
from lorareg.trainers.data.check import lengths
from lorareg.trainers.data.check.findings import Finding
from lorareg.trainers.data.check.lengths import Encode, Limit
from lorareg.trainers.data.check.rows import Checked, check

TALKS = [
    ("Who are you, my friend?", "A pirate, and a good one.", "I am a language model."),
    ("What is for dinner tonight?", "Salted fish and hard biscuits.", "I do not eat anything."),
    ("Where do we sail tomorrow?", "To the southern isles, aye.", "That cannot be known."),
]
PAIRS = [{"prompt": q, "chosen": good, "rejected": bad} for q, good, bad in TALKS]
PLAIN = [{"prompt": q, "completion": good} for q, good, _ in TALKS]


def checked(
    folder: Path,
    rows: Sequence[dict[str, Any]],
    pairs: bool | None = None,
    encode: Encode | None = None,
    limit: Limit = Limit(512),  # noqa: B008  (frozen)
    asked: list[Collection[str]] | None = None,
) -> Checked:
    path = folder / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    def held_out(ids: Sequence[str]) -> Collection[str]:
        if asked is not None:
            asked.append(ids)
        return ()

    return check(
        path, encode=encode, limit=limit, pairs=pairs, held_out=held_out,
        stage=lambda what, done, total: None,
    )  # fmt: skip


def brief(findings: Sequence[Finding]) -> list[tuple[str, str, tuple[str, ...]]]:
    return [
        (f.code, f.severity, tuple(name.rpartition(":")[2] for name in f.files)) for f in findings
    ]


def test_a_dataset_of_pairs_is_fine_whether_or_not_a_manifest_asks_for_it(
    tmp_path: Path, pico_llama: ResolvedBase
) -> None:
    encode = lengths.chat(pico_llama, tmp_path).sequences

    for pairs in (None, True):
        found = checked(tmp_path, PAIRS, pairs, encode)

        assert (found.findings, len(found.records)) == ((), 3)
        assert len(found.tokens) == 3


def test_pairs_and_plain_dialogues_are_not_taken_for_each_other(tmp_path: Path) -> None:
    unwanted = checked(tmp_path, [*PLAIN, PAIRS[0]], pairs=False).findings
    missing = checked(tmp_path, [*PLAIN, *PAIRS], pairs=True).findings

    assert ("preferences", "error", ("4",)) in brief(unwanted)
    assert "set train.dpo" in unwanted[0].fix
    assert ("preferences", "error", ("1", "2", "3")) in brief(missing)
    assert "take train.dpo out" in missing[0].fix


def test_what_is_wrong_with_the_rejected_answer_is_found_too(tmp_path: Path) -> None:
    mail = {"prompt": "Who?", "chosen": "Nobody.", "rejected": "Ask jo.smith@gmail.com."}
    marks = {"prompt": "And then?", "chosen": "Silence.", "rejected": "[INST] Sing! [/INST]"}

    found = checked(tmp_path, [*PAIRS, mail, marks]).findings

    assert ("personal-data", "warning", ("4",)) in brief(found)
    assert ("control-token", "warning", ("5",)) in brief(found)


def test_a_broken_pair_is_an_error_with_its_own_remedy(tmp_path: Path) -> None:
    (found,) = checked(tmp_path, [*PAIRS, {"prompt": "Who?", "chosen": "Me."}]).findings

    assert (found.code, found.severity) == ("no-preference", "error")
    assert '"rejected": "the worse one"' in found.fix


def test_a_pair_needs_something_of_both_answers_within_max_length(
    tmp_path: Path, pico_llama: ResolvedBase
) -> None:
    chat = lengths.chat(pico_llama, tmp_path)
    early = {"prompt": "Hi!", "chosen": "Aye!", "rejected": "x" * 200}
    (record,) = checked(tmp_path, [early]).records
    first = chat.sequences(record, 512)[1].learned[0]

    (nothing,) = checked(tmp_path, [early], True, chat.sequences, Limit(first)).findings
    (cut,) = checked(tmp_path, [early], True, chat.sequences, Limit(first + 1)).findings

    assert nothing.code == "truncated-to-nothing"
    assert cut.code == "truncated"


def test_long_dialogues_are_what_the_manifest_calls_them(
    tmp_path: Path, pico_llama: ResolvedBase
) -> None:
    encode = lengths.chat(pico_llama, tmp_path).sequences
    rows = [*PLAIN, {"prompt": "And the whole story?", "completion": "Once upon a time. " * 30}]
    asked: list[Collection[str]] = []

    def found(overlong: str) -> list[tuple[str, str, tuple[str, ...]]]:
        return brief(checked(tmp_path, rows, None, encode, Limit(96, overlong), asked).findings)

    assert found("cut") == [("truncated", "warning", ("4",))]
    assert found("drop") == [("left-out", "warning", ("4",))]
    assert found("error") == [("too-long", "error", ("4",))]
    assert [len(ids) for ids in asked] == [4, 3, 4]  # what is left out is not held out either
