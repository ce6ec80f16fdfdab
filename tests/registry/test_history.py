from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lorareg.errors import ExternalToolError, IntegrityError, LoraregError, NotFoundError
from lorareg.registry.git.clone import clone
from lorareg.registry.git.history import History
from lorareg.registry.git.update import Update


@pytest.fixture(autouse=True)
def _git_of_its_own(tmp_path: Path) -> Iterator[None]:
    """The user's settings stay out of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
        patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
        patch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
        (tmp_path / "gitconfig").write_text("[user]\nname = Alice\nemail = alice@example.org\n")
        yield


@pytest.fixture
def history(tmp_path: Path) -> History:
    """A repository with one commit, cloned from an empty bare one that it may push to."""
    git(tmp_path, "init", "-q", "--bare", "-b", "main", str(tmp_path / "shared.git"))
    made = History(tmp_path / "alice")
    made.init()
    git(made.root, "remote", "add", "origin", str(tmp_path / "shared.git"))
    write(made, "lorareg.yaml", "name: test\n")
    assert made.commit([Path("lorareg.yaml")], "Start")
    return made


@pytest.fixture
def teammate(history: History, tmp_path: Path) -> History:
    history.push()
    return clone(str(tmp_path / "shared.git"), tmp_path / "bob")


def git(root: Path, *arguments: str) -> str:
    return subprocess.check_output(["git", *arguments], cwd=root, text=True)


def write(history: History, name: str, text: str) -> Path:
    path = history.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def commit(history: History, name: str, text: str) -> str:
    made = history.commit([write(history, name, text)], f"Change {name}")
    assert made
    return made


def test_init_makes_a_repository_on_main_and_can_be_repeated(tmp_path: Path) -> None:
    made = History(tmp_path / "new")

    made.init()
    made.init()

    assert (made.branch(), made.head(), made.remote()) == ("main", None, None)


def test_init_inside_another_repository_is_refused(history: History) -> None:
    with pytest.raises(LoraregError, match="is inside the git repository"):
        History(history.root / "sub").init()


def test_a_commit_holds_its_paths_and_what_others_staged_stays_staged(history: History) -> None:
    write(history, "manifests/style/ink/manifest.yaml", "name: ink\n")
    write(history, "manifests/style/oil/manifest.yaml", "name: oil\n")
    git(history.root, "add", "manifests/style/oil")

    made = history.commit([Path("manifests/style/ink")], "Add ink")

    assert made == history.head()
    assert git(history.root, "show", "--name-only", "--format=%s", "HEAD").split() == [
        "Add",
        "ink",
        "manifests/style/ink/manifest.yaml",
    ]
    staged = git(history.root, "diff", "--cached", "--name-only").split()
    assert staged == ["manifests/style/oil/manifest.yaml"]


def test_a_commit_of_nothing_new_is_none(history: History) -> None:
    before = history.head()

    assert history.commit([Path("lorareg.yaml"), Path("no/such/file")], "Again") is None
    assert history.commit([], "Nothing") is None
    assert history.head() == before


def test_a_commit_takes_deleted_files_and_odd_names(history: History) -> None:
    names = ["data/张 三.txt", "data/*.txt", "data/:(top)x", "data/-n"]
    for name in names:
        commit(history, name, name)
    write(history, "data/other.txt", "not asked for")
    (history.root / names[0]).unlink()
    write(history, names[1], "changed")

    made = history.commit([Path(name) for name in names], "--amend")

    assert made
    assert not history.exists(Path(names[0]), made)
    assert history.read(Path(names[1]), made) == b"changed"
    assert git(history.root, "log", "-1", "--format=%s").strip() == "--amend"
    assert history.changed() == (Path("data/other.txt"),)


def test_changed_names_staged_new_and_deleted_files_but_no_ignored_ones(history: History) -> None:
    commit(history, "a", "a")
    commit(history, "b", "b")
    commit(history, ".gitignore", "weights/\n")
    assert not history.is_dirty()

    write(history, "a", "changed")
    (history.root / "b").unlink()
    write(history, "sub/c", "new")
    write(history, "weights/d", "ignored")
    git(history.root, "add", "a")

    assert history.changed() == (Path("a"), Path("b"), Path("sub/c"))
    assert history.changed([Path("sub"), history.root / "a"]) == (Path("a"), Path("sub/c"))
    assert history.changed([history.root]) == history.changed()
    assert not history.is_dirty([Path("lorareg.yaml")])
    assert not history.is_dirty([])


def test_a_path_outside_of_the_registry_is_refused(history: History, tmp_path: Path) -> None:
    for path in (tmp_path / "x", Path("../x")):
        with pytest.raises(LoraregError, match="is not in the registry"):
            history.commit([path], "Out")


def test_without_an_identity_the_error_says_how_to_give_one(
    history: History, tmp_path: Path
) -> None:
    (tmp_path / "gitconfig").write_text("")
    write(history, "a", "a")

    with pytest.raises(LoraregError) as refusal:
        history.commit([Path("a")], "Who?")

    assert "git config --global user.name" in refusal.value.fix
    assert "git config --global user.email" in refusal.value.fix
    assert git(history.root, "diff", "--cached", "--name-only") == "", "nothing was staged"


def test_identity_is_a_name_and_an_address(history: History) -> None:
    assert history.identity() == "Alice <alice@example.org>"


def test_several_processes_commit_at_the_same_time(history: History) -> None:
    code = (
        "import sys; from pathlib import Path; from lorareg.registry.git.history import History\n"
        "for turn in range(4):\n"
        "    (Path(sys.argv[1]) / sys.argv[2]).write_text(str(turn))\n"
        "    assert History(Path(sys.argv[1])).commit([Path(sys.argv[2])], sys.argv[2])\n"
    )

    running = [
        subprocess.Popen([sys.executable, "-c", code, str(history.root), name])
        for name in ("first", "second", "third")
    ]

    assert [process.wait(timeout=60) for process in running] == [0, 0, 0]
    subjects = git(history.root, "log", "--format=%s").split()
    assert sorted(subjects) == ["Start"] + 4 * ["first"] + 4 * ["second"] + 4 * ["third"]
    assert not history.is_dirty()


def test_a_lock_that_a_dead_git_left_behind_is_named(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lorareg.registry.git.command.LOCK_SECONDS", 0.0)
    write(history, "a", "a")
    lock = history.root / ".git/index.lock"
    lock.touch()

    with pytest.raises(ExternalToolError) as refusal:
        history.commit([Path("a")], "Locked")

    assert refusal.value.fix.endswith(f"rm '{lock}'")


def test_what_a_hook_says_is_the_reason_and_never_reaches_stdout(
    history: History, capfd: pytest.CaptureFixture[str]
) -> None:
    hook = history.root / ".git/hooks/pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho to stdout\necho names are secret >&2\nexit 1\n")
    hook.chmod(0o755)
    write(history, "a", "a")

    with pytest.raises(ExternalToolError) as refusal:
        history.commit([Path("a")], "Hooked")

    assert refusal.value.why == "names are secret"
    assert capfd.readouterr() == ("", "")


def test_a_file_is_read_as_it_was_to_the_last_byte(history: History) -> None:
    first = commit(history, "a.txt", "one\r\n\n")
    commit(history, "a.txt", "two")
    git(history.root, "tag", "-m", "release", "style/ink@v0.1.0", first)

    assert history.resolve("style/ink@v0.1.0") == first
    assert history.read(Path("a.txt"), "style/ink@v0.1.0") == b"one\r\n\n"
    assert history.exists(Path("a.txt"), first[:10])
    assert not history.exists(Path("b.txt"), first)
    with pytest.raises(NotFoundError, match=r"no file b.txt"):
        history.read(Path("b.txt"), first)


@pytest.mark.parametrize("revision", ["v9.9.9", "--output=x", "", "HEAD:lorareg.yaml", "a b"])
def test_a_revision_that_names_no_commit_is_not_found(history: History, revision: str) -> None:
    with pytest.raises(NotFoundError):
        history.resolve(revision)


def test_a_push_brings_branch_and_annotated_tags(history: History, tmp_path: Path) -> None:
    git(history.root, "tag", "-m", "release", "style/ink@v0.1.0")

    history.push()
    history.push()

    shared = tmp_path / "shared.git"
    assert git(shared, "rev-parse", "main").strip() == history.head()
    assert git(shared, "tag").split() == ["style/ink@v0.1.0"]


def test_a_push_after_others_pushed_says_to_pull_first(history: History, teammate: History) -> None:
    commit(teammate, "b", "bob")
    teammate.push()
    commit(history, "a", "alice")

    with pytest.raises(ExternalToolError) as refusal:
        history.push()

    assert refusal.value.fix.startswith("lorareg pull")


def test_without_a_remote_branch_or_commit_push_says_what_is_missing(
    history: History, tmp_path: Path
) -> None:
    empty = History(tmp_path / "empty")
    empty.init()

    with pytest.raises(LoraregError, match="no commit yet"):
        empty.push()
    with pytest.raises(LoraregError, match="no git remote 'mirror'"):
        history.push("mirror")
    git(history.root, "checkout", "-q", "--detach")
    with pytest.raises(LoraregError, match="on no branch"):
        history.push()


def test_an_unreachable_remote_fails_at_once_and_keeps_its_password(history: History) -> None:
    git(history.root, "remote", "set-url", "origin", "https://bob:secret@127.0.0.1:9/x.git")

    with pytest.raises(ExternalToolError) as refusal:
        history.pull()

    assert "127.0.0.1" in refusal.value.why
    assert "secret" not in str(refusal.value)


def test_a_pull_fast_forwards(history: History, teammate: History) -> None:
    before = history.head()
    theirs = commit(teammate, "b", "bob")
    teammate.push()

    assert history.pull() == Update(before, theirs, "fast-forward")
    assert history.pull() == Update(theirs, theirs, "nothing")
    assert (history.root / "b").read_text() == "bob"


@pytest.mark.parametrize(
    "name", [".lorareg/cache/a.sqlite", ".LoraReg/x", ".dvc/config.local", ".dvc/cache/x"]
)
def test_a_pull_takes_no_cache_and_no_local_setting_of_others(
    history: History, teammate: History, name: str
) -> None:
    write(history, ".gitignore", ".lorareg\n.LoraReg\n.dvc/cache\n.dvc/config.local\n")
    mine = write(history, name, "mine")
    write(teammate, name, "theirs")
    git(teammate.root, "add", "--force", name)
    git(teammate.root, "commit", "--quiet", "--message", "a cache")
    teammate.push()
    before = history.head()

    with pytest.raises(IntegrityError, match="each machine's own") as caught:
        history.pull()

    assert name in caught.value.why
    assert (history.head(), mine.read_text()) == (before, "mine")


def test_a_pull_into_an_empty_repository_or_from_an_empty_one(
    history: History, tmp_path: Path
) -> None:
    assert history.pull() == Update(history.head(), history.head(), "nothing")
    history.push()
    empty = History(tmp_path / "empty")
    empty.init()
    git(empty.root, "remote", "add", "origin", str(tmp_path / "shared.git"))

    assert empty.pull() == Update(None, history.head(), "fast-forward")
    assert (empty.root / "lorareg.yaml").exists()


def test_a_pull_puts_local_commits_on_top(history: History, teammate: History) -> None:
    theirs = commit(teammate, "b", "bob")
    teammate.push()
    commit(history, "a", "alice")
    write(history, "notes.txt", "untracked files are no obstacle")

    update = history.pull()

    assert update.how == "rebase"
    assert git(history.root, "rev-parse", "HEAD^").strip() == theirs
    history.push()


def test_a_pull_keeps_local_releases_on_the_branch(history: History, teammate: History) -> None:
    commit(teammate, "b", "bob")
    teammate.push()
    released = commit(history, "a", "alice")
    git(history.root, "tag", "-m", "release", "style/ink@v0.1.0")

    update = history.pull()

    assert update.how == "merge"
    assert released in git(history.root, "rev-list", "HEAD").split()
    history.push()
    teammate.pull()
    assert teammate.resolve("style/ink@v0.1.0") == released


@pytest.mark.parametrize("released", [False, True])
def test_a_pull_that_conflicts_names_the_files_and_changes_nothing(
    history: History, teammate: History, released: bool
) -> None:
    commit(teammate, "manifests/a.yaml", "bob")
    teammate.push()
    before = commit(history, "manifests/a.yaml", "alice")
    if released:
        git(history.root, "tag", "-m", "release", "style/ink@v0.1.0")

    with pytest.raises(ExternalToolError) as refusal:
        history.pull()

    assert "manifests/a.yaml" in refusal.value.why
    assert history.head() == before
    assert history.branch() == "main"
    assert not history.is_dirty()


def test_a_pull_does_not_touch_uncommitted_work(history: History, teammate: History) -> None:
    commit(teammate, "lorareg.yaml", "name: bob\n")
    commit(teammate, "new.txt", "bob")
    teammate.push()
    write(history, "lorareg.yaml", "name: alice\n")
    write(history, "new.txt", "alice")

    with pytest.raises(ExternalToolError) as behind:
        history.pull()
    (history.root / "new.txt").unlink()
    commit(history, "other.txt", "alice")
    with pytest.raises(LoraregError) as diverged:
        history.pull()

    assert "lorareg.yaml" in behind.value.why
    assert "lorareg.yaml" in diverged.value.why
    assert "new.txt" not in diverged.value.why
    assert (history.root / "lorareg.yaml").read_text() == "name: alice\n"


def test_a_worktree_is_clean_runs_no_hook_and_goes_away_after_an_error(
    history: History, tmp_path: Path
) -> None:
    first = commit(history, "a", "one")
    write(history, "a", "two, not committed")
    hook = history.root / ".git/hooks/post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/hooked\n")
    hook.chmod(0o755)

    def work() -> None:
        with history.worktree(first, inside=tmp_path / "trees") as tree:
            assert (tree / "a").read_text() == "one"
            assert not History(tree).is_dirty()
            assert History(tree).head() == first
            raise ValueError("on the way")

    with pytest.raises(ValueError, match="on the way"):
        work()

    assert list((tmp_path / "trees").iterdir()) == []
    assert len(git(history.root, "worktree", "list").splitlines()) == 1
    assert not (tmp_path / "hooked").exists()


def test_two_worktrees_stand_side_by_side_where_they_were_asked_for(
    history: History, tmp_path: Path
) -> None:
    place = tmp_path / "place"

    with (
        history.worktree("main", inside=place) as one,
        history.worktree("main", inside=place) as two,
    ):
        assert one != two
        assert place in one.parents
        assert (one / "lorareg.yaml").exists()
        assert (two / "lorareg.yaml").exists()

    assert list(place.iterdir()) == []


@pytest.mark.parametrize(
    "url",
    [
        "--upload-pack=touch owned",
        "-x",
        "ext::sh -c touch% owned",
        "file::/tmp/x",
        "ssh://-oProxyCommand=touch owned/x",
        "git+evil://x",
        "foo://x",
        "",
        "a\nb",
    ],
)
def test_an_address_that_could_run_a_command_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(LoraregError, match="is not an address"):
        clone(url, tmp_path / "clone")

    assert not (tmp_path / "clone").exists()


def test_a_clone_of_nothing_or_into_something_is_explained(
    history: History, tmp_path: Path
) -> None:
    with pytest.raises(ExternalToolError, match="git clone failed"):
        clone(str(tmp_path / "nothing"), tmp_path / "clone")
    with pytest.raises(LoraregError, match="is not an empty folder"):
        clone(str(history.root), history.root)
    with pytest.raises(LoraregError, match="is not an empty folder"):
        clone(str(history.root), history.root / "lorareg.yaml")


def test_a_remote_that_runs_a_command_is_refused_on_pull(history: History, tmp_path: Path) -> None:
    git(history.root, "remote", "set-url", "origin", f"ext::sh -c touch% {tmp_path}/owned")
    git(history.root, "config", "protocol.ext.allow", "always")

    with pytest.raises(ExternalToolError):
        history.pull()

    assert not (tmp_path / "owned").exists()


def test_history_does_not_import_git_before_it_is_used() -> None:
    code = "import sys, lorareg.registry.git.history; print('git' in sys.modules)"

    assert subprocess.check_output([sys.executable, "-c", code], env=os.environ) == b"False\n"
