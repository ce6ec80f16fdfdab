"""Nothing that anybody can still ask for is ever moved, and nothing moved is lost."""

from __future__ import annotations

import datetime
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorareg.errors import LoraregError
from lorareg.registry.upkeep import gc
from tests.registry.upkeep.bytestore import ByteStore, git, make, md5, names

DAY = 24 * 3600.0


def later() -> float:
    """A month from now: nothing here is young then."""
    return time.time() + 30 * DAY


@pytest.fixture
def store(tmp_path: Path) -> ByteStore:
    return make(tmp_path)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["change", "commit", "tag", "branch", "back", "drop branch", "stash", "reset", "expire"]
        ),
        st.integers(0, 3),
    ),
    min_size=3,
    max_size=9,
)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(STEPS)
def test_bytes_of_every_commit_that_git_finds_stay(steps: list[tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = make(Path(folder))
        for number, (step, which) in enumerate(steps):
            _do(store, step, which, number)
        needed = set().union(*_pointed(store))

        gc.collect(store.workspace, now=later())

        assert needed <= store.cached
        assert store.cached <= needed


def _do(store: ByteStore, step: str, which: int, number: int) -> None:
    root, name = store.root, f"data/set{which}"
    if step == "change":
        shared = {"shared.png": b"the same in all"}
        store.track(name, {"a.png": f"{number}".encode(), **shared})
    elif step == "commit":
        store.commit()
    elif step == "tag":
        git(root, "tag", f"character/x@v0.0.{number}")
    elif step == "branch":
        git(root, "branch", "--force", f"side{which}")
    elif step == "back":
        store.commit()
        git(root, "checkout", "--quiet", "-B", f"new{number}", "HEAD~1")
    elif step == "drop branch":
        for branch in git(root, "branch", "--format=%(refname:short)", "--list", "side*").split():
            git(root, "branch", "-D", branch)
    elif step == "stash":
        git(root, "stash", "push", "--include-untracked")
    elif step == "reset":
        store.commit()
        git(root, "reset", "--quiet", "--hard", "HEAD~1")
    else:
        store.forget_reflogs()


def _pointed(store: ByteStore) -> Iterator[set[str]]:
    """What the pointers of each commit, and of the folder, need: looked up one by one."""
    root = store.root
    commits = set(git(root, "rev-list", "--all", "--reflog").split())
    for commit in commits:
        for path in git(root, "ls-tree", "-r", "--name-only", commit).splitlines():
            if path.endswith(".dvc"):
                yield _objects(store, git(root, "show", f"{commit}:{path}"))
    for path in git(root, "ls-files", "--", "*.dvc").splitlines():
        yield _objects(store, git(root, "show", f":{path}"))
    for file in root.rglob("*.dvc"):
        if file.is_file():
            yield _objects(store, file.read_text())
    yield set()


def _objects(store: ByteStore, text: str) -> set[str]:
    top = text.partition("md5: ")[2].split()[0]
    listing = json.loads(store.far.place(top).read_bytes())
    return {top, *(entry["md5"] for entry in listing)}


def test_a_dry_run_says_what_would_go_and_moves_nothing(store: ByteStore) -> None:
    lost = store.put(b"nobody names this")

    found = gc.plan(store.workspace, now=later())

    assert [(each.path, each.what, each.size) for each in found.waste] == [
        (store.cache.place(lost), "cache", 17)
    ]
    assert store.cached == {lost}


def test_what_changed_within_the_hour_stays(store: ByteStore) -> None:
    store.put(b"a command that still runs wrote this")

    assert gc.plan(store.workspace).waste == ()


def test_what_was_moved_is_put_back_where_it_was(store: ByteStore) -> None:
    lost = store.put(b"nobody names this")
    gc.collect(store.workspace, now=later())
    assert store.cached == set()

    back, taken = gc.quarantine(store.workspace).restore()

    assert (back, taken) == ([store.cache.place(lost)], [])
    assert store.cache.place(lost).read_bytes() == b"nobody names this"
    assert gc.quarantine(store.workspace).batches() == []


def test_a_place_that_is_taken_again_is_not_overwritten(store: ByteStore) -> None:
    lost = store.put(b"old")
    gc.collect(store.workspace, now=later())
    store.cache.place(lost).parent.mkdir(exist_ok=True)
    store.cache.place(lost).write_bytes(b"new")

    back, taken = gc.quarantine(store.workspace).restore()

    assert (back, taken) == ([], [store.cache.place(lost)])
    assert store.cache.place(lost).read_bytes() == b"new"
    assert gc.quarantine(store.workspace).batches()[0].waiting


def test_a_kill_between_two_moves_loses_nothing(store: ByteStore) -> None:
    lost = [store.put(text) for text in (b"one", b"two")]
    _, batch = gc.collect(store.workspace, now=later())
    assert batch is not None
    first = batch.folder / "files" / batch.names[0]
    first.rename(store.root / batch.names[0])  # as if killed after the second of two moves

    gc.quarantine(store.workspace).restore()

    assert store.cached == set(lost)


def test_purge_deletes_only_what_has_waited_long_enough(store: ByteStore) -> None:
    store.put(b"nobody names this")
    gc.collect(store.workspace, now=later())

    assert gc.purge(store.workspace, None, datetime.timedelta(days=14)).things == 0
    assert gc.purge(store.workspace, None, datetime.timedelta()).things == 1
    assert gc.quarantine(store.workspace).batches() == []


def test_purge_puts_back_what_a_branch_has_named_since(store: ByteStore) -> None:
    needed = store.track("manifests/style/ink/weights", {"a.safetensors": b"a", "b.json": b"b"})
    pointer = store.root / "manifests/style/ink/weights.dvc"
    text = pointer.read_text()
    pointer.unlink()
    gc.collect(store.workspace, now=later())
    assert store.cached == set()
    pointer.write_text(text)  # a colleague's branch brings it back

    for name in needed:
        store.far.place(name).unlink()
    done = gc.purge(store.workspace, None, datetime.timedelta())

    assert store.cached == needed
    assert (len(done.back), done.things) == (3, 0)


def test_a_list_in_quarantine_cannot_lead_out_of_the_registry(store: ByteStore) -> None:
    store.put(b"nobody names this")
    _, batch = gc.collect(store.workspace, now=later())
    assert batch is not None
    (batch.folder / "moved.json").write_text('["../../etc/passwd"]')

    with pytest.raises(LoraregError, match="is no list of what was moved"):
        gc.quarantine(store.workspace).restore()


def test_a_commit_that_a_recipe_pins_keeps_its_bytes_when_no_branch_has_it(
    store: ByteStore,
) -> None:
    needed = store.track("data/faces", {"a.png": b"a face"})
    store.commit("pinned")
    pinned = git(store.root, "rev-parse", "HEAD")
    git(store.root, "reset", "--quiet", "--hard", "HEAD~1")
    recipe = store.root / "manifests" / "recipe" / "mix"
    recipe.mkdir(parents=True)
    (recipe / "lock.json").write_text(json.dumps({"members": [{"commit": pinned}]}))
    store.forget_reflogs()

    gc.collect(store.workspace, now=later())

    assert needed <= store.cached


def test_bytes_of_a_remote_tracking_branch_stay(store: ByteStore) -> None:
    needed = store.track("data/faces", {"a.png": b"a colleague's face"})
    store.commit("theirs")
    git(store.root, "update-ref", "refs/remotes/origin/main", "HEAD")
    git(store.root, "reset", "--quiet", "--hard", "HEAD~1")
    store.forget_reflogs()

    gc.collect(store.workspace, now=later())

    assert needed <= store.cached


def test_bytes_that_a_stopped_rebase_keeps_for_later_stay(store: ByteStore) -> None:
    for branch, text in (("one", "1"), ("two", "2")):
        git(store.root, "checkout", "--quiet", "-b", branch, "main")
        (store.root / "file").write_text(text)
        store.commit()
    needed = store.track("data/faces", {"a.png": b"not committed yet"})
    git(store.root, "add", "--all")
    with pytest.raises(subprocess.CalledProcessError):
        git(store.root, "rebase", "--autostash", "one")
    store.forget_reflogs()

    gc.collect(store.workspace, now=later())

    assert needed <= store.cached


def test_a_remote_is_refused_while_a_colleague_has_pushed_what_was_never_fetched(
    store: ByteStore, tmp_path: Path
) -> None:
    git(tmp_path, "clone", "--quiet", "--bare", str(store.root), "origin.git")
    git(store.root, "remote", "add", "origin", str(tmp_path / "origin.git"))
    git(tmp_path, "clone", "--quiet", "origin.git", "bob")
    git(tmp_path / "bob", "config", "user.name", "Bob")
    git(tmp_path / "bob", "config", "user.email", "bob@example.org")
    bob = ByteStore(tmp_path / "bob", store.remote)
    needed = bob.track("data/faces", {"a.png": b"of a month ago"})
    bob.commit("theirs")
    git(bob.root, "push", "--quiet")

    with pytest.raises(LoraregError, match="commits that are not here") as caught:
        gc.collect(store.workspace, "storage", now=later())

    assert needed <= names(store.far)
    git(store.root, *caught.value.fix.partition(",")[0].split()[1:])
    gc.collect(store.workspace, "storage", now=later())
    assert needed <= names(store.far)


def test_a_remote_is_never_looked_at_unless_it_is_named(store: ByteStore) -> None:
    lost = store.put(b"nobody names this")

    gc.collect(store.workspace, now=later())

    assert names(store.far) == {lost}


def test_a_named_remote_keeps_what_the_history_names_and_says_that_others_may_share_it(
    store: ByteStore,
) -> None:
    needed = store.track("data/faces", {"a.png": b"a face"})
    store.commit()
    store.put(b"another registry's, or nobody's")

    found, _ = gc.collect(store.workspace, "storage", now=later())

    assert names(store.far) == needed
    assert "another registry" in found.notes[0]
    gc.quarantine(store.workspace, "storage").restore()
    assert md5(b"another registry's, or nobody's") in names(store.far)


def test_bytes_of_the_last_two_weeks_stay_on_a_remote(store: ByteStore) -> None:
    store.put(b"pushed before the commit that names it")

    assert gc.plan(store.workspace, "storage", now=time.time() + 13 * DAY).waste == ()


def test_a_remote_is_refused_while_a_listing_of_the_history_cannot_be_read(
    store: ByteStore,
) -> None:
    store.track("data/faces", {"a.png": b"a face"})
    store.commit()
    for folder in (store.cache, store.far):
        for listing in folder.folder.glob("??/*.dir"):
            listing.unlink()

    with pytest.raises(LoraregError, match="is not known"):
        gc.plan(store.workspace, "storage", now=later())


def test_a_remote_in_the_cloud_is_refused(store: ByteStore) -> None:
    (store.root / ".dvc" / "config").write_text("['remote \"s3\"']\n    url = s3://bucket/x\n")

    with pytest.raises(LoraregError, match="s3://bucket/x"):
        gc.plan(store.workspace, "s3")


def test_a_shallow_clone_is_refused(store: ByteStore, tmp_path: Path) -> None:
    store.commit("second")
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{store.root}", "shallow")

    with pytest.raises(LoraregError, match="the whole history"):
        gc.plan(ByteStore(tmp_path / "shallow", store.remote).workspace)


def test_a_cache_outside_of_the_registry_is_left_alone(store: ByteStore, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    config = store.root / ".dvc" / "config"
    config.write_text(f"{config.read_text()}[cache]\n    dir = {shared}\n")
    place = shared / "files" / "md5" / "ab" / ("c" * 30)
    place.parent.mkdir(parents=True)
    place.write_bytes(b"another project's")

    found = gc.plan(store.workspace, now=later())

    assert found.waste == ()
    assert "may be shared" in found.notes[0]


def test_a_cache_that_is_a_link_out_of_the_registry_is_left_alone(
    store: ByteStore, tmp_path: Path
) -> None:
    lost = store.put(b"another project's")
    (store.root / ".dvc" / "cache").rename(tmp_path / "shared")
    (store.root / ".dvc" / "cache").symlink_to(tmp_path / "shared")

    found, _ = gc.collect(store.workspace, now=later())

    assert "may be shared" in found.notes[0]
    assert lost in store.cached


def test_runs_of_assets_that_only_a_tag_or_a_stash_has_stay(store: ByteStore) -> None:
    manifests, runs = store.root / "manifests" / "style", store.root / ".lorareg" / "runs" / "style"
    for name in ("tagged", "stashed"):
        (manifests / name).mkdir(parents=True)
        (manifests / name / "manifest.yaml").write_text("schema: lorareg/1\n")
        (runs / name).mkdir(parents=True)
        (runs / name / "checkpoint").write_text("x")
        if name == "tagged":
            store.commit()
            git(store.root, "tag", "style/tagged@v1.0.0")
            git(store.root, "reset", "--quiet", "--hard", "HEAD~1")
    git(store.root, "stash", "push", "--quiet", "--include-untracked")

    assert gc.plan(store.workspace, now=later()).waste == ()


def test_runs_of_assets_that_are_gone_and_unknown_releases_and_leftovers_go(
    store: ByteStore,
) -> None:
    scratch, manifests = store.root / ".lorareg", store.root / "manifests" / "style"
    for name in ("kept", "elsewhere"):
        (manifests / name).mkdir(parents=True)
        (manifests / name / "manifest.yaml").write_text("schema: lorareg/1\n")
    (manifests / "kept" / "lock.json").write_text(
        json.dumps({"fingerprint": f"fingerprint-sha256-v1:{'a' * 64}"})
    )
    store.commit()
    git(store.root, "branch", "side")
    git(store.root, "rm", "--quiet", "-r", "manifests/style/elsewhere")
    store.commit()
    kept = ["runs/style/kept/log", "runs/style/elsewhere/log", f"cache/releases/{'a' * 64}/w"]
    gone = ["runs/style/gone/log", f"cache/releases/{'b' * 64}/w", "runs/.state.0123.tmp"]
    for name in (*kept, *gone):
        (scratch / name).parent.mkdir(parents=True, exist_ok=True)
        (scratch / name).write_text("x")

    found, _ = gc.collect(store.workspace, now=later())

    assert sorted(each.what for each in found.waste) == ["leftover", "release", "run"]
    assert all((scratch / name).is_file() for name in kept)
    assert not any((scratch / name).exists() for name in gone)
