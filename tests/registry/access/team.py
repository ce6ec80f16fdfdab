"""A registry with people: real keys, real commits, and somebody who should not be there."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from lorareg.registry import digest, lock
from lorareg.registry.access import signatures, signing, statements
from lorareg.registry.ids import AssetId
from lorareg.registry.workspace import Workspace

ZHANGSAN = AssetId("character", "zhangsan")
INK = AssetId("style", "ink")
PEOPLE = ("carol", "alice", "bob", "dora", "mallory")
POLICY = """\
schema: lorareg/1
people:  # everybody who has a key
  carol: {mail: carol@example.org, github: carol-c}
  alice: {mail: alice@example.org, github: alice-chen}
  bob: {mail: bob@example.org, github: bob}
  dora: {mail: dora@example.org, github: dora}
groups:
  characters: [alice, bob]
roles:
  maintainer: [carol]
kinds:
  character: ["group:characters"]
channels:
  stable: [dora]
"""
MANIFEST = """\
schema: lorareg/1
kind: {kind}
name: {name}
task: text-to-image
base: {{model: "builtin:avatar"}}
trigger: z{name}
dataset: {{path: data/{name}}}
owners: [{owners}]
"""
LOCK = Path(__file__).parents[2] / "golden" / "v1" / "lock.json"


@dataclass(frozen=True)
class Team:
    """A clone of a registry, and everybody's keys.

    Attributes:
        root: of the clone.
        keys: a folder with ``alice`` and ``alice.pub`` and so on.
    """

    root: Path
    keys: Path

    @property
    def workspace(self) -> Workspace:
        return Workspace(self.root)

    def public(self, person: str) -> str:
        return " ".join((self.keys / f"{person}.pub").read_text().split()[:2])

    def sit_down(self, person: str) -> Workspace:
        """From now on this person works here, with their own key and mail."""
        self.git("config", "user.name", person.title())
        self.git("config", "user.email", f"{person}@example.org")
        self.git("config", "gpg.format", "ssh")
        self.git("config", "user.signingKey", str(self.keys / f"{person}.pub"))
        return Workspace(self.root)

    def git(self, *arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=self.root, check=True, capture_output=True, text=True
        ).stdout.strip()

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def replace(self, name: str, old: str, new: str) -> None:
        text = (self.root / name).read_text(encoding="utf-8")
        assert old in text
        self.write(name, text.replace(old, new))

    def asset(self, asset: AssetId, owners: str = "alice, bob") -> None:
        folder = f"manifests/{asset}"
        self.write(f"{folder}/manifest.yaml", MANIFEST.format(**vars(asset), owners=owners))
        self.write(f"{folder}/lock.json", LOCK.read_text(encoding="utf-8"))

    def plain_commit(self, message: str = "plain") -> str:
        """A commit as anybody with push rights can make it: no signature is asked for."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    def signed_commit(self, person: str, *assets: AssetId) -> str:
        """A commit as a command of lorareg makes it."""
        made = signatures.commit(self.sit_down(person), assets or (ZHANGSAN,), f"by {person}")
        assert made
        return made

    def signed_policy(self, person: str) -> str:
        made = signatures.commit_policy(self.sit_down(person), f"policy by {person}")
        assert made
        return made

    def forge(self, subject: str, by: str, key: str, serial: int, previous: str | None) -> None:
        """Write a statement by hand, as somebody who knows the format would."""
        is_policy = subject == "policy"
        folder = self.root / "manifests" / ("" if is_policy else subject)
        names = statements.POLICY_FILES if is_policy else statements.GOVERNED
        plain = statements.Statement(
            subject=subject,
            serial=serial,
            previous=previous,
            files=statements.digests(folder, names),
            by=by,
        )
        signed_by = signing.Key(self.keys / key, self.public(key))
        made = plain.model_copy(update={"signature": signing.sign(signed_by, plain.payload())})
        lock.save(folder / ("policy.signature.json" if is_policy else "signature.json"), made)

    def statement(self, subject: str) -> tuple[int, str]:
        """Serial and digest of what is signed now, which a forger can read too."""
        name = "policy.signature.json" if subject == "policy" else f"{subject}/signature.json"
        text = (self.root / "manifests" / name).read_text(encoding="utf-8")
        return statements.parse(text, name).serial, digest.of_bytes(text.encode())

    def forge_next(self, subject: str, by: str, key: str) -> None:
        """The statement that would come next, made with a key of one's choice."""
        serial, previous = self.statement(subject)
        self.forge(subject, by, key, serial + 1, previous)


def build(top: Path) -> Team:
    """A registry with a signed policy and two assets, signed by their owners."""
    keys = top / "keys"
    keys.mkdir(parents=True)
    for person in PEOPLE:
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", person, "-f"]
        subprocess.run([*command, str(keys / person)], check=True)
    team = Team(top / "registry", keys)
    team.root.mkdir()
    team.git("init", "--quiet", "--initial-branch=main")
    team.write("lorareg.yaml", "schema: lorareg/1\nname: team\n")
    team.write(".gitignore", "/.lorareg/\n")
    team.write("manifests/policy.yaml", POLICY)
    people = [name for name in PEOPLE if name != "mallory"]
    lines = "".join(f"{name} {team.public(name)}\n" for name in people)
    team.write("manifests/allowed_signers", lines)
    team.sit_down("carol")
    team.plain_commit("a registry")
    team.signed_policy("carol")
    team.asset(ZHANGSAN)
    team.signed_commit("alice", ZHANGSAN)
    team.asset(INK, owners="bob")
    team.signed_commit("carol", INK)
    return team


def copy(team: Team, top: Path) -> Team:
    """The same registry in another place, for a test to spoil."""
    shutil.copytree(team.root, top / "registry", symlinks=True)
    return Team(top / "registry", team.keys)


def isolated(top: Path) -> dict[str, str]:
    """Environment in which the user's git settings and agent stay out of the tests."""
    (top / "gitconfig").write_text("")
    return {
        "GIT_CONFIG_GLOBAL": str(top / "gitconfig"),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CEILING_DIRECTORIES": str(top),
        "SSH_AUTH_SOCK": "",
        "HOME": os.fspath(top),
    }
