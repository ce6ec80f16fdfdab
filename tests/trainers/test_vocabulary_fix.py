"""Aliases turned into terms in a copy, and nothing else touched."""

from __future__ import annotations

import csv
import io
import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lorareg.errors import InvalidFileError, LoraregError
from lorareg.trainers.data.caption_files import read_captions
from lorareg.trainers.data.vocabulary import cells
from lorareg.trainers.data.vocabulary.fix import canonical, fix
from lorareg.trainers.data.vocabulary.schema import Vocabulary

WORDS = Vocabulary.model_validate(
    {
        "schema": "lorareg/vocabulary/1",
        "groups": {
            "light": {"terms": ["fluorescent light", "lamp", 'a "hot", bright spot', "冷光"]}
        },
        "aliases": {
            "fluoro light": "fluorescent light",
            "荧光灯": "冷光",
            "灯": "lamp",
            "hot spot": 'a "hot", bright spot',
            "light": "fluorescent light",
        },
    }
)


def test_only_the_cells_that_change_are_written_anew(tmp_path: Path) -> None:
    before = (
        "\ufefffile_name, text ,note\r\n"
        'img01.png, "a ""big"" cat, \nfluoro  light" ,"fluoro light"\r\n'
        "\r\n"
        'img02.png,"no alias", light\r\n'
        "img03.png, hot spot,x\n"
        'img04.png,荧光灯,"x"'
    )
    (tmp_path / "metadata.csv").write_bytes(before.replace('light" ,', 'light",').encode())

    done = fix(tmp_path, None, WORDS)

    assert done.path == tmp_path / "metadata.fixed.csv"
    assert done.captions == 3
    assert done.path.read_bytes().decode() == (
        "\ufefffile_name, text ,note\r\n"
        'img01.png, "a ""big"" cat, \nfluorescent light","fluoro light"\r\n'
        "\r\n"
        'img02.png,"no alias", light\r\n'
        'img03.png, "a ""hot"", bright spot",x\n'
        'img04.png,冷光,"x"'
    )


def test_a_jsonl_keeps_its_other_keys_and_its_way_of_writing(tmp_path: Path) -> None:
    lines = [
        '{"note": "fluoro light",  "file_name":"img01.png", "text": "fluoro light"}\r\n',
        '{"file_name": "img02.png", "text": "\\u706f"}\n',
        '{"file_name": "img03.png", "text": "荧光灯", "x": [NaN, {"text": "荧光灯"}]}\n',
        "\n",
        '{"file_name": "img04.png", "text": "none\u2028here"}',
    ]
    (tmp_path / "metadata.jsonl").write_bytes("".join(lines).encode())

    done = fix(tmp_path, None, WORDS)

    assert done.path is not None
    assert done.path.name == "metadata.fixed.jsonl"
    assert done.path.read_bytes().decode().splitlines(keepends=True)[:3] == [
        '{"note": "fluoro light",  "file_name":"img01.png", "text": "fluorescent light"}\r\n',
        '{"file_name": "img02.png", "text": "lamp"}\n',
        '{"file_name": "img03.png", "text": "冷光", "x": [NaN, {"text": "荧光灯"}]}\n',
    ]
    assert done.path.read_text("utf-8").endswith(lines[-1])


def test_sidecars_become_one_table_with_every_caption(tmp_path: Path) -> None:
    for name, text in {"a": "light, x\n", "sub/b": "cat", ".hidden/c": "light"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.txt").write_text(text, encoding="utf-8")
        (tmp_path / f"{name}.png").write_bytes(b"")

    done = fix(tmp_path, "txt", WORDS)

    assert done.path is not None
    assert done.path.read_text("utf-8") == (
        'file_name,text\na.png,"fluorescent light, x"\nsub/b.png,cat\n'
    )
    assert "mv" in done.adopt
    assert "remove captions: txt" in done.adopt
    assert (tmp_path / "a.txt").read_text("utf-8") == "light, x\n"


def test_the_diff_is_one_that_patch_applies(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text(
        'a.png,light\nb.png,x\nc.png,"two\nlines, light"\nd.png,灯', encoding="utf-8"
    )

    done = fix(tmp_path, None, WORDS)
    patched = subprocess.run(
        ["patch", "--unified", "metadata.csv", "--output", "patched.csv"],
        cwd=tmp_path,
        input=done.diff.encode(),
        capture_output=True,
        check=True,
    )

    assert patched.returncode == 0
    assert done.path is not None
    assert (tmp_path / "patched.csv").read_bytes() == done.path.read_bytes()


def test_a_second_run_changes_nothing(tmp_path: Path) -> None:
    original = b"a.png,light\nb.png,x\n"
    (tmp_path / "metadata.csv").write_bytes(original)

    first = fix(tmp_path, None, WORDS)
    again = fix(tmp_path, None, WORDS)
    of_copy = fix(tmp_path, "metadata.fixed.csv", WORDS)

    assert again == first
    assert (of_copy.path, of_copy.captions) == (None, 0)
    assert (tmp_path / "metadata.csv").read_bytes() == original
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "metadata.csv",
        "metadata.fixed.csv",
    ]


def test_a_copy_that_somebody_edited_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text("a.png,light\n")
    (tmp_path / "metadata.fixed.csv").write_text("mine")

    with pytest.raises(LoraregError, match="is there already") as caught:
        fix(tmp_path, None, WORDS)

    assert "rm " in caught.value.fix
    assert (tmp_path / "metadata.fixed.csv").read_text() == "mine"


def test_captions_with_bad_lines_are_not_copied(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text("a.png,light, x\n")

    with pytest.raises(InvalidFileError, match="bad line"):
        fix(tmp_path, None, WORDS)

    assert not (tmp_path / "metadata.fixed.csv").exists()


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("Fluoro Lights", "fluorescent lights"),
        ("LED灯3", "LED lamp 3"),
        ("灯灯", "lamp lamp"),
        ("荧光灯，灯。", "冷光，lamp。"),
        ("fluorescent light", "fluorescent light"),
        ("daylight", "daylight"),
    ],
)
def test_words_stay_words_where_scripts_meet(caption: str, expected: str) -> None:
    assert canonical(WORDS, caption) == expected


