from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lorareg.errors import InvalidFileError, NotFoundError
from lorareg.registry.dvc import pointer, pointerfile
from lorareg.registry.dvc.pointer import Pointer

PLAIN = """\
outs:
- md5: eacf412ae86d3f39a495b4e57f06c8c3.dir
  size: 6
  nfiles: 2
  hash: md5
  path: x
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder whose md5 was written down from ``dvc add`` 3.67."""
    (tmp_path / "data/x/子").mkdir(parents=True)
    (tmp_path / "data/x/1.txt").write_text("1\n")
    (tmp_path / "data/x/子/张三.txt").write_text("张\n", encoding="utf-8")
    (tmp_path / "data/x.dvc").write_text(PLAIN)
    return tmp_path / "data/x"


def test_a_pointer_says_which_bytes_belong_next_to_it(tmp_path: Path, folder: Path) -> None:
    found = pointer.read(tmp_path, Path("data/x.dvc"))

    assert found == Pointer(
        tmp_path / "data/x.dvc", folder, "eacf412ae86d3f39a495b4e57f06c8c3.dir", 6, 2
    )
    assert found.is_folder


def test_the_md5_of_a_folder_is_the_one_that_dvc_writes(folder: Path) -> None:
    assert pointer.folder_md5(folder) == "eacf412ae86d3f39a495b4e57f06c8c3.dir"


def test_state_is_unchanged_modified_or_missing(tmp_path: Path, folder: Path) -> None:
    tracked = pointer.read(tmp_path, Path("data/x.dvc"))
    states = [pointer.state(tracked)]

    (folder / "1.txt").write_text("2\n")
    states.append(pointer.state(tracked))
    assert pointer.is_materialized(tracked), "as many files and bytes as before"
    (folder / "1.txt").unlink()
    states.append(pointer.state(tracked))
    assert not pointer.is_materialized(tracked)
    (folder / "子/张三.txt").unlink()
    (folder / "子").rmdir()
    folder.rmdir()
    states.append(pointer.state(tracked))

    assert states == ["unchanged", "modified", "modified", "missing"]


def test_files_that_dvc_leaves_out_do_not_count(tmp_path: Path, folder: Path) -> None:
    (folder / ".git").mkdir()
    (folder / ".git/config").write_text("[core]")

    assert pointer.state(pointer.read(tmp_path, Path("data/x.dvc"))) == "unchanged"


def test_naming_a_remote_keeps_the_rest_of_the_pointer(tmp_path: Path, folder: Path) -> None:
    file = tmp_path / "data/x.dvc"
    file.write_text("# drawn by hand\n" + PLAIN)

    named = replace(pointer.read(tmp_path, file), remote="private")
    pointerfile.write(named, tmp_path / "scratch")

    assert pointer.read(tmp_path, file).remote == "private"
    assert "# drawn by hand" in file.read_text()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (PLAIN.replace("path: x", "path: ../x"), "not the 'x' next to it"),
        (PLAIN.replace("path: x", "path: /etc/passwd"), "not the 'x' next to it"),
        (PLAIN.replace("path: x", "path: y"), "not the 'x' next to it"),
        (PLAIN + "wdir: ..\n", "'wdir'"),
        (PLAIN + "deps:\n- path: https://example.org/x\n", "'deps'"),
        (PLAIN + "cmd: rm -rf /\n", "'cmd'"),
        (PLAIN + "  cache: false\n", "'cache'"),
        (PLAIN.replace("  hash: md5\n", ""), "DVC 2"),
        (PLAIN.replace("eacf", "../a"), "is not an md5"),
        (PLAIN.replace("size: 6", "size: -1"), "size -1"),
        (PLAIN.replace("  nfiles: 2\n", ""), "nfiles None"),
        (PLAIN + "- path: z\n", "exactly one out"),
        ("outs: 3\n", "exactly one out"),
    ],
)
def test_a_pointer_that_leads_elsewhere_is_refused(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "x.dvc").write_text(text)

    with pytest.raises(InvalidFileError, match="not a pointer") as refusal:
        pointer.read(tmp_path, Path("x.dvc"))

    assert why in refusal.value.why


def test_a_pointer_through_a_link_out_of_the_registry_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "registry"
    root.mkdir()
    (tmp_path / "x").mkdir()
    (root / "x").symlink_to(tmp_path / "x")
    (root / "x.dvc").write_text(PLAIN)

    with pytest.raises(InvalidFileError) as refusal:
        pointer.read(root, Path("x.dvc"))

    assert "symbolic link" in refusal.value.why


@pytest.mark.parametrize("file", ["../x.dvc", "/x.dvc"])
def test_a_pointer_outside_the_registry_is_refused(tmp_path: Path, file: str) -> None:
    with pytest.raises(InvalidFileError):
        pointer.read(tmp_path, Path(file))


def test_a_pointer_to_a_repository_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".git.dvc").write_text(PLAIN.replace("path: x", "path: .git"))

    with pytest.raises(InvalidFileError):
        pointer.read(tmp_path, Path(".git.dvc"))


@pytest.mark.parametrize("text", ["[" * 8_000, "a: &a [1]\nouts: [*a]\n", "x" * 20_000, "\t:"])
def test_a_hostile_pointer_file_is_refused_and_not_a_crash(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.dvc").write_text(text)

    with pytest.raises(InvalidFileError):
        pointer.read(tmp_path, Path("x.dvc"))


def test_a_missing_pointer_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        pointer.read(tmp_path, Path("x.dvc"))


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["/etc/passwd"], "absolute"),
        (["a/../../b"], "'..'"),
        (["a\\b"], "write paths with /"),
        (["C:/a"], "absolute"),
        (["a//b"], "normal form"),
        (["./a"], "normal form"),
        (["a\nb"], "control"),
        (["A.png", "a.png"], "one file on macOS"),
        (["é", "e\u0301"], "one file on macOS"),
        (["sub/.git/config"], "belongs to a repository"),
        (["sub/.GIT/config"], "belongs to a repository"),
    ],
)
def test_a_listing_with_dangerous_names_is_refused(names: list[str], why: str) -> None:
    data = json.dumps([{"md5": "0" * 32, "relpath": name} for name in names]).encode()

    with pytest.raises(InvalidFileError) as refusal:
        pointer.parse_listing(data, "data/x")

    assert why in refusal.value.why


@pytest.mark.parametrize(
    "data",
    [b"", b"{}x", b"[1]", b'[{"relpath": "a"}]', b'[{"relpath": 1, "md5": "x"}]', b"[" * 100_000],
)
def test_a_damaged_listing_is_refused_and_not_a_crash(data: bytes) -> None:
    with pytest.raises(InvalidFileError):
        pointer.parse_listing(data, "data/x")


def test_a_folder_that_would_not_check_out_elsewhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "A.png").touch()
    (tmp_path / "a.png").touch()
    (tmp_path / "lost").symlink_to(tmp_path / "nowhere")

    with pytest.raises(InvalidFileError) as refusal:
        pointer.check_folder(tmp_path)

    assert "one file on macOS" in refusal.value.why
    assert "'lost' is a link to nothing" in refusal.value.why
