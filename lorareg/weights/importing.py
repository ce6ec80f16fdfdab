"""A file of another program becomes an adapter of the registry: written anew, proved and locked."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from lorareg.errors import IntegrityError, InvalidFileError, LoraregError, NotFoundError
from lorareg.registry import card, digest, lock, manifest, scaffold, yamlfile
from lorareg.registry.access import policy
from lorareg.registry.bases import base as bases
from lorareg.registry.bases.base import ResolvedBase, public_name
from lorareg.registry.files import write_atomically
from lorareg.registry.ids import RECIPE, AssetId
from lorareg.registry.lock import BaseInput, FileInput, ImportedLock
from lorareg.registry.manifest import Base
from lorareg.registry.origin import HubOrigin, Origin
from lorareg.registry.workspace import Workspace
from lorareg.weights import signature, unpickle
from lorareg.weights.adapter import Array, LoraAdapter
from lorareg.weights.formats import detect, diffusers, peft
from lorareg.weights.formats.detect import Foreign

IMPORTER = "1"
"""Version of the rules of ``formats``: raised when a file would be read as other weights."""
TOLD = ("ss_", "sshs_", "modelspec.")
UNTOLD = ("ss_tag_frequency", "ss_dataset_dirs", "ss_datasets", "ss_bucket_info",
          "ss_reg_dataset_dirs", "modelspec.thumbnail")  # fmt: skip
LONGEST = 300  # characters of a header entry that is kept
PATH = re.compile(r"""(^|[\s"'=(,;<\[{|]|:(?!//[^/]))(/|~|\.\.?/|[A-Za-z]:[\\/]|\\\\)""")


@dataclass(frozen=True)
class Wish:
    """What a person says to ``lorareg import``.

    Attributes:
        path: a ``.safetensors`` file or a PEFT folder.
        base: as in a manifest; None takes the registry's default of the task.
        trigger: None takes what the header says, if it does.
        from_pickle: whether the path may be a pickle.
        hub: where it was taken from, if that is the Hub.
        keys: of the manifest, dotted, that are known from there.
    """

    asset: AssetId
    path: Path
    base: str | None = None
    trigger: str | None = None
    from_pickle: bool = False
    hub: HubOrigin | None = None
    keys: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Imported:
    """What came of it.

    Attributes:
        warnings: what may be wrong although it fits.
    """

    lock: ImportedLock
    modules: int
    rank: int
    trigger: str | None
    warnings: tuple[str, ...]


def import_file(workspace: Workspace, wish: Wish) -> Imported:
    """Read, check against the base, write, prove, and lock; the lock comes last.

    Raises:
        LoraregError: the asset exists, or the file does not belong to the base.
        InvalidFileError: a pickle, or keys that nobody here understands.
    """
    folder = workspace.folder(wish.asset)
    _refuse_taken(workspace, wish.asset)
    foreign = _read(wish)
    named = wish.base or scaffold.default_base(workspace, foreign.task)
    chosen = scaffold.pinned(named, foreign.task)
    found = bases.resolve(chosen, foreign.task, workspace.root, workspace.digests)
    adapter = signature.fitted(foreign.adapter, found, foreign.name)
    trigger = wish.trigger or _said(foreign, "modelspec.trigger_phrase") or None
    inputs = FileInput(
        base=BaseInput(model=public_name(chosen), revision=found.revision, digest=found.digest),
        origin=Origin(file=foreign.name, sha256=foreign.sha256, form=foreign.form, hub=wish.hub),
        header=_told(foreign.metadata),
        importer=IMPORTER,
    )
    text = _manifest(wish.asset, foreign, chosen, adapter, trigger)
    owner = policy.me(workspace)
    text = yamlfile.edited(text, {"owners": [owner]}, folder.manifest) if owner else text
    text = yamlfile.edited(text, wish.keys, folder.manifest) if wish.keys else text
    parsed = manifest.parse(yamlfile.parse(text, folder.manifest), f"manifests/{wish.asset}")
    _write(folder.weights, adapter, foreign.task, public_name(chosen), inputs.fingerprint())
    files = sorted(path for path in folder.weights.iterdir() if path.is_file())
    written = ImportedLock(
        asset=str(wish.asset),
        task=parsed.task,
        inputs=inputs,
        fingerprint=inputs.fingerprint(),
        outputs={file.name: lock.output(file) for file in files},
    )
    workspace.store.track(folder.weights, remote=workspace.settings.remotes.get(parsed.visibility))
    scaffold.write_schema(workspace)
    write_atomically(folder.manifest, text)
    card.write(folder, parsed, written, {})
    lock.save(folder.lock, written)
    warnings = tuple(_warnings(foreign, found))
    return Imported(written, len(adapter.layers), adapter.rank, trigger, warnings)


def _refuse_taken(workspace: Workspace, asset: AssetId) -> None:
    if asset.kind == RECIPE:
        raise LoraregError(
            "a recipe is made by composing",
            fix=f"import it as another kind: lorareg import FILE style/{asset.name}",
        )
    if workspace.folder(asset).manifest.exists():
        raise LoraregError(
            f"{asset} exists already",
            why=f"manifests/{asset}/manifest.yaml is there; nothing was changed",
            fix="choose another name",
        )


def _read(wish: Wish) -> Foreign:
    """The file; of a pickle it is named and identified, and not what was made of it."""
    with _readable(wish) as path:
        foreign = detect.read(path)
    if not wish.from_pickle:
        return foreign
    source = _pickle(wish.path)
    return replace(foreign, name=source.name, sha256=digest.of_file(source))


@contextmanager
def _readable(wish: Wish) -> Iterator[Path]:
    """The path, or the tensors of a pickle in a file that cannot run code."""
    if not wish.from_pickle:
        yield wish.path
        return
    source = _pickle(wish.path)
    with tempfile.TemporaryDirectory(prefix="lorareg-") as folder:
        config = source.parent / peft.CONFIG
        name = peft.WEIGHTS if config.is_file() else f"{source.stem}.safetensors"
        unpickle.convert(source.resolve(), Path(folder) / name)
        if config.is_file():
            shutil.copyfile(config, Path(folder) / peft.CONFIG)
        yield Path(folder) / name


def _pickle(path: Path) -> Path:
    """The pickle that is meant: PEFT's older folders hold one."""
    source = path / "adapter_model.bin" if path.is_dir() else path
    if not source.is_file():
        raise NotFoundError(f"there is no {source.name}", fix="correct the path")
    return source


def _told(metadata: Mapping[str, str]) -> dict[str, str]:
    """What a file says of itself, as far as it is short, and no path on somebody's machine."""
    return {
        key: value
        for key, value in sorted(metadata.items())
        if (key.startswith(TOLD) or key == "base_model_name_or_path")
        and key not in UNTOLD
        and len(value) <= LONGEST
        and (key + value).replace("\n", " ").isprintable()
        and not PATH.search(value)
    }


def _manifest(
    asset: AssetId, foreign: Foreign, chosen: Base, adapter: LoraAdapter, trigger: str | None
) -> str:
    revision = f", revision: {chosen.revision}" if chosen.revision else ""
    rank, alpha = _commonest(adapter, foreign.name)
    lora: dict[str, Any] = {"rank": rank, "alpha": alpha, "targets": _endings(adapter)}
    if any(name.startswith("text_encoder") for name in adapter.layers):
        lora["text_encoder"] = True
    if adapter.is_dora:
        lora["use_dora"] = True
    lines = [
        f"# yaml-language-server: $schema=../../../.lorareg/{scaffold.SCHEMA_FILE}",
        f"schema: {manifest.SCHEMA}",
        f"kind: {yamlfile.as_scalar(asset.kind)}",
        f"name: {yamlfile.as_scalar(asset.name)}",
        f"title: {{en: {_quoted(_said(foreign, 'modelspec.title')[:200] or asset.name)}}}",
        f"task: {foreign.task}",
        f"base: {{model: {_quoted(chosen.model)}{revision}}}",
        *([f"trigger: {_quoted(trigger)}"] if trigger else []),
        "# made by another program; url, author and license of the file may be added here",
        "origin:",
        f"  file: {_quoted(foreign.name)}",
        f"  sha256: {foreign.sha256}",
        f"  form: {foreign.form}",
        f"lora: {json.dumps(lora)}",
        "owners: []",
        "visibility: team",
    ]
    return "\n".join(lines) + "\n"


def _commonest(adapter: LoraAdapter, name: str) -> tuple[int, float]:
    """Rank and alpha of most layers, as a manifest says them: alpha is above 0 there."""
    found = Counter((x.rank, x.alpha) for x in adapter.layers.values() if x.alpha > 0)
    if not found:
        raise InvalidFileError(
            f"no module of {name} has an alpha above 0",
            why="the scale of every module is alpha / rank, so the file adds nothing as it is",
            fix="ask who made it; without its alpha keys a file is read with scale 1",
        )
    return found.most_common(1)[0][0]


def _said(foreign: Foreign, key: str) -> str:
    """A header entry in one line that a terminal may print; empty if it is long, or a path."""
    text = "".join(sign if sign.isprintable() else " " for sign in foreign.metadata.get(key, ""))
    line = " ".join(text.split())
    return "" if len(line) > LONGEST or PATH.search(line) else line


def _endings(adapter: LoraAdapter) -> list[str]:
    """Which modules are adapted: the ends of their names, as ``lora.targets`` has them."""
    found = set()
    for name in adapter.layers:
        *_, above, last = ("", *name.split("."))
        found.add(f"{above}.{last}" if last.isdecimal() else last)
    return sorted(found)


def _write(folder: Path, adapter: LoraAdapter, task: str, base: str, fingerprint: str) -> None:
    """Write the weights in the registry's form and read them back, to the last bit.

    Raises:
        IntegrityError: something else came back.
    """
    notes = {"lorareg.fingerprint": fingerprint}
    if task == "text-to-image":
        diffusers.write(folder / diffusers.FILE, adapter, notes)
        again = diffusers.read(folder / diffusers.FILE)
    else:
        peft.write(folder, adapter, base, notes)
        again = peft.read(folder)
    if not _same(adapter, again):
        shutil.rmtree(folder)
        raise IntegrityError(
            "the imported weights did not come back as they were written",
            why="a factor, an alpha or a module differs",
            fix="report this with the file",
        )


def _same(one: LoraAdapter, other: LoraAdapter) -> bool:
    return one.layers.keys() == other.layers.keys() and all(
        np.array_equal(layer.down, other.layers[name].down)
        and np.array_equal(layer.up, other.layers[name].up)
        and np.isclose(layer.alpha, other.layers[name].alpha, rtol=1e-12)
        and _same_lengths(layer.magnitude, other.layers[name].magnitude)
        for name, layer in one.layers.items()
    )


def _same_lengths(one: Array | None, other: Array | None) -> bool:
    if one is None or other is None:
        return one is other
    return np.array_equal(one, other)


def _warnings(foreign: Foreign, base: ResolvedBase) -> Iterator[str]:
    told = foreign.metadata.get("ss_new_sd_model_hash")
    if told and base.layout == "checkpoint" and digest.of_file(base.path) != f"sha256:{told}":
        name = foreign.metadata.get("ss_sd_model_name", "another checkpoint")
        yield f"its header says it was trained on {name}: a finetune may draw it differently"
    if base.layout == "checkpoint":
        yield "a single-file base has other names inside, so the fit was not checked"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
