"""SSH signatures, by the keys that people already sign their commits with.

The only door to ``ssh-keygen``. A signature is the armoured SSHSIG of a file's bytes within a
namespace (OpenSSH PROTOCOL.sshsig); git's own tag signatures have the namespace ``git``. Who a
key belongs to is said by an allowed-signers file (ssh-keygen(1), ALLOWED SIGNERS).
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lorareg.errors import ExternalToolError, LoraregError
from lorareg.registry.git.command import call

NAMESPACE = "lorareg"
SECONDS = 60  # for each signature: a security key waits for a touch
AT_A_TIME = 100  # signatures of one process
HOW = (
    "git config gpg.format ssh && git config user.signingKey ~/.ssh/id_ed25519.pub "
    "(ssh-keygen -t ed25519 makes one)"
)


@dataclass(frozen=True)
class Key:
    """A key that its owner signs with.

    Attributes:
        path: of the private or the public half; of a public one the private half is in the agent
            or beside it.
        public: ``ssh-ed25519 AAAA...``, without a comment.
    """

    path: Path
    public: str


def key(root: Path) -> Key:
    """The key that git is configured to sign with.

    Raises:
        LoraregError: there is none, or it is an OpenPGP or X.509 key.
    """
    named = _setting(root, "user.signingkey")
    if _setting(root, "gpg.format") not in ("ssh", "") or not named:
        raise LoraregError(
            "there is no key to sign with",
            why="git names no SSH key in user.signingKey"
            if not named
            else "git signs with another kind of key than SSH",
            fix=HOW,
        )
    literal = named.removeprefix("key::")
    if literal.startswith(("ssh-", "sk-", "ecdsa-")):
        return Key(_kept_public(root, literal), _bare(literal))
    path = (root / Path(named).expanduser()).absolute()
    return Key(path, _public_half(path))


def sign(signer_key: Key, data: bytes, namespace: str = NAMESPACE) -> str:
    """Sign bytes; returns the armoured signature.

    Raises:
        ExternalToolError: ssh-keygen refuses: a passphrase that no agent knows, a missing key.
    """
    return sign_many(signer_key, [data], namespace)[0]


def sign_many(signer_key: Key, data: Sequence[bytes], namespace: str = NAMESPACE) -> list[str]:
    """Sign each of these, a process for a hundred of them; raises as ``sign``."""
    options = ["-Y", "sign", "-q", "-n", namespace, "-f", str(signer_key.path)]
    with tempfile.TemporaryDirectory(prefix="lorareg-") as folder:
        files = [Path(folder, str(number)) for number in range(len(data))]
        for file, body in zip(files, data, strict=True):
            file.write_bytes(body)
        for start in range(0, len(files), AT_A_TIME):
            some = files[start : start + AT_A_TIME]
            done = _run([*options, *map(str, some)], b"", SECONDS * len(some))
            if done.returncode != 0:
                raise ExternalToolError(
                    f"{signer_key.path.name} did not sign",
                    why=_last_words(done),
                    fix=f"unlock it first: ssh-add {signer_key.path.with_suffix('')}",
                )
        return [file.with_name(f"{file.name}.sig").read_text("ascii") for file in files]


def signer(data: bytes, signature: str, allowed: str, namespace: str = NAMESPACE) -> str | None:
    """The person whose key made a signature of these bytes; None if nobody's in ``allowed``."""
    with _files(signature, allowed) as (sig, people):
        found = _run(["-Y", "find-principals", "-s", sig, "-f", people], b"")
        for person in found.stdout.decode("utf-8", "replace").split():
            arguments = ["-Y", "verify", "-n", namespace, "-I", person, "-s", sig, "-f", people]
            if _run(arguments, data).returncode == 0:
                return person
    return None


def maker(data: bytes, signature: str, namespace: str = NAMESPACE) -> str | None:
    """``SHA256:...`` of whatever key made a signature of these bytes; None if none did."""
    with _files(signature, "") as (sig, _):
        done = _run(["-Y", "check-novalidate", "-n", namespace, "-s", sig], data)
    found = re.search(r"SHA256:[\w+/]+", done.stdout.decode("utf-8", "replace"))
    return found[0] if found and done.returncode == 0 else None


