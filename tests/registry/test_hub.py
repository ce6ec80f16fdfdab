"""The Hub, as far as a base needs it, against a double on the loopback interface."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from lorareg.errors import ExternalToolError, InvalidFileError, NotFoundError
from lorareg.registry import hub
from lorareg.registry.bases import base as bases
from lorareg.registry.digest import DigestCache, of_bytes
from lorareg.registry.manifest import Base

COMMIT = "4" * 40
MODEL = "org/tiny-lm"
FILES = {
    "config.json": b'{"model_type": "llama"}',
    "tokenizer.json": b"{}",
    "model.safetensors": save({"w": np.ones(2, np.float32)}),
    "model.fp16.safetensors": b"not wanted",
    "pytorch_model.bin": b"not wanted",
    "README.md": b"not wanted",
}


class Double(ThreadingHTTPServer):
    """One repository with one commit, which is its main branch.

    Attributes:
        served: paths of the files that were asked for.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = files
        self.served: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Double

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def _answer(self) -> None:
        path = self.path.partition("?")[0]
        files = {f"/{MODEL}/resolve/{COMMIT}/{name}": name for name in self.server.files}
        if path in (f"/api/models/{MODEL}", f"/api/models/{MODEL}/revision/{COMMIT}",
                    f"/api/models/{MODEL}/revision/main"):  # fmt: skip
            siblings = [{"rfilename": name} for name in self.server.files]
            body = json.dumps({"id": MODEL, "sha": COMMIT, "siblings": siblings}).encode()
            self._send(200, body, {"Content-Type": "application/json"})
        elif path == f"/api/models/{MODEL}/tree/{COMMIT}":
            tree = [
                {"type": "file", "path": name, "size": len(data), "oid": COMMIT}
                for name, data in self.server.files.items()
            ]
            self._send(200, json.dumps(tree).encode(), {"Content-Type": "application/json"})
        elif path in files:
            self.server.served.append(files[path])
            body = self.server.files[files[path]]
            digest = of_bytes(body).removeprefix("sha256:")
            self._send(200, body, {"ETag": f'"{digest}"', "X-Repo-Commit": COMMIT})
        else:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


def talk_to(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """What HF_ENDPOINT does, after the client was imported."""
    from huggingface_hub import constants

    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", url)


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """The Hub client with an empty cache and nobody to talk to."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    talk_to(monkeypatch, "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    return monkeypatch


@pytest.fixture
def double(client: pytest.MonkeyPatch) -> Iterator[Double]:
    server = Double(dict(FILES))
    talk_to(client, server.url)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_commit_needs_no_network() -> None:
    assert hub.resolve("nobody/nothing", COMMIT) == COMMIT


@pytest.mark.parametrize("branch", [None, "main"])
@pytest.mark.usefixtures("double")
def test_a_branch_is_pinned_to_its_commit(branch: str | None) -> None:
    assert hub.resolve(MODEL, branch) == COMMIT


def test_only_what_is_loaded_is_downloaded(double: Double) -> None:
    folder = hub.snapshot(MODEL, COMMIT)

    wanted = {"config.json", "tokenizer.json", "model.safetensors"}
    assert {path.name for path in folder.iterdir()} == set(double.served) == wanted


@pytest.mark.usefixtures("double")
def test_a_model_in_the_cache_needs_no_network(client: pytest.MonkeyPatch) -> None:
    first = hub.snapshot(MODEL, COMMIT)
    talk_to(client, "http://127.0.0.1:9")

    assert hub.snapshot(MODEL, COMMIT) == first
    assert hub.snapshot(MODEL, COMMIT, fetch=False) == first


def test_a_cache_that_holds_a_part_of_the_model_is_filled_up(double: Double) -> None:
    from huggingface_hub import hf_hub_download

    hf_hub_download(MODEL, "tokenizer.json", revision=COMMIT)

    with pytest.raises(NotFoundError, match="not in the Hub client's cache"):
        hub.snapshot(MODEL, COMMIT, fetch=False)
    assert (hub.snapshot(MODEL, COMMIT) / "model.safetensors").is_file()
    assert "model.safetensors" in double.served


@pytest.mark.usefixtures("double")
def test_a_base_on_the_hub_has_the_digest_of_its_local_copy(registry: Path) -> None:
    folder = registry / "copy"
    folder.mkdir()
    for name, data in FILES.items():
        (folder / name).write_bytes(data)

    far = bases.resolve(
        Base(model=MODEL, revision=COMMIT), "text-generation", registry, DigestCache(None)
    )
    near = bases.resolve(Base(model="copy"), "text-generation", registry, DigestCache(None))

    assert far.digest == near.digest
    assert (far.revision, near.revision) == (COMMIT, None)


def test_a_repository_without_safetensors_is_refused_before_a_download(double: Double) -> None:
    del double.files["model.safetensors"]

    with pytest.raises(InvalidFileError, match=r"no \.safetensors weights") as caught:
        hub.snapshot(MODEL, COMMIT)

    assert "run code" in caught.value.why
    assert double.served == []


def test_a_model_without_a_commit_is_refused() -> None:
    with pytest.raises(NotFoundError, match="has no revision") as caught:
        hub.snapshot(MODEL, None)

    assert "40-hex" in caught.value.fix


@pytest.mark.usefixtures("double")
def test_a_repository_that_is_not_there_is_named() -> None:
    for ask in (lambda: hub.resolve("org/gone", None), lambda: hub.snapshot("org/gone", COMMIT)):
        with pytest.raises(ExternalToolError, match="cannot fetch 'org/gone'") as caught:
            ask()
        assert "\n" not in caught.value.why


@pytest.mark.usefixtures("client")
def test_a_hub_that_cannot_be_reached_is_said_so_soon() -> None:
    for ask in (lambda: hub.resolve(MODEL, None), lambda: hub.snapshot(MODEL, COMMIT)):
        with pytest.raises(ExternalToolError, match=f"cannot fetch '{MODEL}'") as caught:
            ask()
        assert "network" in caught.value.fix
