"""What goes up: weights, lock and manifest without what is nobody else's business, and a card.

Never the dataset, nor where it is, how large it is or who is in it; of people only the owners, for
credit. What may go is named here: a key that a later version adds stays at home until it is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from lorareg.errors import IntegrityError
from lorareg.registry import digest, jsontext, publication, tensors, versions, yamlfile
from lorareg.registry.bases.base import public_name
from lorareg.registry.header import read_header
from lorareg.registry.ids import AssetId
from lorareg.registry.lock import Lock, RecipeLock
from lorareg.registry.manifest import Manifest
from lorareg.registry.origin import Digest
from lorareg.registry.publishing import modelcard
from lorareg.registry.publishing.repos import Content, Remote, RemoteFile
from lorareg.registry.publishing.subject import Subject
from lorareg.registry.recipe import RecipeManifest
from lorareg.registry.schema import Strict, check
from lorareg.registry.workspace import Workspace

MARKER, LOCK, MANIFEST, RECIPE_FILE = "lorareg.json", "lock.json", "manifest.yaml", "recipe.json"
MAX_BYTES = 4_000_000  # of a file that is no weights
SCHEMA: Literal["lorareg/publication/1"] = "lorareg/publication/1"
HEADER = (
    "format", "lora_adapter_metadata",
    "lorareg.fingerprint", "lorareg.asset", "lorareg.merged_from", "lorareg.recipe",
)  # fmt: skip
"""Entries of a weights file's header that may go up: what readers need, and where it is from."""
ADAPTER_KEYS = (
    "schema", "kind", "name", "title", "description", "task", "trigger", "weight", "lora",
    "owners", "visibility", "license", "scope",
)  # fmt: skip
RECIPE_KEYS = (
    "schema", "kind", "name", "title", "parts", "method", "compression", "schedule",
    "negative_prompt", "owners", "visibility",
)  # fmt: skip


class Marker(Strict):
    """``lorareg.json``: which release of which registry a repository holds.

    Attributes:
        registry: name in its ``lorareg.yaml``.
        commit: of the release in the registry's git.
        lock: sha256 of ``lock.json`` there, which the signed tag holds too.
        files: path -> sha256 of everything else that was put into the repository.
    """

    schema_: Annotated[Literal["lorareg/publication/1"], Field(alias="schema")] = SCHEMA
    registry: str
    asset: str
    version: str
    commit: str
    lock: Digest
    fingerprint: Digest
    files: dict[str, Digest]


@dataclass(frozen=True)
class Package:
    """Everything that goes up.

    Attributes:
        weights: names of the weights files.
    """

    marker: Marker
    files: Mapping[str, Content]
    weights: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(map(_size, self.files.values()))

    @property
    def decisive(self) -> tuple[str, ...]:
        """Files that make it this release; the card may be written anew."""
        return (*self.weights, LOCK)

    def is_in(self, there: Remote) -> bool:
        """Whether a repository holds this release, to the last byte that the Hub lists."""
        return all(same(self.files[path], there.files.get(path)) for path in self.decisive)


def gather(workspace: Workspace, subject: Subject, scratch: Path) -> Package:
    """Put everything together; what has to be written anew goes into ``scratch``.

    Raises:
        NotFoundError: the weights are not here and cannot be had.
        IntegrityError: they are not those of the lock.
    """
    weights = _weights(workspace, subject, scratch)
    files: dict[str, Content] = dict(weights)
    files[LOCK] = _json(public_lock(subject.lock))
    files[MANIFEST] = yamlfile.text_of(public_manifest(subject)).encode()
    if isinstance(subject.manifest, RecipeManifest) and isinstance(subject.lock, RecipeLock):
        files[RECIPE_FILE] = _json(_recipe(workspace, subject, subject.lock))
    preview = workspace.folder(subject.asset).preview
    if workspace.history.exists(preview, subject.commit):
        files[preview.name] = workspace.history.read(preview, subject.commit)
    files["README.md"] = modelcard.text(workspace, subject, preview.name in files).encode()
    marker = Marker(
        registry=workspace.settings.name,
        asset=str(subject.asset),
        version=subject.version,
        commit=subject.commit,
        lock=subject.lock_digest,
        fingerprint=subject.lock.fingerprint,
        files={path: sha256(content) for path, content in sorted(files.items())},
    )
    files[MARKER] = _json(marker.model_dump(mode="json", by_alias=True))
    return Package(marker, files, tuple(weights))


def read_marker(text: bytes, repo: str) -> Marker:
    """What a repository says of itself.

    Raises:
        InvalidFileError: it is no such file.
    """
    name = f"{MARKER} in {repo}"
    try:
        document = jsontext.parse(text.decode())
    except ValueError:
        document = None
    return check(Marker, document, name, fix="ask whoever published it to publish it again")


