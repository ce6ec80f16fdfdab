"""A gated repository: who is let in, who is not, and taking all of it back."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

from lorareg.errors import ExternalToolError, LoraregError
from lorareg.registry.publishing import gate, repos
from lorareg.registry.publishing.withdraw import withdraw
from tests.hub.contents import Access
from tests.hubserver import HubServer

REPO, FILE = "studio/zhangsan", "a.safetensors"


@pytest.fixture
def hub() -> Iterator[HubServer]:
    """A gated repository, and a client that speaks for one of its owners."""
    server = HubServer(page_size=2)
    server.add_organisation("studio", {"alice": "admin"})
    server.add_repo(REPO, {FILE: b"weights"}).gated = "manual"
    with server.in_process(server.add_user("alice")):
        yield server


def ask(hub: HubServer, *names: str) -> None:
    """What the form in the browser does."""
    for name in names:
        hub.add_user(name)
        hub.model(REPO).access[name] = Access(name, "pending", "2026-01-01T00:00:00.000Z")


def users(requests: list[gate.Request]) -> list[str | None]:
    return [each.user for each in requests]


def test_a_stranger_is_let_in_by_a_grant_and_kept_out_again(hub: HubServer, tmp_path: Path) -> None:
    stranger = hub.add_user("stranger")

    def download() -> bytes:
        fresh = tempfile.mkdtemp(dir=tmp_path)
        file = hf_hub_download(REPO, FILE, token=stranger, cache_dir=fresh)
        return Path(file).read_bytes()

    with pytest.raises(GatedRepoError):
        download()
    assert gate.grant(REPO, "stranger") is True
    assert download() == b"weights"
    assert gate.reject(REPO, "stranger") is True
    with pytest.raises(GatedRepoError):
        download()


def test_the_lists_are_read_to_their_last_page(hub: HubServer) -> None:
    ask(hub, "ann", "ben", "cleo", "dan", "eve")
    for name in ("ann", "ben", "cleo"):
        gate.grant(REPO, name)
    gate.reject(REPO, "dan")

    assert users(gate.accepted(REPO)) == ["ann", "ben", "cleo"]
    assert users(gate.rejected(REPO)) == ["dan"]
    assert users(gate.pending(REPO)) == ["eve"]


def test_granting_and_rejecting_again_changes_nothing(hub: HubServer) -> None:
    ask(hub, "ann", "ben")

    assert [gate.grant(REPO, "ann"), gate.grant(REPO, "ann")] == [True, False]
    assert [gate.reject(REPO, "ben"), gate.reject(REPO, "ben")] == [True, False]
    assert [gate.grant(REPO, "ben"), gate.reject(REPO, "ann")] == [True, True]
    assert (users(gate.accepted(REPO)), users(gate.rejected(REPO))) == (["ben"], ["ann"])


def test_who_never_asked_cannot_be_rejected(hub: HubServer) -> None:
    with pytest.raises(LoraregError, match="has no access"):
        gate.reject(REPO, "nobody")


def test_a_name_that_the_hub_does_not_know_is_said_so(hub: HubServer) -> None:
    with pytest.raises(ExternalToolError, match="nobody") as caught:
        gate.grant(REPO, "nobody")

    assert "there is no user nobody" in caught.value.why


def test_what_is_withdrawn_nobody_else_sees(hub: HubServer) -> None:
    stranger = hub.add_user("stranger")
    gate.grant(REPO, "stranger")

    assert [withdraw(REPO), withdraw(REPO), withdraw("studio/none")] == [True, False, False]

    with pytest.raises(RepositoryNotFoundError):
        hf_hub_download(REPO, FILE, token=stranger)
    assert hub.model(REPO).private


def test_a_token_that_may_not_write_is_said_so(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", hub.add_user("bob"))

    with pytest.raises(ExternalToolError, match="does not let you") as caught:
        repos.set_access(REPO, private=False, gated=False)

    assert "hf auth login" in caught.value.fix
    assert "token" in caught.value.fix


def test_a_hub_that_cannot_be_reached_is_said_so(hub: HubServer) -> None:
    import httpx2

    def cut() -> None:
        raise httpx2.ConnectError("nobody there")

    hub.meanwhile("GET", "/api/models/", cut)

    with pytest.raises(ExternalToolError, match="cannot read") as caught:
        repos.look(REPO)

    assert (caught.value.why, "HF_ENDPOINT" in caught.value.fix) == ("nobody there", True)
