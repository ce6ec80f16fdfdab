"""Captions from every form a dataset may have, and every way a caption file can be wrong."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorareg.errors import InvalidFileError, LoraregError, NotFoundError
from lorareg.trainers.data.caption_files import read_captions, read_table
from lorareg.trainers.data.caption_rows import Reading
from lorareg.trainers.data.images import read_records

IMAGES = ["img01.jpg", "img02.png"]
EXPECTED = {"img01.jpg": "a cat, on a mat", "img02.png": "一只狗"}

FORMS = {
    "csv without a header": 'img01.jpg,"a cat, on a mat"\nimg02.png,一只狗\n',
    "csv with a header": 'file_name,text\nimg01.jpg,"a cat, on a mat"\nimg02.png,一只狗\n',
    "columns in another order": 'caption,n,image\n"a cat, on a mat",1,img01.jpg\n'
    "一只狗,2,img02.png\n",
    "the card's own header": 'filename,prompt\nimg01.jpg,"a cat, on a mat"\nimg02.png,"一只狗"\n',
    "spaces after the comma": 'img01.jpg, "a cat, on a mat"\nimg02.png, 一只狗\n',
    "empty lines and Windows ends": '\r\nimg01.jpg,"a cat, on a mat"\r\n\r\nimg02.png,一只狗\r\n',
    "a byte-order mark": '\ufeffimg01.jpg,"a cat, on a mat"\nimg02.png,一只狗\n',
    "paths as Windows writes them": './img01.jpg,"a cat, on a mat"\n.\\img02.png,一只狗\n',
}


def write(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_bytes(text.encode())
    return folder


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS.keys())
def test_a_csv_is_read_in_every_common_form(tmp_path: Path, text: str) -> None:
    assert read_captions(write(tmp_path, "metadata.csv", text), IMAGES, None) == EXPECTED


@pytest.mark.parametrize("keys", [("file_name", "text"), ("image", "caption"), ("img", "prompt")])
def test_a_jsonl_is_read_with_the_names_in_use(tmp_path: Path, keys: tuple[str, str]) -> None:
    rows = [dict(zip(keys, row, strict=True)) | {"extra": 1} for row in EXPECTED.items()]
    text = "\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows)

    assert read_captions(write(tmp_path, "metadata.jsonl", text), IMAGES, None) == EXPECTED


def test_a_jsonl_caption_may_hold_unicode_line_ends(tmp_path: Path) -> None:
    caption = "one\u2028two\x85three"
    row = json.dumps({"file_name": "img01.jpg", "text": caption}, ensure_ascii=False)

    found = read_captions(write(tmp_path, "metadata.jsonl", row), IMAGES, None)

    assert found == {"img01.jpg": caption}


def test_a_csv_caption_may_hold_quotes_and_line_ends(tmp_path: Path) -> None:
    text = 'img01.jpg,"a ""big"" cat,\non a mat"\n'

    found = read_captions(write(tmp_path, "metadata.csv", text), IMAGES, None)

    assert found == {"img01.jpg": 'a "big" cat,\non a mat'}


def test_text_files_beside_the_pictures_are_captions(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    write(tmp_path, "img01.txt", "a cat, on a mat\n")
    write(tmp_path, "sub/img02.txt", "一只狗")

    found = read_captions(tmp_path, ["img01.jpg", "sub/img02.png"], None)

    assert found == {"img01.jpg": "a cat, on a mat\n", "sub/img02.png": "一只狗"}


def test_the_manifest_chooses_among_several_forms(tmp_path: Path) -> None:
    write(tmp_path, "metadata.csv", "img01.jpg,csv\n")
    write(tmp_path, "metadata.jsonl", '{"file_name": "img01.jpg", "text": "jsonl"}')
    write(tmp_path, "img01.txt", "txt")
    write(tmp_path, "own.csv", "img01.jpg,own\n")

    found = {
        chosen: read_captions(tmp_path, ["img01.jpg"], chosen)["img01.jpg"]
        for chosen in (None, "metadata.jsonl", "txt", "own.csv")
    }

    assert found == {None: "csv", "metadata.jsonl": "jsonl", "txt": "txt", "own.csv": "own"}


@pytest.mark.parametrize("chosen", ["other.csv", "../secret.csv", "sub/metadata.csv"])
def test_a_caption_file_that_is_not_in_the_folder_is_an_error(tmp_path: Path, chosen: str) -> None:
    (tmp_path / "data").mkdir()
    write(tmp_path, "secret.csv", "img01.jpg,x\n")

    with pytest.raises(NotFoundError, match="has no"):
        read_captions(tmp_path / "data", IMAGES, chosen)


def test_every_bad_line_of_a_csv_is_named_at_once(tmp_path: Path) -> None:
    text = "img01.jpg,a cat, on a mat\nimg02.png\nimg03.png,fine\nimg03.png,again\n"

    why = refusal(write(tmp_path, "metadata.csv", text))

    assert "line 1: 3 columns; put the caption in double quotes" in why
    assert "line 2: 1 columns" in why
    assert "line 4: img03.png has a caption already" in why


def test_a_quote_in_the_wrong_place_names_its_line(tmp_path: Path) -> None:
    why = refusal(write(tmp_path, "metadata.csv", 'img01.jpg,fine\nimg02.png,"a "big" cat"\n'))

    assert "line 2" in why


def test_every_bad_line_of_a_jsonl_is_named_at_once(tmp_path: Path) -> None:
    lines = [
        '{"file_name": "img01.jpg", "text": "fine"}',
        '{"file_name": "img01.jpg", "text": "again"}',
        '{"file_name": "img02.png"}',
        '{"file_name": "img02.png", "text": 7}',
        '["img02.png", "a list"]',
        "not json",
        "[" * 100_000,
    ]

    why = refusal(write(tmp_path, "metadata.jsonl", "\n".join(lines)))

    assert "line 2: img01.jpg has a caption already" in why
    assert why.count("needs file_name and text") == 3
    assert "line 6: not JSON" in why
    assert "line 7: not JSON" in why


def test_a_file_in_gbk_is_refused_with_its_line_and_how_to_convert_it(tmp_path: Path) -> None:
    text = 'img01.jpg,"a cat"\nimg02.png,"一只黑色的小狗"\n'
    (tmp_path / "metadata.csv").write_bytes(text.encode("gbk"))

    with pytest.raises(InvalidFileError) as caught:
        read_captions(tmp_path, IMAGES, None)

    assert "line 2" in caught.value.what
    assert "GBK" in caught.value.why
    assert "iconv -f GB18030" in caught.value.fix


def test_the_lenient_reader_gives_the_good_lines_and_what_is_wrong_with_the_others(
    tmp_path: Path,
) -> None:
    write(tmp_path, "metadata.csv", 'a.png,fine\nb.png,"a "big" cat"\nc.png\nd.png,good\na.png,x\n')

    table = read_table(tmp_path, IMAGES, None)

    assert (table.source, table.captions) == ("metadata.csv", {"a.png": "fine", "d.png": "good"})
    assert [(line.number, line.name) for line in table.bad_lines] == [
        (2, "b.png"),
        (3, "c.png"),
        (5, "a.png"),
    ]
    assert table.is_whole


def test_sidecars_that_cannot_be_read_are_refused_all_at_once(tmp_path: Path) -> None:
    (tmp_path / "img01.txt").write_bytes("一只黑色的小狗".encode("gbk"))
    (tmp_path / "img02.txt").write_bytes(b"a\0b")

    with pytest.raises(InvalidFileError) as caught:
        read_captions(tmp_path, IMAGES, None)

    assert "2 caption files that cannot be read" in caught.value.what
    assert "img01.txt is not UTF-8" in caught.value.why
    assert "img02.txt holds NUL bytes" in caught.value.why
    assert "iconv" in caught.value.fix


def test_a_table_with_semicolons_is_refused_with_a_command_that_converts_it(tmp_path: Path) -> None:
    path = (
        write(tmp_path, "metadata.csv", 'img01.jpg;"a ""b""; c"\nimg02.png;一只狗\n')
        / "metadata.csv"
    )

    with pytest.raises(InvalidFileError, match="semicolons") as caught:
        read_captions(tmp_path, IMAGES, None)
    subprocess.run(caught.value.fix.removeprefix("convert it: "), shell=True, check=True)

    assert read_captions(tmp_path, IMAGES, None) == {
        "img01.jpg": 'a "b"; c',
        "img02.png": "一只狗",
    }
    assert path.read_bytes().startswith(b"img01.jpg,")


def test_a_command_for_utf_16_without_a_mark_converts_it(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_bytes('img01.jpg,"a cat"\n'.encode("utf-16-be"))

    with pytest.raises(InvalidFileError, match="NUL") as caught:
        read_captions(tmp_path, IMAGES, None)
    command = caught.value.fix.removeprefix("convert it: ").replace("utf8.tmp", f"{tmp_path}/x")
    subprocess.run(command, shell=True, check=True)

    assert read_captions(tmp_path, IMAGES, None) == {"img01.jpg": "a cat"}


@given(
    st.dictionaries(
        st.from_regex(r"[a-z张]{1,5}\.png", fullmatch=True),
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40),
        min_size=1,
        max_size=6,
    ),
    st.booleans(),
)
def test_a_table_written_by_the_csv_module_is_read_as_it_was(
    captions: dict[str, str], has_header: bool
) -> None:
    stream = io.StringIO(newline="")
    rows = [("file_name", "text"), *captions.items()] if has_header else captions.items()
    csv.writer(stream, quoting=csv.QUOTE_ALL).writerows(rows)
    read = Reading("metadata.csv", Path("metadata.csv"))

    read.csv(stream.getvalue())

    assert (read.table, read.bad, read.faults) == (captions, [], {})


def test_missing_captions_and_captions_of_nothing_are_all_listed(tmp_path: Path) -> None:
    write(tmp_path, "metadata.csv", 'img02.png,"  "\nghost.png,boo\n')

    with pytest.raises(InvalidFileError) as caught:
        read_records(tmp_path, dict.fromkeys([*IMAGES, "metadata.csv"], "sha256:0"), None)

    assert "3 captions are missing or astray" in caught.value.what
    assert "img01.jpg: no caption" in caught.value.why
    assert "img02.png: no caption" in caught.value.why
    assert "ghost.png: caption of a picture that is not there" in caught.value.why


def test_a_quarantined_picture_needs_no_caption_and_may_keep_it(tmp_path: Path) -> None:
    files = dict.fromkeys([*IMAGES, "img03.png"], "sha256:0")
    write(tmp_path, "metadata.csv", "img01.jpg,a cat \nimg03.png,broken\n")

    records = read_records(tmp_path, files, None, skip=("img02.png", "img03.png"))

    assert [(record.id, record.caption) for record in records] == [("img01.jpg", "a cat")]


def test_a_folder_without_pictures_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, "metadata.csv", "img01.jpg,a cat\n")

    with pytest.raises(NotFoundError, match="has no picture"):
        read_records(tmp_path, {"metadata.csv": "sha256:0"}, None)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_match_in_either_unicode_form(tmp_path: Path, form: str) -> None:
    """macOS stores é as e and an accent; listings hold the composed form."""
    name = unicodedata.normalize(form, "café.png")  # type: ignore[arg-type]
    (tmp_path / name).write_bytes(b"")
    write(tmp_path, "metadata.csv", unicodedata.normalize("NFD", "café.png") + ",coffee\n")

    (record,) = read_records(tmp_path, {unicodedata.normalize("NFC", name): "sha256:0"}, None)

    assert record.id == unicodedata.normalize("NFC", "café.png")
    assert record.path.is_file()


def test_sidecars_match_in_either_unicode_form(tmp_path: Path) -> None:
    write(tmp_path, unicodedata.normalize("NFD", "café.txt"), "coffee")

    assert read_captions(tmp_path, ["café.png"], None) == {"café.png": "coffee"}


def refusal(folder: Path) -> str:
    with pytest.raises(LoraregError) as caught:
        read_captions(folder, IMAGES, None)
    return caught.value.why
