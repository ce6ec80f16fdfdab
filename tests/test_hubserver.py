"""The Hub of the tests answers the real client as the Hub does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi, hf_hub_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

from tests.hubserver import HubServer

REPO = "studio/zhangsan"
TAG = "character/zhangsan@v1.0.0"
WEIGHTS = bytes(range(256)) * 40


@pytest.fixture
def hub() -> HubServer:
    server = HubServer(page_size=2)
    server.add_organisation("studio", {"alice": "admin"})
    return server


@pytest.fixture
def api(hub: HubServer, tmp_path: Path) -> Iterator[HfApi]:
    """The client of alice, who may do everything in studio."""
    with hub.in_process(hub.add_user("alice"), cache=tmp_path):
        yield HfApi()


def commit(api: HfApi, name: str = "a.safetensors", parent: str | None = None) -> str:
    operations = [CommitOperationAdd(name, WEIGHTS), CommitOperationAdd("card.txt", b"hello")]
    return api.create_commit(REPO, operations, commit_message="add", parent_commit=parent).oid


def test_what_goes_up_comes_down_by_its_tag(hub: HubServer, api: HfApi, tmp_path: Path) -> None:
    api.create_repo(REPO, private=True)
    api.create_tag(REPO, tag=TAG, revision=commit(api))

    for name, data in (("a.safetensors", WEIGHTS), ("card.txt", b"hello")):
        assert Path(hf_hub_download(REPO, name, revision=TAG)).read_bytes() == data
    assert hub.model(REPO).head.files["a.safetensors"].sha256
    assert hub.calls("POST")[0] == "POST /api/repos/create"


def test_a_commit_on_an_older_state_is_refused(api: HfApi) -> None:
    api.create_repo(REPO)
    first = commit(api)
    commit(api, "b.safetensors", parent=first)

    with pytest.raises(HfHubHTTPError, match="412"):
        commit(api, "c.safetensors", parent=first)


def test_a_gate_lets_in_who_is_on_the_list(hub: HubServer, api: HfApi, tmp_path: Path) -> None:
    hub.add_repo(REPO, {"a.safetensors": WEIGHTS})
    api.update_repo_settings(REPO, gated="manual")
    stranger = hub.add_user("stranger")

    with pytest.raises(GatedRepoError):
        hf_hub_download(REPO, "a.safetensors", token=stranger)
    api.grant_access(REPO, "stranger")
    file = hf_hub_download(REPO, "a.safetensors", token=stranger)

    assert Path(file).read_bytes() == WEIGHTS


def test_nobody_else_sees_a_private_repository_or_writes_to_a_public_one(
    hub: HubServer, api: HfApi
) -> None:
    hub.add_repo("studio/secret", {}, private=True)
    hub.add_repo("studio/open", {})
    bob = HfApi(token=hub.add_user("bob"))

    with pytest.raises(RepositoryNotFoundError):
        bob.model_info("studio/secret")
    with pytest.raises(HfHubHTTPError, match="403"):
        bob.create_tag("studio/open", tag="v1")
    with pytest.raises(HfHubHTTPError, match="403"):
        HfApi(token=hub.add_user("alice", "read")).create_tag("studio/open", tag="v1")


def test_lists_come_in_pages(hub: HubServer, api: HfApi) -> None:
    hub.add_repo(REPO, {f"{number}.txt": b"" for number in range(4)})
    api.update_repo_settings(REPO, gated="manual")
    for name in ("ann", "ben", "cleo"):
        hub.add_user(name)
        api.grant_access(REPO, name)

    assert len(list(api.list_repo_tree(REPO))) == 5
    assert [each.username for each in api.list_accepted_access_requests(REPO)] == [
        "ann",
        "ben",
        "cleo",
    ]
    assert len([path for path in hub.calls("GET") if "accepted" in path]) == 2


def test_the_client_waits_as_long_as_it_is_told_and_tries_again(hub: HubServer, api: HfApi) -> None:
    hub.add_repo(REPO, {})
    hub.limit("GET", "/tree/", seconds=30)
    hub.fail("GET", "/tree/", 503)

    assert [each.path for each in api.list_repo_tree(REPO)] == [".gitattributes"]
    assert hub.waited[0] >= 30
    assert [status for _, _, status in hub.log] == [429, 503, 200]


def test_an_answer_can_be_lost_after_the_deed(hub: HubServer, api: HfApi) -> None:
    hub.add_repo(REPO, {})
    hub.fail("POST", "/tag/", 500, before=False)

    with pytest.raises(HfHubHTTPError):
        api.create_tag(REPO, tag=TAG)
    assert TAG in hub.model(REPO).tags


def test_a_collection_holds_a_repository_once(hub: HubServer, api: HfApi) -> None:
    hub.add_repo(REPO, {})
    made = api.create_collection("Our adapters", namespace="studio")

    for _ in range(2):
        api.add_collection_item(made.slug, REPO, "model", exists_ok=True)

    assert [each.item_id for each in api.get_collection(made.slug).items] == [REPO]


def test_it_can_be_reached_over_loopback(hub: HubServer) -> None:
    token = hub.add_user("alice")

    with hub.serve() as url:
        found = HfApi(endpoint=url, token=token).whoami()

    assert (found["name"], hub.endpoint) == ("alice", "http://127.0.0.1:9")
