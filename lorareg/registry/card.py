"""The model card of an asset: README.md beside its manifest, rendered by every git host.

Source of the front matter: https://huggingface.co/docs/hub/model-cards.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from lorareg.registry import attestation, datacard
from lorareg.registry.access import revocation
from lorareg.registry.assetfolder import AssetFolder
from lorareg.registry.attestation import Attestation
from lorareg.registry.bases.base import public_name
from lorareg.registry.files import write_atomically
from lorareg.registry.ids import RECIPE, AssetId
from lorareg.registry.lock import ImportedLock, Lock, TrainedLock, load_index
from lorareg.registry.manifest import ImageManifest, TextManifest
from lorareg.registry.workspace import Workspace

PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")  # a word that YAML reads as it stands
NOT_TEXT = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
OWN_TEMPLATE = "tokenizer"  # the base's own, which whoever loads the base has
GENERATED = "<!-- written by lorareg from manifest.yaml and lock.json; edit those -->"


def write(
    folder: AssetFolder,
    manifest: ImageManifest | TextManifest,
    lock: Lock,
    statistics: Mapping[str, Any],
) -> None:
    """Regenerate the card of what was just made; ``statistics`` are those of ``dataset.json``."""
    write_atomically(folder.card, text(folder, manifest, lock, statistics))


def refresh(workspace: Workspace, asset: AssetId) -> None:
    """Write the card of a trained adapter anew where its manifest or lock changed.

    A contact sheet that was made before the adapter became private goes.
    """
    folder, due = workspace.folder(asset), refreshed(workspace, asset)
    if due is None:
        return
    if folder.sheet.is_file() and workspace.load_manifest(asset).visibility == "private":
        folder.sheet.unlink(missing_ok=True)
        due = refreshed(workspace, asset) or due
    if folder.card.read_bytes() != due.encode():
        write_atomically(folder.card, due)


def refreshed(workspace: Workspace, asset: AssetId) -> str | None:
    """What the card of a trained adapter has to say now; None: it has no card."""
    if asset.kind == RECIPE or not workspace.folder(asset).card.is_file():
        return None
    folder, known = workspace.folder(asset), workspace.load_lock(asset)
    if known is None:
        return None
    index = {}
    if isinstance(known, TrainedLock) and folder.dataset.is_file():
        index = load_index(folder.dataset, known.inputs).statistics
    said = attestation.load_all(workspace, asset)
    return text(folder, workspace.load_manifest(asset), known, index, said)


def text(
    folder: AssetFolder,
    manifest: ImageManifest | TextManifest,
    lock: Lock,
    statistics: Mapping[str, Any],
    attestations: Sequence[Attestation] = (),
) -> str:
    """The card as Markdown with the Hub's YAML front matter."""
    title = " · ".join(manifest.title.values()) or str(manifest.id)
    parts = [_front_matter(manifest), GENERATED, "", f"# {title}", ""]
    parts += _revoked(folder)
    if manifest.description:
        parts += [manifest.description.strip(), ""]
    if folder.preview.is_file():
        parts += ["![base and adapter, same prompts and seeds](preview.png)", ""]
    if isinstance(lock, TrainedLock):
        parts += [*_facts(manifest, lock), *_replies(lock)]
    if isinstance(lock, ImportedLock):
        parts += _imported(manifest, lock)
    parts += _reproduced(attestations)
    parts += _dataset(folder, statistics)
    parts += _sources(manifest)
    return "\n".join(parts).rstrip() + "\n"


def _front_matter(manifest: ImageManifest | TextManifest) -> str:
    front: dict[str, str | list[str]] = {
        "pipeline_tag": manifest.task,
        "library_name": "diffusers" if manifest.task == "text-to-image" else "peft",
        "tags": ["lora", "lorareg", manifest.kind],
    }
    if not public_name(manifest.base).startswith("builtin:"):
        front["base_model"] = public_name(manifest.base)
    if manifest.license:
        front["license"] = manifest.license.id.lower()
    if manifest.trigger:
        front["instance_prompt"] = manifest.trigger
    return f"---\n{_yaml(front)}---\n"


def _yaml(front: Mapping[str, str | list[str]]) -> str:
    """Words that need no quotes are written here: a push writes a thousand cards."""
    words = [
        word for value in front.values() for word in ([value] if isinstance(value, str) else value)
    ]
    if all(PLAIN.fullmatch(word) and word.lower() not in NOT_TEXT for word in words):
        lines = [
            f"{key}: {value}\n"
            if isinstance(value, str)
            else f"{key}:\n- " + "\n- ".join(value) + "\n"
            for key, value in front.items()
        ]
        return "".join(lines)
    import io

    from ruamel.yaml import YAML

    stream = io.StringIO()
    YAML().dump(front, stream)
    return stream.getvalue()


