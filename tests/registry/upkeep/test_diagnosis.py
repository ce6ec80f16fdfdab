"""Every broken state is named, with a command that mends it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from lorareg.registry.finding import Finding
from lorareg.registry.upkeep.diagnosis import diagnose
from tests.registry.upkeep.bytestore import ByteStore, git, make

MANIFEST = "schema: lorareg/1\nkind: style\nname: ink\n"


@pytest.fixture
def store(tmp_path: Path) -> ByteStore:
    return make(tmp_path)


@pytest.fixture
def ink(store: ByteStore) -> Path:
    folder = store.root / "manifests" / "style" / "ink"
    folder.mkdir(parents=True)
    (folder / "manifest.yaml").write_text(MANIFEST)
    return folder


def wrong(store: ByteStore) -> list[Finding]:
    return [each for each in diagnose(store.workspace) if not each.ok]


def only(store: ByteStore) -> Finding:
    (found,) = wrong(store)
    return found


def test_a_sound_registry_has_nothing_to_mend(store: ByteStore, ink: Path) -> None:
    store.track("manifests/style/ink/weights", {"a.safetensors": b"weights"})
    (ink / "lock.json").write_text("{}")
    store.commit()

    assert wrong(store) == []


def test_a_rebase_that_stopped_is_named_with_both_ways_out(store: ByteStore) -> None:
    for branch, text in (("one", "1"), ("two", "2")):
        git(store.root, "checkout", "--quiet", "-b", branch, "main")
        (store.root / "file").write_text(text)
        store.commit()
    subprocess.run(
        ["git", "-C", str(store.root), "rebase", "one"], capture_output=True, check=False
    )

    found = {each.what: each for each in wrong(store)}

    assert "a rebase was begun" in found["git"].detail
    assert "git rebase --continue" in found["git"].fix
    assert "git rebase --abort" in found["git"].fix


def test_a_folder_without_git_is_one_finding_and_not_an_error_of_git(store: ByteStore) -> None:
    shutil.rmtree(store.root / ".git")

    assert "no git repository" in only(store).detail


def test_a_registry_that_lost_its_dvc_folder_gets_it_back_from_git(store: ByteStore) -> None:
    store.commit()
    shutil.rmtree(store.root / ".dvc")

    git(store.root, *only(store).fix.partition(",")[0].split()[1:])

    assert wrong(store) == []


def test_a_detached_head_is_named(store: ByteStore) -> None:
    git(store.root, "checkout", "--quiet", "--detach")

    assert only(store).what == "git branch"
    git(store.root, *only(store).fix.partition(";")[0].split()[1:])
    assert wrong(store) == []


def test_a_lock_of_git_is_named_with_its_file(store: ByteStore) -> None:
    (store.root / ".git" / "index.lock").touch()

    assert "index.lock" in only(store).fix


def test_a_dvc_lock_of_a_dead_process_may_go_and_that_of_a_living_one_may_not(
    store: ByteStore,
) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait(timeout=60)
    lock = store.root / ".dvc" / "tmp" / "rwlock"
    lock.parent.mkdir()
    lock.write_text(
        f'{{"/x": {{"write": {{"pid": {dead.pid}}}, "read": [{{"pid": {os.getpid()}}}]}}}}'
    )

    living, stale = wrong(store)

    assert str(os.getpid()) in living.detail
    assert not living.is_hard
    assert str(dead.pid) in stale.detail
    assert stale.fix == "rm '.dvc/tmp/rwlock'"


@pytest.mark.parametrize("name", ["manifest.yaml", "lock.json", "weights.dvc", "channels.yaml"])
def test_marks_of_a_merge_are_found_in_every_file_of_an_asset(
    store: ByteStore, ink: Path, name: str
) -> None:
    (ink / name).write_text("<<<<<<< HEAD\na: 1\n=======\na: 2\n>>>>>>> theirs\n")

    assert only(store).what == f"manifests/style/ink/{name}"
    assert "marks of a merge" in only(store).detail


@pytest.mark.parametrize(("name", "text"), [("lock.json", "{"), ("manifest.yaml", "a: [")])
def test_a_file_that_cannot_be_read_is_named(
    store: ByteStore, ink: Path, name: str, text: str
) -> None:
    (ink / name).write_text(text)

    assert only(store).what == f"manifests/style/ink/{name}"
    assert f"git checkout -- manifests/style/ink/{name}" in only(store).fix


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("grants.yaml", "grants: 5\n"),
        ("revoked.json", '{"a": 1}'),
        ("channels.yaml", "schema: lorareg/1\nstable: 5\n"),
        ("weights.dvc", "outs:\n- {md5: 0, path: ../../etc}\n"),
    ],
)
def test_a_file_that_says_what_it_must_not_is_named(
    store: ByteStore, ink: Path, name: str, text: str
) -> None:
    (ink / "lock.json").write_text("{}")
    (ink / name).write_text(text)

    assert only(store).what == f"manifests/style/ink/{name}"


def test_a_channel_that_points_to_no_release_is_named(store: ByteStore, ink: Path) -> None:
    (ink / "channels.yaml").write_text("schema: lorareg/1\nstable: v9.0.0\n")

    assert (only(store).what, "v9.0.0" in only(store).detail) == ("style/ink stable", True)


def test_a_folder_that_no_command_sees_is_named(store: ByteStore, ink: Path) -> None:
    (ink / "lock.json").write_text("{}")
    (ink / "manifest.yaml").rename(ink.parent / "manifest.yaml")
    (ink.parent / "In K").mkdir()

    assert [each.what for each in wrong(store)] == [
        "manifests/style/In K", "manifests/style/ink",
    ]  # fmt: skip


def test_a_pointer_without_a_lock_is_named(store: ByteStore, ink: Path) -> None:
    store.track("manifests/style/ink/weights", {"a.safetensors": b"weights"})

    assert "without a lock" in only(store).detail


def test_a_lock_without_a_pointer_is_named(store: ByteStore, ink: Path) -> None:
    (ink / "lock.json").write_text('{"outputs": {"a.safetensors": {}}}')

    assert "no weights.dvc" in only(store).detail


def test_weights_that_are_a_link_are_named(store: ByteStore, ink: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "linked").symlink_to(store.root)
    (ink / "weights").symlink_to(tmp_path / "theirs")

    assert "is a link" in only(store).detail  # a fix for what is in it would be done there


def test_bytes_that_neither_cache_nor_remote_has_are_named(store: ByteStore) -> None:
    needed = store.track("data/faces", {"a.png": b"a face"})
    file = next(name for name in needed if not name.endswith(".dir"))
    store.cache.place(file).unlink()
    assert wrong(store) == []

    store.far.place(file).unlink()

    assert only(store).what == "data/faces.dvc"
    assert only(store).is_hard


def test_commits_and_releases_that_nobody_else_has_are_a_remark(
    store: ByteStore, tmp_path: Path
) -> None:
    git(tmp_path, "init", "--quiet", "--bare", "far.git")
    git(store.root, "remote", "add", "origin", str(tmp_path / "far.git"))
    git(store.root, "push", "--quiet", "--set-upstream", "origin", "main")
    store.commit("only here")
    git(store.root, "tag", "note")

    found = wrong(store)

    assert [(each.what, each.is_hard) for each in found] == [
        ("commits", False),
        ("releases", False),
    ]
    assert "note" in found[1].detail


def test_a_remote_that_settings_name_and_dvc_does_not_know_is_named(store: ByteStore) -> None:
    settings = store.root / "lorareg.yaml"
    settings.write_text(settings.read_text() + "remotes: {private: vault}\n")

    assert "vault, for what is private" in only(store).detail


def test_a_folder_that_git_would_commit_is_named(store: ByteStore) -> None:
    (store.root / ".gitignore").write_text("/.dvc/cache/\n/.dvc/tmp/\n")

    assert only(store).what == ".gitignore"


def test_names_that_are_one_file_elsewhere_are_named(store: ByteStore) -> None:
    for name in ("Notes", "notes"):
        (store.root / name).touch()
    store.commit()

    assert "Notes and notes" in only(store).detail


def test_a_broken_policy_does_not_hide_what_else_is_broken(store: ByteStore, ink: Path) -> None:
    (store.root / "manifests" / "policy.yaml").write_text("people: 7\n")
    (ink / "lock.json").write_text("{")

    assert {"team", "manifests/style/ink/lock.json"} <= {each.what for each in wrong(store)}


def test_what_is_in_quarantine_is_told_and_breaks_nothing(store: ByteStore) -> None:
    lost = store.put(b"nobody names this")
    from lorareg.registry.upkeep import gc

    gc.quarantine(store.workspace).take([store.cache.place(lost)])

    told = [each for each in diagnose(store.workspace) if each.what == "quarantine"]
    assert "1 things" in told[0].detail
    assert told[0].ok