def public_lock(known: Lock | RecipeLock) -> dict[str, Any]:
    """A lock without the place, the size and the file names of the data; digests stay."""
    document = known.model_dump(mode="json", by_alias=True)
    inputs = document.get("inputs", {})
    for key in ("dataset", "prior"):
        if inputs.get(key):
            inputs[key] |= {"path": key, "files": 0, "records": 0, "md5": None}
    resolved = inputs.get("config", {}).get("resolved", {})
    for key in ("skip", "captions"):
        resolved.pop(key, None)
    if (resolved.get("train") or {}).get("prior"):
        resolved["train"]["prior"]["path"] = "prior"
    if "header" in inputs:
        inputs["header"] = {}
    if "result" in document:
        document["result"]["held_out"] = 0
    return document


def public_manifest(subject: Subject) -> dict[str, Any]:
    """What a user has to know of an adapter, or a recipe."""
    manifest = subject.manifest
    document = manifest.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    document |= {"schema": "lorareg/1", "visibility": manifest.visibility}
    keys = RECIPE_KEYS if isinstance(manifest, RecipeManifest) else ADAPTER_KEYS
    told = {key: document[key] for key in keys if key in document}
    if isinstance(manifest, Manifest):
        told["scope"] = manifest.scope.model_dump(mode="json", exclude_none=True)
        told["base"] = {"model": public_name(manifest.base)}
        if manifest.base.revision:
            told["base"]["revision"] = manifest.base.revision
        if manifest.dataset_ and manifest.dataset_.sources:
            told["sources"] = [
                source.model_dump(mode="json", exclude_none=True)
                for source in manifest.dataset_.sources
            ]
        if manifest.origin:
            told["origin"] = manifest.origin.model_dump(mode="json", exclude_none=True)
    return told


def same(content: Content, there: RemoteFile | None) -> bool:
    """Whether the Hub lists these very bytes, kept by LFS or by git."""
    if there is None or there.size != _size(content):
        return False
    if there.sha256:
        return sha256(content) == f"sha256:{there.sha256}"
    return git_blob(content) == there.blob


def git_blob(content: Content) -> str:
    """Git's name for a file of these bytes."""
    data = content if isinstance(content, bytes) else content.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def sha256(content: Content) -> str:
    """Digest of what goes up."""
    return digest.of_bytes(content) if isinstance(content, bytes) else digest.of_file(content)


def _size(content: Content) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def _weights(workspace: Workspace, subject: Subject, scratch: Path) -> dict[str, Path]:
    if not subject.lock.outputs:
        return {}
    folder = versions.weights(workspace, subject)
    found = {}
    for name, promised in sorted(subject.lock.outputs.items()):
        file = folder / name
        if file.suffix == ".safetensors":
            file = _scrubbed(file, scratch)
            if tensors.tensor_digest(file) != promised.tensors or not is_clean(file):
                raise IntegrityError(
                    f"{name} of {subject.ref} did not come out of scrubbing as it went in",
                    why="tensors differ, or the header still says what it must not",
                    fix="report this with the file",
                )
        found[name] = file
    return found


def is_clean(file: Path) -> bool:
    """Whether the header of a weights file holds nothing but what may go up."""
    return read_header(file).metadata.keys() <= set(HEADER)


def _scrubbed(file: Path, scratch: Path) -> Path:
    """The file if its header is clean, else one with the same tensors and a clean header."""
    if is_clean(file):
        return file
    raw, notes = tensors.read(file)
    clean = scratch / file.name
    tensors.write(clean, raw, {key: notes[key] for key in HEADER if key in notes})
    return clean


def _recipe(workspace: Workspace, subject: Subject, known: RecipeLock) -> dict[str, Any]:
    """The composition for programs: what to load from where, and how strong."""
    parts = []
    for member in known.members:
        name, _, version = member.ref.partition("@")
        part: dict[str, Any] = {"ref": member.ref, "weight": member.weight, "file": member.file}
        part |= {"tensors": member.tensors, "blocks": member.blocks, "windows": member.windows}
        if repo := publication.repo_of(workspace, AssetId.parse(name)):
            part["hub"] = f"{repo}@{version}" if version else repo
        parts.append(part)
    return {
        "schema": "lorareg/recipe/1",
        "asset": str(subject.asset),
        "version": subject.version,
        "task": known.task,
        "base": known.base.model_dump(mode="json"),
        "parts": parts,
        "method": known.method,
    }


def _json(document: Any) -> bytes:
    text = json.dumps(document, sort_keys=True, ensure_ascii=False, indent=2, allow_nan=False)
    return f"{text}\n".encode()
