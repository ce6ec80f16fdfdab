"""A Hugging Face Hub for tests, which the real client talks to: in this process or on loopback.

    hub = HubServer()
    alice = hub.add_user("alice")                  # her token
    hub.add_organisation("studio", {"alice": "admin"})
    with hub.in_process(alice, cache=tmp_path):    # no socket; the client's waits take no time
        HfApi().create_repo("studio/zhangsan", private=True)
    with hub.serve() as url: ...                   # HF_ENDPOINT=url HF_HUB_DISABLE_XET=1 of a CLI

Not modelled: the xet protocol, multipart uploads, resource groups, rules of .gitattributes.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.hub import access, reading, repos  # noqa: F401  their routes
from tests.hub.contents import Collection, File, Kind, Repo
from tests.hub.protocol import Answer, Ask, RefusalError, reply
from tests.hub.transport import in_process, serve

Role = Literal["admin", "write", "read"]


@dataclass
class Fault:
    """What goes wrong, how often.

    Attributes:
        path: pattern that is searched for in the request's path.
        before: whether the request is lost before it has an effect; else only its answer is.
        effect: called instead of refusing with ``status``; may raise what the client shall see.
    """

    method: str
    path: str
    status: int
    times: int
    before: bool = True
    headers: dict[str, str] | None = None
    effect: Callable[[], None] | None = None

    def strikes(self, ask: Ask, *, before: bool) -> bool:
        """Whether it happens now; then it happens once less."""
        if self.before != before or self.times < 1 or self.method != ask.method:
            return False
        if not re.search(self.path, ask.path):
            return False
        self.times -= 1
        return True


class HubServer:
    """One Hub.

    Attributes:
        endpoint: where the client finds it.
        page_size: entries of a page of a list; None sends all at once.
        objects: sha256 -> bytes of uploaded weights; tests tamper with them.
        log: method and path of every request and the status of its answer, in order.
        waited: seconds the client would have waited before it tried again.
    """

    def __init__(self, *, page_size: int | None = None) -> None:
        self.endpoint = "http://127.0.0.1:9"
        self.page_size = page_size
        self.users: dict[str, dict[str, Role]] = {}
        self.organisations: dict[str, dict[str, Role]] = {}
        self.repos: dict[tuple[str, str], Repo] = {}
        self.collections: dict[str, Collection] = {}
        self.objects: dict[str, bytes] = {}
        self.log: list[tuple[str, str, int]] = []
        self.waited: list[float] = []
        self.faults: list[Fault] = []
        self.requests = 0
        self._alone = threading.RLock()

    def add_user(self, name: str, role: Role = "write") -> str:
        """A user; returns a token of his, with which he may do no more than ``role``."""
        token = f"hf_secret_of_{name}_to_{role}"
        self.users.setdefault(name, {})[token] = role
        return token

    def add_organisation(self, name: str, members: dict[str, Role]) -> None:
        """An organisation with its members."""
        self.organisations[name] = dict(members)

    def add_repo(
        self, name: str, files: dict[str, bytes], *, kind: Kind = "model", private: bool = False
    ) -> Repo:
        """A repository that somebody filled; weights are kept as LFS objects."""
        found = self.repos.setdefault((kind, name), Repo(kind, name, private))
        content = dict(found.head.files)
        for path, data in files.items():
            sha = hashlib.sha256(data).hexdigest()
            if path.endswith(repos.LFS_SUFFIXES):
                self.objects[sha] = data
                content[path] = File(data, sha)
            else:
                content[path] = File(data)
        found.branches["main"] = found.add(content, "add files", found.owner, found.head.sha).sha
        return found

    def model(self, name: str) -> Repo:
        """A repository of a model, to look at what is in it."""
        return self.repos["model", name]

    def fail(
        self, method: str, path: str, status: int = 503, times: int = 1, *, before: bool = True
    ) -> None:
        """Refuse the next requests with this method whose path fits, or lose their answers."""
        self.faults.append(Fault(method, path, status, times, before))

    def limit(self, method: str, path: str, seconds: int, times: int = 1) -> None:
        """Answer the next requests with 429: too many, come back later."""
        headers = {"Retry-After": str(seconds)}
        self.faults.append(Fault(method, path, 429, times, headers=headers))

    def meanwhile(self, method: str, path: str, effect: Callable[[], None]) -> None:
        """Let something happen just before the next such request; it may raise."""
        self.faults.append(Fault(method, path, 0, 1, effect=effect))

    def calls(self, *methods: str) -> list[str]:
        """The requests so far that changed something (or had these methods), as 'PUT /api/…'."""
        wanted = methods or ("POST", "PUT", "DELETE")
        return [f"{method} {path}" for method, path, status in self.log if method in wanted]

    def in_process(
        self, token: str | None = None, *, cache: Path | None = None
    ) -> AbstractContextManager[None]:
        """Every call of the client in this process ends here, in the name of ``token``."""
        return in_process(self, token, cache)

    def serve(self) -> AbstractContextManager[str]:
        """A server on the loopback interface; gives its URL."""
        return serve(self)

    def answer(self, ask: Ask) -> Answer:
        """Answer one request, and write it into the log."""
        with self._alone:
            try:
                self._strike(ask, before=True)
                answer = reply(self, ask)
                self._strike(ask, before=False)
            except RefusalError as error:
                answer = error.answer
            self.log.append((ask.method, ask.path, answer.status))
        return answer

    def user(self, ask: Ask) -> str | None:
        """Who asks; None is somebody without a token."""
        if ask.token is None:
            return None
        for name, tokens in self.users.items():
            if ask.token in tokens:
                return name
        raise RefusalError(401, "Invalid credentials in Authorization header")

    def must_be_known(self, ask: Ask) -> str:
        """Who asks; refuses somebody without a token."""
        user = self.user(ask)
        if user is None:
            raise RefusalError(401, "Invalid username or password.")
        return user

    def may_write(self, ask: Ask) -> bool:
        """Whether the token is one to write with."""
        tokens = self.users.get(self.user(ask) or "", {})
        return tokens.get(ask.token or "") != "read"

    def role(self, ask: Ask, owner: str) -> Role | None:
        """What whoever asks may do in a namespace; None is what everybody may."""
        user = self.user(ask)
        if user is None:
            return None
        role: Role | None = (
            "admin" if user == owner else self.organisations.get(owner, {}).get(user)
        )
        return role if role is None or self.may_write(ask) else "read"

    def repo(self, ask: Ask, kind: str, name: str, need: str = "read") -> Repo:
        """A repository, if whoever asks may read, download from, write to or administer it."""
        found = self.repos.get((kind, name))
        role = self.role(ask, found.owner) if found else None
        user = self.user(ask)
        if found is None or (found.private and role is None):
            raise RefusalError(404 if user else 401, "Repository not found", "RepoNotFound")
        if need == "write" and role not in ("admin", "write"):
            raise RefusalError(403, "You don't have the rights to write to this repository")
        if need == "admin" and role != "admin":
            raise RefusalError(403, "You must be an admin of this namespace")
        if need == "download" and found.gated and role is None:
            access = found.access.get(user or "")
            if access is None or access.status != "accepted":
                why = f"Access to {kind} {name} is restricted; visit the page to ask for access."
                raise RefusalError(403 if user else 401, why, "GatedRepo")
        return found

    def _strike(self, ask: Ask, *, before: bool) -> None:
        for fault in self.faults:
            if not fault.strikes(ask, before=before):
                continue
            if fault.effect is None:
                raise RefusalError(fault.status, "injected fault", headers=fault.headers)
            fault.effect()
