"""What happened: ``lock.json`` ties the digests of everything that went in to what came out.

Beside it stands ``dataset.json``, the digest of every file and caption of the dataset, so that a
later difference can be named and not only noticed. Neither holds a path of a machine or a person.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue

from lorareg.errors import IntegrityError, InvalidFileError
from lorareg.registry import digest, jsontext
from lorareg.registry.files import read_own, write_atomically
from lorareg.registry.origin import Digest, Origin
from lorareg.registry.runfacts import Environment, Result
from lorareg.registry.schema import Later, Strict, check
from lorareg.registry.strength import Strength
from lorareg.registry.tensors import tensor_digest

SCHEMA: Literal["lorareg/lock/1"] = "lorareg/lock/1"
TRAINER = "1"
"""Version of the numerics of ``trainers``: raised when equal inputs would give other weights."""
MAX_BYTES = 64_000_000

FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=128)]


class BaseInput(Strict):
    """The frozen model that was adapted."""

    model: str
    revision: str | None
    digest: Digest


class DatasetInput(Strict):
    """The dataset that was learned: ``md5`` is DVC's name for the same bytes, if it tracks them."""

    path: str
    digest: Digest
    files: int
    records: int
    md5: str | None


class ParentInput(Strict):
    """The adapter that training started from: ``tensors`` is its identity.

    With ``file`` it was a bare file of that name, which the registry does not hold: without the
    file the run cannot be made again.
    """

    ref: str
    tensors: Digest
    file: Annotated[bool, Later()] = False


class DatasetIndex(Strict):
    """``dataset.json``: file -> digest, and record -> digest of its caption or dialogue.

    ``statistics`` is for the card: how many, how large, how long. ``prior`` holds the files of the
    folder of class pictures, if there is one.
    """

    files: dict[str, Digest]
    records: dict[str, Digest]
    statistics: dict[str, Any] = {}
    prior: dict[str, Digest] = {}


class ConfigInput(Strict):
    """The resolved configuration, so that a later default cannot change the past."""

    digest: Digest
    resolved: dict[str, Any]


class Given(Strict):
    """What weights come from, however they came to be: they belong to a base."""

    base: BaseInput


class Inputs(Given):
    """Everything that determines the weights of a run."""

    dataset: DatasetInput
    config: ConfigInput
    trainer: str
    chat_template: dict[str, str] | None = None
    parent: Annotated[ParentInput | None, Later()] = None
    prior: Annotated[DatasetInput | None, Later()] = None

    @property
    def data(self) -> tuple[DatasetInput, ...]:
        """The dataset, then the class pictures if there are any."""
        return (self.dataset, self.prior) if self.prior else (self.dataset,)

    def fingerprint(self) -> str:
        """Digest of all inputs; equal fingerprint means the same run."""
        return fingerprint(
            config=self.config.digest,
            dataset=self.dataset.digest,
            base=self.base.digest,
            trainer=self.trainer,
            parent=self.parent.tensors if self.parent else None,
            prior=self.prior.digest if self.prior else None,
        )


class Output(Strict):
    """One weights file; ``tensors`` is its identity, independent of the header."""

    bytes: int
    sha256: Digest
    tensors: Digest | None


class FileInput(Given):
    """A file of another program that became an adapter of the registry.

    ``header`` is what it said of itself, ``importer`` the version of the rules it was read by.
    """

    origin: Origin
    header: dict[str, str] = {}
    importer: str

    def fingerprint(self) -> str:
        """Digest of the file, its base and the rules; equal ones give equal weights."""
        parts = {"base": self.base.digest, "file": self.origin.sha256, "importer": self.importer}
        return digest.of_json(parts, "import-sha256-v1")


class Member(Strict):
    """One part of a recipe, pinned.

    Attributes:
        blocks: component or block -> its own weight.
        windows: (from, to, factor) over the denoising's progress in which it is on.
    """

    ref: str
    weight: float
    blocks: Annotated[dict[str, float], Later()] = {}
    windows: Annotated[tuple[tuple[float, float, float], ...], Later()] = ()
    commit: str | None
    file: FileName
    sha256: Digest
    tensors: Digest

    @property
    def strength(self) -> Strength:
        """Its weights."""
        return Strength(self.weight, self.blocks)


class Lock(Strict):
    """The lock of an adapter."""

    schema_: Annotated[Literal["lorareg/lock/1"], Field(alias="schema")] = SCHEMA
    asset: str
    task: Literal["text-to-image", "text-generation"]
    inputs: Given
    fingerprint: Digest
    outputs: Annotated[dict[FileName, Output], Field(min_length=1)]
    parents: tuple[Member, ...] = ()


class TrainedLock(Lock):
    """The lock of an adapter that was trained here."""

    inputs: Inputs
    environment: Environment
    result: Result


