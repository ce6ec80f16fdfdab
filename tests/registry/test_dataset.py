from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorareg.errors import InvalidFileError, NotFoundError
from lorareg.registry.dataset import Difference, difference, scan
from lorareg.registry.digest import DigestCache

NO_CACHE = DigestCache(None)
GOLDEN = "tree-sha256-v1:a8adff288aabb3a0ae2ed38866cea8ae085510129b37c84837cf6346aae04f90"


def make(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make(
        tmp_path / "faces",
        {"metadata.csv": 'a.png,"a hat"\n', "a.png": "A", "sub/b.JPG": "B", "caf\u00e9.txt": "C"},
    )


def digest_of(folder: Path) -> str:
    return scan(folder, NO_CACHE).digest


def test_the_digest_of_a_dataset_never_changes(folder: Path) -> None:
    assert digest_of(folder) == GOLDEN


def test_the_digest_is_unchanged_when_the_dataset_moves(folder: Path, tmp_path: Path) -> None:
    before = digest_of(folder)
    moved = tmp_path / "elsewhere/under/another name"
    moved.parent.mkdir(parents=True)

    shutil.copytree(folder, moved)
    folder.rename(tmp_path / "renamed")

    assert digest_of(moved) == digest_of(tmp_path / "renamed") == before


def test_the_digest_is_unchanged_when_files_were_made_in_another_order(
    folder: Path, tmp_path: Path
) -> None:
    files = {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*.*")}

    other = make(tmp_path / "other", dict(reversed(files.items())))

    assert digest_of(other) == digest_of(folder)


def test_the_digest_is_unchanged_when_names_come_decomposed(folder: Path) -> None:
    before = scan(folder, NO_CACHE)
    decomposed = unicodedata.normalize("NFD", "caf\u00e9.txt")

    (folder / "caf\u00e9.txt").rename(folder / decomposed)
    after = scan(folder, NO_CACHE)

    assert after.digest == before.digest
    assert after.files == before.files


def test_the_digest_is_unchanged_by_what_does_not_count(folder: Path) -> None:
    before = digest_of(folder)

    make(folder, {"ATTRIBUTION.md": "CC0", ".DS_Store": "x", ".hidden.png": "x", "notes.pdf": "x"})
    make(folder, {".cache/a.png": "x", "sub/.b.JPG.tmp": "x", "faces.zip": "x"})

    assert digest_of(folder) == before


@pytest.mark.parametrize(
    "change",
    [
        {"a.png": "a"},
        {"a.png": "A\n"},
        {"a.png": ""},
        {"metadata.csv": 'a.png,"a cap"\n'},
        {"sub/b.JPG": "b"},
        {"c.png": "A"},
    ],
)
def test_the_digest_is_changed_by_one_byte_or_one_file(
    folder: Path, change: dict[str, str]
) -> None:
    before = digest_of(folder)

    make(folder, change)

    assert digest_of(folder) != before


def test_the_digest_is_changed_by_a_rename_and_by_a_removal(folder: Path) -> None:
    digests = [digest_of(folder)]

    (folder / "a.png").rename(folder / "aa.png")
    digests.append(digest_of(folder))
    (folder / "aa.png").unlink()
    digests.append(digest_of(folder))

    assert len(set(digests)) == 3


def test_the_digest_sees_two_files_that_trade_their_contents(folder: Path) -> None:
    before = digest_of(folder)

    make(folder, {"a.png": "B", "sub/b.JPG": "A"})

    assert digest_of(folder) != before


@given(
    st.dictionaries(
        st.from_regex(r"[a-z]{1,3}(/[a-z]{1,3})?\.(png|txt)", fullmatch=True),
        st.text("ab", max_size=2),
        min_size=1,
        max_size=4,
    ),
    st.randoms(use_true_random=False),
)
def test_the_digest_is_that_of_the_names_and_contents(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, str], random: object
) -> None:
    one = make(tmp_path_factory.mktemp("one"), files)
    other = make(tmp_path_factory.mktemp("other"), dict(sorted(files.items(), reverse=True)))

    assert digest_of(one) == digest_of(other)
    assert set(scan(one, NO_CACHE).files) == set(files)


def test_pictures_are_listed_whatever_the_case_of_their_ending(folder: Path) -> None:
    assert scan(folder, NO_CACHE).images == ["a.png", "sub/b.JPG"]


def test_one_file_of_records_is_a_dataset(tmp_path: Path) -> None:
    make(tmp_path, {"talk.jsonl": "{}\n", "other.jsonl": "{}\n"})

    assert list(scan(tmp_path / "talk.jsonl", NO_CACHE).files) == ["talk.jsonl"]


def test_a_missing_dataset_is_named_with_the_way_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no dataset at faces/") as caught:
        scan(tmp_path / "faces", NO_CACHE)

    assert "lorareg pull" in caught.value.fix


@pytest.mark.parametrize("files", [{}, {"README.md": "x"}, {".a.png": "x"}, {"a.gif": "x"}])
def test_an_empty_dataset_is_named(tmp_path: Path, files: dict[str, str]) -> None:
    (tmp_path / "faces").mkdir()
    make(tmp_path / "faces", files)

    with pytest.raises(NotFoundError, match="faces/ is empty"):
        scan(tmp_path / "faces", NO_CACHE)


def refusal(folder: Path) -> str:
    with pytest.raises(InvalidFileError, match="dataset faces/") as caught:
        scan(folder, NO_CACHE)
    assert caught.value.fix
    return caught.value.why


@pytest.mark.skipif(sys.platform == "darwin", reason="its file system has no such twins")
@pytest.mark.parametrize(
    ("one", "other"),
    [("a.png", "A.png"), ("sub/b.JPG", "SUB/B.jpg"), ("ü.png", "u\u0308.png"), ("É.txt", "é.txt")],
)
def test_names_that_are_one_file_elsewhere_are_refused(folder: Path, one: str, other: str) -> None:
    make(folder, {one: "1", other: "2"})

    why = refusal(folder)

    assert repr(one) in why
    assert repr(other) in why


def test_a_link_out_of_the_dataset_is_refused(folder: Path, tmp_path: Path) -> None:
    make(tmp_path, {"secret.txt": "x"})
    (folder / "c.txt").symlink_to(tmp_path / "secret.txt")

    assert "'c.txt': it links out of the dataset" in refusal(folder)


def test_every_file_that_cannot_be_used_is_named_at_once(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (folder / "c.png").symlink_to("gone.png")
    (folder / "d").symlink_to(tmp_path / "more")
    (folder / "e").symlink_to("sub")
    (folder / "f\ng.png").write_text("x")
    (folder / "h\\i.png").write_text("x")
    os.mkfifo(folder / "j.png")

    why = refusal(folder)

    assert "'c.png': it is a link to nothing" in why
    assert "'d': it links out of the dataset" in why
    assert "'e': it is a link to a folder" in why
    assert "'f\\ng.png': write paths with /" in why
    assert "'h\\\\i.png': write paths with /" in why
    assert "'j.png': it is no regular file" in why


@pytest.mark.skipif(sys.platform == "darwin", reason="its file system takes UTF-8 only")
def test_a_name_that_is_not_utf8_is_refused(folder: Path) -> None:
    with open(os.fsencode(folder) + b"/\xff.png", "w") as stream:
        stream.write("x")

    assert "its name is not UTF-8" in refusal(folder)


def test_a_link_within_the_dataset_counts_as_its_file(folder: Path, tmp_path: Path) -> None:
    (folder / "c.png").symlink_to("a.png")
    linked = digest_of(folder)
    (folder / "c.png").unlink()

    make(folder, {"c.png": "A"})

    assert digest_of(folder) == linked


def test_a_difference_names_files(folder: Path) -> None:
    before = scan(folder, NO_CACHE).files
    make(folder, {"a.png": "other", "new.png": "N"})
    (folder / "sub/b.JPG").unlink()

    found = difference(before, scan(folder, NO_CACHE).files)

    assert found == Difference(added=("new.png",), removed=("sub/b.JPG",), changed=("a.png",))
    assert found.sentences() == ["a.png changed", "sub/b.JPG removed", "new.png added"]
    assert found
    assert not difference(before, before)


@pytest.fixture
def _as_nobody() -> Iterator[None]:
    """Root may read everything, so a test as root gives that up for its duration."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    yield
    os.seteuid(0)


@pytest.mark.parametrize(("closed", "refused"), [("sub", "folder sub/"), ("a.png", "a.png")])
def test_what_may_not_be_read_is_named(
    folder: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch,
    closed: str, refused: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(folder)  # from here on, nothing above it has to be readable
    folder.chmod(0o755)
    (folder / closed).chmod(0)
    request.getfixturevalue("_as_nobody")

    with pytest.raises(InvalidFileError, match=f"cannot (list|read) {refused}"):
        scan(Path("."), NO_CACHE)


def test_a_link_to_itself_is_a_link_to_nothing(folder: Path) -> None:
    (folder / "round.png").symlink_to("round.png")
    (folder / "round").symlink_to("round")

    assert refusal(folder) == "\n  - 'round.png': it is a link to nothing"
