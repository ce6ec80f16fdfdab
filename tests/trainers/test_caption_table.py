"""Captions written into a table: the changed cells change, and nothing else does."""

from __future__ import annotations

import csv
import io
import json
from collections import UserDict
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lorareg.errors import InvalidFileError, LoraregError
from lorareg.trainers.data.caption_files import read_captions
from lorareg.trainers.data.caption_table import MAX_CAPTION, destination, update

CAPTIONS = st.text(
    alphabet=st.one_of(
        st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
        st.sampled_from(list(' ,"\n\r\t;一只狗🐈\u2028')),
    ),
    max_size=40,
)
NAMES = st.sampled_from(["img01.jpg", "子/图 一.png", "a,b.webp", '"q".png', "cat🐈.png"])
TABLES = st.dictionaries(NAMES, CAPTIONS, max_size=5)


def table(folder: Path, text: str, name: str = "metadata.csv") -> Path:
    (folder / name).write_bytes(text.encode())
    return folder / name


def cells(path: Path) -> list[list[str]]:
    return list(csv.reader(io.StringIO(path.read_bytes().decode(), newline="")))


def test_a_new_table_has_a_header_and_a_row_for_each_picture(tmp_path: Path) -> None:
    path = update(tmp_path, {"img01.jpg": "a cat, on a mat", "img02.png": "一只狗"}, None)

    assert path == tmp_path / "metadata.csv"
    assert path.read_bytes().decode() == (
        'file_name,text\nimg01.jpg,"a cat, on a mat"\nimg02.png,一只狗\n'
    )


def test_only_the_changed_row_changes(tmp_path: Path) -> None:
    head = 'n,"caption",image\r\n1, "old, one",a.png\r\n\r\n'
    path = table(tmp_path, head + '2,"quoted",./b.png\r\n3,keep,c.png')

    update(tmp_path, {"b.png": 'new "one"'}, None)

    assert path.read_bytes().decode() == head + '2,"new ""one""",./b.png\r\n3,keep,c.png'


def test_a_new_picture_gets_a_row_with_empty_other_columns(tmp_path: Path) -> None:
    path = table(tmp_path, "n,caption,image\r\n1,keep,c.png")

    update(tmp_path, {"d.png": "new"}, None)

    assert path.read_bytes().decode() == "n,caption,image\r\n1,keep,c.png\r\n,new,d.png\r\n"


def test_a_table_without_a_header_stays_without_one(tmp_path: Path) -> None:
    path = table(tmp_path, "\na.png,old\nb.png,keep\n")

    update(tmp_path, {"a.png": "new", "c.png": "more"}, None)

    assert path.read_bytes().decode() == "\na.png,new\nb.png,keep\nc.png,more\n"


def test_a_byte_order_mark_stays_for_excel(tmp_path: Path) -> None:
    path = table(tmp_path, "\ufefffile_name,text\na.png,旧\n")

    update(tmp_path, {"a.png": "新"}, None)

    assert path.read_bytes().decode() == "\ufefffile_name,text\na.png,新\n"


def test_a_name_of_macos_or_windows_is_the_same_picture(tmp_path: Path) -> None:
    path = table(tmp_path, "file_name,text\ncafe\u0301.png,old\n.\\sub\\b.png,old\n")

    update(tmp_path, {"caf\u00e9.png": "new", "sub/b.png": "new"}, None)

    assert path.read_bytes().decode() == ("file_name,text\ncafe\u0301.png,new\n.\\sub\\b.png,new\n")


def test_nothing_is_written_when_nothing_changes(tmp_path: Path) -> None:
    path = table(tmp_path, "file_name,text\na.png,same\n")
    before = path.stat()

    update(tmp_path, {"a.png": "same"}, None)

    assert path.stat().st_ino == before.st_ino


def test_the_named_table_is_the_one_that_is_written(tmp_path: Path) -> None:
    table(tmp_path, "file_name,text\na.png,other\n")
    own = table(tmp_path, "a.png,old\n", "own.csv")

    assert update(tmp_path, {"a.png": "new"}, "own.csv") == own
    assert read_captions(tmp_path, ["a.png"], "own.csv") == {"a.png": "new"}
    assert read_captions(tmp_path, ["a.png"], None) == {"a.png": "other"}


