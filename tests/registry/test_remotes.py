"""Remotes that are services: S3 against a moto server, ssh against an SFTP server of asyncssh.

``LORAREG_MOTO_SERVER`` names the ``moto_server`` of another environment: it needs a botocore that
DVC's S3 plugin rejects.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lorareg.errors import IntegrityError, NotFoundError
from lorareg.registry.dvc import config as dvcconfig
from tests.apart import dvc_apart, git_apart
from tests.registry import shared
from tests.registry.shared import FILE, Team

MOTO = os.environ.get("LORAREG_MOTO_SERVER") or shutil.which("moto_server")
SFTP_SERVER = """
import asyncio, sys, asyncssh
async def serve(port, keys):
    server = await asyncssh.listen(
        "127.0.0.1", port, server_host_keys=[keys + "/host"],
        authorized_client_keys=keys + "/user.pub", sftp_factory=True, process_factory=None)
    await server.wait_closed()
asyncio.run(serve(int(sys.argv[1]), sys.argv[2]))
"""


@pytest.fixture(autouse=True)
def _own_settings(tmp_path: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        dvc_apart(patch, tmp_path)
        git_apart(patch, tmp_path)
        log_in(patch)
        yield


def log_in(patch: pytest.MonkeyPatch) -> None:
    """The credentials of the S3 server."""
    patch.setenv("AWS_ACCESS_KEY_ID", "testing")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(command: list[str], port: int) -> Iterator[None]:
    """A server of ours, once it takes connections; stopped at the end."""
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        give_up = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert server.poll() is None, f"{command[0]} ended"
                assert time.monotonic() < give_up
                time.sleep(0.1)
        yield
    finally:
        server.terminate()
        server.wait(timeout=30)


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A client of an S3 server."""
    if MOTO is None:
        pytest.skip("no moto_server here: LORAREG_MOTO_SERVER names one")
    pytest.importorskip("dvc_s3")
    import botocore.session  # type: ignore[import-not-found,import-untyped]

    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    with pytest.MonkeyPatch.context() as patch:
        log_in(patch)
        session = botocore.session.get_session()
        client = session.create_client("s3", endpoint_url=endpoint, region_name="us-east-1")
        with running([MOTO, "-H", "127.0.0.1", "-p", str(port)], port):
            yield client


def team_with(top: Path, settings: Mapping[str, str]) -> Team:
    """A team whose bytes go to one address; the settings are written as DVC does, which is slow."""
    team = shared.found(top)
    config = top / "start/.dvc/config"
    core = {("core", "remote"): "service"}
    own = {('remote "service"', key): value for key, value in settings.items()}
    config.write_text(dvcconfig.as_text({**dvcconfig.load(config), **core, **own}))
    shared.git(top / "start", "commit", "-qam", "service")
    shared.git(top / "start", "push", "-q", "origin", "main")
    return team


def team_at(top: Path, client: Any, bucket: str) -> Team:
    """A team whose bytes go to a bucket of its own."""
    client.create_bucket(Bucket=bucket)
    endpoint = client.meta.endpoint_url
    settings = {"url": f"s3://{bucket}/store", "endpointurl": endpoint, "region": "us-east-1"}
    return team_with(top, settings)


def test_s3_carries_bytes_and_tampered_ones_are_refused(s3: Any, tmp_path: Path) -> None:
    team = team_at(tmp_path, s3, "carries")
    alice = team.member("alice")
    ink, oil = alice.adapter("style/ink", 1), alice.adapter("style/oil", 2)

    pushed = alice.push()
    again = alice.push()
    first = team.member("bob").pull()
    key = f"store/{alice.object_at(ink, 'storage').relative_to(tmp_path / 'team').as_posix()}"
    good = s3.get_object(Bucket="carries", Key=key)["Body"].read()
    s3.put_object(Bucket="carries", Key=key, Body=good[::-1])
    second = team.member("carol").pull()

    assert (pushed.objects, again.objects) == (4, 0)
    assert first.verified == {str(ink): 1, str(oil): 1}
    assert second.verified == {str(oil): 1}
    assert isinstance(second.refused[str(ink)], IntegrityError)
    assert FILE in second.refused[str(ink)].why


def test_s3_gets_the_bytes_of_earlier_commits_too(s3: Any, tmp_path: Path) -> None:
    team = team_at(tmp_path, s3, "earlier")
    alice = team.member("alice")
    ink = alice.adapter("style/ink", 1)
    first = alice.weights(ink).read_bytes()
    alice.workspace.store.track(alice.workspace.folder(ink).weights)
    shared.git(alice.root, "add", "--all")
    shared.git(alice.root, "commit", "-qm", "by hand")
    alice.adapter("style/ink", 2)

    alice.push()
    keys = [each["Key"] for each in s3.list_objects_v2(Bucket="earlier")["Contents"]]
    kept = [s3.get_object(Bucket="earlier", Key=key)["Body"].read() for key in keys]
    for key in keys:
        s3.delete_object(Bucket="earlier", Key=key)
    refused = team.member("bob").pull().refused[str(ink)]

    assert first in kept
    assert isinstance(refused, NotFoundError)


def test_ssh_carries_bytes(tmp_path: Path) -> None:
    pytest.importorskip("dvc_ssh")
    port, keys = free_port(), tmp_path / "keys"
    keys.mkdir(mode=0o700)
    for name in ("host", "user"):
        make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(keys / name)]
        subprocess.check_call(make)
    (tmp_path / "storage").mkdir()
    with running([sys.executable, "-c", SFTP_SERVER, str(port), str(keys)], port):
        url = f"ssh://127.0.0.1{tmp_path}/storage"
        login = {"port": str(port), "user": "alice", "keyfile": str(keys / "user")}
        team = team_with(tmp_path, {"url": url, **login})
        alice = team.member("alice")
        ink = alice.adapter("style/ink", 1)

        pushed = alice.push()
        pulled = team.member("bob").pull()

    assert pushed.objects == 2
    assert pulled.verified == {str(ink): 1}
