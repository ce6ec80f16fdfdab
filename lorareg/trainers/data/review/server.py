"""The review page's server: for one person, on this machine only, as long as the command runs.

Standard library: four answers and one page need no framework. What keeps strangers out: it listens
on 127.0.0.1; every address holds a secret; other host names (DNS rebinding) and writes from other
pages are refused; pictures are asked for by number, so no path of a request reaches the disk; and
the page may load nothing but its own two parts, which are known by their hashes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import socketserver
import sys
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Annotated, Any, TypeVar

from pydantic import Field

from lorareg.errors import InvalidFileError, LoraregError
from lorareg.registry import jsontext
from lorareg.registry.schema import Strict, check
from lorareg.trainers.data.caption_table import MAX_CAPTION
from lorareg.trainers.data.review.state import ChangedMeanwhileError, Review

MAX_BODY = 1_000_000  # bytes
IDLE_SECONDS = 60.0
HOST = re.compile(r"(127\.0\.0\.1|localhost)(:\d{1,5})?")
TYPES = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp"}
HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
Body = TypeVar("Body", bound=Strict)
Caption = Annotated[str, Field(max_length=MAX_CAPTION)]


class Look(Strict):
    """A request for hints on a text that is being written."""

    caption: Caption


class Accept(Strict):
    """A caption for a picture; ``seen`` is the one that was shown."""

    picture: Annotated[int, Field(ge=0)]
    caption: Caption
    seen: Caption


class Undo(Strict):
    """A request to take the last accepted caption back."""


class RefusedError(Exception):
    """A request that gets no answer but a status and its reason."""

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status = status


class ReviewServer(ThreadingHTTPServer):
    """Serves one review; ``url`` is where."""

    daemon_threads = True

    def __init__(self, review: Review, port: int = 0) -> None:
        """Listen on a port of 127.0.0.1, or on any free one.

        Raises:
            LoraregError: the port is taken or not ours to use.
        """
        self.review = review
        self.token = secrets.token_urlsafe(32)
        self._ticket: str | None = secrets.token_urlsafe(32)
        self.page = resources.files(__package__).joinpath("page.html").read_bytes()
        self.policy = _policy(self.page.decode())
        try:
            super().__init__(("127.0.0.1", port), Answer)
        except (OSError, OverflowError) as error:
            raise LoraregError(
                f"the review page cannot use port {port}",
                why=str(error),
                fix="name another port, or none: a free one is found",
            ) from error

    @property
    def url(self) -> str:
        """Address of the page."""
        return f"http://127.0.0.1:{self.server_port}/{self.token}/"

    @property
    def once(self) -> str:
        """Address that leads to the page a single time.

        It is for the command line of a browser, which every user of the machine can read.
        """
        return f"http://127.0.0.1:{self.server_port}/{self._ticket}"

    def redeem(self, ticket: str) -> bool:
        """Whether this was the unused ticket; from now on it is used."""
        valid = self._ticket is not None and _equal(ticket, self._ticket)
        if valid:
            self._ticket = None
        return valid

    def server_bind(self) -> None:
        """Bind without asking DNS for this machine's name, which can take seconds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that hangs up in the middle of an answer is no error."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Answer(BaseHTTPRequestHandler):
    """Answers one connection's requests."""

    server: ReviewServer
    server_version = "lorareg"
    sys_version = ""
    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """The page, its list, one caption, one picture."""
        self._answer(self._get)

    def do_POST(self) -> None:
        """Hints, accept, undo."""
        self._answer(self._post)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not shown: their addresses hold the token."""

    def _answer(self, method: Callable[[str], None]) -> None:
        """Let in who has the token, and turn every refusal into a status and its words."""
        _, _, path = self.path.partition("/")
        token, slash, rest = path.partition("/")  # compared as they came, never decoded
        try:
            self._refuse_other_hosts()
            if slash and _equal(token, self.server.token):
                method(rest)
            elif self.command == "GET" and not slash and self.server.redeem(token):
                self._head(HTTPStatus.SEE_OTHER, {"Location": self.server.url}, 0)
            else:
                raise RefusedError(HTTPStatus.FORBIDDEN, "open the address the terminal shows")
        except RefusedError as refused:
            self._refuse(refused.status, {"what": str(refused)})
        except ChangedMeanwhileError as changed:
            self._refuse(HTTPStatus.CONFLICT, {"what": changed.what, "caption": changed.caption})
        except LoraregError as error:
            words = {"what": error.what, "why": error.why, "fix": error.fix}
            self._refuse(HTTPStatus.UNPROCESSABLE_ENTITY, words)
        except (ConnectionError, TimeoutError):
            raise  # the browser's end, not the disk's
        except OSError as error:
            words = {"what": f"the system refused: {error.filename}", "why": str(error.strerror)}
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, words)

    def _get(self, path: str) -> None:
        review = self.server.review
        if path == "":
            self._send(self.server.page, "text/html; charset=utf-8")
        elif path == "pictures":
            self._send_json(review.overview())
        elif found := re.fullmatch(r"item/(\d{1,7})", path):
            self._send_json(review.item(int(found[1])).document())
        elif found := re.fullmatch(r"picture/(\d{1,7})", path):
            self._send_picture(int(found[1]))
        else:
            raise RefusedError(HTTPStatus.NOT_FOUND, "there is nothing at this address")

    def _post(self, path: str) -> None:
        review = self.server.review
        origin = self.headers.get_all("Origin", [])
        if origin != [f"http://{self.headers['Host']}"]:
            raise RefusedError(HTTPStatus.FORBIDDEN, "another page may not write here")
        if path == "look":
            self._send_json(review.look(self._body(Look).caption))
        elif path == "accept":
            wanted = self._body(Accept)
            item = review.accept(wanted.picture, wanted.caption, wanted.seen)
            self._send_json(item.document())
        elif path == "undo":
            self._body(Undo)
            undone = review.undo()
            self._send_json(undone.document() if undone else None)
        else:
            raise RefusedError(HTTPStatus.NOT_FOUND, "there is nothing at this address")

    def _refuse_other_hosts(self) -> None:
        hosts = self.headers.get_all("Host", [])
        if len(hosts) != 1 or not HOST.fullmatch(hosts[0]):
            raise RefusedError(HTTPStatus.FORBIDDEN, "this page has another address")

    def _body(self, model: type[Body]) -> Body:
        if self.headers.get_content_type() != "application/json":
            raise RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send JSON")
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"\d{1,12}", length) or "Transfer-Encoding" in self.headers:
            raise RefusedError(HTTPStatus.LENGTH_REQUIRED, "say how long it is")
        if int(length) > MAX_BODY:
            raise RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {MAX_BODY} bytes")
        try:
            return check(model, jsontext.parse(self.rfile.read(int(length)).decode()), "request")
        except (ValueError, InvalidFileError) as error:
            why = error.why if isinstance(error, InvalidFileError) else str(error)
            raise RefusedError(HTTPStatus.BAD_REQUEST, f"not what was expected: {why}") from error

    def _send_picture(self, picture: int) -> None:
        path = self.server.review.picture(picture)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise RefusedError(HTTPStatus.NOT_FOUND, f"it is gone: {error.strerror}") from error
        self._send(data, TYPES[path.suffix.lower()])

    def _send_json(self, document: Any, status: HTTPStatus = HTTPStatus.OK) -> None:
        text = json.dumps(document, ensure_ascii=False)
        self._send(text.encode(), "application/json; charset=utf-8", status)

    def _send(self, data: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        self._head(status, {"Content-Type": kind}, len(data))
        self.wfile.write(data)

    def _refuse(self, status: HTTPStatus, words: dict[str, str]) -> None:
        """Answer and hang up: the rest of the request may be unread."""
        self.close_connection = True
        self._send_json({"error": words}, status)

    def _head(self, status: HTTPStatus, headers: dict[str, str], length: int) -> None:
        self.send_response(status)
        own = {"Content-Security-Policy": self.server.policy, "Content-Length": str(length)}
        hang_up = {"Connection": "close"} if self.close_connection else {}
        for name, value in {**HEADERS, **own, **hang_up, **headers}.items():
            self.send_header(name, value)
        self.end_headers()


def _equal(given: str, secret: str) -> bool:
    """Compare in a time that says nothing about where they differ."""
    return secrets.compare_digest(given.encode(errors="replace"), secret.encode())


def _policy(page: str) -> str:
    """What the page may load: its own style and script, by hash, and answers of this server."""
    rules = ["default-src 'none'", "img-src 'self' data:", "connect-src 'self'", "base-uri 'none'"]
    rules += ["form-action 'none'", "frame-ancestors 'none'"]
    for part in ("style", "script"):
        found = re.findall(rf"<{part}>(.*?)</{part}>", page, re.DOTALL)
        hashes = [base64.b64encode(hashlib.sha256(p.encode()).digest()).decode() for p in found]
        rules.append(" ".join([f"{part}-src", *(f"'sha256-{value}'" for value in hashes)]))
    return "; ".join(rules)