def is_by(person: str, data: bytes, signature: str, allowed: str) -> bool:
    """Whether a key that ``allowed`` gives to a person made this signature of these bytes."""
    with _files(signature, allowed) as (sig, people):
        options = ["-Y", "verify", "-n", NAMESPACE, "-I", person, "-s", sig, "-f", people]
        return _run(options, data).returncode == 0


def fingerprint(public: str) -> str:
    """``SHA256:...`` of a public key, as ssh and git hosts show it.

    Raises:
        LoraregError: it is no public key.
    """
    done = _run(["-l", "-f", "-"], public.encode())
    if done.returncode != 0:
        raise LoraregError(
            "this is no SSH public key",
            why=_last_words(done),
            fix="give a file like id_ed25519.pub",
        )
    return done.stdout.decode("utf-8", "replace").split()[1]


def _setting(root: Path, name: str) -> str:
    return call(root, ["config", "--get", name]).line


def _public_half(path: Path) -> str:
    beside = path if path.suffix == ".pub" else path.with_name(path.name + ".pub")
    try:
        if beside.is_file():
            return _bare(beside.read_text("utf-8"))
    except UnicodeDecodeError as error:
        raise LoraregError(f"{beside.name} is no SSH public key", fix=HOW) from error
    if not path.is_file():
        raise LoraregError(
            f"there is no key at {path}", why="git names it in user.signingKey", fix=HOW
        )
    done = _run(["-y", "-P", "", "-f", str(path)], b"")
    if done.returncode != 0:
        raise LoraregError(
            f"the public half of {path.name} is not known", why=_last_words(done), fix=HOW
        )
    return _bare(done.stdout.decode("utf-8", "replace"))


def _bare(public: str) -> str:
    """Type and key, without the comment."""
    words = public.split()
    if len(words) < 2:
        raise LoraregError("this is no SSH public key", why=repr(public[:40]), fix=HOW)
    return " ".join(words[:2])


def _kept_public(root: Path, literal: str) -> Path:
    """ssh-keygen takes a file only: the public key that names one in the agent."""
    place = root / call(root, ["rev-parse", "--git-path", "lorareg-signing.pub"]).line
    if not place.is_file() or place.read_text("utf-8") != literal + "\n":
        place.write_text(literal + "\n", "utf-8")
    return place.absolute()


@contextmanager
def _files(signature: str, allowed: str) -> Iterator[tuple[str, str]]:
    with tempfile.TemporaryDirectory(prefix="lorareg-") as folder:
        sig, people = Path(folder, "signature"), Path(folder, "allowed")
        sig.write_text(signature, "utf-8")
        people.write_text(allowed, "utf-8")
        yield str(sig), str(people)


def _run(
    arguments: list[str], data: bytes, seconds: int = SECONDS
) -> subprocess.CompletedProcess[bytes]:
    # Nobody is there to answer: a passphrase that no agent knows is an error, never a question.
    silent = {"SSH_ASKPASS_REQUIRE": "never", "LC_ALL": "C"}
    environment = {k: v for k, v in os.environ.items() if k != "DISPLAY"} | silent
    try:
        return subprocess.run(
            ["ssh-keygen", *arguments],
            input=data,
            capture_output=True,
            env=environment,
            start_new_session=True,
            timeout=seconds,
            check=False,
        )
    except FileNotFoundError as error:
        raise ExternalToolError(
            "ssh-keygen cannot be run",
            why="signatures are made and checked by OpenSSH 8.2 or later",
            fix="install OpenSSH: apt install openssh-client, or https://www.openssh.com",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise ExternalToolError(
            "ssh-keygen did not answer",
            why=f"it waited more than {seconds} seconds, perhaps for a touch or a passphrase",
            fix="unlock the key first: ssh-add",
        ) from error


def _last_words(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = [line.strip() for line in done.stderr.decode("utf-8", "replace").splitlines()]
    return next((line for line in reversed(lines) if line), f"status {done.returncode}")
