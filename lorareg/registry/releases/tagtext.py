"""What the signed tag of a release says: its grammar, written and read back.

A tag is ``kind/name@vX.Y.Z``, annotated, so that GTO lists it as a registered version
(https://github.com/treeverse/gto, "Git tags format"). Its message ties the number to the bytes of
lock and manifest; git signs the message together with the id of the commit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from lorareg.registry import digest, lock
from lorareg.registry.git.tags import TagObject
from lorareg.registry.ids import VERSION, AssetId
from lorareg.registry.releases.ledger import Entry
from lorareg.registry.releases.levels import LEVELS, Level, Reason, highest
from lorareg.registry.workspace import Workspace

SHA256 = r"sha256:[0-9a-f]{64}"


@dataclass(frozen=True)
class Claims:
    """What the message of a tag says.

    Attributes:
        lock: sha256 of ``lock.json`` at the tagged commit.
        manifest: the same of ``manifest.yaml``.
        fingerprint: of the lock: all inputs of the weights.
        why: a line for each difference to the release before.
    """

    asset: str
    version: str
    lock: str
    manifest: str
    fingerprint: str
    level: Level
    why: tuple[str, ...] = ()


def name(asset: AssetId, version: str) -> str:
    """The tag of a release.

    >>> name(AssetId("style", "ink"), "v1.2.0")
    'style/ink@v1.2.0'
    """
    return f"{asset}@{version}"


def message(claims: Claims) -> str:
    """The text of a tag; ``parse`` reads it back."""
    head = f"{claims.asset} {claims.version}"
    facts = [f"{key}: {getattr(claims, key)}" for key in ("lock", "manifest", "fingerprint")]
    return "\n".join([head, "", *facts, f"level: {claims.level}", "", *claims.why]).rstrip() + "\n"


def parse(text: str) -> Claims | None:
    """What a message says; None if it is not that of a release."""
    head, _, rest = text.partition("\n\n")
    block, _, why = rest.partition("\n\n")
    asset, _, version = head.partition(" ")
    facts = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
    level = next((each for each in LEVELS if each == facts.get("level")), None)
    locked, wanted, made = (facts.get(key, "") for key in ("lock", "manifest", "fingerprint"))
    is_whole = all(re.fullmatch(SHA256, value) for value in (locked, wanted)) and made
    if level is None or not is_whole or not VERSION.fullmatch(version):
        return None
    lines = tuple(line for line in why.splitlines() if line)
    return Claims(asset, version, locked, wanted, made, level, lines)


def claims_at(
    workspace: Workspace, asset: AssetId, version: str, commit: str, why: Iterable[Reason]
) -> Claims:
    """What is to be said about a commit; raises as ``History.read``."""
    folder, history = workspace.folder(asset), workspace.history
    locked = history.read(folder.lock, commit)
    found = lock.parse(locked.decode("utf-8", "replace"), folder.lock)
    reasons = tuple(why)
    return Claims(
        asset=str(asset),
        version=version,
        lock=digest.of_bytes(locked),
        manifest=digest.of_bytes(history.read(folder.manifest, commit)),
        fingerprint=found.fingerprint,
        level=highest(reasons) or "patch",
        why=tuple(str(each) for each in reasons),
    )


def entry(claims: Claims, tag: TagObject, by: str) -> Entry:
    """What the ledger keeps of a tag."""
    return Entry(
        version=claims.version,
        commit=tag.commit,
        tag=tag.id,
        lock=claims.lock,
        manifest=claims.manifest,
        level=claims.level,
        why=claims.why,
        by=by,
    )
