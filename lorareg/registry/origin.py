"""Where an adapter comes from that was not trained here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from lorareg.registry.fields import Revision, Text
from lorareg.registry.publication import HubId
from lorareg.registry.schema import Later, Strict

Digest = Annotated[
    str,
    Field(pattern=r"^[a-z0-9-]+:[0-9a-f]{64}$", description="a digest with its algorithm's name"),
]
Form = Literal["diffusers", "kohya", "lycoris", "peft"]
"""Who names tensors like this; LyCORIS's LoHa and LoKr became the LoRA of the same delta."""


class HubOrigin(Strict):
    """The place on the Hub that a file was taken from.

    What another lorareg published says more of itself.

    Attributes:
        revision: the commit, 40 hex digits.
        asset: what it is called in the registry that published it.
        version: of its release there.
        fingerprint: of its lock there; tensors: of its weights there.
    """

    repo: HubId
    revision: Revision
    asset: Text | None = None
    version: Text | None = None
    fingerprint: Digest | None = None
    tensors: Digest | None = None


class Origin(Strict):
    """The file that was imported: its name, without folders, and its bytes' digest.

    ``url``, ``author`` and ``license`` are for people to fill in; the tool knows none of them.
    """

    file: Annotated[
        Text, Field(pattern=r"^[^/\\]+$", description="a file's name, without its folder")
    ]
    sha256: Digest
    form: Form
    url: Text | None = None
    author: Text | None = None
    license: Text | None = None
    hub: Annotated[HubOrigin | None, Later()] = None
