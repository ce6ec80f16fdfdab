"""The tests' Hub: listings and downloads."""

from __future__ import annotations

import hashlib
import re
import urllib.parse
from typing import TYPE_CHECKING, Any

from tests.hub.protocol import FILES, REPO, REVISION, Answer, Ask, RefusalError, paged, route
from tests.hub.repos import at

if TYPE_CHECKING:
    from tests.hubserver import HubServer


@route("GET", REPO, "/commits", REVISION)
def commits(hub: HubServer, ask: Ask, kind: str, repo: str, revision: str) -> Any:
    found = hub.repo(ask, kind, repo)
    here, told = at(found, revision), []
    while True:
        line = {"id": here.sha, "title": here.title, "message": here.message, "date": here.date}
        told.append({**line, "authors": [{"user": here.author}]})
        if here.parent is None:
            return paged(hub, ask, told)
        here = found.commits[here.parent]


@route("GET", REPO, "/tree", REVISION)
@route("GET", REPO, "/tree", REVISION, "/(?P<path>.+)")
def tree(hub: HubServer, ask: Ask, kind: str, repo: str, revision: str, path: str = "") -> Any:
    top = f"{path}/" if path else ""
    here = at(hub.repo(ask, kind, repo), revision)
    files = {name: file for name, file in here.files.items() if name.startswith(top)}
    if path and not files:
        raise RefusalError(404, f"{path} does not exist", "EntryNotFound")
    deep = ask.first("recursive").lower() == "true"
    found: dict[str, Any] = {}
    for name, file in sorted(files.items()):
        parts = name.removeprefix(top).split("/")
        for depth in range(1, len(parts) if deep else min(len(parts), 2)):
            folder = top + "/".join(parts[:depth])
            oid = hashlib.sha1(folder.encode()).hexdigest()
            found[folder] = {"type": "directory", "path": folder, "oid": oid, "size": 0}
        if deep or len(parts) == 1:
            found[name] = file.info(name)
    return paged(hub, ask, list(found.values()))


@route("POST", REPO, "/paths-info", REVISION)
def paths_info(hub: HubServer, ask: Ask, kind: str, repo: str, revision: str) -> Any:
    files = at(hub.repo(ask, kind, repo), revision).files
    wanted = urllib.parse.parse_qs(ask.body.decode()).get("paths", [])
    return [files[path].info(path) for path in wanted if path in files]


@route("GET", REPO, "/refs")
def refs(hub: HubServer, ask: Ask, kind: str, repo: str) -> Any:
    found = hub.repo(ask, kind, repo)

    def lines(prefix: str, names: dict[str, str]) -> list[dict[str, str]]:
        return [
            {"name": name, "ref": f"refs/{prefix}/{name}", "targetCommit": sha}
            for name, sha in names.items()
        ]

    proposals = {str(number): sha for number, sha in enumerate(found.proposals, 1)}
    return {
        "branches": lines("heads", found.branches),
        "converts": [],
        "tags": lines("tags", found.tags),
        "pullRequests": lines("pr", proposals),
    }


@route("GET HEAD", FILES, "/resolve", REVISION, "/(?P<path>.+)")
def download(hub: HubServer, ask: Ask, kind: str, repo: str, revision: str, path: str) -> Any:
    here = at(hub.repo(ask, kind, repo, "download"), revision)
    file = here.files.get(path)
    if file is None:
        raise RefusalError(404, "Entry not found", "EntryNotFound")
    data = hub.objects[file.sha256] if file.sha256 else file.data
    headers = {
        "X-Repo-Commit": here.sha,
        "ETag": f'"{file.etag}"',
        "Accept-Ranges": "bytes",
        "Content-Type": "application/octet-stream",
    }
    if file.sha256:
        headers |= {"X-Linked-Etag": f'"{file.sha256}"', "X-Linked-Size": str(len(file.data))}
    part = re.fullmatch(r"bytes=(\d+)-(\d*)", ask.headers.get("range", ""))
    if part is None or ask.method == "HEAD":
        return Answer(200, data, headers)
    first, last = int(part[1]), min(int(part[2] or len(data) - 1), len(data) - 1)
    if first >= len(data):
        raise RefusalError(416, "range not satisfiable")
    headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
    return Answer(206, data[first : last + 1], headers)
