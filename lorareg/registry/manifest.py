"""What people want: ``manifest.yaml`` of an adapter, its bounds, and the part that shapes training.

Every number has bounds, a unit and a default here and nowhere else.
"""

from __future__ import annotations

import difflib
import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from lorareg.errors import InvalidFileError
from lorareg.registry import digest, yamlfile
from lorareg.registry.fields import (
    DatasetPath,
    ModelName,
    Person,
    Revision,
    Slug,
    Strength,
    Text,
    Titles,
)
from lorareg.registry.ids import AssetId
from lorareg.registry.image_training import ImageTraining
from lorareg.registry.schema import Later, Strict, check
from lorareg.registry.terms import Consent, License, Scope
from lorareg.registry.text_training import TextTraining
from lorareg.registry.training import WITHOUT_INFLUENCE, Training

SCHEMA = "lorareg/1"
TASKS = ("text-to-image", "text-generation")


class Base(Strict):
    """The frozen model the adapter belongs to.

    ``model`` is ``builtin:<name>``, a Hub id, a folder, a ``.safetensors`` checkpoint or a
    ``.gguf`` file; folders and files may be relative to the registry. ``config`` is a folder in
    diffusers layout that tells the shape of a single-file checkpoint; without it diffusers asks
    the Hub.
    """

    model: ModelName
    revision: Revision | None = None
    config: Text | None = None


class Source(Strict):
    """Where pictures or texts came from, and the terms they came under."""

    title: Text
    author: Text | None = None
    url: Text | None = None
    license: Text
    changes: Text | None = None


class Waiver(Strict):
    """An owner's word that a dataset with personal data may be trained on as it is."""

    by: Person
    reason: Annotated[Text, Field(pattern=r"\S", description="why it may be trained on")]


class Dataset(Strict):
    """A folder of the registry, tracked by DVC.

    ``captions`` names the file of an image dataset (``metadata.csv``, ``metadata.jsonl``) or is
    "txt" for sidecar files; by default the first of these that exists. ``vocabulary`` names the
    file in the folder that its captions are checked against; by default ``vocabulary.yaml`` if it
    is there. ``skip`` names files of the folder that are left alone: ``lorareg train
    --skip-broken`` fills it. A dataset that ``contains_personal_data`` is trained on only after
    ``lorareg data redact``, or with a ``waiver`` of one of the owners.
    """

    path: DatasetPath
    captions: Text | None = None
    vocabulary: Text | None = None
    skip: tuple[Text, ...] = ()
    contains_personal_data: bool = False
    waiver: Waiver | None = None
    sources: tuple[Source, ...] = ()


class Lora(Strict):
    """Shape of the adapter: delta = (alpha / rank) B A (arXiv 2106.09685).

    Attributes:
        targets: which modules are adapted; "kohya" takes those of kohya's scripts (pictures only),
            a list holds ends of module names.
        rank_pattern: part of a module's name, with ``*`` for anything, -> its rank; the first that
            fits wins. Its alpha is such that the scale stays the same.
        text_encoder: whether the text encoders of an image base are adapted too.
        use_rslora: scale alpha / sqrt(rank) instead of alpha / rank (arXiv 2312.03732).
        use_dora: learn magnitude and direction of the weight apart (arXiv 2402.09353).
        init: "kaiming", or "pissa": start from the base's own principal components (arXiv
            2404.02948).
    """

    rank: Annotated[int, Field(ge=1, le=1024)] = 16
    alpha: Annotated[float, Field(gt=0, le=4096)] = 16.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: Literal["attention", "attention+ff", "all-linear", "kohya"] | tuple[Text, ...] = (
        "attention"
    )
    rank_pattern: Annotated[dict[Text, Annotated[int, Field(ge=1, le=1024)]], Later()] = {}
    text_encoder: bool = False
    use_rslora: Annotated[bool, Later()] = False
    use_dora: Annotated[bool, Later()] = False
    init: Annotated[Literal["kaiming", "pissa"], Later()] = "kaiming"

    @property
    def scale(self) -> float:
        """Strength of the delta: a learning rate means nothing without it."""
        return self.alpha / (math.sqrt(self.rank) if self.use_rslora else self.rank)


class Sampling(Strict):
    """What to generate while training, always with the same seeds.

    Attributes:
        every_steps: optimizer steps between two sample sheets; 0 only at the end.
        steps: denoising steps; guidance: classifier-free guidance scale (pictures only).
        max_new_tokens: length of a reply (dialogues only).
    """

    prompts: Annotated[tuple[Text, ...], Field(max_length=16)] = ()
    every_steps: Annotated[int, Field(ge=0)] = 0
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 0
    steps: Annotated[int, Field(ge=1, le=1000)] = 25
    guidance: Annotated[float, Field(ge=0, le=50)] = 5.0
    max_new_tokens: Annotated[int, Field(ge=1, le=4096)] = 64


