"""Signing what came of making an adapter again, and putting it where others see it."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from lorareg.errors import LoraregError
from lorareg.registry import card, lock
from lorareg.registry.access import policy, signing
from lorareg.registry.attestation import NAMESPACE, Statement
from lorareg.registry.ids import AssetId
from lorareg.registry.paths import resolve_inside
from lorareg.registry.workspace import Workspace


@dataclass(frozen=True)
class Signer:
    """Who is about to attest, and with which key."""

    name: str
    key: signing.Key


def signer(workspace: Workspace) -> Signer:
    """Who attests here: the policy's name for git's key, else one like git's user.name.

    Raises:
        LoraregError: git signs with no key, or with one that is not that of the name it has.
    """
    key = signing.key(workspace.root)
    known = policy.keys(policy.signers(workspace))
    mine = [name for name, public in known if public == key.public]
    if mine:
        return Signer(mine[0], key)
    name, _, mail = workspace.history.identity().rpartition(" <")
    called = _slug(name) or _slug(mail.partition("@")[0]) or "somebody"
    if called in dict(known):
        raise LoraregError(
            f"this key is not that of {called}",
            why=f"{policy.SIGNERS} has another one for that name",
            fix="sign with that one: git config user.signingKey FILE.pub; or have yours added",
        )
    return Signer(called, key)


def publish(workspace: Workspace, statement: Statement, by: Signer) -> str:
    """Sign a statement, put it beside the lock and into the card, and commit both.

    What the same person said before is replaced; it stays in the history.

    Returns:
        The file, relative to the registry.

    Raises:
        LoraregError: it would lie outside, through a link.
    """
    asset = AssetId.parse(statement.asset)
    path = f"manifests/{asset}/attestations/{by.name}.json"
    file = resolve_inside(workspace.root, path)
    write(file, statement, by)
    folder, paths = workspace.folder(asset), [file]
    if folder.card.is_file() and not workspace.history.is_dirty([folder.manifest, folder.lock]):
        card.refresh(workspace, asset)  # never the card of a state that is not committed
        paths.append(folder.card)
    workspace.history.commit(paths, f"{by.name} made {asset} again: {statement.verdict}")
    return path


def write(file: Path, statement: Statement, by: Signer) -> None:
    """Sign a statement and write it to a file."""
    said = statement.model_copy(update={"by": by.name, "signature": ""})
    made = signing.sign(by.key, said.payload(), NAMESPACE)
    lock.save(file, said.model_copy(update={"signature": made}))


def _slug(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:64]