class ImportedLock(Lock):
    """The lock of an adapter that another program made."""

    inputs: FileInput


class RecipeLock(Strict):
    """The lock of a composition.

    Attributes:
        method: keys of the manifest beside the parts that shape the result, where not default.
        error: of the merged file against the exact sum, relative; 0 where it is exact.
        retention: member -> share of its energy that the merged file keeps.
        probes: module -> norm and looks of the sum, by which any file of it is recognised.
    """

    schema_: Annotated[Literal["lorareg/lock/1"], Field(alias="schema")] = SCHEMA
    asset: str
    task: Literal["text-to-image", "text-generation"]
    base: BaseInput
    members: tuple[Member, ...]
    method: Annotated[dict[str, JsonValue], Later()] = {}
    fingerprint: Digest
    outputs: dict[FileName, Output] = {}
    error: Annotated[float, Later()] = 0.0
    retention: Annotated[dict[str, float], Later()] = {}
    probes: Annotated[dict[str, tuple[float, ...]], Later()] = {}


def fingerprint(
    *,
    config: str,
    dataset: str,
    base: str,
    trainer: str = TRAINER,
    parent: str | None = None,
    prior: str | None = None,
) -> str:
    """Digest of all inputs of a training run; what it has not is left out."""
    inputs = {"config": config, "dataset": dataset, "base": base, "trainer": trainer}
    inputs |= {"parent": parent} if parent else {}
    inputs |= {"prior": prior} if prior else {}
    return digest.of_json(inputs, "fingerprint-sha256-v1")


def output(path: Path) -> Output:
    """Facts of a weights file as it is on disk."""
    tensors = tensor_digest(path) if path.suffix == ".safetensors" else None
    return Output(bytes=path.stat().st_size, sha256=digest.of_file(path), tensors=tensors)


def load(path: Path) -> Lock | RecipeLock:
    """Read a lock.

    Raises:
        NotFoundError: there is none.
        InvalidFileError: it is not one; it names every problem.
    """
    return parse(read_own(path, max_bytes=MAX_BYTES), path)


def parse(text: str, path: Path) -> Lock | RecipeLock:
    """Read a lock from text; errors name ``path``. Raises as ``load``."""
    name = f"{path.parent.parent.name}/{path.parent.name}/{path.name}"
    document = _json(text, name)
    if isinstance(document, dict) and "members" in document:
        return check(RecipeLock, document, name, fix=_restore(name))
    if isinstance(document, dict) and "origin" in (document.get("inputs") or {}):
        return check(ImportedLock, document, name, fix=_restore(name))
    return check(TrainedLock, document, name, fix=_restore(name))


def load_json(path: Path, name: str) -> Any:
    """Read a JSON file that the tool wrote, bounded.

    Raises:
        NotFoundError: there is none.
        InvalidFileError: it is not JSON, or has a key twice; errors call it ``name``.
    """
    return _json(read_own(path, max_bytes=MAX_BYTES), name)


def _json(text: str, name: str) -> Any:
    try:
        return jsontext.parse(text)
    except ValueError as error:
        raise InvalidFileError(f"{name} is not JSON", why=str(error), fix=_restore(name)) from error


def _restore(name: str) -> str:
    return f"restore {name} as it was: git checkout, lorareg pull, or the place it came from"


def load_index(path: Path, inputs: Inputs) -> DatasetIndex:
    """Read ``dataset.json`` and check that it is the one the lock was made with.

    Raises:
        IntegrityError: its files do not have the digest of the lock.
    """
    return parse_index(read_own(path, max_bytes=MAX_BYTES), path, inputs)


def parse_index(text: str, path: Path, inputs: Inputs) -> DatasetIndex:
    """Read ``dataset.json`` from text; errors name ``path``. Raises as ``load_index``."""
    name = f"{path.parent.parent.name}/{path.parent.name}/{path.name}"
    restore = f"restore it: git checkout -- manifests/{name}"
    found = check(DatasetIndex, _json(text, name), name, fix=restore)
    listed = ((found.files, inputs.dataset), (found.prior, inputs.prior))
    for files, promised in listed:
        if promised and digest.of_tree(files) != promised.digest:
            raise IntegrityError(
                f"{name} does not belong to lock.json",
                why=f"its files of {promised.path} have another digest than {promised.digest}",
                fix=restore,
            )
    return found


def save(path: Path, value: Strict | dict[str, Any]) -> None:
    """Write a lock for reading and diffing: sorted keys, two spaces, a newline at the end."""
    document = value.model_dump(mode="json", by_alias=True) if isinstance(value, Strict) else value
    text = json.dumps(document, sort_keys=True, ensure_ascii=False, indent=2, allow_nan=False)
    write_atomically(path, text + "\n")
