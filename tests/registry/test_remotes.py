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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lorareg.errors import IntegrityError, NotFoundError
from lorareg.registry.store import Store
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
        for name in ("DVC_SITE_CACHE_DIR", "DVC_GLOBAL_CONFIG_DIR", "DVC_SYSTEM_CONFIG_DIR"):
            patch.setenv(name, str(tmp_path / name))
        patch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
        patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        yield


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def s3(endpoint: str) -> Any:
    """A client of the S3 server, with a bucket made."""
    import botocore.session  # type: ignore[import-not-found,import-untyped]

    session = botocore.session.get_session()
    client = session.create_client("s3", endpoint_url=endpoint, region_name="us-east-1")
    client.create_bucket(Bucket="lora")
    return client


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


def team_at(top: Path, url: str, **settings: str) -> Team:
    """A team whose bytes go to one address."""
    team = shared.found(top)
    store = Store(top / "start")
    store.add_remote("service", url, default=True)
    config = top / "start/.dvc/config"
    lines = "".join(f"    {key} = {value}\n" for key, value in settings.items())
    section = "['remote \"service\"']\n"
    config.write_text(config.read_text().replace(section, section + lines))
    shared.git(top / "start", "commit", "-qam", "service")
    shared.git(top / "start", "push", "-q", "origin", "main")
    return team


@pytest.mark.skipif(MOTO is None, reason="no moto_server here: LORAREG_MOTO_SERVER names one")
def test_s3_carries_bytes_and_tampered_ones_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("dvc_s3")
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    with running([str(MOTO), "-H", "127.0.0.1", "-p", str(port)], port):
        client = s3(endpoint)
        team = team_at(tmp_path, "s3://lora/store", endpointurl=endpoint, region="us-east-1")
        alice = team.member("alice")
        ink, oil = alice.adapter("style/ink", 1), alice.adapter("style/oil", 2)

        pushed = alice.push()
        again = alice.push()
        first = team.member("bob").pull()
        (place,) = {alice.object_at(ink, "storage").relative_to(tmp_path / "team").as_posix()}
        good = client.get_object(Bucket="lora", Key=f"store/{place}")["Body"].read()
        client.put_object(Bucket="lora", Key=f"store/{place}", Body=good[::-1])
        second = team.member("carol").pull()

    assert (pushed.objects, again.objects) == (4, 0)
    assert first.verified == {str(ink): 1, str(oil): 1}
    assert second.verified == {str(oil): 1}
    assert isinstance(second.refused[str(ink)], IntegrityError)
    assert FILE in second.refused[str(ink)].why


@pytest.mark.skipif(MOTO is None, reason="no moto_server here: LORAREG_MOTO_SERVER names one")
def test_s3_gets_the_bytes_of_earlier_commits_too(tmp_path: Path) -> None:
    pytest.importorskip("dvc_s3")
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    with running([str(MOTO), "-H", "127.0.0.1", "-p", str(port)], port):
        client = s3(endpoint)
        team = team_at(tmp_path, "s3://lora/store", endpointurl=endpoint, region="us-east-1")
        alice = team.member("alice")
        ink = alice.adapter("style/ink", 1)
        first = alice.weights(ink).read_bytes()
        alice.workspace.store.track(alice.workspace.folder(ink).weights)
        shared.git(alice.root, "add", "--all")
        shared.git(alice.root, "commit", "-qm", "by hand")
        alice.adapter("style/ink", 2)

        alice.push()
        keys = [each["Key"] for each in client.list_objects_v2(Bucket="lora")["Contents"]]
        kept = [client.get_object(Bucket="lora", Key=key)["Body"].read() for key in keys]
        for key in keys:
            client.delete_object(Bucket="lora", Key=key)
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
        team = team_at(
            tmp_path,
            f"ssh://127.0.0.1{tmp_path}/storage",
            port=str(port),
            user="alice",
            keyfile=str(keys / "user"),
        )
        alice = team.member("alice")
        ink = alice.adapter("style/ink", 1)

        pushed = alice.push()
        pulled = team.member("bob").pull()

    assert pushed.objects == 2
    assert pulled.verified == {str(ink): 1}