def test_aliases_that_lead_in_a_circle_are_refused() -> None:
    """A dim a: "dim" and the term's first "dim" are the other term, so its a stands alone again."""
    words = Vocabulary.model_validate(
        {
            "schema": "lorareg/vocabulary/1",
            "groups": {"g": {"terms": ["dim dim", "dim dim a"]}},
            "aliases": {"a": "dim dim a"},
        }
    )

    with pytest.raises(InvalidFileError, match="lead in a circle"):
        canonical(words, "dim a")


PIECES = [
    "light",
    "fluoro",
    "fluorescent",
    "荧光",
    "灯",
    "hot",
    "spot",
    "lights",
    "x",
    ",",
    '"',
    "\n",
    " ",
    "-",
]
CAPTIONS = st.lists(st.sampled_from(PIECES), max_size=8).map("".join)


@given(CAPTIONS)
def test_turning_a_caption_twice_is_turning_it_once(caption: str) -> None:
    once = canonical(WORDS, caption)

    assert canonical(WORDS, once) == once
    assert not [match for match in WORDS.find(once) if match.phrase.kind == "alias"]


@st.composite
def small_vocabularies(draw: st.DrawFn) -> Vocabulary:
    """Terms and aliases out of so few words that they overlap all the time."""
    phrase = st.lists(st.sampled_from("abc灯光"), min_size=1, max_size=3).map(" ".join)
    terms = draw(st.lists(phrase, min_size=1, max_size=4, unique=True))
    aliases = draw(st.dictionaries(phrase, st.sampled_from(terms), max_size=4))
    return Vocabulary.model_validate(
        {"schema": "lorareg/vocabulary/1", "groups": {"g": {"terms": terms}}, "aliases": aliases}
    )


@given(small_vocabularies(), st.lists(st.sampled_from("abc灯光, "), max_size=10).map(" ".join))
def test_any_vocabulary_turns_a_caption_once_or_is_refused(words: Vocabulary, caption: str) -> None:
    assume(not words.aliases.keys() & set(words.terms()))
    try:
        once = canonical(words, caption)
    except InvalidFileError:
        return

    assert canonical(words, once) == once


@given(st.lists(st.tuples(CAPTIONS, st.booleans()), min_size=1, max_size=5), st.booleans())
def test_a_table_fixed_and_read_is_the_table_read_and_fixed(
    rows: list[tuple[str, bool]], has_header: bool
) -> None:
    stream = io.StringIO(newline="")
    if has_header:
        csv.writer(stream).writerow(["file_name", "text"])
    for number, (caption, quoted) in enumerate(rows):
        style = csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL
        csv.writer(stream, quoting=style).writerow([f"{number}.png", f"x{caption}"])

    pieces = cells.of_csv(stream.getvalue(), lambda caption: canonical(WORDS, caption))

    assert "".join(before for before, _ in pieces) == stream.getvalue()
    found = list(csv.reader(io.StringIO("".join(after for _, after in pieces), newline="")))
    assert [caption for _, caption in found[has_header:]] == [
        canonical(WORDS, f"x{caption}") for caption, _ in rows
    ]


@given(st.lists(CAPTIONS, min_size=1, max_size=5), st.booleans())
def test_a_jsonl_fixed_and_read_is_the_jsonl_read_and_fixed(rows: list[str], ascii_: bool) -> None:
    texts = [{"file_name": "a.png", "text": text, "light": text, "n": 1.50} for text in rows]
    before = "".join(json.dumps(row, ensure_ascii=ascii_) + "\n" for row in texts)

    pieces = cells.of_jsonl(before, lambda caption: canonical(WORDS, caption))

    found = [json.loads(after) for _, after in pieces]
    assert found == [row | {"text": canonical(WORDS, str(row["text"]))} for row in texts]


def test_a_fixed_copy_is_read_as_captions(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text("a.png,灯 in a room\n", encoding="utf-8")
    fix(tmp_path, None, WORDS)

    assert read_captions(tmp_path, ["a.png"], "metadata.fixed.csv") == {"a.png": "lamp in a room"}
