"""Which datasets with personal data are trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lorareg.errors import InvalidFileError, TrainingError
from lorareg.registry import dataset, manifest
from lorareg.registry.digest import DigestCache
from lorareg.trainers import personal_data
from lorareg.trainers.data.redact.run import redact_dataset

ROW = '{"prompt": "I am John Miller, call 415-555-2671", "completion": "Thank you, John."}\n'


def asked(path: Path, **chosen: Any) -> None:
    """What ``train`` asks before it looks at the data."""
    document = {
        "schema": "lorareg/1",
        "kind": "tone",
        "name": "support",
        "task": "text-generation",
        "base": {"model": "builtin:smollm2"},
        "dataset": {"path": "data/support.jsonl", "contains_personal_data": True, **chosen},
        "owners": ["alice"],
    }
    wanted = manifest.parse(document, "manifest.yaml")
    personal_data.refuse(wanted, path, dataset.scan(path, DigestCache(None)))


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    path = tmp_path / "support.jsonl"
    path.write_text(ROW, encoding="utf-8")
    return path


@pytest.fixture
def clean(raw: Path) -> Path:
    out = raw.with_name("clean.jsonl")
    redact_dataset(raw, out, lambda *_: None)
    return out


def test_a_raw_dataset_is_refused_with_the_command_that_mends_it(raw: Path) -> None:
    with pytest.raises(TrainingError) as refusal:
        asked(raw)

    assert "support.jsonl: has no support.redaction.json beside it" in refusal.value.why
    assert refusal.value.fix.startswith("lorareg data redact tone/support --out data/support_")


def test_a_redacted_dataset_is_trained_on(clean: Path) -> None:
    asked(clean)


def test_a_redacted_dataset_that_was_edited_is_named(clean: Path) -> None:
    clean.write_text(clean.read_text(encoding="utf-8") + ROW, encoding="utf-8")

    with pytest.raises(TrainingError, match="contains personal data") as refusal:
        asked(clean)

    assert "clean.jsonl: changed since it was redacted" in refusal.value.why


def test_an_owner_may_waive(raw: Path) -> None:
    asked(raw, waiver={"by": "alice", "reason": "everyone in it signed, contract 7"})


@pytest.mark.parametrize("reason", ["", "  "])
def test_a_waiver_says_why(raw: Path, reason: str) -> None:
    with pytest.raises(InvalidFileError, match="reason"):
        asked(raw, waiver={"by": "alice", "reason": reason})


def test_an_unmarked_dataset_is_not_asked_about(raw: Path) -> None:
    asked(raw, contains_personal_data=False)
