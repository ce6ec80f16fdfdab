"""A first manifest that trains as it is: defaults by the base and the kind."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lorareg.errors import LoraregError
from lorareg.registry import hub, manifest, presets, yamlfile
from lorareg.registry.access import policy
from lorareg.registry.bases import base
from lorareg.registry.dvc.pointer import Pointer
from lorareg.registry.fields import is_hub_id
from lorareg.registry.files import write_atomically
from lorareg.registry.ids import RECIPE, AssetId
from lorareg.registry.manifest import Base
from lorareg.registry.workspace import Workspace

SCHEMA_FILE = "manifest.schema.json"
NOT_WRITTEN = "nothing was written: correct the option, or the config of --from, that says so"
HELD_OUT = 0.1  # of the records


@dataclass(frozen=True)
class Wish:
    """What a person says to ``lorareg new``.

    Attributes:
        data: folder or .jsonl of the registry, relative to its top.
        base: as in a manifest; a Hub id may carry a branch after '@'.
        changes: dotted key -> value, instead of what the scaffold would choose.
    """

    asset: AssetId
    task: str | None
    base: str | None
    data: str
    trigger: str | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)


def write(workspace: Workspace, wish: Wish) -> Pointer:
    """Let DVC track the dataset, then write ``manifest.yaml`` for a new adapter.

    Raises:
        LoraregError: it exists, task and base do not go together, or a value is out of bounds.
    """
    folder = workspace.folder(wish.asset)
    if wish.asset.kind == RECIPE:
        raise LoraregError("a recipe is made by composing", fix="lorareg compose EXPR --as NAME")
    if folder.manifest.exists():
        raise LoraregError(
            f"{wish.asset} exists already",
            why=f"manifests/{wish.asset}/manifest.yaml is there; nothing was changed",
            fix="edit it, or choose another name",
        )
    task = wish.task or _guess_task(workspace, wish)
    chosen = pinned(wish.base or default_base(workspace, task), task)
    first = _text(workspace, wish, task, chosen)
    text = yamlfile.edited(first, _needed(wish.changes, first, folder.manifest), folder.manifest)
    shown = f"manifests/{wish.asset}/manifest.yaml"
    manifest.parse(yamlfile.parse(text, folder.manifest), shown, NOT_WRITTEN)
    tracked = workspace.store.track(workspace.root / wish.data)
    write_schema(workspace)
    write_atomically(folder.manifest, text)
    return tracked


def _needed(changes: Mapping[str, Any], text: str, path: Path) -> dict[str, Any]:
    """Without those that switch off what the text does not have."""
    document = yamlfile.parse(text, path)

    def there(dotted: str) -> bool:
        *parents, key = dotted.split(".")
        place: Any = document
        for parent in parents:
            place = place.get(parent, {})
        return key in place

    return {key: value for key, value in changes.items() if value is not None or there(key)}


def write_schema(workspace: Workspace) -> None:
    """Put the JSON Schema where the scaffold's first line points editors to."""
    text = json.dumps(manifest.json_schema(), indent=1, sort_keys=True, ensure_ascii=False)
    write_atomically(workspace.scratch / SCHEMA_FILE, text + "\n")


def _guess_task(workspace: Workspace, wish: Wish) -> str:
    """Pictures mean text-to-image, .jsonl alone means text-generation."""
    from lorareg.registry.dataset import scan

    path = workspace.root / wish.data
    if path.suffix == ".jsonl" or not scan(path, workspace.digests).images:
        return "text-generation"
    return "text-to-image"


def default_base(workspace: Workspace, task: str) -> str:
    """What ``lorareg.yaml`` names for a task, or nothing."""
    return next((model for name, model in workspace.settings.bases.items() if name == task), "")


def pinned(text: str, task: str) -> Base:
    """A base as people name it; a branch on the Hub becomes the commit that it is now.

    Raises:
        LoraregError: none is named.
    """
    if not text:
        raise LoraregError(f"there is no default base for {task}", fix="say --base MODEL")
    model, _, branch = text.partition("@")
    if is_hub_id(model) and not Path(model).exists():
        return Base(model=model, revision=hub.resolve(model, branch or None))
    return Base(model=text)


