from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lorareg.errors import InvalidFileError, LoraregError, NotFoundError
from lorareg.registry.encodings import likely_encoding, wide_encoding
from lorareg.registry.files import (
    as_before_if_refused,
    read_utf8,
    replaced_atomically,
    write_atomically,
)


def run(code: str, path: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own, with ``path`` and what it needs at hand."""
    head = (
        "import os, resource, signal, sys; from pathlib import Path\n"
        "from lorareg.registry.files import replaced_atomically, write_atomically\n"
        "path = Path(sys.argv[1])\n"
    )
    command = [sys.executable, "-c", head + code, str(path)]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def test_a_written_file_is_whole_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a/b/lock.json", "张三\n")

    assert (tmp_path / "a/b/lock.json").read_bytes() == "张三\n".encode()
    assert [path.name for path in (tmp_path / "a/b").iterdir()] == ["lock.json"]


def test_an_exception_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "lock.json"
    path.write_text("old")

    def write() -> None:
        with replaced_atomically(path) as stream:
            stream.write(b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()

    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["lock.json"]


def test_a_kill_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "lock.json"
    path.write_text("old")
    killed = run(
        "with replaced_atomically(path) as stream:\n"
        "    stream.write(b'new'); stream.flush(); os.kill(os.getpid(), signal.SIGKILL)",
        path,
    )

    assert killed.returncode == -signal.SIGKILL
    assert path.read_text() == "old"


def test_a_disk_that_fills_up_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "lock.json"
    path.write_text("old")

    full = run(
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "write_atomically(path, b'x' * 100_000)",
        path,
    )

    assert "LoraregError: cannot write lock.json" in full.stderr
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["lock.json"]


@pytest.mark.parametrize(
    ("code", "remedy"),
    [(errno.ENOSPC, "make room"), (errno.EDQUOT, "make room"), (errno.EACCES, "permission"),
     (errno.EROFS, "permission")],
)  # fmt: skip
def test_a_full_or_closed_disk_is_named_with_the_remedy(
    tmp_path: Path, code: int, remedy: str
) -> None:
    with pytest.raises(LoraregError) as caught, replaced_atomically(tmp_path / "lock.json"):
        raise OSError(code, os.strerror(code))

    assert "lock.json" in caught.value.what
    assert remedy in caught.value.fix


def test_a_file_where_a_folder_should_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "manifests").write_text("not a folder")

    with pytest.raises(LoraregError, match=r"cannot write lock\.json"):
        write_atomically(tmp_path / "manifests/a/lock.json", "")


def test_a_byte_order_mark_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("\ufeffimg,张三".encode())

    assert read_utf8(tmp_path / "a.csv", max_bytes=100) == "img,张三"


@pytest.mark.parametrize(
    ("text", "encoding", "spoken"),
    [
        ("img,text\n1.png,张三在微笑\n", "gbk", "GBK"),
        ("img,text\n1.png,zzhangsan 朱镕基\n", "gbk", "GBK"),
        ("img,text\n1.png,un café à Orléans, été, prénom\n", "cp1252", "Windows-1252"),
        ("img,text\n1.png,“Grüße” – schön\n", "cp1252", "Windows-1252"),
        ("img,text\n1.png,张三\n", "utf-16", "UTF-16"),
        ("img,text\n1.png,猫在微笑\n", "utf-16-le", "UTF-16 without a byte-order mark"),
        ("img,text\n1.png,猫在微笑\n", "utf-16-be", "UTF-16 without a byte-order mark"),
    ],
)
def test_another_encoding_is_named_with_its_line_and_the_command_that_converts_it(
    tmp_path: Path, text: str, encoding: str, spoken: str
) -> None:
    path = tmp_path / "my captions.csv"
    path.write_bytes(text.encode(encoding))

    with pytest.raises(InvalidFileError) as caught:
        read_utf8(path, max_bytes=1000)

    line = 1 if encoding == "utf-16" else text.encode(encoding).count(b"\n", 0, -4) + 1
    assert f"my captions.csv is not UTF-8: line {line}, byte 0x" in caught.value.what
    assert spoken in caught.value.why
    command = caught.value.fix.removeprefix("convert it: ")
    subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    assert read_utf8(path, max_bytes=1000).removeprefix("\ufeff") == text


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("text", ["一只小猫在睡觉", "小猫，蓝色的眼睛，白色背景", "a cat, 小猫🐱"])
def test_utf_16_without_a_mark_is_told_from_other_encodings(text: str, encoding: str) -> None:
    assert wide_encoding(text.encode(encoding)) == f"UTF-16{encoding[-2:].upper()}"


@pytest.mark.parametrize(
    ("text", "encoding", "named"),
    [
        ("un café à Orléans + été", "cp1252", "WINDOWS-1252"),
        ("Zürich", "cp1252", "WINDOWS-1252"),
        ("größer", "cp1252", "WINDOWS-1252"),
        ("50 % größer = schöner", "cp1252", "WINDOWS-1252"),
        ("été, ététés", "cp1252", "WINDOWS-1252"),
        ("一只小猫在睡觉", "gbk", "GBK"),
        ("小猫, blue eyes", "gbk", "GBK"),
        ("張學友在臺灣", "gbk", "GBK"),
    ],
)
def test_text_of_one_byte_a_letter_and_gbk_are_not_taken_for_utf_16(
    text: str, encoding: str, named: str
) -> None:
    assert likely_encoding(text.encode(encoding)) == named


def test_the_wrong_byte_is_named_behind_a_byte_order_mark_too(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfone\ntwo\n\xe9t\xe9\n")

    with pytest.raises(InvalidFileError, match="line 3, byte 0xe9"):
        read_utf8(tmp_path / "a.csv", max_bytes=100)


def test_bytes_of_no_encoding_are_refused_without_a_wrong_remedy(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\x81\x20\xff\x00")

    with pytest.raises(InvalidFileError) as caught:
        read_utf8(tmp_path / "a.csv", max_bytes=100)

    assert "iconv" not in caught.value.fix


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"x" * 101)

    with pytest.raises(InvalidFileError, match="too large"):
        read_utf8(tmp_path / "a.yaml", max_bytes=100)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"gone\.csv"):
        read_utf8(tmp_path / "gone.csv", max_bytes=100)
    with pytest.raises(InvalidFileError, match="cannot read"):
        read_utf8(tmp_path, max_bytes=100)


def test_files_are_as_before_when_what_was_to_follow_is_refused(tmp_path: Path) -> None:
    there, new, gone = (tmp_path / name for name in ("there", "new", "gone"))
    there.write_text("before")
    gone.write_text("before")

    def work() -> None:
        with as_before_if_refused(there, new, gone):
            there.write_text("after")
            new.write_text("after")
            gone.unlink()
            raise LoraregError("no")

    with pytest.raises(LoraregError, match="no"):
        work()

    assert (there.read_text(), gone.read_text()) == ("before", "before")
    assert not new.exists()


def test_files_stay_as_they_became_when_nothing_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("before")

    with as_before_if_refused(file):
        file.write_text("after")

    assert file.read_text() == "after"
