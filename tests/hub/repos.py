"""The tests' Hub: accounts, repositories and their settings, commits, tags and uploads."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING, Any

from tests.hub.contents import Commit, File, Kind, Repo
from tests.hub.protocol import FILES, KIND, REPO, REVISION, Answer, Ask, RefusalError, paged, route

if TYPE_CHECKING:
    from tests.hubserver import HubServer

LFS_SUFFIXES = (".safetensors", ".bin", ".pt", ".ckpt", ".gguf", ".zip", ".png", ".jpg")
LFS_BYTES = 10 << 20
OBJECT = r"/_lfs/(?P<sha>[0-9a-f]{64})"


@route("GET", r"/api/whoami-v2")
def whoami(hub: HubServer, ask: Ask) -> Any:
    user = hub.must_be_known(ask)
    member = [(name, roles[user]) for name, roles in hub.organisations.items() if user in roles]
    token = {"role": "write" if hub.may_write(ask) else "read"}
    return {
        "type": "user",
        "name": user,
        "orgs": [{"name": name, "roleInOrg": role, "type": "org"} for name, role in member],
        "auth": {"type": "access_token", "accessToken": token},
    }


@route("POST", r"/api/validate-yaml")
def validate_yaml(hub: HubServer, ask: Ask) -> Any:
    return {"errors": [], "warnings": []}


@route("GET", r"/api/agent-harnesses")
def harnesses(hub: HubServer, ask: Ask) -> Any:
    return {"standardEnvVars": [], "harnesses": {}}


@route("HEAD", r"/api/telemetry/.*")
def telemetry(hub: HubServer, ask: Ask) -> Any:
    return {}


@route("POST", r"/api/repos/create")
def create(hub: HubServer, ask: Ask) -> Any:
    given, user = ask.json(), hub.must_be_known(ask)
    owner = given.get("organization") or user
    kind: Kind = given.get("type") or "model"
    if hub.role(ask, owner) not in ("admin", "write"):
        raise RefusalError(403, f"You don't have the rights to create a {kind} under {owner}.")
    name = f"{owner}/{given['name']}"
    address = {"url": f"{hub.endpoint}/{'' if kind == 'model' else kind + 's/'}{name}"}
    if (kind, name) in hub.repos:
        return Answer.of({"error": "You already created this repo", **address}, 409)
    private = given.get("visibility") == "private" or bool(given.get("private"))
    hub.repos[kind, name] = Repo(kind, name, private)
    return {**address, "name": name, "id": name}


@route("DELETE", r"/api/repos/delete")
def delete(hub: HubServer, ask: Ask) -> Any:
    given = ask.json()
    owner = given.get("organization") or hub.must_be_known(ask)
    found = hub.repo(ask, given.get("type") or "model", f"{owner}/{given['name']}", "admin")
    del hub.repos[found.kind, found.id]
    return {}


@route("GET", KIND)
def list_repos(hub: HubServer, ask: Ask, kind: str) -> Any:
    author, word = ask.first("author"), ask.first("search").lower()
    found = [
        describe(repo, repo.head)
        for (its, name), repo in sorted(hub.repos.items())
        if its == kind
        and (not repo.private or hub.role(ask, repo.owner))
        and author in ("", repo.owner)
        and word in name.lower()
    ]
    return paged(hub, ask, found)


@route("GET", REPO)
@route("GET", REPO, "/revision", REVISION)
def info(hub: HubServer, ask: Ask, kind: str, repo: str, revision: str = "main") -> Any:
    found = hub.repo(ask, kind, repo)
    return describe(found, at(found, revision), sizes="blobs" in ask.query)


@route("GET", REPO, "/auth-check")
@route("GET", REPO, "/auth-check/(?P<write>write)")
def auth_check(hub: HubServer, ask: Ask, kind: str, repo: str, write: str = "") -> Any:
    hub.repo(ask, kind, repo, write or "download")
    return {}


@route("PUT", REPO, "/settings")
def settings(hub: HubServer, ask: Ask, kind: str, repo: str) -> Any:
    found, given = hub.repo(ask, kind, repo, "admin"), ask.json()
    found.gated = given.get("gated", found.gated)
    if "visibility" in given or "private" in given:
        found.private = given.get("visibility") == "private" or given.get("private") is True
    return {"private": found.private, "gated": found.gated}


@route("POST", REPO, "/preupload", REVISION)
def preupload(hub: HubServer, ask: Ask, kind: str, repo: str, revision: str) -> Any:
    found = hub.repo(ask, kind, repo, "read" if "create_pr" in ask.query else "write")
    here = at(found, revision)
    files = []
    for each in ask.json()["files"]:
        path = each["path"]
        binary = b"\0" in base64.b64decode(each["sample"])
        large = each["size"] > LFS_BYTES or path.lower().endswith(LFS_SUFFIXES) or binary
        known = here.files.get(path)
        mode = {"uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
        files.append({"path": path, **mode, "oid": known.etag if known else None})
    return {"files": files, "commitOid": here.sha}


@route("POST", FILES, r"\.git/info/lfs/objects/batch")
def offer_objects(hub: HubServer, ask: Ask, kind: str, repo: str) -> Any:
    found, objects = hub.repo(ask, kind, repo, "write"), []
    for each in ask.json()["objects"]:
        sha, address = each["oid"], f"{hub.endpoint}/_lfs/{each['oid']}"
        found.uploaded.add(sha)
        wanted: dict[str, Any] = {"oid": sha, "size": each["size"]}
        if sha not in hub.objects:
            wanted["actions"] = {
                "upload": {"href": address},
                "verify": {"href": f"{address}/verify"},
            }
        objects.append(wanted)
    return {"transfer": "basic", "objects": objects}


@route("PUT", OBJECT)
def take_object(hub: HubServer, ask: Ask, sha: str) -> Any:
    if hashlib.sha256(ask.body).hexdigest() != sha:
        raise RefusalError(400, "BadDigest: the content does not match its sha256")
    hub.objects[sha] = ask.body
    return Answer(200, b"", {"ETag": f'"{sha}"'})


@route("POST", OBJECT, "/verify")
def verify_object(hub: HubServer, ask: Ask, sha: str) -> Any:
    if len(hub.objects.get(sha, b"")) != ask.json()["size"]:
        raise RefusalError(404, "object not found or of another size")
    return {}


@route("POST", REPO, "/commit", REVISION)
def commit(hub: HubServer, ask: Ask, kind: str, repo: str, revision: str) -> Any:
    as_proposal = "create_pr" in ask.query
    found = hub.repo(ask, kind, repo, "read" if as_proposal else "write")
    before = at(found, revision)
    lines = [json.loads(line) for line in ask.body.splitlines() if line.strip()]
    told = lines[0]["value"]
    if told.get("parentCommit") and not before.sha.startswith(told["parentCommit"]):
        raise RefusalError(412, "A commit has happened since. Please refresh and try again.")
    files = dict(before.files)
    for line in lines[1:]:
        _apply(hub, found, files, line["key"], line["value"])
    title = f"{told['summary']}\n{told.get('description', '')}"
    made = found.add(files, title, hub.must_be_known(ask), before.sha)
    address = f"{hub.endpoint}/{repo}"
    done = {"success": True, "commitOid": made.sha, "commitUrl": f"{address}/commit/{made.sha}"}
    if as_proposal:
        found.proposals.append(made.sha)
        done["pullRequestUrl"] = f"{address}/discussions/{len(found.proposals)}"
    else:
        found.branches[revision] = made.sha
    return done


@route("POST", REPO, "/tag", REVISION)
def tag(hub: HubServer, ask: Ask, kind: str, repo: str, revision: str) -> Any:
    found, name = hub.repo(ask, kind, repo, "write"), ask.json()["tag"]
    if name in found.tags:
        raise RefusalError(409, f"Tag reference exists already: {name}")
    found.tags[name] = at(found, revision).sha
    return {}


@route("DELETE", REPO, "/tag", REVISION)
def untag(hub: HubServer, ask: Ask, kind: str, repo: str, revision: str) -> Any:
    if hub.repo(ask, kind, repo, "write").tags.pop(revision, None) is None:
        raise RefusalError(404, "no such tag", "RevisionNotFound")
    return {}


def at(repo: Repo, revision: str) -> Commit:
    """The state of a repository at a revision."""
    found = repo.find(revision)
    if found is None:
        raise RefusalError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
    return found


def describe(repo: Repo, here: Commit, *, sizes: bool = False) -> dict[str, Any]:
    """A repository as the Hub's API shows it; with sizes and digests on request."""
    siblings = []
    for path, file in sorted(here.files.items()):
        shown: dict[str, Any] = {"rfilename": path}
        if sizes:
            shown |= {"size": len(file.data), "blobId": file.oid}
            if file.sha256:
                shown["lfs"] = {**file.info(path)["lfs"], "sha256": file.sha256}
        siblings.append(shown)
    state: dict[str, Any] = {"private": repo.private, "gated": repo.gated, "tags": []}
    dates = {"createdAt": repo.created, "lastModified": here.date, "downloads": 0, "likes": 0}
    name = {"id": repo.id, "modelId": repo.id, "author": repo.owner, "sha": here.sha}
    return {**name, **state, **dates, "siblings": siblings}


def _apply(hub: HubServer, repo: Repo, files: dict[str, File], key: str, value: Any) -> None:
    """One operation of a commit."""
    if key == "file":
        files[value["path"]] = File(base64.b64decode(value["content"]))
    elif key == "lfsFile":
        sha = value["oid"]
        if sha not in hub.objects or sha not in repo.uploaded:
            raise RefusalError(400, f"LFS object {sha} was not uploaded")
        files[value["path"]] = File(hub.objects[sha], sha)
    elif key in ("deletedFile", "deletedFolder"):
        path = value["path"].rstrip("/")
        inside = f"{path}/" if key == "deletedFolder" else path
        gone = [name for name in files if name == path or name.startswith(inside)]
        if not gone:
            raise RefusalError(404, "A file with this name doesn't exist", "EntryNotFound")
        for name in gone:
            del files[name]