def _text(workspace: Workspace, wish: Wish, task: str, chosen: Base) -> str:
    found = base.resolve(chosen, task, workspace.root, workspace.digests)
    revision = f", revision: {chosen.revision}" if chosen.revision else ""
    trigger = wish.trigger or wish.asset.name
    image = task == "text-to-image"
    own = _image_lines(workspace, wish, found, trigger) if image else []
    lines = [
        f"# yaml-language-server: $schema=../../../.lorareg/{SCHEMA_FILE}",
        f"schema: {manifest.SCHEMA}",
        f"kind: {yamlfile.as_scalar(wish.asset.kind)}",
        f"name: {yamlfile.as_scalar(wish.asset.name)}",
        f"title: {{en: {_quoted(wish.asset.name)}}}",
        f"task: {task}",
        f"base: {{model: {_quoted(chosen.model)}{revision}}}",
        *([f"trigger: {_quoted(trigger)}"] if image else []),
        f"dataset: {{path: {_quoted(wish.data)}}}",
        *(own or _text_lines(workspace, wish, found)),
        f"owners: [{policy.me(workspace) or ''}]",
        "visibility: team",
    ]
    return "\n".join(lines) + "\n"


def _image_lines(
    workspace: Workspace, wish: Wish, found: base.ResolvedBase, trigger: str
) -> list[str]:
    preset = presets.image(wish.asset.kind, found)
    folder = found.path if found.layout == "diffusers" else None
    side = base.default_resolution(folder) if folder else preset.resolution
    return [
        f"lora: {{rank: {preset.rank}, alpha: {preset.alpha}, targets: {preset.targets}}}",
        "train:",
        f"  resolution: {side}",
        *(["  buckets: {step: 64}"] if preset.buckets and side % 64 == 0 else []),
        f"  batch_size: {preset.batch_size}",
        f"  epochs: {_epochs(workspace, wish, preset)}",
        f"  learning_rate: {preset.learning_rate}",
        "  scheduler: cosine",
        f"  warmup_steps: {preset.warmup_steps}",
        f"  caption_dropout: {preset.caption_dropout}",
        f"  validation: {{share: {HELD_OUT}, patience: 10}}",
        "  seed: 42",
        f"sample: {{prompts: [{_quoted(trigger)}], guidance: {preset.guidance}}}",
    ]


def _text_lines(workspace: Workspace, wish: Wish, found: base.ResolvedBase) -> list[str]:
    preset = presets.text(wish.asset.kind, found)
    batches = math.ceil(_dialogues(workspace.root / wish.data) * (1 - HELD_OUT) / preset.batch_size)
    fewest, most = preset.epochs
    return [
        f"lora: {{rank: {preset.rank}, alpha: {preset.alpha}, targets: {preset.targets}}}",
        "train:",
        f"  max_length: {preset.max_length}",
        *(["  packing: true"] if preset.packing else []),
        f"  batch_size: {preset.batch_size}",
        f"  epochs: {min(most, max(fewest, round(preset.steps / max(1, batches))))}",
        f"  learning_rate: {preset.learning_rate}",
        "  scheduler: cosine",
        f"  warmup_steps: {preset.warmup_steps}",
        f"  validation: {{share: {HELD_OUT}, patience: 3}}",
        "  seed: 42",
        'sample: {prompts: ["What is your favourite food?", "How are you today?"]}',
    ]


def _dialogues(data: Path) -> int:
    """How many there are: a line each."""
    files = sorted(data.rglob("*.jsonl")) if data.is_dir() else [data]
    return sum(bool(line.strip()) for file in files for line in file.open("rb"))


def _epochs(workspace: Workspace, wish: Wish, preset: presets.ImagePreset) -> int:
    """As many rounds over the pictures that are learned as give the steps that the kind wants."""
    from lorareg.registry.dataset import scan

    pictures = len(scan(workspace.root / wish.data, workspace.digests).images)
    batches = math.ceil(round(pictures * (1 - HELD_OUT)) / preset.batch_size)
    return max(1, round(preset.steps / max(1, batches)))


def _quoted(text: str) -> str:
    """Text as YAML reads it back, and as people do: 张三 stays 张三."""
    return json.dumps(text, ensure_ascii=False)
