"""The ``publish`` block of a manifest, and the ``hub`` block of ``lorareg.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field

from lorareg.errors import LoraregError
from lorareg.registry import yamlfile
from lorareg.registry.fields import is_hub_id
from lorareg.registry.schema import Strict

if TYPE_CHECKING:
    from lorareg.registry.ids import AssetId
    from lorareg.registry.workspace import Workspace

Gate = Literal[False, "auto", "manual"]
"""Who gets behind the gate of a public repository: all, whoever asks, whom an owner lets in."""
STRICTNESS: tuple[Gate, ...] = (False, "auto", "manual")


def _hub_id(text: str) -> str:
    if is_hub_id(text):
        return text
    raise ValueError("a repository on the Hub is namespace/name, such as studio/zhangsan")


HubId = Annotated[str, Field(max_length=96), AfterValidator(_hub_id)]
Namespace = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?$",
        max_length=42,
        description="a user or an organisation on the Hub",
    ),
]


class Publish(Strict):
    """Where releases go on the Hub; with the block in its manifest, ``push`` publishes them.

    Attributes:
        hub: repository; None is the asset's name in the namespace of ``lorareg.yaml``.
        gated: "manual": owners let people in; "auto": everybody who accepts the terms.
    """

    hub: HubId | None = None
    gated: Gate = False


class HubSettings(Strict):
    """The registry's place on the Hub.

    Attributes:
        namespace: of repositories whose manifest names none.
        collection: title of the list of everything the registry publishes for everybody.
    """

    namespace: Namespace
    collection: Annotated[str, Field(min_length=1, max_length=60)] | None = None


def repo_of(workspace: Workspace, asset: AssetId) -> str | None:
    """The repository that an asset is published to, by its manifest and ``lorareg.yaml``.

    The manifest is read but not judged: a broken one ends neither a card nor a revocation.
    """
    try:
        publish = yamlfile.load(workspace.folder(asset).manifest).get("publish")
        place = workspace.settings.hub
    except LoraregError:
        return None
    if not isinstance(publish, Mapping):
        return None
    repo = publish.get("hub") or (f"{place.namespace}/{asset.name}" if place else None)
    return repo if isinstance(repo, str) else None
