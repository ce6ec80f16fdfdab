"""What ``lorareg show`` tells of one asset, remembered while none of its files changed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from lorareg import __version__
from lorareg.registry import stamp
from lorareg.registry.ids import RECIPE, AssetId, Ref
from lorareg.registry.memory import Memory
from lorareg.registry.workspace import Workspace

if TYPE_CHECKING:
    from lorareg.registry.states import State

FORMAT = f"1 {__version__}"  # raised when something else is told
SHARED = (
    "lorareg.yaml",
    "manifests/policy.yaml",
    "manifests/policy.signature.json",
    "manifests/allowed_signers",
    ".git/config",
    ".git/HEAD",
    ".git/packed-refs",
    ".git/reftable",
)


def told(workspace: Workspace, ref: Ref) -> dict[str, Any]:
    """The document of ``show --json``, and under ``said`` what people read in its place.

    Raises:
        LoraregError: no such asset or release, or files of it that cannot be read.
    """
    asset = workspace.find_asset(ref, any_version=True)
    # git's folder is a file in a worktree, and a recipe depends on all of its members
    if ref.at or asset.kind == RECIPE or not (workspace.root / ".git").is_dir():
        return _told(workspace, asset, ref)
    memory = Memory(workspace.cache / "shown.sqlite", "shown", "asset", "document")
    known = memory.recall([str(asset)]).get(str(asset))
    before: dict[str, Any] = json.loads(known) if known else {}
    if before.get("format") == FORMAT:
        now = stamp.of(str(workspace.root), before["names"])
        if now.text == before["stamp"]:
            return dict(before["told"])
    found = _told(workspace, asset, ref)
    names = _names(asset, found)
    first = stamp.of(str(workspace.root), names)
    if first.is_settled and _told(workspace, asset, ref) == found:
        document = {"format": FORMAT, "names": names, "stamp": first.text, "told": found}
        memory.remember({str(asset): json.dumps(document, ensure_ascii=False)})
    return found


def _names(asset: AssetId, found: dict[str, Any]) -> list[str]:
    """Files that the document depends on: its own, the tags, and those of its ancestors."""
    names = [f"manifests/{asset}", f".git/refs/tags/{asset.kind}", *SHARED]
    for ancestor in found["lineage"]:
        name = ancestor.partition("@")[0]
        names += [f"manifests/{name}/{file}" for file in ("manifest.yaml", "lock.json")]
        names += [f"manifests/{name}/revoked.json"]
    return names


def _told(workspace: Workspace, asset: AssetId, ref: Ref) -> dict[str, Any]:
    from lorareg.registry import newest
    from lorareg.registry.access.revocation import revoked
    from lorareg.registry.attestation import load_all
    from lorareg.registry.lineage import ancestors
    from lorareg.registry.releases import channels, moving
    from lorareg.registry.verify import load_any

    state = _state(workspace, ref)
    wanted = state.manifest if state else workspace.load_asset(asset)
    pointers = channels.load(workspace.folder(asset).channels, asset).table
    untold = {"dataset_", "train"} if getattr(wanted, "origin", None) else set[str]()
    lock = state.lock if state else load_any(workspace, asset)
    attested = load_all(workspace, asset)
    stone = revoked(workspace, asset, state.version if state else None)
    return {
        "asset": str(asset),
        "manifest": wanted.model_dump(mode="json", by_alias=True, exclude=untold),
        "lock": lock.model_dump(mode="json", by_alias=True) if lock else None,
        "lineage": [parent.ref for parent in ancestors(workspace, lock)] if lock else [],
        "revoked": stone.sentence if stone else None,
        "version": state.version if state else newest.of(workspace.root, str(asset)),
        "channels": {name: each.document() for name, each in pointers.items()},
        "attestations": [each.document() for each in attested],
        "said": {
            "channels": {name: moving.shown(each) for name, each in pointers.items()},
            "attestations": [[each.sentence, each.verified] for each in attested],
        },
    }


def _state(workspace: Workspace, ref: Ref) -> State | None:
    """The release that is meant; None is what is checked out."""
    from lorareg.registry import states

    return states.state(workspace, ref) if ref.at else None
