"""Who made an adapter again, on what, and with what result: signed statements beside its lock.

``attestations/<who>.json`` is anybody's who could reproduce it, not its owners': it is outside of
the governed files. What it is worth is said by its signature alone, whenever it is read.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from lorareg.errors import LoraregError
from lorareg.registry import digest, jsontext
from lorareg.registry.access import policy, signing
from lorareg.registry.files import read_utf8
from lorareg.registry.finding import Finding
from lorareg.registry.ids import AssetId
from lorareg.registry.lock import Lock
from lorareg.registry.origin import Digest
from lorareg.registry.runfacts import Environment
from lorareg.registry.schema import Later, Strict, check
from lorareg.registry.workspace import Workspace

NAMESPACE = "lorareg-attestation"  # a signature of anything else is none of an attestation
MAX_BYTES = 1_000_000
MADE_AGAIN = ("identical", "identical tensors", "close")

Verdict = Literal["identical", "identical tensors", "close", "differs"]
Standing = Literal["good", "unnamed", "forged"]


class Statement(Strict):
    """What somebody says to have found.

    Attributes:
        version: of a release, ``v1.2.0``; None if it was none.
        commit: that was checked out, 40 hex digits.
        fingerprint: of the inputs that the lock has there.
        outputs: sha256 of the weights that the lock promises there, and that were compared with.
        environment: what it was trained on; None where inputs differed and nothing ran.
        differences: inputs, or else what is not as in the lock's environment, a line each.
        by: a person of the policy, or a name like one.
    """

    schema_: Annotated[
        Literal["lorareg/attestation/1"], Field(alias="schema")
    ] = "lorareg/attestation/1"  # fmt: skip
    asset: str
    version: str | None
    commit: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
    fingerprint: Digest
    outputs: dict[str, Digest]
    verdict: Verdict
    environment: Environment | None
    differences: tuple[str, ...]
    by: policy.Name
    date: datetime.date
    signature: Annotated[str, Field(max_length=20_000), Later()] = ""

    def payload(self) -> bytes:
        """What the signature is over."""
        document = self.model_dump(mode="json", by_alias=True, exclude={"signature"})
        return digest.canonical_json(document)


@dataclass(frozen=True)
class Attestation:
    """A statement as it is worth now.

    Attributes:
        who: the file's name; that is all that is known of a broken one.
        statement: None if the file is none.
        standing: "good": signed by ``who``, as the policy of HEAD knows the key; "unnamed": signed
            by a key that no policy names; "forged": edited, copied or broken.
        note: the key, or what is wrong.
        is_current: whether it speaks of the lock as it is now.
    """

    who: str
    statement: Statement | None
    standing: Standing
    note: str
    is_current: bool = False

    @property
    def verified(self) -> bool:
        """Whether the signature is that of the person it names."""
        return self.standing == "good"

    @property
    def counts(self) -> bool:
        """Whether a known person made the present state again."""
        said = self.statement is not None and self.statement.verdict in MADE_AGAIN
        return self.verified and self.is_current and said

    @property
    def sentence(self) -> str:
        """For people: who, on what, the verdict, when, and what the signature is worth."""
        if self.statement is None or self.standing == "forged":
            return f"attestation of {self.who}: NOT VALID, {self.note}"
        told = self.statement
        of = f" ({told.version})" if told.version else ""
        past = "" if self.is_current else ", of an earlier state"
        worth = "signature good" if self.verified else self.note
        found = "reproduced" if told.verdict in MADE_AGAIN else "not reproduced"
        where = f" on {_machine(told.environment)}" if told.environment else ""
        return f"{found}{of} by {self.who}{where}: {told.verdict}, {told.date}, {worth}{past}"

    def document(self) -> dict[str, Any]:
        """For JSON."""
        told = self.statement
        return {
            "by": self.who,
            "verified": self.verified,
            "standing": self.standing,
            "note": self.note,
            "current": self.is_current,
            "counts": self.counts,
            "statement": told.model_dump(mode="json", by_alias=True) if told else None,
        }


def promised(known: Lock) -> dict[str, str]:
    """What the statement of a lock is about: sha256 of its weights, by file."""
    return {name: output.sha256 for name, output in known.outputs.items()}


def load_all(workspace: Workspace, asset: AssetId) -> list[Attestation]:
    """Every attestation of an asset, by name, each with what it is worth now."""
    folder = _folder(workspace, asset)
    files = sorted(folder.glob("*.json")) if folder.is_dir() and not folder.is_symlink() else []
    if not files:
        return []
    head = workspace.history.head()
    allowed = policy.signers(workspace, head) if head else ""
    known = _present(workspace, asset)
    return [_judged(file, asset, allowed, known) for file in files]


def findings(workspace: Workspace, asset: AssetId) -> Iterator[Finding]:
    """For ``lorareg verify``: what is not what it says to be does not hold."""
    for each in load_all(workspace, asset):
        what = f"attestations/{each.who}.json"
        fix = f"remove it: git rm manifests/{asset}/{what}"
        yield Finding(each.standing != "forged", what, each.sentence, fix)


def _judged(file: Path, asset: AssetId, allowed: str, known: Mapping[str, Any]) -> Attestation:
    who = file.stem
    if file.is_symlink():
        return Attestation(who, None, "forged", "it is a link")
    try:
        said = _read(file)
    except LoraregError as error:
        return Attestation(who, None, "forged", error.sentence)
    is_current = known == {"fingerprint": said.fingerprint, "outputs": said.outputs}
    if said.by != who or said.asset != str(asset):
        note = f"it is that of {said.by} for {said.asset}"
        return Attestation(who, said, "forged", note)
    payload = said.payload()
    if signing.signer(payload, said.signature, allowed, NAMESPACE) == who:
        return Attestation(who, said, "good", "signature good", is_current)
    key = signing.maker(payload, said.signature, NAMESPACE)
    if key is None:
        return Attestation(who, said, "forged", "its text is not what was signed")
    other = signing.signer(payload, said.signature, allowed, NAMESPACE)
    if other or _is_known(who, allowed):
        note = f"signed by {other or key}, which is not {who}"
        return Attestation(who, said, "forged", note)
    return Attestation(who, said, "unnamed", f"signed by {key}, whom no policy names", is_current)


def _read(file: Path) -> Statement:
    name = f"attestations/{file.name}"
    text = read_utf8(file, max_bytes=MAX_BYTES)
    try:
        document = jsontext.parse(text)
    except ValueError as error:
        raise LoraregError(f"{name} is not JSON", why=str(error)) from error
    return check(Statement, document, name)


def _is_known(who: str, allowed: str) -> bool:
    return who in {name for name, _ in policy.keys(allowed)}


def _present(workspace: Workspace, asset: AssetId) -> dict[str, Any]:
    """What an attestation of the state that is checked out would be about."""
    try:
        known = workspace.load_lock(asset)
    except LoraregError:
        return {}
    return {"fingerprint": known.fingerprint, "outputs": promised(known)} if known else {}


def _folder(workspace: Workspace, asset: AssetId) -> Path:
    return workspace.folder(asset).attestations


def _machine(environment: Environment) -> str:
    """Linux, torch 2.13.0: enough for a line."""
    system = re.split(r"[ -]", environment.platform)[0].capitalize()
    device = "" if environment.device == "cpu" else f" {environment.device},"
    return f"{system},{device} torch {environment.packages.get('torch', '?')}"
