"""A teammate who rewrites tags, a clock that is wrong, and secrets that lie around."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lorareg.errors import IntegrityError
from lorareg.registry import versions
from lorareg.registry.access import signatures
from lorareg.registry.ids import Ref
from lorareg.registry.releases import release
from tests.faults.hostile.place import INK, WASH, Counts, Place
from tests.registry.releases.team import git, introduce

TAG = "style/ink@v1.0.0"
TOKENS = {
    "HF_TOKEN": "hf_AbCdEfGhIjKlMnOpQrStUvWxYz012345",
    "HUGGING_FACE_HUB_TOKEN": "hf_ZyXwVuTsRqPoNmLkJiHgFeDcBa987654",
    "AWS_ACCESS_KEY_ID": "AKIAQQQQQQQQTESTKEYS",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYTESTKEY42",
    "AWS_SESSION_TOKEN": "FwoGZXIvYXdzTESTSESSIONTOKEN77",
    "GITHUB_TOKEN": "ghp_0123456789abcdefghijTESTTOKEN0123456",
    "WANDB_API_KEY": "0123456789abcdef0123456789abcdefTESTWNDB",
}
PASSWORD = "pa55w0rd-in-a-url"


def moved(place: Place) -> Place:
    """A teammate's clone in which v1.0.0 is a fresh tag on other weights, pushed by force."""
    git(place.top, "clone", "-q", "origin.git", "theirs")
    theirs = place.top / "theirs"
    introduce(theirs, Path(place.git("config", "user.signingKey")).parent, "bob")
    file = theirs / "manifests/style/ink/lock.json"
    file.write_text(file.read_text().replace('"steps"', '"steps" '))
    git(theirs, "commit", "-qam", "other weights")
    git(theirs, "tag", "-f", "-s", "-m", "style/ink v1.0.0", TAG)
    git(theirs, "push", "-q", "--force", "origin", TAG)
    shutil.rmtree(theirs)
    return place


def test_a_release_that_a_teammate_moved_by_force_is_named_and_kept(place: Place) -> None:
    before = place.git("rev-parse", TAG)

    answer = moved(place).run("pull", "style/ink")

    assert (answer.code, answer.problems()) == (2, [])
    assert TAG in answer.err
    assert "moved" in answer.err
    assert place.git("rev-parse", TAG) == before
    assert place.run("show", TAG).code == 0


def test_a_fresh_clone_with_the_moved_tag_refuses_to_use_it(place: Place) -> None:
    moved(place)
    place.git("fetch", "-q", "--force", "origin", "tag", TAG)

    with pytest.raises(IntegrityError, match="was moved"):
        versions.find(place.workspace, Ref.parse(TAG))

    used = place.run("compose", f"{TAG}:0.5+style/wash:0.5", "--dry-run")
    checked = place.run("verify", "style/ink")
    served = place.run("pull", TAG, "--no-git")
    assert (used.code, checked.code, served.code) == (2, 1, 2)
    assert [p for a in (used, checked, served) for p in a.problems()] == []
    assert "v1.0.0" in used.err
    assert "FAIL style/ink release v1.0.0" in checked.out


