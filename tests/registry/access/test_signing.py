from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from lorareg.errors import ExternalToolError, LoraregError
from lorareg.registry.access import signing
from tests.registry.access.team import Team


def allowed(team: Team, *people: str) -> str:
    return "".join(f"{person} {team.public(person)}\n" for person in people)


def test_a_signature_names_the_person_whose_key_made_it(team: Team) -> None:
    team.sit_down("alice")

    made = signing.sign(signing.key(team.root), b"hello")

    people = allowed(team, "carol", "alice")
    assert signing.signer(b"hello", made, people) == "alice"
    assert signing.is_by("alice", b"hello", made, people)
    assert not signing.is_by("carol", b"hello", made, people)


def test_other_bytes_another_key_another_namespace_or_no_signature_name_nobody(team: Team) -> None:
    team.sit_down("alice")
    made = signing.sign(signing.key(team.root), b"hello")
    people = allowed(team, "alice")

    assert signing.signer(b"hello!", made, people) is None
    assert signing.signer(b"hello", made, allowed(team, "bob")) is None
    assert signing.signer(b"hello", made, people, namespace="git") is None
    assert signing.signer(b"hello", "", people) is None
    assert not signing.is_by("alice", b"hello!", made, people)
    assert not signing.is_by("alice", b"hello", "-----BEGIN SSH SIGNATURE-----", people)


def test_without_a_key_git_is_told_how_to_get_one(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)

    with pytest.raises(LoraregError) as caught:
        signing.key(tmp_path)

    assert "git config gpg.format ssh" in caught.value.fix


def test_a_locked_key_is_a_clear_refusal_and_never_a_question(team: Team, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(locked)]
    subprocess.run(command, check=True)
    team.git("config", "gpg.format", "ssh")
    team.git("config", "user.signingKey", str(locked))

    with pytest.raises(ExternalToolError) as caught:
        signing.sign(signing.key(team.root), b"hello")

    assert "passphrase" in caught.value.why
    assert "ssh-add" in caught.value.fix


@pytest.mark.parametrize("form", ["key::{}", "{}"])
def test_a_key_that_is_only_in_the_agent_signs(
    team: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    socket = tmp_path / "agent"
    started = subprocess.run(
        ["ssh-agent", "-s", "-a", str(socket)], check=True, capture_output=True, text=True
    )
    pid = int(started.stdout.partition("SSH_AGENT_PID=")[2].partition(";")[0])
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        subprocess.run(["ssh-add", "-q", str(team.keys / "bob")], check=True, capture_output=True)
        public = team.public("bob")
        alone = tmp_path / "bob.pub"
        alone.write_text(public)
        team.git("config", "gpg.format", "ssh")
        value = form.format(public if "::" in form else alone)
        team.git("config", "user.signingKey", value)

        made = signing.sign(signing.key(team.root), b"hello")

        assert signing.signer(b"hello", made, allowed(team, "bob")) == "bob"
    finally:
        os.kill(pid, 15)


def test_a_fingerprint_is_what_ssh_shows(team: Team) -> None:
    shown = subprocess.check_output(
        ["ssh-keygen", "-l", "-f", str(team.keys / "alice.pub")], text=True
    )

    assert signing.fingerprint(team.public("alice")) == shown.split()[1]
    with pytest.raises(LoraregError, match="no SSH public key"):
        signing.fingerprint("hello")


def test_many_are_signed_at_once_and_each_signature_is_of_its_own_bytes(team: Team) -> None:
    team.sit_down("alice")
    bodies = [f"state {number}".encode() for number in range(signing.AT_A_TIME + 3)]

    made = signing.sign_many(signing.key(team.root), bodies)

    people = allowed(team, "alice")
    assert len(set(made)) == len(bodies)
    for number in (0, 1, signing.AT_A_TIME, len(bodies) - 1):
        assert signing.is_by("alice", bodies[number], made[number], people)
    assert not signing.is_by("alice", bodies[1], made[0], people)
