"""The terms of a release are those it was released with, whatever its tag points to today."""

from __future__ import annotations

import pytest

from lorareg.errors import IntegrityError
from lorareg.registry import lock
from lorareg.registry.releases import ledger, readiness, release
from lorareg.registry.revisions import released_lock, released_manifest
from tests.registry.releases.team import STYLE, Person

NAME = "style/ink@v1.0.0"


def moved_to_looser_terms(person: Person) -> None:
    """The tag on a commit with the very weights, and a manifest that says more."""
    release.make(person.workspace, STYLE, None, lambda _: None)
    file = person.workspace.folder(STYLE).manifest
    file.write_text(file.read_text("utf-8") + "# more\n", encoding="utf-8")
    person.git("commit", "--quiet", "--all", "--message", "looser")
    person.git("tag", "--force", "--annotate", "--message", "moved", NAME, "HEAD")


def test_a_tag_moved_to_the_same_weights_under_other_terms_is_refused(alice: Person) -> None:
    moved_to_looser_terms(alice)

    with pytest.raises(IntegrityError, match="the tag style/ink@v1.0.0 was moved"):
        released_manifest(alice.workspace, STYLE, "v1.0.0")
    with pytest.raises(IntegrityError, match="was moved"):
        released_lock(alice.workspace, STYLE, "v1.0.0")


def test_a_release_that_nobody_moved_is_read_as_it_was(alice: Person) -> None:
    made = release.make(alice.workspace, STYLE, None, lambda _: None)
    before = alice.workspace.load_manifest(STYLE)
    alice.workspace.edit_manifest(STYLE, {"description": "edited since"})

    found = released_manifest(alice.workspace, STYLE, made.version)

    assert found == before
    locked = released_lock(alice.workspace, STYLE, made.version)
    assert locked == lock.load(alice.workspace.folder(STYLE).lock)
    assert ledger.commit_of(alice.workspace, STYLE, made.version) == made.commit
    assert readiness.members_of(alice.workspace, before, locked) == {str(STYLE): before}
