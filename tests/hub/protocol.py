"""What goes between the Hub's client and the tests' Hub, and which function answers it."""

from __future__ import annotations

import json
import re
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.hubserver import HubServer

JSON = {"Content-Type": "application/json"}
PAGE = "page"


@dataclass(frozen=True)
class Ask:
    """A request.

    Attributes:
        path: still percent-encoded: a tag such as ``character/zhangsan@v1.0.0`` is one segment.
        headers: with lower-case names.
    """

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes

    @classmethod
    def read(cls, method: str, target: str, headers: dict[str, str], body: bytes) -> Ask:
        """A request as it came in; ``target`` is path and query."""
        path, _, query = target.partition("?")
        small = {name.lower(): value for name, value in headers.items()}
        return cls(method, path, urllib.parse.parse_qs(query, keep_blank_values=True), small, body)

    @property
    def token(self) -> str | None:
        """Who asks, if he says so."""
        given = self.headers.get("authorization")
        return given.removeprefix("Bearer ") if given else None

    def json(self) -> dict[str, Any]:
        """The document it carries."""
        document: dict[str, Any] = json.loads(self.body or b"{}")
        return document

    def first(self, name: str, default: str = "") -> str:
        """A value of the query."""
        return self.query.get(name, [default])[0]


@dataclass(frozen=True)
class Answer:
    """What the Hub says."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, document: Any, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
        """A JSON document."""
        return cls(status, json.dumps(document).encode(), JSON | (headers or {}))


class RefusalError(Exception):
    """The Hub says no. The client tells its exceptions apart by ``code``, not by the status."""

    def __init__(
        self, status: int, message: str, code: str = "", headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.headers = status, message, code, headers or {}

    @property
    def answer(self) -> Answer:
        """It, on the wire."""
        headers = {"X-Error-Message": self.message, **self.headers}
        if self.code:
            headers["X-Error-Code"] = self.code
        return Answer.of({"error": self.message}, self.status, headers)


Handler = Callable[..., Any]


@dataclass(frozen=True)
class Route:
    """Which requests a function answers; the groups of ``path`` are its arguments."""

    method: str
    path: re.Pattern[str]
    answer: Handler


ROUTES: list[Route] = []
KIND = r"/api/(?P<kind>model|dataset|space)s"
REPO = KIND + r"/(?P<repo>[^/]+/[^/]+)"
FILES = r"/(?P<kind>datasets/|spaces/|)(?P<repo>[^/]+/[^/]+)"
REVISION = r"/(?P<revision>[^/]+)"


def route(methods: str, *path: str) -> Callable[[Handler], Handler]:
    """Let a function answer the requests with one of these methods and this path."""

    def register(answer: Handler) -> Handler:
        pattern = re.compile("".join(path) + r"\Z")
        ROUTES.extend(Route(method, pattern, answer) for method in methods.split())
        return answer

    return register


def reply(hub: HubServer, ask: Ask) -> Answer:
    """Let the function whose route fits answer."""
    for each in ROUTES:
        found = each.path.match(ask.path) if each.method == ask.method else None
        if found is None:
            continue
        given = {
            name: urllib.parse.unquote(value)
            for name, value in found.groupdict().items()
            if value is not None
        }
        if "kind" in given:
            given["kind"] = given["kind"].removesuffix("/").removesuffix("s") or "model"
        answer = each.answer(hub, ask, **given)
        return answer if isinstance(answer, Answer) else Answer.of(answer)
    raise RefusalError(501, f"the tests' Hub does not know {ask.method} {ask.path}")


def paged(hub: HubServer, ask: Ask, items: list[Any]) -> Answer:
    """One page of a list; the header ``Link`` leads to the next one."""
    size = hub.page_size
    if size is None:
        return Answer.of(items)
    start = int(ask.first(PAGE, "0"))
    headers = {}
    if start + size < len(items):
        query = {name: values for name, values in ask.query.items() if name != PAGE}
        query[PAGE] = [str(start + size)]
        target = f"{hub.endpoint}{ask.path}?{urllib.parse.urlencode(query, doseq=True)}"
        headers["Link"] = f'<{target}>; rel="next"'
    return Answer.of(items[start : start + size], headers=headers)
