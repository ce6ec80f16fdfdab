"""Taking a folder back to a release: bytes first, as a new commit, and nothing else moves."""

from __future__ import annotations

import shutil

import pytest

from lorareg.errors import IntegrityError, LoraregError
from lorareg.registry import chronicle, digest, states
from lorareg.registry.access import signatures
from lorareg.registry.ids import Ref
from lorareg.registry.releases import release, restore
from tests.registry.releases.team import OTHER, STYLE, Person

FILE = "pytorch_lora_weights.safetensors"


def go_back(person: Person, ref: str = "style/ink@v1.0.0") -> restore.Restored:
    state = states.state(person.workspace, Ref.parse(ref))
    return restore.restore(person.workspace, state, lambda _: None)


@pytest.fixture
def twice(team: Person) -> Person:
    """v1.0.0, then v2.0.0 with another trigger and other weights; a channel points to it."""
    release.make(team.workspace, STYLE, None, lambda _: None)
    team.train(STYLE, OTHER)
    team.set_keys(STYLE, trigger="zzother")
    release.make(team.workspace, STYLE, None, lambda _: None)
    text = "schema: lorareg/1\nstable: v2.0.0\n"
    team.workspace.folder(STYLE).channels.write_text(text, "utf-8")
    signatures.commit(team.workspace, [STYLE], "Promote")
    return team


def test_manifest_lock_and_weights_are_those_of_the_release_and_the_rest_goes_on(
    twice: Person,
) -> None:
    folder = twice.workspace.folder(STYLE)
    ledger = folder.releases.read_bytes()

    done = go_back(twice)

    manifest, lock = twice.workspace.load_manifest(STYLE), twice.workspace.load_lock(STYLE)
    assert manifest.trigger == "zzink"
    assert lock
    assert digest.of_file(folder.weights / FILE) == lock.outputs[FILE].sha256
    assert done.commit == twice.git("rev-parse", "HEAD")
    assert "major: trigger: zzother -> zzink" in done.changes
    assert folder.releases.read_bytes() == ledger
    assert "stable: v2.0.0" in folder.channels.read_text("utf-8")
    assert not twice.workspace.history.changed([folder.path])
    assert release.make(twice.workspace, STYLE, None, lambda _: None).version == "v3.0.0"


def test_a_second_restore_has_nothing_to_do(twice: Person) -> None:
    go_back(twice)

    assert go_back(twice).commit is None


def test_a_restore_that_was_killed_half_way_is_finished_by_the_next(twice: Person) -> None:
    folder = twice.workspace.folder(STYLE)
    twice.git("checkout", "style/ink@v1.0.0", "--", "manifests/style/ink/manifest.yaml")

    assert go_back(twice).commit

    assert not twice.workspace.history.changed([folder.path])


def test_changes_that_are_in_no_commit_are_not_overwritten(twice: Person) -> None:
    twice.workspace.edit_manifest(STYLE, {"description": "unsaved"})

    with pytest.raises(LoraregError, match="has changes that are in no commit") as refused:
        go_back(twice)

    assert "manifests/style/ink/manifest.yaml" in refused.value.why
    assert "unsaved" in twice.workspace.folder(STYLE).manifest.read_text("utf-8")


def test_a_release_whose_bytes_are_gone_leaves_everything_as_it_is(twice: Person) -> None:
    folder, cache = twice.workspace.folder(STYLE), twice.workspace.store.cache.folder
    before = {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}
    shutil.rmtree(cache)

    with pytest.raises(LoraregError):
        go_back(twice)

    now = {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}
    assert now == before


def test_a_release_whose_tag_was_moved_is_refused(twice: Person) -> None:
    twice.git("tag", "--force", "style/ink@v1.0.0", "style/ink@v2.0.0^{commit}")

    with pytest.raises(IntegrityError, match="was moved"):
        go_back(twice)


def test_the_log_tells_what_each_commit_meant_and_who_signed_it(twice: Person) -> None:
    go_back(twice)

    told = chronicle.events(twice.workspace, STYLE)

    changes = [event.changes for event in told]
    assert "trigger: zzother -> zzink" in changes[0]
    assert changes[1] == ("channel stable: none -> v2.0.0",)
    assert changes[2] == ("released v2.0.0 (major)",)
    assert "trigger: zzink -> zzother" in changes[3]
    assert any(line.startswith("weights: others of fingerprint") for line in changes[3])
    assert changes[4] == ("released v1.0.0 (major)",)
    assert changes[6][-1] == "manifest: new"
    assert [event.by for event in told] == ["alice"] * 6 + [None]
    assert (told[3].tags, told[5].tags) == (("style/ink@v2.0.0",), ("style/ink@v1.0.0",))
    assert [event.commit for event in chronicle.events(twice.workspace, STYLE, 2)] == [
        event.commit for event in told[:2]
    ]


def test_the_log_tells_children_before_parents_whatever_the_clock_said(
    alice: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = alice.workspace.folder(STYLE)

    def commit(year: int, name: str) -> None:
        for date in ("GIT_COMMITTER_DATE", "GIT_AUTHOR_DATE"):
            monkeypatch.setenv(date, f"{year}-01-01T00:00:00Z")
        (folder.path / name).write_text(str(year), "utf-8")
        alice.git("add", "--all")
        alice.git("commit", "--quiet", "-m", f"{name} {year}")

    commit(2020, "base")
    alice.git("switch", "--quiet", "--create", "side")
    commit(2010, "side")
    alice.git("switch", "--quiet", "main")
    commit(2004, "main")
    alice.git("merge", "--quiet", "--no-edit", "side")

    told = [event.subject for event in chronicle.events(alice.workspace, STYLE)]

    assert told[-2:] == ["base 2020", "one style"]
    assert {"main 2004", "side 2010"} <= set(told[:-2])