@contextmanager
def clock(hours: int) -> Iterator[None]:
    """Commits and tags that are dated by a clock that is wrong."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("GIT_COMMITTER_DATE", "GIT_AUTHOR_DATE"):
            patch.setenv(name, f"{1_800_000_000 + 3600 * hours} +0000")
        yield


def test_a_clock_that_is_an_hour_late_changes_no_order(place: Place) -> None:
    made = []
    for number, hours in enumerate((0, -1, 1, -2)):
        with clock(hours):
            text = place.path("manifest.yaml").read_text()
            title = '"Ink of old"' if number == 0 else f'"Ink {number - 1}"'
            place.path("manifest.yaml").write_text(text.replace(title, f'"Ink {number}"'))
            signatures.commit(place.workspace, [INK], f"title {number}")
            version = release.make(place.workspace, INK, None, lambda _: None).version
            made.append(version)
            place.run("promote", f"style/ink@{version}", "--channel", "stable")

    with clock(-3):
        back = place.run("rollback", "style/ink", "--channel", "stable")

    assert made == ["v1.0.2", "v1.0.3", "v1.0.4", "v1.0.5"]
    assert versions.releases(place.workspace, INK)[-1] == "v1.0.5"
    assert (back.code, back.problems()) == (0, [])
    assert place.run("resolve", "style/ink@stable").out.strip() == "style/ink@v1.0.4"
    told = place.run("log", "style/ink").out
    places = [told.index(f"v1.0.{number}") for number in (5, 4, 3, 2)]
    assert places == sorted(places)
    assert place.run("verify", "style/ink").code == 0


def test_two_clones_an_hour_apart_unite_their_work(place: Place) -> None:
    git(place.top, "clone", "-q", "origin.git", "second")
    keys = Path(place.git("config", "user.signingKey")).parent
    introduce(place.top / "second", keys, "alice")
    for hours, root, asset in ((1, place.root, INK), (-1, place.top / "second", WASH)):
        there = Place(place.top) if root == place.root else _At(place.top, root)
        with clock(hours):
            answer = there.run("access", "grant", str(asset), "carol", "--purpose", "tests")
            assert answer.code == 0, answer
            pushed = there.run("push", str(INK)) if asset == INK else None
            assert pushed is None or pushed.code == 0, pushed
    with clock(-1):
        assert _At(place.top, place.top / "second").run("pull", str(INK)).problems() == []

    for name in ("log", "verify"):
        assert place.run(name, "style/ink").code == 0


def test_secrets_appear_in_no_output_and_in_no_file(place: Place) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in TOKENS.items():
            patch.setenv(name, value)
        url = f"https://alice:{PASSWORD}@127.0.0.1:9/origin.git"
        counts = Counts("secrets", 0)
        said = ""
        for remote in ("../origin.git", url):
            place.git("remote", "set-url", "origin", remote)
            for command in (
                ("push",), ("pull",), ("push", "--dry-run"), ("verify",),
                ("access", "uses"), ("log", "style/ink"), ("show", "style/ink", "--json"),
                ("release", "style/wash"), ("status",), ("gc", "--remote", "storage"),
                ("policy", "check"), ("pull", "hub:alice/ink@v1.0.0", "--no-git"),
                ("--debug", "push"),
            ):  # fmt: skip
                counts.cases += 1
                answer = place.run(*command)
                counts.commands[answer.code] += 1
                said += answer.text
        said += place.run("init", ".", "--remote", f"https://bob:{PASSWORD}@h/x").text
        counts.report()
    secrets = [*TOKENS.values(), PASSWORD]
    assert [secret for secret in secrets if secret in said] == []
    written = [
        file
        for file in place.root.rglob("*")
        if file.is_file() and file != place.root / ".git/config"
        and any(secret.encode() in file.read_bytes() for secret in secrets)
    ]  # fmt: skip
    assert written == []


def test_a_password_in_the_address_of_a_dvc_remote_is_not_shown(place: Place) -> None:
    config = place.root / ".dvc/config"
    config.write_text(config.read_text().replace("../.dvcstore", f"s3://a:{PASSWORD}@host/b"))
    assert PASSWORD in config.read_text()

    said = "".join(
        place.run(*command).text
        for command in (("gc", "--remote", "storage"), ("push", "--dry-run"), ("init", "."))
    )

    assert PASSWORD not in said


class _At(Place):
    """The same place, with somebody else's clone as the registry."""

    def __init__(self, top: Path, clone: Path) -> None:
        super().__init__(top)
        object.__setattr__(self, "_clone", clone)

    @property
    def root(self) -> Path:
        return Path(os.fspath(self.__dict__["_clone"]))
