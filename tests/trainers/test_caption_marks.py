"""Who wrote a caption: marks that hold only as long as the caption does."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lorareg.errors import InvalidFileError
from lorareg.registry.dataset import scan
from lorareg.registry.digest import DigestCache, of_bytes
from lorareg.trainers.data.caption_marks import FILE, Marks, change

MODEL = "Salesforce/blip-image-captioning-base@82a37760796d32b1411fe092ab5d4e227313294b"


def test_a_marked_caption_is_a_machines_until_its_text_changes() -> None:
    marks = Marks().mark("a.png", "a cat", MODEL)

    assert marks.is_machine("a.png", "a cat")
    assert marks.by("a.png") == MODEL
    assert not marks.is_machine("a.png", "a fat cat")
    assert not marks.is_machine("b.png", "a cat")


def test_a_caption_is_unreviewed_until_a_person_accepts_this_very_text() -> None:
    machine = Marks().mark("a.png", "a cat", MODEL)
    accepted = machine.reviewed("a.png", "a cat")

    assert not machine.is_reviewed("a.png", "a cat")
    assert accepted.is_reviewed("a.png", "a cat")
    assert not accepted.is_reviewed("a.png", "a fat cat")
    assert not accepted.mark("a.png", "a dog", MODEL).is_reviewed("a.png", "a dog")


def test_an_accepted_caption_stays_the_machines_and_an_edited_one_is_the_persons() -> None:
    machine = Marks().mark("a.png", "a cat", MODEL)

    assert machine.reviewed("a.png", "a cat").is_machine("a.png", "a cat")
    edited = machine.reviewed("a.png", "my cat")
    assert not edited.is_machine("a.png", "my cat")
    assert edited.is_reviewed("a.png", "my cat")
    assert edited.by("a.png") is None


def test_white_space_around_a_caption_does_not_count() -> None:
    marks = Marks().mark("a.png", "a cat\n", MODEL)

    assert marks.is_machine("a.png", "a cat")


def test_marks_are_one_line_of_canonical_json(tmp_path: Path) -> None:
    Marks().mark("图.png", "一只狗", MODEL).save(tmp_path)

    assert (tmp_path / FILE).read_text(encoding="utf-8") == (
        f'{{"captions":{{"图.png":{{"by":"{MODEL}","caption":"{of_bytes("一只狗".encode())}",'
        '"reviewed":false}},"schema":"lorareg/captions/1"}\n'
    )


def test_marks_do_not_change_the_digest_of_the_dataset(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"picture")
    before = scan(tmp_path, DigestCache(None)).digest

    Marks().mark("a.png", "a cat", MODEL).save(tmp_path)

    assert scan(tmp_path, DigestCache(None)).digest == before


def test_a_dataset_without_the_file_has_no_marks(tmp_path: Path) -> None:
    assert Marks.load(tmp_path) == Marks()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    captions=st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8), st.text("a,狗\n")
    ),
    reviewed=st.booleans(),
)
def test_marks_read_back_as_they_were_saved(
    tmp_path: Path, captions: dict[str, str], reviewed: bool
) -> None:
    marks = Marks()
    for name, caption in captions.items():
        marks = marks.mark(name, caption, MODEL)
        marks = marks.reviewed(name, caption) if reviewed else marks

    marks.save(tmp_path)

    assert Marks.load(tmp_path) == marks


GOOD = {"caption": of_bytes(b""), "by": MODEL, "reviewed": True}
BROKEN = {
    "half a file": '{"captions":',
    "not an object": "[]",
    "another schema": json.dumps({"schema": "lorareg/captions/2", "captions": {}}),
    "no captions": json.dumps({"schema": "lorareg/captions/1"}),
    "a name twice": '{"schema":"lorareg/captions/1","captions":{},"captions":{}}',
    "a digest that is none": json.dumps(
        {"schema": "lorareg/captions/1", "captions": {"a.png": GOOD | {"caption": "abc"}}}
    ),
    "a word for a truth": json.dumps(
        {"schema": "lorareg/captions/1", "captions": {"a.png": GOOD | {"reviewed": "yes"}}}
    ),
    "an unknown key": json.dumps(
        {"schema": "lorareg/captions/1", "captions": {"a.png": GOOD | {"when": 1}}}
    ),
    "deep nesting": "[" * 100_000,
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_file_is_an_error_and_never_forgotten_silently(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text, encoding="utf-8")

    with pytest.raises(InvalidFileError, match=FILE) as error:
        Marks.load(tmp_path)

    assert "restore" in error.value.fix
    with pytest.raises(InvalidFileError):
        change(tmp_path, lambda marks: marks.mark("a.png", "a cat", MODEL))
    assert (tmp_path / FILE).read_text(encoding="utf-8") == text


def test_marks_that_two_writers_change_at_once_are_all_kept(tmp_path: Path) -> None:
    names = [f"{number}.png" for number in range(24)]

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: change(tmp_path, lambda m: m.mark(n, n, MODEL)), names))

    assert sorted(Marks.load(tmp_path).marks) == sorted(names)