def test_captions_in_text_files_all_move_into_the_table(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name, caption in {"a": "old\n", "sub/b": "一只狗\n", "c": "kept, too"}.items():
        (tmp_path / f"{name}.png").touch()
        (tmp_path / f"{name}.txt").write_text(caption, encoding="utf-8")

    update(tmp_path, {"a.png": "new", "d.png": "more"}, None)

    assert cells(tmp_path / "metadata.csv") == [
        ["file_name", "text"],
        ["a.png", "new"],
        ["c.png", "kept, too"],
        ["sub/b.png", "一只狗"],
        ["d.png", "more"],
    ]
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "old\n"


def test_captions_in_a_jsonl_all_move_into_the_table(tmp_path: Path) -> None:
    rows = [{"file_name": "a.png", "text": "old"}, {"file_name": "b.png", "text": "一\n二"}]
    table(tmp_path, "\n".join(map(json.dumps, rows)), "metadata.jsonl")

    update(tmp_path, {"a.png": "new"}, None)

    assert read_captions(tmp_path, [], None) == {"a.png": "new", "b.png": "一\n二"}


@pytest.mark.parametrize("captions", ["txt", "metadata.jsonl", "../other.csv"])
def test_a_manifest_that_names_no_table_is_an_error_before_anything_is_written(
    tmp_path: Path, captions: str
) -> None:
    with pytest.raises(LoraregError, match="cannot be written") as error:
        destination(tmp_path, captions)

    assert "remove dataset.captions" in error.value.fix
    assert list(tmp_path.iterdir()) == []


def test_a_table_with_bad_lines_is_left_as_it_is_and_they_are_named(tmp_path: Path) -> None:
    path = table(tmp_path, "a.png,one\nb.png\nc.png,too,many\n")

    with pytest.raises(InvalidFileError) as error:
        update(tmp_path, {"a.png": "new"}, None)

    assert "line 2" in error.value.why
    assert "line 3" in error.value.why
    assert path.read_bytes() == b"a.png,one\nb.png\nc.png,too,many\n"


@pytest.mark.parametrize("caption", ["x" * (MAX_CAPTION + 1), "half \ud83d", "nul \0"])
def test_a_caption_no_reader_could_read_back_is_refused(tmp_path: Path, caption: str) -> None:
    with pytest.raises(InvalidFileError, match="cannot be written"):
        update(tmp_path, {"a.png": caption}, None)

    assert list(tmp_path.iterdir()) == []


def test_what_an_editor_saves_between_two_updates_is_kept(tmp_path: Path) -> None:
    update(tmp_path, {"a.png": "one", "b.png": "two"}, None)
    path = tmp_path / "metadata.csv"
    path.write_text(path.read_text().replace("two", "by hand"))

    update(tmp_path, {"a.png": "new"}, None)

    assert read_captions(tmp_path, [], None) == {"a.png": "new", "b.png": "by hand"}


class SavedMeanwhile(UserDict[str, str]):
    """Changes during which an editor saves the table: after it was read, before it is written."""

    def __init__(self, path: Path, text: str, changes: dict[str, str]) -> None:
        super().__init__(changes)
        self._saves = iter([None, lambda: path.write_text(text, encoding="utf-8")])

    def __iter__(self) -> Iterator[str]:
        if save := next(self._saves, None):
            save()
        return super().__iter__()


def test_what_an_editor_saves_during_an_update_is_kept(tmp_path: Path) -> None:
    path = table(tmp_path, "a.png,one\nb.png,two\n")
    changes = SavedMeanwhile(path, "a.png,one\nb.png,by hand\n", {"a.png": "new"})

    update(tmp_path, changes, None)

    assert path.read_bytes() == b"a.png,new\nb.png,by hand\n"


@pytest.mark.parametrize(
    "caption", [" a", "\ta", "a ", '"', ",", "\r", "a\u2028b", "=1+1", "'", ""]
)
def test_a_caption_with_a_difficult_edge_reads_back(tmp_path: Path, caption: str) -> None:
    table(tmp_path, "a.png,old\n")

    update(tmp_path, {"a.png": caption, "b.png": caption}, None)

    assert read_captions(tmp_path, [], None) == {"a.png": caption, "b.png": caption}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=TABLES, changes=TABLES, header=st.booleans())
def test_every_caption_reads_back_as_it_was_written(
    tmp_path: Path, before: dict[str, str], changes: dict[str, str], header: bool
) -> None:
    path = table(tmp_path, "file_name,text\n" if header else "")

    update(tmp_path, before, None)
    update(tmp_path, changes, None)

    assert read_captions(tmp_path, [], None) == before | changes
    assert path.read_bytes().startswith(b"file_name,text\n") == header
