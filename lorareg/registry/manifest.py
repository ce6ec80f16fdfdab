"""What people want: ``manifest.yaml`` of an adapter, its bounds, and the part that shapes training.

Every number has bounds, a unit and a default here and nowhere else.
"""

from __future__ import annotations

import difflib
import math
from itertools import permutations
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from lorareg.errors import InvalidFileError, LoraregError
from lorareg.registry import digest, yamlfile
from lorareg.registry.fields import (
    ModelName,
    Person,
    ReleaseRef,
    Revision,
    Slug,
    Strength,
    Text,
    Titles,
)
from lorareg.registry.ids import AssetId
from lorareg.registry.image_training import ImageTraining
from lorareg.registry.origin import Origin
from lorareg.registry.publication import Publish
from lorareg.registry.sampling import Sampling
from lorareg.registry.schema import Later, Strict, check
from lorareg.registry.sources import Dataset
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


class Lora(Strict):
    """Shape of the adapter: delta = (alpha / rank) B A (arXiv 2106.09685).

    Attributes:
        targets: which modules are adapted; "kohya" takes those of kohya's scripts (pictures only),
            a list holds ends of module names.
        rank_pattern: a module's full path, with ``*`` for anything (``*attn2*``) -> its rank; the
            first that fits wins. Its scale is that of all, or with ``use_rslora`` alpha /
            sqrt(its rank).
        text_encoder: whether the text encoders of an image base are adapted too.
        use_rslora: scale alpha / sqrt(rank) instead of alpha / rank (arXiv 2312.03732).
        use_dora: learn magnitude and direction of the weight apart (arXiv 2402.09353); such an
            adapter cannot be added up with others.
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

    @model_validator(mode="after")
    def _a_dora_starts_at_the_base(self) -> Lora:
        if self.use_dora and self.init == "pissa":
            raise ValueError(
                "use_dora and init: pissa exclude each other: PiSSA is published as the difference "
                "to where it started, and a DoRA is no difference; leave one of them out"
            )
        return self

    @property
    def scale(self) -> float:
        """Strength of the delta: a learning rate means nothing without it."""
        return self.alpha / (math.sqrt(self.rank) if self.use_rslora else self.rank)


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

    ``parent`` is the adapter that training starts from: ``kind/name`` or ``kind/name@version``. An
    adapter that was imported has an ``origin`` instead of a dataset.
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
    dataset_: Annotated[Dataset | None, Field(alias="dataset")] = None
    origin: Annotated[Origin | None, Later()] = None
    lora: Lora = Lora()
    train: Training = Training()
    parent: ReleaseRef | None = None
    sample: Sampling = Sampling()
    owners: tuple[Person, ...] = ()
    visibility: Literal["private", "team", "public"] = "team"
    license: License | None = None
    scope: Scope = Scope()
    consent: Consent | None = None
    publish: Annotated[Publish | None, Later()] = None

    @model_validator(mode="after")
    def _trained_or_imported(self) -> Manifest:
        if self.dataset_ is None and self.origin is None:
            raise ValueError("dataset: missing")
        told = [key for key in ("dataset", "train", "parent") if self._tells(key)]
        if self.origin and told:
            raise ValueError(
                f"origin and {', '.join(told)} exclude each other: what was imported is not trained"
            )
        return self

    def _tells(self, key: str) -> bool:
        return key in self.model_fields_set or f"{key}_" in self.model_fields_set

    @model_validator(mode="after")
    def _an_owner_waives(self) -> Manifest:
        waiver = self.dataset_ and self.dataset_.waiver
        if waiver and waiver.by not in self.owners:
            raise ValueError(f"dataset.waiver: {waiver.by} is not one of owners")
        return self

    @model_validator(mode="after")
    def _one_start(self) -> Manifest:
        if self.parent and self.lora.init == "pissa":
            raise ValueError(
                "parent and lora.init: pissa exclude each other: training starts from the one or "
                "the other; leave lora.init out"
            )
        return self

    @property
    def id(self) -> AssetId:
        """``kind/name``."""
        return AssetId(self.kind, self.name)

    @property
    def dataset(self) -> Dataset:
        """What it is trained on.

        Raises:
            LoraregError: it was imported.
        """
        if self.dataset_ is None:
            raise LoraregError(
                f"{self.id} was imported, so there is no dataset here and nothing to train",
                why=f"its manifest has an origin: {self.origin.file if self.origin else 'a file'}",
                fix="train a new adapter that starts from it: lorareg new KIND/NAME --data DIR, "
                f"then lorareg train KIND/NAME --from {self.id}",
            )
        return self.dataset_

    @property
    def left_alone(self) -> tuple[str, ...]:
        """Files of the dataset that are no records: what is skipped, and folders such as masks/."""
        return self.dataset.skip

    @property
    def data_paths(self) -> tuple[str, ...]:
        """Every folder that training reads, the dataset first; none of what was imported."""
        return (self.dataset_.path,) if self.dataset_ else ()

    def config(self) -> dict[str, Any]:
        """The resolved part that shapes the weights, defaults filled in.

        Names, owners and terms are left out, and so is what only changes when files are written.
        """
        lora = self.lora.model_dump(mode="json")
        if "rank_pattern" in lora:  # the first that fits wins, and a digest sorts keys
            lora["rank_pattern"] = [list(item) for item in lora["rank_pattern"].items()]
        return {
            "schema": SCHEMA,
            "task": self.task,
            "captions": self.dataset.captions,
            "skip": sorted(self.dataset.skip),
            "lora": lora,
            "train": self.train.model_dump(mode="json", exclude=WITHOUT_INFLUENCE),
        }

    def config_digest(self) -> str:
        """Digest of ``config``."""
        return digest.of_json(self.config())


class ImageManifest(Manifest):
    """An adapter of a text-to-image model."""

    task: Literal["text-to-image"]
    train: ImageTraining = ImageTraining()

    @model_validator(mode="after")
    def _a_rate_is_for_what_is_trained(self) -> ImageManifest:
        if self.train.text_encoder_learning_rate is not None and not self.lora.text_encoder:
            raise ValueError("train.text_encoder_learning_rate is for lora.text_encoder: true")
        return self

    @model_validator(mode="after")
    def _the_class_has_its_own_folder(self) -> ImageManifest:
        folders = [PurePosixPath(path) for path in self.data_paths]
        if any(one in (other, *other.parents) for one, other in permutations(folders, 2)):
            raise ValueError(
                f"train.prior.path: {folders[1]} and the dataset {folders[0]} are one folder, or "
                "one is within the other"
            )
        return self

    @property
    def left_alone(self) -> tuple[str, ...]:
        """As ``Manifest.left_alone``; masks are no pictures to learn."""
        masks = self.train.masked_loss and self.train.masked_loss.folder
        return (*self.dataset.skip, f"{masks}/") if masks else self.dataset.skip

    @property
    def data_paths(self) -> tuple[str, ...]:
        """The dataset, and the class pictures of prior preservation."""
        prior = self.train.prior
        return (*super().data_paths, prior.path) if prior else super().data_paths


class TextManifest(Manifest):
    """An adapter of a causal language model."""

    task: Literal["text-generation"]
    train: TextTraining = TextTraining()


def parse(document: dict[str, Any], name: str, fix: str = "") -> ImageManifest | TextManifest:
    """Check a manifest.

    Args:
        document: its content.
        name: how errors call it.
        fix: what to do about wrong values; by default, to edit it.

    Raises:
        InvalidFileError: lists every problem at once.
    """
    task = document.get("task")
    if task == "text-to-image":
        return check(ImageManifest, document, name, fix=fix)
    if task == "text-generation":
        return check(TextManifest, document, name, fix=fix)
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


def check_document(
    document: dict[str, Any], asset: AssetId, fix: str = ""
) -> ImageManifest | TextManifest:
    """Check the content of an asset's manifest, and that it is that asset's."""
    shown = f"manifests/{asset}/manifest.yaml"
    manifest = parse(document, shown, fix)
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
