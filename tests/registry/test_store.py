from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import zc.lockfile  # type: ignore[import-untyped]

from lorareg.errors import (
    ExternalToolError,
    IntegrityError,
    InvalidFileError,
    LoraregError,
    NotFoundError,
)
from lorareg.registry.dvc import command
from lorareg.registry.dvc import config as dvcconfig
from lorareg.registry.dvc.command import explained
from lorareg.registry.dvc.pointer import Pointer
from lorareg.registry.dvc.store import Store
from tests.apart import dvc_apart

WEIGHTS = Path("manifests/character/zhangsan/weights")
BYTES = b"the bytes of an adapter"


def git(root: Path, *arguments: str) -> str:
    who = ["-c", "user.name=Alice", "-c", "user.email=alice@example.org"]
    return subprocess.check_output(["git", *who, *arguments], cwd=root, text=True)


@pytest.fixture(scope="module", autouse=True)
def _dvc_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """DVC's memory and the user's settings stay out of the tests, and the other way round."""
    home = tmp_path_factory.mktemp("dvc")
    with pytest.MonkeyPatch.context() as patch:
        dvc_apart(patch, home)
        yield


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with one tracked and pushed adapter; DVC is slow, so tests copy it."""
    root = tmp_path_factory.mktemp("made") / "registry"
    (root / WEIGHTS).mkdir(parents=True)
    (root / WEIGHTS / "adapter.safetensors").write_bytes(BYTES)
    (root / WEIGHTS / "adapter_config.json").write_text("{}")
    git(root.parent, "init", "-q", "-b", "main", str(root))
    store = Store(root)
    store.init()
    store.add_remote("team", "storage", default=True)
    assert store.push([store.track(WEIGHTS)]).objects == 3
    git(root, "add", "-A")
    git(root, "commit", "-qm", "made")
    return root


@pytest.fixture
def store(made_once: Path, tmp_path: Path) -> Store:
    return Store(Path(shutil.copytree(made_once, tmp_path / "registry", symlinks=True)))


@pytest.fixture
def tracked(store: Store) -> Pointer:
    return store.pointer(Path(f"{WEIGHTS}.dvc"))


def objects(store: Store, remote: str = "team") -> Path:
    return Path(store.remotes()[remote], "files/md5")


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def object_of(folder: Path, data: bytes) -> Path:
    return folder / md5(data)[:2] / md5(data)[2:]


def test_init_commits_safe_settings_and_can_be_repeated(store: Store) -> None:
    config = store.root / ".dvc/config"
    before = config.read_text()

    store.init()

    assert config.read_text() == before
    found = dvcconfig.load(config)
    assert found["cache", "type"] == "reflink,copy"
    assert found["core", "analytics"] == found["core", "check_update"] == "false"
    assert "config.local" not in git(store.root, "ls-files")


def test_init_outside_of_git_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ExternalToolError) as refusal:
        Store(tmp_path).init()

    assert refusal.value.fix == "lorareg init"


def test_a_pointer_lies_next_to_what_it_tracks_and_git_ignores_the_bytes(
    store: Store, tracked: Pointer
) -> None:
    assert tracked.file == store.root / f"{WEIGHTS}.dvc"
    assert tracked.path == store.root / WEIGHTS
    assert (tracked.nfiles, tracked.size) == (2, len(BYTES) + 2)
    assert f"{WEIGHTS}.dvc" in git(store.root, "ls-files")
    assert f"{WEIGHTS}/" not in git(store.root, "ls-files")


def test_a_remote_folder_in_the_registry_is_found_by_a_clone(store: Store, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", str(store.root), "clone")
    clone = Store(tmp_path / "clone")
    tracked = clone.pointer(Path(f"{WEIGHTS}.dvc"))

    fetched = clone.fetch([tracked])
    clone.checkout([tracked])

    assert fetched.objects == 3
    assert clone.remotes() == {"team": str(tmp_path / "clone/storage")}
    assert (clone.root / WEIGHTS / "adapter.safetensors").read_bytes() == BYTES
    assert clone.status(tracked) == "unchanged"


def test_adding_a_remote_again_changes_nothing_and_another_url_replaces_it(
    store: Store, tmp_path: Path
) -> None:
    store.add_remote("public", str(tmp_path / "outside"))
    before = (store.root / ".dvc/config").read_text()

    store.add_remote("public", str(tmp_path / "outside"))
    store.add_remote("team", "./storage", default=True)

    assert (store.root / ".dvc/config").read_text() == before
    store.add_remote("public", "s3://bucket/path")
    assert store.remotes()["public"] == "s3://bucket/path"
    assert store.default_remote() == "team"


@pytest.mark.parametrize(
    ("name", "url"),
    [("Team", "x"), ("-d", "x"), ("team", "-x"), ("team", "https://bob:secret@example.org/x")],
)
def test_a_remote_that_dvc_would_misread_or_leak_is_refused(
    store: Store, name: str, url: str
) -> None:
    with pytest.raises(LoraregError) as refusal:
        store.add_remote(name, url)

    assert "secret" not in str(refusal.value)


def test_tracking_what_is_tracked_does_not_start_dvc(store: Store, tracked: Pointer) -> None:
    with held_lock(store):
        assert Store(store.root, patience=0).track(WEIGHTS) == tracked


def test_a_change_gets_a_new_pointer_and_keeps_its_remote(store: Store, tmp_path: Path) -> None:
    (store.root / "data/好 图").mkdir(parents=True)
    (store.root / "data/好 图/1.txt").write_text("one")
    store.add_remote("private", str(tmp_path / "private"))
    first = store.track(Path("data/好 图"), remote="private")
    (store.root / "data/好 图/2.txt").write_text("two")
    assert store.status(first) == "modified"

    second = store.track(Path("data/好 图"))

    assert (first.remote, second.remote) == ("private", "private")
    assert first.md5 != second.md5
    assert store.status(second) == "unchanged"
    assert store.push([second]).objects == 3
    assert object_of(objects(store, "private"), b"two").read_bytes() == b"two"


def test_what_git_tracks_is_not_tracked_again(store: Store) -> None:
    (store.root / "data").mkdir()
    (store.root / "data/1.txt").write_text("one")
    git(store.root, "add", "data")

    with pytest.raises(ExternalToolError) as refusal:
        store.track(Path("data"))

    assert refusal.value.fix == "git rm -r --cached 'data'"


@pytest.mark.parametrize("path", ["nothing", "../outside", "data/../../outside", "link", "."])
def test_only_what_is_in_the_registry_is_tracked(store: Store, path: str) -> None:
    (store.root.parent / "outside").mkdir()
    (store.root / "link").symlink_to(store.root.parent / "outside")

    with pytest.raises((NotFoundError, InvalidFileError)):
        store.track(Path(path))

    assert not list(store.root.parent.glob("*.dvc"))


def test_two_processes_track_different_assets_at_the_same_time(store: Store) -> None:
    code = (
        "import sys; from pathlib import Path; from lorareg.registry.dvc.store import Store; "
        + ("Store(Path(sys.argv[1])).track(Path(sys.argv[2]))")
    )
    names = ["data/first", "data/second"]
    for name in names:
        (store.root / name).mkdir(parents=True)
        (store.root / name / "1.txt").write_text(name)

    running = [
        subprocess.Popen([sys.executable, "-c", code, str(store.root), name]) for name in names
    ]

    assert [process.wait(timeout=60) for process in running] == [0, 0]
    assert all(store.is_cached(store.pointer(Path(f"{name}.dvc"))) for name in names)
    ignored = (store.root / "data/.gitignore").read_text().split()
    assert sorted(ignored) == ["/first", "/second"]


def test_a_lock_that_is_not_given_back_is_named(store: Store) -> None:
    (store.root / "one.txt").write_text("one")

    with held_lock(store), pytest.raises(ExternalToolError) as refusal:
        Store(store.root, patience=0).track(Path("one.txt"))

    assert "lock" in refusal.value.why
    assert "other DVC process" in refusal.value.fix


def test_python_files_of_a_registry_are_not_run_by_dvc(store: Store, tracked: Pointer) -> None:
    (store.root / "yaml.py").write_text("open('owned', 'w')")
    (store.root / "dvc.py").write_text("open('owned', 'w')")

    store.checkout([tracked])

    assert not (store.root / "owned").exists()


def test_bytes_that_changed_at_the_remote_never_enter_the_cache(
    store: Store, tracked: Pointer
) -> None:
    good = object_of(objects(store), BYTES)
    good.chmod(0o644)
    good.write_bytes(BYTES[::-1])  # as many bytes
    shutil.rmtree(store.cache.folder)
    shutil.rmtree(tracked.path)

    with pytest.raises(IntegrityError) as refusal:
        store.fetch([tracked])

    assert "adapter.safetensors" in refusal.value.why
    assert store.status(tracked) == "missing"
    assert not object_of(store.cache.folder, BYTES).exists()
    good.write_bytes(BYTES)
    assert store.fetch([tracked]).objects == 1, "what came well the first time stayed"
    store.checkout([tracked])
    assert (tracked.path / "adapter.safetensors").read_bytes() == BYTES


def test_discard_removes_objects_of_the_cache_only(store: Store, tracked: Pointer) -> None:
    victims = [tracked.file, store.cache.folder / "../../../config"]

    for victim in victims:
        with pytest.raises(LoraregError, match="is not removed"):
            store.discard([victim])

    assert all(victim.exists() for victim in victims)


def test_a_damaged_listing_is_refused_and_fetched_anew(store: Store, tracked: Pointer) -> None:
    listing = store.cache.place(tracked.md5)
    listing.chmod(0o644)
    listing.write_text(json.dumps([{"md5": md5(BYTES), "relpath": "../../../evil"}]))

    with pytest.raises(IntegrityError):
        store.cached_files(tracked)
    with pytest.raises(IntegrityError):
        store.checkout([tracked])

    assert store.fetch([tracked]).objects == 1
    assert set(store.cached_files(tracked)) == {"adapter.safetensors", "adapter_config.json"}


def test_a_listing_that_leads_out_is_refused_even_with_the_right_md5(store: Store) -> None:
    data = json.dumps([{"md5": md5(BYTES), "relpath": "../../evil"}]).encode()
    place = store.cache.place(f"{md5(data)}.dir")
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(data)
    (store.root / "evil.dvc").write_text(
        f"outs:\n- md5: {md5(data)}.dir\n  size: 23\n  nfiles: 1\n  hash: md5\n  path: evil\n"
    )

    with pytest.raises(InvalidFileError):
        store.checkout([store.pointer(Path("evil.dvc"))])


def test_bytes_that_are_on_no_remote_are_not_found(store: Store, tracked: Pointer) -> None:
    shutil.rmtree(objects(store))
    shutil.rmtree(store.cache.folder)

    with pytest.raises(NotFoundError) as refusal:
        store.fetch([tracked])  # DVC says: Everything is up to date

    assert "lorareg push" in refusal.value.fix


def test_one_lost_file_of_a_remote_is_not_found(store: Store, tracked: Pointer) -> None:
    object_of(objects(store), BYTES).unlink()
    object_of(store.cache.folder, BYTES).unlink()

    with pytest.raises(NotFoundError) as refusal:
        store.fetch([tracked])

    assert md5(BYTES) in refusal.value.why


def test_push_refuses_when_the_bytes_are_not_here(store: Store, tracked: Pointer) -> None:
    shutil.rmtree(store.cache.folder)

    assert store.push([tracked]).objects == 0, "the remote has it all"
    object_of(objects(store), BYTES).unlink()
    with pytest.raises(NotFoundError):
        store.push([tracked])  # DVC says: Everything is up to date


def test_push_mends_a_remote_that_lost_a_file(store: Store, tracked: Pointer) -> None:
    lost = object_of(objects(store), BYTES)
    lost.unlink()

    store.push([tracked])  # DVC alone says: Everything is up to date

    assert lost.read_bytes() == BYTES


def test_pushing_twice_moves_nothing_the_second_time(store: Store, tracked: Pointer) -> None:
    assert store.push([tracked]).objects == 0
    assert store.push([]).objects == 0


def test_a_remote_that_is_unknown_missing_or_without_its_plugin_is_explained(
    store: Store, tracked: Pointer
) -> None:
    with pytest.raises(ExternalToolError, match="no DVC remote 'nowhere'"):
        store.push([replace(tracked, remote="nowhere")])
    config = store.root / ".dvc/config"
    settings = config.read_text()

    config.write_text(settings.replace("url = ../storage", "url = oss://bucket/x"))
    with pytest.raises(ExternalToolError) as no_plugin:
        store.push([tracked])
    config.write_text(settings.replace("remote = team", ""))
    with pytest.raises(ExternalToolError) as no_default:
        store.push([tracked])

    assert no_plugin.value.fix == "pip install dvc-oss"
    assert no_default.value.fix.startswith("dvc remote add --default")


def test_checkout_does_not_overwrite_work_that_is_nowhere_else(
    store: Store, tracked: Pointer
) -> None:
    (tracked.path / "adapter.safetensors").write_bytes(b"a night of training")

    with pytest.raises(ExternalToolError) as refusal:
        store.checkout([tracked])

    assert "dvc add" in refusal.value.fix
    assert (tracked.path / "adapter.safetensors").read_bytes() == b"a night of training"


def test_checkout_from_an_incomplete_cache_removes_nothing(store: Store, tracked: Pointer) -> None:
    object_of(store.cache.folder, b"{}").unlink()
    (tracked.path / "adapter_config.json").unlink()

    with pytest.raises(NotFoundError):
        store.checkout([tracked])  # DVC alone would remove weights/

    assert (tracked.path / "adapter.safetensors").exists()


def test_a_file_that_dvcignore_leaves_out_is_no_change(store: Store, tracked: Pointer) -> None:
    (tracked.path / ".DS_Store").write_text("seen by Finder")
    assert store.status(tracked) == "modified"

    with (store.root / ".dvcignore").open("a") as rules:
        rules.write(".DS_Store\n")

    assert store.status(tracked) == "unchanged"


@pytest.mark.parametrize("file", [".dvc/config", ".dvc/config.local"])
def test_the_cache_is_found_where_it_is_configured(
    store: Store, tracked: Pointer, file: str
) -> None:
    (store.root / ".dvc/cache").rename(store.root / "elsewhere")
    with (store.root / file).open("a") as settings:
        settings.write("[cache]\n    dir = ../elsewhere\n")

    assert store.cache.folder == store.root / "elsewhere/files/md5"
    assert store.is_cached(tracked)


def test_a_worktree_borrows_cache_and_remotes(store: Store, tmp_path: Path) -> None:
    git(store.root, "worktree", "add", "-q", "--detach", str(tmp_path / "far/away/tree"))
    tree = Store(tmp_path / "far/away/tree")

    tree.borrow(store)

    tracked = tree.pointer(Path(f"{WEIGHTS}.dvc"))
    assert tree.remotes() == store.remotes()
    assert tree.is_cached(tracked)
    tree.checkout([tracked])
    assert (tree.root / WEIGHTS / "adapter.safetensors").read_bytes() == BYTES
    assert git(tree.root, "status", "--porcelain") == ""
    assert (tree.root / ".dvc/config.local").stat().st_mode & 0o777 == 0o600


def test_what_is_written_without_dvc_is_what_dvc_writes(store: Store) -> None:
    for top in ("ours", "theirs"):
        (store.root / top / "好 图/sub").mkdir(parents=True)
        (store.root / top / "好 图/b.txt").write_text("b")
        (store.root / top / "好 图/sub/a.txt").write_text("a")
        (store.root / top / "rows.jsonl").write_text("{}\n")
        (store.root / top / "weights").mkdir()
        (store.root / top / "weights/x.json").write_text("[]")
    names = ["好 图", "rows.jsonl", "weights"]
    store.cache.folder.rename(store.root / "objects-before")

    subprocess.check_call(
        [sys.executable, "-m", "dvc", "add", "-q", *(f"theirs/{name}" for name in names)],
        cwd=store.root,
    )
    theirs = store.cache.folder.rename(store.root / "their-objects")
    for name in names:
        store.track(Path("ours", name))

    def written(folder: Path) -> dict[str, tuple[bytes, int]]:
        found = (path for path in folder.rglob("*") if path.is_file())
        return {
            path.relative_to(folder).as_posix(): (path.read_bytes(), path.stat().st_mode)
            for path in found
            if path.suffix != ".tmp"
        }

    assert written(store.cache.folder) == written(theirs)
    for name in (*(f"{name}.dvc" for name in names), ".gitignore"):
        assert (store.root / "ours" / name).read_text() == (
            store.root / "theirs" / name
        ).read_text(), name


def test_a_folder_is_replaced_whole_and_files_that_stay_are_not_copied_again(
    store: Store, tracked: Pointer
) -> None:
    (tracked.path / "more.json").write_text("{}")
    with_more = store.track(WEIGHTS)
    same = (tracked.path / "adapter.safetensors").stat().st_ino

    store.checkout([tracked])

    assert sorted(path.name for path in tracked.path.iterdir()) == [
        "adapter.safetensors",
        "adapter_config.json",
    ]
    assert (tracked.path / "adapter.safetensors").stat().st_ino == same
    assert (tracked.path / "adapter.safetensors").stat().st_nlink == 1
    store.checkout([with_more])
    assert (tracked.path / "more.json").exists()
    assert not list((store.root / ".dvc/tmp/lorareg-arriving").iterdir())


@pytest.mark.parametrize("what", ["link", "repository"])
def test_checkout_does_not_remove_what_dvc_does_not_look_at(
    store: Store, tracked: Pointer, what: str
) -> None:
    (tracked.path / "adapter_config.json").unlink()
    if what == "link":
        (tracked.path / "link").symlink_to(store.root)
    else:
        (tracked.path / ".git").mkdir()

    with pytest.raises(ExternalToolError, match="nowhere else"):
        store.checkout([tracked])

    assert len(list(tracked.path.iterdir())) == 2


def test_a_symbolic_link_at_the_place_of_weights_is_not_replaced(
    store: Store, tracked: Pointer
) -> None:
    tracked.path.rename(store.root / "elsewhere")
    tracked.path.symlink_to(store.root / "elsewhere")

    with pytest.raises(ExternalToolError, match="symbolic link"):
        store.checkout([tracked])

    assert tracked.path.is_symlink()


def test_a_copy_that_was_killed_leaves_nothing_that_counts_and_is_swept_up_later(
    store: Store, tracked: Pointer
) -> None:
    remote = Path(store.remotes()["team"])
    left = remote / ".lorareg-partial/half"
    left.parent.mkdir(exist_ok=True)
    left.write_bytes(BYTES[:4])
    object_of(objects(store), BYTES).unlink()

    store.push([tracked])
    assert left.exists(), "another machine may still be writing it"
    os.utime(left, (0, 0))
    object_of(objects(store), BYTES).unlink()
    store.push([tracked])

    assert not left.exists()
    assert object_of(objects(store), BYTES).read_bytes() == BYTES


def test_a_damaged_cache_is_not_uploaded(store: Store, tracked: Pointer) -> None:
    object_of(objects(store), BYTES).unlink()
    cached = object_of(store.cache.folder, BYTES)
    cached.chmod(0o644)
    cached.write_bytes(BYTES[::-1])

    with pytest.raises(IntegrityError):
        store.push([tracked])

    assert not object_of(objects(store), BYTES).exists()
    assert not cached.exists(), "the next push takes it from the working tree"


def test_one_pointer_without_bytes_does_not_hide_another(store: Store, tracked: Pointer) -> None:
    lost = replace(tracked, file=tracked.file.with_name("lost.dvc"), md5="0" * 32)
    nowhere = replace(tracked, file=tracked.file.with_name("other.dvc"), md5="1" * 32, remote="no")
    shutil.rmtree(store.cache.folder)

    moved = store.fetch_each([lost, tracked, nowhere])

    assert moved.objects == 3
    assert set(moved.failed) == {lost.file, nowhere.file}
    assert store.is_cached(tracked)


@pytest.mark.parametrize(
    ("said", "why", "fix"),
    [
        (
            "ERROR: failed to transfer '26ab' - [Errno 28] No space left on device: 'a' -> 'b'\n"
            "ERROR: failed to push data to the cloud - 3 files failed to upload\n",
            "No space left on device",
            "make room",
        ),
        (
            "ERROR: unexpected error - [Errno 13] Permission denied: '/mnt/s'\n\n"
            "Having any troubles? Hit us up at https://dvc.org/support\n",
            "[Errno 13] Permission denied: '/mnt/s'",
            "ask the remote's owner",
        ),
        (
            "ERROR: failed to transfer '64bf' - Cannot connect to host 127.0.0.1:9 ssl:default\n"
            "ERROR: failed to push data to the cloud - 4 files failed to upload\n",
            "Cannot connect to host",
            "check the network",
        ),
        ("ERROR: failed - https://bob:secret@example.org\n", "https://***@", "dvc push --verbose"),
        ("", "it printed nothing", "dvc push --verbose"),
    ],
)
def test_what_dvc_says_becomes_why_and_fix(said: str, why: str, fix: str) -> None:
    error = explained("push", said)

    assert why in error.why
    assert fix in error.fix
    assert "secret" not in str(error)


class held_lock:  # noqa: N801, a context manager that reads as a phrase
    def __init__(self, store: Store) -> None:
        self.path = store.root / ".dvc/tmp/lock"

    def __enter__(self) -> None:
        self.lock = zc.lockfile.LockFile(str(self.path))

    def __exit__(self, *_: object) -> None:
        self.lock.close()


def test_a_committed_setting_does_not_choose_where_dvc_reads_pickles(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DVC_SITE_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    theirs = store.root / "theirs"
    config = store.root / ".dvc/config"
    config.write_text(
        config.read_text().replace("[core]", f"[core]\n    site_cache_dir = {theirs}")
    )

    command.run(store.root, "status", patience=1)

    assert not theirs.exists()
    assert (tmp_path / "own" / "lorareg" / "dvc").is_dir()