def _facts(manifest: ImageManifest | TextManifest, lock: TrainedLock) -> list[str]:
    result, inputs = lock.result, lock.inputs
    rows = [
        ("adapter", f"`{manifest.id}`"),
        ("base", f"`{public_name(manifest.base)}`"),
        *_parent(lock),
        ("trigger", f"`{manifest.trigger}`" if manifest.trigger else "none"),
        ("weight", f"{manifest.weight.default:g}"),
        ("rank, alpha, scale", f"{result.rank}, {result.alpha:g}, {manifest.lora.scale:g}"),
        ("records", f"{inputs.dataset.records}, {result.held_out} of them held out"),
        *_prior(lock),
        *_chat_template(lock),
        ("steps", f"{result.steps}, best at {result.best_step}"),
        ("held-out loss", _loss(lock)),
        ("fingerprint", f"`{lock.fingerprint}`"),
    ]
    rows += [(name, f"`{out.sha256}`") for name, out in sorted(lock.outputs.items())]
    table = ["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows), ""]
    return [*table, "Make it again:", "", f"    lorareg reproduce {manifest.id}", ""]


def _imported(manifest: ImageManifest | TextManifest, lock: ImportedLock) -> list[str]:
    """Where it came from; nobody here knows how it was trained."""
    origin, told = lock.inputs.origin, manifest.origin or lock.inputs.origin
    by = [("made by", told.author), ("found at", told.url), ("its terms there", told.license)]
    rows = [
        ("adapter", f"`{manifest.id}`, imported: another program trained it"),
        ("base", f"`{public_name(manifest.base)}`"),
        ("trigger", f"`{manifest.trigger}`" if manifest.trigger else "none known"),
        ("weight", f"{manifest.weight.default:g}"),
        ("file", f"`{origin.file}` ({origin.form}), `{origin.sha256}`"),
        *((name, text) for name, text in by if text),
        ("fingerprint", f"`{lock.fingerprint}`"),
    ]
    rows += [(name, f"`{out.sha256}`") for name, out in sorted(lock.outputs.items())]
    return ["| | |", "| --- | --- |", *(f"| {name} | {_cell(text)} |" for name, text in rows), ""]


def _revoked(folder: AssetFolder) -> list[str]:
    """That it may not be used any more, before anything else is said."""
    lines = [
        f"> **Revoked** ({', '.join(stone.versions) or 'all versions'}) on {stone.on} by "
        f"{stone.by}: {_cell(stone.reason)}"
        for stone in revocation.of_folder(folder).revocations
        if stone.lifted is None
    ]
    return [*lines, ""] if lines else []


def _reproduced(attestations: Sequence[Attestation]) -> list[str]:
    """Who says to have made it again; what is forged says nothing."""
    said = [each.sentence for each in attestations if each.standing != "forged"]
    lines = [f"- {sentence[:1].upper()}{sentence[1:]}" for sentence in said]
    return ["## Reproduced by", "", *lines, ""] if lines else []


def _parent(lock: TrainedLock) -> list[tuple[str, str]]:
    parent = lock.inputs.parent
    if parent is None:
        return []
    file = " (a file outside of the registry: this cannot be made again without it)"
    return [("parent", f"`{parent.ref}`{file if parent.file else ''}")]


def _prior(lock: TrainedLock) -> list[tuple[str, str]]:
    prior = lock.inputs.prior
    return [("class pictures", f"{prior.records} of {prior.path}")] if prior else []


def _chat_template(lock: TrainedLock) -> list[tuple[str, str]]:
    """The template an adapter has to be prompted with, where its base brings none."""
    source = (lock.inputs.chat_template or {}).get("source", OWN_TEMPLATE)
    return [] if source == OWN_TEMPLATE else [("chat template", f"`{source}`")]


def _loss(lock: TrainedLock) -> str:
    before, after = lock.result.base_validation_loss, lock.result.validation_loss
    if before is None or after is None:
        return "not measured"
    return f"{before:.4f} (base) → {after:.4f} ({100 * (after / before - 1):+.1f} %)"


def _replies(lock: TrainedLock) -> list[str]:
    if not lock.result.replies:
        return []
    rows = [
        f"| {_cell(reply.prompt)} | {_cell(reply.base)} | {_cell(reply.adapter)} |"
        for reply in lock.result.replies
    ]
    return ["## Samples", "", "| prompt | base | adapter |", "| --- | --- | --- |", *rows, ""]


def _dataset(folder: AssetFolder, statistics: Mapping[str, Any]) -> list[str]:
    if not statistics:
        return []
    sheet = ["![what it was trained on](dataset.png)", ""] if folder.sheet.is_file() else []
    return ["## Dataset", "", *sheet, *datacard.markdown(statistics)]


def _sources(manifest: ImageManifest | TextManifest) -> list[str]:
    lines = []
    for source in manifest.dataset_.sources if manifest.dataset_ else ():
        name = f"[{source.title}]({source.url})" if source.url else source.title
        author = f" by {source.author}" if source.author else ""
        changes = f"; {source.changes}" if source.changes else ""
        lines.append(f"- {name}{author}, {source.license}{changes}")
    return ["## Sources of the data", "", *lines, ""] if lines else []


def _cell(value: str) -> str:
    return " ".join(value.replace("|", "\\|").split())
