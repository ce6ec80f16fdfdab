"""What a signature stands for: the statement in ``signature.json``.

It names every governed file by sha256, its own place in a chain (serial, and the digest of the
statement before), and the signer; the signature is over the canonical JSON of the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from lorareg.registry import digest
from lorareg.registry.origin import Digest
from lorareg.registry.schema import Later, Strict, check

GOVERNED = (
    "manifest.yaml",
    "lock.json",
    "dataset.json",
    "weights.dvc",
    "channels.yaml",
    "releases.json",
    "grants.yaml",
    "revoked.json",
)
POLICY_FILES = ("policy.yaml", "allowed_signers")
POLICY_SIGNATURE = "manifests/policy.signature.json"
POLICY = "policy"
MAX_BYTES = 1_000_000
SCHEMA: Literal["lorareg/signature/1"] = "lorareg/signature/1"


class Statement(Strict):
    """One signed state.

    Attributes:
        subject: ``kind/name``, or ``policy``.
        serial: 1 for the first state, then one more each time.
        previous: sha256 of the statement file before this one.
        files: governed file -> sha256, of those that are there.
        by: the signer's name in the policy.
    """

    schema_: Annotated[Literal["lorareg/signature/1"], Field(alias="schema")] = SCHEMA
    subject: str
    serial: Annotated[int, Field(ge=1)]
    previous: Digest | None
    files: dict[str, Digest]
    by: str
    signature: Annotated[str, Field(max_length=20_000), Later()] = ""

    def payload(self) -> bytes:
        """What the signature is over."""
        document = self.model_dump(mode="json", by_alias=True, exclude={"signature"})
        return digest.canonical_json(document)


def parse(text: str, name: str) -> Statement:
    """Read a statement.

    Raises:
        InvalidFileError: it is none.
    """
    from lorareg.registry import jsontext

    try:
        document = jsontext.parse(text)
    except ValueError as error:
        document = str(error)
    return check(Statement, document, name, fix=f"git checkout -- {name}, or sign anew")


def digests(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """sha256 of the files that are there; a link is not followed."""
    found = {}
    for name in names:
        path = folder / name
        if path.is_file() and not path.is_symlink():
            found[name] = digest.of_file(path)
    return found
