"""An adapter that somebody published on the Hub becomes one of this registry, with its origin.

Nothing of it is believed: what lorareg published must be what the lock beside it promises, and of
what others published the bytes must be those that the Hub lists.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lorareg.errors import IntegrityError, LoraregError
from lorareg.registry import lock, yamlfile
from lorareg.registry.fields import is_hub_id
from lorareg.registry.ids import RECIPE, AssetId
from lorareg.registry.lock import ImportedLock, Lock, RecipeLock
from lorareg.registry.origin import HubOrigin
from lorareg.registry.publishing import files, repos
from lorareg.registry.publishing.files import LOCK, MANIFEST, MARKER, Marker
from lorareg.registry.publishing.repos import Remote
from lorareg.registry.tensors import tensor_digest
from lorareg.registry.workspace import Workspace
from lorareg.weights import hub_files, importing
from lorareg.weights.hub_files import Fetcher

PREFIX = "hub:"
CARD = "README.md"
TERMS = ("title", "description", "weight", "license", "scope")
Say = Callable[[str], None]


@dataclass(frozen=True)
class Told:
    """What a repository says of its adapter.

    Attributes:
        base: as ``lorareg import --base`` takes it; base_digest: of its bytes there.
        keys: of a manifest, dotted.
    """

    origin: HubOrigin
    base: str | None = None
    base_digest: str | None = None
    trigger: str | None = None
    keys: Mapping[str, Any] = field(default_factory=dict)


def pull(
    workspace: Workspace, spec: str, ref: str | None, say: Say, base: str | None = None
) -> AssetId:
    """Import an adapter from the Hub.

    Args:
        workspace: the registry.
        spec: ``org/name``, or ``org/name@revision``; ``hub:`` may stand before it.
        ref: what it is called here; None takes the name that another lorareg gave it.
        say: told every step.
        base: instead of what the repository says.

    Raises:
        InvalidFileError: it holds pickles only, several adapters, or none.
        IntegrityError: bytes that are not those that the Hub lists, or that its lock promises.
    """
    repo, _, revision = spec.removeprefix(PREFIX).partition("@")
    if not is_hub_id(repo):
        raise LoraregError(
            f"{spec!r} is no repository", fix="write it as hub:NAMESPACE/NAME@v1.0.0"
        )
    there = repos.must_look(repo, revision or None)
    say(f"{repo}: commit {there.commit[:10]}")
    workspace.scratch.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="hub-", dir=workspace.scratch) as scratch:
        fetcher = Fetcher(there, Path(scratch))
        marker = _marker(fetcher, revision)
        asset = _name(marker, ref, spec.removeprefix(PREFIX))
        if _is_here(workspace, asset, there):
            say(f"{asset} is here already")
            return asset
        wish, told = _wish(fetcher, marker, asset, base)
        say(f"fetched and verified {', '.join(sorted(fetcher.taken))}")
        done = importing.import_file(workspace, wish)
    if told.base_digest not in (None, done.lock.inputs.base.digest):
        say(f"warning: it was made for a base with other bytes ({told.base_digest})")
    for warning in done.warnings:
        say(f"warning: {warning}")
    return asset


def _wish(
    fetcher: Fetcher, marker: Marker | None, asset: AssetId, base: str | None
) -> tuple[importing.Wish, Told]:
    fetched = [fetcher.file(name) for name in hub_files.choose(fetcher.there)]
    told = _own(fetcher, marker) if marker else _foreign(fetcher)
    wish = importing.Wish(
        asset=asset,
        path=fetched[0].parent if len(fetched) > 1 else fetched[0],
        base=base or told.base,
        trigger=told.trigger,
        hub=told.origin,
        keys=told.keys,
    )
    return wish, told


def _marker(fetcher: Fetcher, revision: str) -> Marker | None:
    """What lorareg wrote into the repository, if it did.

    Raises:
        IntegrityError: the tag that was asked for holds another release.
    """
    there = fetcher.there
    if not (fetcher.has(MARKER) and fetcher.has(LOCK)):
        return None
    found = files.read_marker(fetcher.text(MARKER).encode(), there.id)
    if revision in there.tags and revision != found.version:
        raise IntegrityError(
            f"{revision} in {there.id} is {found.version}",
            why="somebody moved the tag",
            fix=f"ask its owner; or take that one: lorareg pull {PREFIX}{there.id}@{found.version}",
        )
    return found


def _name(marker: Marker | None, ref: str | None, spec: str) -> AssetId:
    if ref is not None:
        return AssetId.parse(ref)
    if marker is None or marker.asset.startswith(f"{RECIPE}/"):
        raise LoraregError(
            f"{spec} does not say what it is to be called here",
            why="a merged recipe is imported as an adapter" if marker else "others published it",
            fix=f"name it: lorareg pull {PREFIX}{spec} --as style/NAME",
        )
    return AssetId.parse(marker.asset)


def _is_here(workspace: Workspace, asset: AssetId, there: Remote) -> bool:
    """Whether this very commit was imported before, and nobody touched it."""
    folder = workspace.folder(asset)
    if not folder.manifest.is_file() or asset.kind == RECIPE:
        return False
    known = workspace.load_lock(asset)
    origin = known.inputs.origin.hub if isinstance(known, ImportedLock) else None
    if known is None or origin is None:
        return False
    is_same = (origin.repo, origin.revision) == (there.id, there.commit)
    return is_same and workspace.weights_match(folder, known)


def _own(fetcher: Fetcher, marker: Marker) -> Told:
    """What another lorareg published, proved by the lock that lies beside it.

    Raises:
        IntegrityError: the files are not those that lock and marker promise.
    """
    known = _proved(fetcher, marker)
    given = known.base if isinstance(known, RecipeLock) else known.inputs.base
    digests = [output.tensors for output in known.outputs.values() if output.tensors]
    told: dict[str, Any] = {}
    if fetcher.has(MANIFEST):
        told = yamlfile.parse(fetcher.text(MANIFEST), Path(fetcher.there.id) / MANIFEST)
    origin = HubOrigin(
        repo=fetcher.there.id,
        revision=fetcher.there.commit,
        asset=marker.asset,
        version=marker.version,
        fingerprint=known.fingerprint,
        tensors=digests[0] if digests else None,
    )
    word = told.get("trigger")
    return Told(
        origin=origin,
        base=_base(given.model, given.revision),
        base_digest=given.digest,
        trigger=word if isinstance(word, str) else None,
        keys=_keys(fetcher.there, {key: told[key] for key in TERMS if key in told}),
    )


def _proved(fetcher: Fetcher, marker: Marker) -> Lock | RecipeLock:
    """The lock, after every weights file was compared with it and with the marker."""
    repo = fetcher.there.id
    known = lock.parse(fetcher.text(LOCK), Path(repo) / LOCK)
    for name in (LOCK, *known.outputs):
        found, promised = files.sha256(fetcher.file(name)), marker.files.get(name, "nothing")
        if found != promised:
            hub_files.refuse(repo, name, found, promised, f"{MARKER} promises")
    for name, output in known.outputs.items():
        file = fetcher.file(name)
        found = tensor_digest(file) if output.tensors else files.sha256(file)
        if found != (output.tensors or output.sha256):
            hub_files.refuse(repo, name, found, output.tensors or output.sha256, "its lock says")
    told = (known.asset, known.fingerprint)
    if told != (marker.asset, marker.fingerprint):
        hub_files.refuse(repo, LOCK, " ".join(told), marker.asset, f"{MARKER} says")
    return known


def _foreign(fetcher: Fetcher) -> Told:
    """What others published, as far as their card says it."""
    there, front = fetcher.there, _front(fetcher)
    named = front.get("base_model")
    named = named[0] if isinstance(named, list) and named else named
    word, license_ = front.get("instance_prompt"), front.get("license")
    license_ = front.get("license_name") if license_ == "other" else license_
    terms = {"license": {"id": license_}} if isinstance(license_, str) and license_ else {}
    return Told(
        origin=HubOrigin(repo=there.id, revision=there.commit),
        base=_base(named, None) if isinstance(named, str) else None,
        trigger=word if isinstance(word, str) and word else None,
        keys=_keys(there, terms),
    )


def _base(model: str, revision: str | None) -> str | None:
    """How ``--base`` names it; a folder of somebody else's registry is not known here."""
    if model.startswith("builtin:"):
        return model
    return "@".join(filter(None, (model, revision))) if is_hub_id(model) else None


def _front(fetcher: Fetcher) -> dict[str, Any]:
    """Front matter of a card; of one that cannot be read, nothing."""
    if not fetcher.has(CARD):
        return {}
    head, _, rest = fetcher.text(CARD).partition("---\n")
    if head.strip():
        return {}
    try:
        return yamlfile.parse(rest.partition("\n---")[0] + "\n", Path(CARD))
    except LoraregError:
        return {}


def _keys(there: Remote, terms: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of the manifest: the terms, and where it is from."""
    found = {**terms, "origin.url": repos.address(there.id, there.commit)}
    found["origin.author"] = there.id.partition("/")[0]
    license_ = terms.get("license")
    if isinstance(license_, dict) and isinstance(license_.get("id"), str):
        found["origin.license"] = license_["id"]
    return found
