"""Two ways from the Hub's client to the tests' Hub: within the process, and over loopback."""

from __future__ import annotations

import http.server
import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from tests.hub.protocol import Ask

if TYPE_CHECKING:
    from tests.hubserver import HubServer


@contextmanager
def in_process(hub: HubServer, token: str | None, cache: Path | None) -> Iterator[None]:
    """Let every call of the client in this process end at the server, without a socket."""
    import httpx2
    from huggingface_hub.utils import _http

    class Transport(httpx2.BaseTransport):
        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            target, headers = request.url.raw_path.decode(), dict(request.headers)
            ask = Ask.read(request.method, target, headers, request.read())
            answer = hub.answer(ask)
            body = b"" if ask.method == "HEAD" else answer.body
            return httpx2.Response(
                answer.status, headers=answer.headers, content=body, request=request
            )

    def client() -> httpx2.Client:
        hooks = {"request": [_http.hf_request_event_hook]}
        return httpx2.Client(transport=Transport(), follow_redirects=True, event_hooks=hooks)

    with _client_for(hub, token, cache):
        _http.set_client_factory(client)
        try:
            yield
        finally:
            _http.set_client_factory(_http.default_client_factory)


@contextmanager
def serve(hub: HubServer) -> Iterator[str]:
    """Listen on the loopback interface only; gives the URL for ``HF_ENDPOINT``."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def respond(self) -> None:
            ask = Ask.read(self.command, self.path, dict(self.headers.items()), self._body())
            answer = hub.answer(ask)
            self.send_response(answer.status)
            length = {"Content-Length": str(len(answer.body))}
            for name, value in {**answer.headers, **length}.items():
                self.send_header(name, value)
            self.end_headers()
            if ask.method != "HEAD":
                self.wfile.write(answer.body)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

        def _body(self) -> bytes:
            if "chunked" not in self.headers.get("Transfer-Encoding", ""):
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = b""
            while size := int(self.rfile.readline().partition(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

    for method in ("GET", "HEAD", "POST", "PUT", "DELETE"):
        setattr(Handler, f"do_{method}", Handler.respond)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        before, hub.endpoint = hub.endpoint, f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield hub.endpoint
        finally:
            server.shutdown()
            thread.join()
            hub.endpoint = before


@contextmanager
def _client_for(hub: HubServer, token: str | None, cache: Path | None) -> Iterator[None]:
    """Set the client up as the environment would have done before it was imported."""
    from huggingface_hub import constants
    from huggingface_hub.utils import _http

    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, hub.endpoint)
    settings: dict[str, Any] = {
        "ENDPOINT": hub.endpoint,
        "HUGGINGFACE_CO_URL_TEMPLATE": template,
        "HF_HUB_DISABLE_XET": True,  # its protocol is not modelled here
        "HF_HUB_DISABLE_TELEMETRY": True,
        "HF_HUB_DISABLE_PROGRESS_BARS": True,
        "HF_TOKEN_PATH": os.devnull,
    }
    if cache is not None:
        settings["HF_HUB_CACHE"] = str(cache)
    environment = {"HF_HUB_DISABLE_XET": "1", "HF_TOKEN": token or ""}
    with ExitStack() as stack:
        stack.enter_context(patch.multiple(constants, **settings))
        stack.enter_context(patch.dict(os.environ, environment))
        stack.enter_context(patch.object(_http, "time", _Clock(hub.waited)))
        yield


class _Clock:
    """The module ``time`` for the client alone: it notes how long it would have slept."""

    def __init__(self, waited: list[float]) -> None:
        self.sleep = waited.append

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)
