"""The tests' Hub: the gate of a repository, and collections."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tests.hub.contents import Access, Collection, Repo, now
from tests.hub.protocol import FILES, REPO, Ask, RefusalError, paged, route

if TYPE_CHECKING:
    from tests.hubserver import HubServer

REQUESTS = "/user-access-request"
COLLECTION = r"/api/collections/(?P<slug>[^/]+/[^/]+)"


@route("POST", FILES, "/ask-access")
def ask_access(hub: HubServer, ask: Ask, kind: str, repo: str) -> Any:
    """The form in the browser; the client has no call for it."""
    found, user = hub.repo(ask, kind, repo), hub.must_be_known(ask)
    _gated(found)
    _enter(hub, found, user, "accepted" if found.gated == "auto" else "pending")
    return {}


@route("GET", REPO, REQUESTS, "/(?P<status>pending|accepted|rejected)")
def requests(hub: HubServer, ask: Ask, kind: str, repo: str, status: str) -> Any:
    found = hub.repo(ask, kind, repo, "write")
    _gated(found)
    listed = []
    for user, access in found.access.items():
        if access.status == status:
            line = {"requestId": access.request, "status": status, "timestamp": access.since}
            who = {"user": user, "fullname": user.title(), "email": f"{user}@example.org"}
            listed.append({**line, "user": who})
    return paged(hub, ask, listed)


@route("POST", REPO, REQUESTS, "/handle")
def handle(hub: HubServer, ask: Ask, kind: str, repo: str) -> Any:
    found, given = hub.repo(ask, kind, repo, "write"), ask.json()
    _gated(found)
    by_request = {access.request: name for name, access in found.access.items()}
    user = given.get("user") or by_request.get(given.get("requestId", ""), "")
    access = found.access.get(user)
    if access is None or access.status == given["status"]:
        raise RefusalError(404, "no such access request, or it is in that list already")
    access.status = given["status"]
    return {}


@route("POST", REPO, REQUESTS, "/grant")
def grant(hub: HubServer, ask: Ask, kind: str, repo: str) -> Any:
    found, user = hub.repo(ask, kind, repo, "write"), ask.json()["user"]
    _gated(found)
    if user not in hub.users:
        raise RefusalError(404, f"there is no user {user}")
    if user in found.access:
        raise RefusalError(400, f"{user} has access, or asked for it")
    _enter(hub, found, user, "accepted")
    return {}


@route("GET", "/api/collections")
def collections(hub: HubServer, ask: Ask) -> Any:
    owner, item = ask.first("owner"), ask.first("item").removeprefix("models/")
    found = [
        {key: value for key, value in each.info().items() if key != "position"}
        for each in hub.collections.values()
        if owner in ("", each.owner)
        and (not each.private or hub.role(ask, each.owner))
        and (not item or item in [held["id"] for held in each.items])
    ]
    return paged(hub, ask, found)


@route("POST", "/api/collections")
def new_collection(hub: HubServer, ask: Ask) -> Any:
    given = ask.json()
    owner, title = given["namespace"], given["title"]
    _may_edit(hub, ask, owner)
    words = re.sub("[^a-z0-9]+", "-", title.lower())
    slug = f"{owner}/{words}-{len(hub.collections):024x}"
    private = bool(given.get("private"))
    hub.collections[slug] = Collection(slug, title, given.get("description"), private)
    return hub.collections[slug].info()


@route("GET", COLLECTION)
def collection(hub: HubServer, ask: Ask, slug: str) -> Any:
    return _collection(hub, ask, slug).info()


@route("POST", COLLECTION, "/items?")
def add_item(hub: HubServer, ask: Ask, slug: str) -> Any:
    found, given = _collection(hub, ask, slug), ask.json()
    _may_edit(hub, ask, found.owner)
    item = given["item"]
    if any((each["id"], each["type"]) == (item["id"], item["type"]) for each in found.items):
        raise RefusalError(409, "already in the collection")
    number = len(found.items)
    note = {"note": {"text": given["note"]}} if "note" in given else {}
    found.items.append({"_id": f"{number:024x}", **item, "position": number, **note})
    return found.info()


@route("DELETE", COLLECTION)
def delete_collection(hub: HubServer, ask: Ask, slug: str) -> Any:
    _may_edit(hub, ask, _collection(hub, ask, slug).owner)
    del hub.collections[slug]
    return {}


def _gated(repo: Repo) -> None:
    if not repo.gated:
        raise RefusalError(400, "This repository is not gated")


def _enter(hub: HubServer, repo: Repo, user: str, status: Any) -> None:
    hub.requests += 1
    repo.access[user] = Access(f"{hub.requests:024x}", status, now())


def _may_edit(hub: HubServer, ask: Ask, owner: str) -> None:
    if hub.role(ask, owner) not in ("admin", "write"):
        raise RefusalError(403, f"no right to write in the namespace {owner}")


def _collection(hub: HubServer, ask: Ask, slug: str) -> Collection:
    found = hub.collections.get(slug)
    if found is None or (found.private and hub.role(ask, found.owner) is None):
        raise RefusalError(404, "there is no such collection")
    return found
