from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorareg.errors import InvalidFileError
from lorareg.registry import digest
from lorareg.registry.digest import DigestCache
from lorareg.registry.memory import Memory

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), inner),
    max_leaves=8,
)  # fmt: skip


def shuffled(value: object) -> object:
    """The same value with the keys of its objects in the opposite order."""
    if isinstance(value, dict):
        return {key: shuffled(inner) for key, inner in reversed(value.items())}
    return [shuffled(inner) for inner in value] if isinstance(value, list) else value


def remembered(cache: Path) -> int:
    """Number of files a cache knows."""
    if not cache.is_file():
        return 0
    with sqlite3.connect(cache) as database:
        return int(database.execute("select count(*) from seen").fetchone()[0])


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file counts as changed long ago; a test cannot wait, nor set a ctime back."""
    monkeypatch.setattr(digest, "RACY_SECONDS", -1.0)


def test_digests_are_those_of_sha256sum() -> None:
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

    assert digest.of_bytes(b"abc") == f"sha256:{known}"


def test_a_file_and_its_bytes_have_one_digest(tmp_path: Path) -> None:
    data = b"x" * (digest.CHUNK + 1)
    (tmp_path / "a").write_bytes(data)

    assert digest.of_file(tmp_path / "a") == digest.of_bytes(data)


@given(JSON)
def test_canonical_json_does_not_depend_on_the_order_of_keys(value: object) -> None:
    assert digest.canonical_json(value) == digest.canonical_json(shuffled(value))


def test_canonical_json_has_no_place_for_nan() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest.canonical_json({"loss": float("nan")})


def test_the_digest_of_a_tree_does_not_depend_on_order_or_unicode_form() -> None:
    composed = {"b.png": "sha256:1", "caf\u00e9.txt": "sha256:2"}
    decomposed = {"cafe\u0301.txt": "sha256:2", "b.png": "sha256:1"}

    assert digest.of_tree(composed) == digest.of_tree(decomposed)


@pytest.mark.parametrize(
    "other",
    [{"a": "sha256:2"}, {"b": "sha256:1"}, {}, {"a": "sha256:1", "b": "sha256:1"}],
)
def test_the_digest_of_a_tree_changes_with_a_name_or_a_content(other: dict[str, str]) -> None:
    assert digest.of_tree(other) != digest.of_tree({"a": "sha256:1"})


def test_names_and_contents_of_a_tree_cannot_be_traded() -> None:
    assert digest.of_tree({"a": "b"}) != digest.of_tree({"b": "a"})
    assert digest.of_tree({"a": "b", "c": "d"}) != digest.of_tree({"a": 'b"],["c', "d": ""})


def test_composite_digests_name_their_recipe() -> None:
    assert digest.of_tree({}).startswith("tree-sha256-v1:")
    assert digest.of_json([], "config-sha256-v1").startswith("config-sha256-v1:")


@pytest.mark.usefixtures("settled")
def test_a_warm_cache_gives_the_same_answer_without_reading(tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("a", "b")}
    for name, path in files.items():
        path.write_text(name)
    cache = tmp_path / "cache/digests.sqlite"

    cold = DigestCache(cache).digests(files)
    with sqlite3.connect(cache) as database:
        states = [state for (state,) in database.execute("select state from seen")]
    memory = Memory(cache, "seen", "state", "digest")
    memory.remember({key: f"from memory {found}" for key, found in memory.recall(states).items()})
    warm = DigestCache(cache).digests(files)

    assert cold == {name: digest.of_file(path) for name, path in files.items()}
    assert warm == {name: f"from memory {found}" for name, found in cold.items()}


@pytest.mark.usefixtures("settled")
def test_the_cache_notices_an_edit_that_keeps_size_and_mtime(tmp_path: Path) -> None:
    path = tmp_path / "caption.txt"
    path.write_text("a red hat")
    stat = path.stat()
    cache = DigestCache(tmp_path / "digests.sqlite")
    cache.digests({"c": path})

    path.write_text("a tan hat")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    assert (path.stat().st_size, path.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)
    assert cache.digests({"c": path})["c"] == digest.of_bytes(b"a tan hat")


@pytest.mark.usefixtures("settled")
def test_the_cache_notices_a_file_that_took_the_place_of_another(tmp_path: Path) -> None:
    cache = DigestCache(tmp_path / "digests.sqlite")
    path = tmp_path / "a.png"
    for content in ("1", "2", "3", "4"):  # a freed inode is handed out again at once
        path.write_text(content)
        os.utime(path, (0, 0))

        assert cache.digests({"a": path})["a"] == digest.of_bytes(content.encode())
        path.unlink()


def test_the_cache_never_remembers_a_file_changed_just_now(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("a")
    os.utime(path, (0, 0))  # an unpacked archive: changed now, whatever its mtime says

    DigestCache(tmp_path / "digests.sqlite").digests({"a": path})

    assert remembered(tmp_path / "digests.sqlite") == 0


@pytest.mark.usefixtures("settled")
def test_a_damaged_cache_costs_time_only_and_heals(tmp_path: Path) -> None:
    path, cache = tmp_path / "a", tmp_path / "digests.sqlite"
    path.write_text("a")
    cache.write_bytes(b"this is no database" * 100)

    answers = [DigestCache(cache).digests({"a": path})["a"] for _ in range(3)]

    assert answers == [digest.of_bytes(b"a")] * 3
    assert remembered(cache) == 1


@pytest.mark.usefixtures("settled")
def test_a_cache_that_cannot_be_made_costs_time_only(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("a")

    cache = DigestCache(path / "not a folder" / "digests.sqlite")

    assert cache.digests({"a": path})["a"] == digest.of_bytes(b"a")


def test_a_cache_is_safe_between_processes(tmp_path: Path) -> None:
    for number in range(60):
        (tmp_path / f"{number}.txt").write_text(str(number))
    code = (
        "import sys; from pathlib import Path\n"
        "from lorareg.registry import digest\n"
        "digest.RACY_SECONDS = -1.0\n"
        "top = Path(sys.argv[1]); files = {p.name: p for p in top.glob('*.txt')}\n"
        "cache = digest.DigestCache(top / 'digests.sqlite')\n"
        "for _ in range(5):\n"
        "    for name, path in files.items(): cache.digests({name: path})\n"
        "print(digest.of_tree(cache.digests(files)))"
    )

    running = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    answers = {process.communicate(timeout=60)[0] for process in running}

    plain = digest.of_tree({p.name: digest.of_file(p) for p in tmp_path.glob("*.txt")})
    assert answers == {f"{plain}\n".encode()}
    assert remembered(tmp_path / "digests.sqlite") == 60


@pytest.mark.parametrize("cached", [True, False])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, cached: bool) -> None:
    cache = DigestCache(tmp_path / "digests.sqlite" if cached else None)

    with pytest.raises(InvalidFileError, match=r"gone\.png"):
        cache.digests({"gone.png": tmp_path / "gone.png"})