class Weight(Strict):
    """Recommended strength in a composition; linear in the delta."""

    default: Strength = 1.0
    range: tuple[Strength, Strength] | None = None

    @model_validator(mode="after")
    def _default_is_in_range(self) -> Weight:
        if self.range and not self.range[0] <= self.default <= self.range[1]:
            low, high = self.range
            raise ValueError(f"default {self.default:g} is not within range {low:g} to {high:g}")
        return self


class Manifest(Strict):
    """What is common to the adapters of both tasks.

    ``parent`` is the adapter that training starts from: ``kind/name`` or ``kind/name@version``.
    """

    schema_: Annotated[Literal["lorareg/1"], Field(alias="schema")]
    kind: Slug
    name: Slug
    title: Titles = {}
    description: str = ""
    task: Literal["text-to-image", "text-generation"]
    base: Base
    trigger: Text | None = None
    weight: Weight = Weight()
    dataset: Dataset
    lora: Lora = Lora()
    train: Training = Training()
    parent: Text | None = None
    sample: Sampling = Sampling()
    owners: tuple[Person, ...] = ()
    visibility: Literal["private", "team", "public"] = "team"
    license: License | None = None
    scope: Scope = Scope()
    consent: Consent | None = None

    @model_validator(mode="after")
    def _an_owner_waives(self) -> Manifest:
        waiver = self.dataset.waiver
        if waiver and waiver.by not in self.owners:
            raise ValueError(f"dataset.waiver: {waiver.by} is not one of owners")
        return self

    @property
    def id(self) -> AssetId:
        """``kind/name``."""
        return AssetId(self.kind, self.name)

    def config(self) -> dict[str, Any]:
        """The resolved part that shapes the weights, defaults filled in.

        Names, owners and terms are left out, and so is what only changes when files are written.
        """
        return {
            "schema": SCHEMA,
            "task": self.task,
            "captions": self.dataset.captions,
            "skip": sorted(self.dataset.skip),
            "lora": self.lora.model_dump(mode="json"),
            "train": self.train.model_dump(mode="json", exclude=WITHOUT_INFLUENCE),
        }

    def config_digest(self) -> str:
        """Digest of ``config``."""
        return digest.of_json(self.config())


class ImageManifest(Manifest):
    """An adapter of a text-to-image model."""

    task: Literal["text-to-image"]
    train: ImageTraining = ImageTraining()


class TextManifest(Manifest):
    """An adapter of a causal language model."""

    task: Literal["text-generation"]
    train: TextTraining = TextTraining()


def parse(document: dict[str, Any], name: str) -> ImageManifest | TextManifest:
    """Check a manifest; ``name`` is how errors call it.

    Raises:
        InvalidFileError: lists every problem at once.
    """
    task = document.get("task")
    if task == "text-to-image":
        return check(ImageManifest, document, name)
    if task == "text-generation":
        return check(TextManifest, document, name)
    near = difflib.get_close_matches("task", document.keys() - {"task"}, n=1, cutoff=0.6)
    found = f"; did you mean it by {near[0]!r}?" if near and task is None else ""
    raise InvalidFileError(
        f"{name}: task is missing{found}" if task is None else f"{name}: task is {task!r}",
        why=f"a task is one of {', '.join(TASKS)}",
        fix="task: text-to-image for pictures, task: text-generation for dialogues",
    )


def load(path: Path, asset: AssetId) -> ImageManifest | TextManifest:
    """Read ``manifest.yaml`` of an asset and check that it is that asset's."""
    return check_document(yamlfile.load(path), asset)


def check_document(document: dict[str, Any], asset: AssetId) -> ImageManifest | TextManifest:
    """Check the content of an asset's manifest, and that it is that asset's."""
    shown = f"manifests/{asset}/manifest.yaml"
    manifest = parse(document, shown)
    if manifest.id != asset:
        raise InvalidFileError(
            f"{shown} says it is {manifest.id}",
            why="kind and name must be those of the folder",
            fix=f"set kind: {asset.kind} and name: {asset.name}, or move the folder",
        )
    return manifest


def json_schema() -> dict[str, Any]:
    """JSON Schema of both kinds of adapter manifest, for editors."""
    from pydantic import TypeAdapter

    schema = TypeAdapter(ImageManifest | TextManifest).json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def is_hub_id(model: str) -> bool:
    """Whether ``base.model`` has the form of a Hub id, ``org/name``."""
    word = r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?"
    return bool(re.fullmatch(f"{word}/{word}", model)) and not re.search(r"\.\.|--", model)
