"""Who may bring an asset, or the policy itself, from one state to the next: one pure rule.

The same rule is asked before signing and when a signature is verified.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lorareg.errors import LoraregError
from lorareg.registry import yamlfile
from lorareg.registry.access.policy import Policy
from lorareg.registry.ids import AssetId
from lorareg.registry.releases import channels

MANIFEST = "manifest.yaml"
CHANNELS = "channels.yaml"


@dataclass(frozen=True)
class Documents:
    """A state of an asset's folder, as far as rights depend on it.

    Attributes:
        files: governed file -> sha256.
        owners: as the manifest names them; none where it cannot be read.
        channels: content of channels.yaml.
    """

    files: Mapping[str, str]
    owners: tuple[str, ...] = ()
    channels: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, files: Mapping[str, str], texts: Mapping[str, str]) -> Documents:
        """Out of the texts of manifest and channels; a broken one is as if it were empty."""

        def read(name: str) -> Mapping[str, Any]:
            try:
                return yamlfile.parse(texts[name], Path(name)) if name in texts else {}
            except LoraregError:
                return {}

        owners = read(MANIFEST).get("owners")
        named = tuple(map(str, owners)) if isinstance(owners, list) else ()
        return cls(dict(files), named, read(CHANNELS))


def owners(policy: Policy, asset: AssetId, before: Documents | None) -> frozenset[str]:
    """Who may change an asset as it was before: its owners; before it existed, who may add it."""
    if before is None:
        return policy.creators(asset.kind)
    return policy.owners(asset.kind, before.owners)


def objection(
    policy: Policy, asset: AssetId, before: Documents | None, after: Documents, person: str
) -> str | None:
    """Why a person may not bring an asset into a state; None if they may.

    Args:
        policy: as it was before.
        asset: which.
        before: its last valid state; None if it is new.
        after: the state that is to be.
        person: who signs.
    """
    if person not in policy.people:
        return f"{person} is not in the policy's people"
    changed = _changed(before, after)
    if reason := _not_a_promoter(policy, before, after, person):
        return reason
    only_protected = changed == {CHANNELS} and _all_protected(policy, before, after)
    may = owners(policy, asset, before) | policy.maintainers
    if only_protected or person in may:
        return None
    named = ", ".join(sorted(may)) or "nobody"
    return f"those who may are {named}" if before else f"those who may add it are {named}"


def _not_a_promoter(
    policy: Policy, before: Documents | None, after: Documents, person: str
) -> str | None:
    for channel in sorted(_moved(before, after)):
        promoters = policy.promoters(channel)
        if promoters is not None and person not in promoters:
            names = ", ".join(sorted(promoters)) or "nobody"
            return f"channel {channel} is protected: only {names} may move it"
    return None


def _all_protected(policy: Policy, before: Documents | None, after: Documents) -> bool:
    found = _moved(before, after)
    return bool(found) and all(policy.promoters(channel) is not None for channel in found)


def _moved(before: Documents | None, after: Documents) -> set[str]:
    """Names of the channels that differ."""
    return channels.moved(before.channels if before else {}, after.channels)


def _changed(before: Documents | None, after: Documents) -> set[str]:
    then = before.files if before else {}
    names = then.keys() | after.files.keys()
    return {name for name in names if then.get(name) != after.files.get(name)}
