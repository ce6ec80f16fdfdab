"""Publishing: private first, complete next, open last; cut short anywhere, it is finished later."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from lorareg.errors import ExternalToolError, IntegrityError, LoraregError
from lorareg.registry.ids import AssetId
from lorareg.registry.publishing.publish import publish_released
from tests.registry.published import NAME, REPO, VERSION, WEIGHTS, Press, adapter

API = f"/api/models/{REPO}"
ORDER = (
    "POST /api/repos/create",
    f"POST {API}/commit/main",
    f"POST {API}/tag/",
    f"PUT {API}/settings",
    "POST /api/collections",
    "POST /api/collections/studio/our-adapters",
    f"GET /{REPO}/resolve",
)
"""What changes something on the Hub, and then the first download."""


@pytest.fixture
def press(registry: Path) -> Press:
    made = Press.make(registry, "hub: {namespace: studio, collection: Our adapters}\n")
    made.add(publish={"hub": REPO, "gated": "manual"})
    made.release()
    return made


def outside(press: Press) -> bool:
    """Whether people who are not of the studio see anything of it."""
    return ("model", REPO) in press.hub.repos and not press.hub.model(REPO).private


def test_what_is_published_is_private_until_it_is_complete_and_gated(press: Press) -> None:
    seen = []

    def look() -> None:
        repo = press.hub.model(REPO)
        seen.append((repo.private, WEIGHTS in repo.head.files, VERSION in repo.tags))

    press.hub.meanwhile("POST", "/commit/main", look)
    press.hub.meanwhile("POST", "/tag/", look)
    press.hub.meanwhile("PUT", "/settings", look)

    done = press.publish()

    repo = press.hub.model(REPO)
    assert seen == [(True, False, False), (True, True, False), (True, True, True)]
    assert (repo.private, repo.gated) == (False, "manual")
    assert (done.commit, done.verified) == (repo.tags[VERSION], (WEIGHTS,))
    assert [c.slug for c in press.hub.collections.values() if c.items[0]["id"] == REPO]


def test_the_steps_come_in_their_order(press: Press) -> None:
    press.publish()

    calls = press.hub.calls("POST", "PUT", "GET")
    places = [next(i for i, call in enumerate(calls) if call.startswith(step)) for step in ORDER]
    assert places == sorted(places)


@pytest.mark.parametrize("step", ORDER)
@pytest.mark.parametrize("answered", [False, True], ids=["lost on the way", "done, not answered"])
def test_a_publish_that_was_killed_is_finished_by_running_it_again(
    press: Press, step: str, answered: bool
) -> None:
    class KilledError(BaseException):
        pass

    def kill() -> None:
        raise KilledError

    method, _, path = step.partition(" ")
    press.hub.meanwhile(method, path, kill)
    press.hub.faults[-1].before = not answered

    with pytest.raises(KilledError):
        press.publish()
    complete = ORDER.index(step) + answered > ORDER.index(f"PUT {API}/settings")
    assert outside(press) == complete

    press.publish()

    repo = press.hub.model(REPO)
    assert press.publish(dry_run=True).steps == ()
    assert (repo.private, repo.gated, len(repo.commits)) == (False, "manual", 2)
    (collection,) = press.hub.collections.values()
    assert [item["id"] for item in collection.items] == [REPO]


def test_publishing_again_changes_nothing(press: Press) -> None:
    press.publish()
    before = press.hub.calls()

    again = press.publish()

    assert press.hub.calls() == before
    assert (again.steps, again.verified) == ((), (WEIGHTS,))


def test_a_dry_run_says_the_steps_and_sends_nothing(press: Press) -> None:
    told = press.publish(dry_run=True)

    assert press.hub.calls() == []
    assert [step.split()[0] for step in told.steps] == ["create", "upload", "tag", "make", "add"]
    assert (told.commit, WEIGHTS in told.files) == (None, True)


def test_what_another_commits_at_the_same_time_is_kept(press: Press) -> None:
    def another() -> None:
        bob = HfApi(token=press.hub.add_user("bob"))
        bob.create_commit(REPO, [CommitOperationAdd("notes.txt", b"mine")], commit_message="notes")

    press.hub.meanwhile("POST", "/commit/main", another)

    press.publish()

    files = press.hub.model(REPO).head.files
    assert files["notes.txt"].data == b"mine"
    assert WEIGHTS in files
    assert any("somebody else committed" in line for line in press.said)


def test_a_file_of_ours_that_another_changes_at_the_same_time_is_not_overwritten(
    press: Press,
) -> None:
    def another() -> None:
        bob = HfApi(token=press.hub.add_user("bob"))
        bob.create_commit(REPO, [CommitOperationAdd("README.md", b"mine")], commit_message="card")

    press.hub.meanwhile("POST", "/commit/main", another)

    with pytest.raises(LoraregError, match=r"somebody else changed README\.md"):
        press.publish()
    assert press.text("README.md") == "mine"
    assert not outside(press)


@pytest.mark.parametrize("step", ["/commit/main", "/tag/", "/settings", "/api/repos/create"])
def test_a_hub_that_is_busy_is_asked_again(press: Press, step: str) -> None:
    method = "PUT" if step == "/settings" else "POST"
    press.hub.limit(method, step, seconds=0)
    press.hub.fail(method, step, 503)
    press.hub.faults[-1].headers = {"Retry-After": "0"}

    press.publish()

    assert outside(press)
    assert [s for m, p, s in press.hub.log if m == method and step in p][:2] == [429, 503]


def test_a_hub_that_wants_a_long_wait_is_said_so_and_not_waited_for(press: Press) -> None:
    press.hub.limit("POST", "/commit/", seconds=3000, times=9)

    with pytest.raises(ExternalToolError, match="too busy") as caught:
        press.publish()

    assert "again later" in caught.value.fix


def test_a_commit_whose_answer_was_lost_is_not_made_twice(press: Press) -> None:
    press.hub.fail("POST", "/commit/main", 500, before=False)
    press.hub.faults[-1].headers = {"Retry-After": "0"}

    press.publish()

    assert len(press.hub.model(REPO).commits) == 2


def test_bytes_that_changed_on_the_hub_are_found_and_hidden_again(press: Press) -> None:
    def tamper() -> None:
        repo = press.hub.model(REPO)
        sha = str(repo.head.files[WEIGHTS].sha256)
        data = bytearray(press.hub.objects[sha])
        data[-1] ^= 1
        press.hub.objects[sha] = bytes(data)

    press.hub.meanwhile("PUT", "/settings", tamper)

    with pytest.raises(IntegrityError, match="other bytes") as caught:
        press.publish()

    assert WEIGHTS in caught.value.what
    assert not outside(press)


def test_a_repository_that_others_filled_is_refused(press: Press) -> None:
    press.hub.add_repo(REPO, {"model.safetensors": b"theirs"})

    with pytest.raises(LoraregError, match="holds something else"):
        press.publish()

    assert press.hub.calls() == []
    assert "model.safetensors" in press.hub.model(REPO).head.files


def test_the_repository_of_another_asset_is_refused(press: Press) -> None:
    press.publish()
    press.add("style/ink", publish={"hub": REPO}, consent=None)
    press.release("style/ink")

    with pytest.raises(LoraregError, match="holds something else") as caught:
        press.publish("style/ink")

    assert NAME in caught.value.why


def test_a_version_that_holds_other_files_there_is_refused(press: Press) -> None:
    press.publish()
    repo = press.hub.model(REPO)
    first = next(iter(repo.commits))
    repo.tags[VERSION] = first

    with pytest.raises(IntegrityError, match="something else than"):
        press.publish()


def next_release(press: Press, seed: int = 1) -> None:
    """v1.1.0 with other weights."""
    import shutil

    shutil.rmtree(press.folder())
    press.add(seed=seed, publish={"hub": REPO, "gated": "manual"})
    press.release(version="v1.1.0")


def test_the_next_release_is_a_second_commit_and_tag(press: Press) -> None:
    press.publish()
    next_release(press)

    press.publish()

    repo = press.hub.model(REPO)
    assert list(repo.tags) == [VERSION, "v1.1.0"]
    assert len({repo.commits[sha].files[WEIGHTS].sha256 for sha in repo.tags.values()}) == 2
    assert repo.head.sha == repo.tags["v1.1.0"]


def test_an_older_release_does_not_take_the_place_of_a_newer_one(press: Press) -> None:
    next_release(press, seed=0)
    press.publish()

    with pytest.raises(LoraregError, match=r"holds v1\.1\.0 already"):
        press.publish(f"{NAME}@{VERSION}")


def test_a_gate_is_closed_before_what_belongs_behind_it_goes_up(press: Press) -> None:
    press.set(publish={"hub": REPO})
    press.publish()
    assert press.hub.model(REPO).gated is False
    next_release(press)
    seen = []
    press.hub.meanwhile("POST", "/commit/main", lambda: seen.append(press.hub.model(REPO).gated))

    press.publish()

    assert seen == ["manual"]


def test_an_adapter_of_the_team_stays_private_on_the_hub(press: Press) -> None:
    press.set(visibility="team", publish={"hub": REPO})
    press.release(version="v1.0.1")

    press.publish()

    repo = press.hub.model(REPO)
    assert (repo.private, repo.gated, list(repo.tags)) == (True, False, ["v1.0.1"])
    assert press.hub.collections == {}


def test_push_publishes_the_newest_release_of_what_has_a_place(press: Press) -> None:
    press.add("style/ink", publish=None, consent=None)
    press.add("style/wash", publish={}, consent=None)
    next_release(press)
    assets = [AssetId.parse(name) for name in (NAME, "style/ink", "style/wash")]

    with press.hub.in_process(press.token):
        done = publish_released(press.workspace, assets, press.said.append)
        before = len(press.hub.log)
        again = publish_released(press.workspace, assets, press.said.append)

    assert [(each.asset, each.version) for each in done] == [(NAME, "v1.1.0")]
    assert again[0].steps == ()
    assert all(method == "GET" for method, _, _ in press.hub.log[before:])


def test_push_goes_on_when_something_is_revoked(press: Press) -> None:
    press.add("style/wash", seed=3, publish={}, consent=None)
    press.release("style/wash")
    stone = {"reason": "they asked for it", "by": "alice", "on": "2026-01-01"}
    document = {"schema": "lorareg/1", "asset": NAME, "revocations": [stone]}
    (press.folder() / "revoked.json").write_text(json.dumps(document), encoding="utf-8")
    (press.shelf.root / "lorareg.yaml").write_text(
        "schema: lorareg/1\nname: scratch\nhub: {namespace: studio}\n", encoding="utf-8"
    )

    with press.hub.in_process(press.token):
        assets = [AssetId.parse(name) for name in (NAME, "style/wash")]
        done = publish_released(press.workspace, assets, press.said.append)

    assert [each.asset for each in done] == ["style/wash"]
    assert f"{NAME}@{VERSION} is revoked: not published" in press.said


def test_a_release_that_was_never_made_is_not_published(press: Press) -> None:
    press.add("style/wash", publish={}, consent=None)

    with pytest.raises(LoraregError, match="has no release") as caught:
        press.publish("style/wash")

    assert caught.value.fix == "lorareg release style/wash"


def test_weights_are_those_of_the_release(press: Press) -> None:
    from lorareg.weights.formats import diffusers

    press.publish()

    sha = press.hub.model(REPO).head.files[WEIGHTS].sha256
    file = press.shelf.root / "back.safetensors"
    file.write_bytes(press.hub.objects[str(sha)])
    assert diffusers.read(file).layers.keys() == adapter().layers.keys()
