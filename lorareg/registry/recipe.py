"""The manifest of a composition with a name: ``manifests/recipe/<name>/manifest.yaml``."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from lorareg.errors import InvalidFileError, LoraregError
from lorareg.registry import yamlfile
from lorareg.registry.expression import MAX_PARTS, Expression, Part, Window, check_windows
from lorareg.registry.fields import Person, Slug, Text, Titles
from lorareg.registry.files import write_atomically
from lorareg.registry.ids import RECIPE, AssetId, Ref
from lorareg.registry.manifest import SCHEMA
from lorareg.registry.publication import Publish
from lorareg.registry.schema import Later, Strict, check
from lorareg.registry.strength import MAX_WEIGHT, check_key

KIND = RECIPE
COMPOSED = ("parts", "method", "compression", "schedule", "guards", "negative_prompt")
"""Keys that composing writes; the others are people's."""
Bounded = Annotated[float, Field(ge=-MAX_WEIGHT, le=MAX_WEIGHT)]


def _key(text: str) -> str:
    try:
        return check_key(text)
    except LoraregError as error:
        raise ValueError(error.what) from error


def _reference(text: str) -> str:
    try:
        return str(Ref.parse(text))
    except LoraregError as error:
        raise ValueError(error.what) from error


class RecipePart(Strict):
    """One member as the manifest keeps it."""

    ref: Annotated[Text, AfterValidator(_reference)]
    weight: Bounded
    blocks: Annotated[dict[Annotated[Text, AfterValidator(_key)], Bounded], Later()] = {}
    windows: Annotated[tuple[Window, ...], AfterValidator(check_windows), Later()] = ()

    @property
    def part(self) -> Part:
        """The member as an expression has it."""
        return Part(Ref.parse(self.ref), self.weight, self.blocks, self.windows)


class Method(Strict):
    """How the members become one delta.

    Attributes:
        name: "sum" is exact; the others change the members so that they disturb each other less
            (``weights.merging``).
        protect: ref of the member that "np" leaves as it is; the others give way to it.
        mu: how much they give way, 0 not at all.
        keep: share of the strongest entries that "ties" keeps, of the components that
            "dare" keeps.
    """

    name: Literal["sum", "ties", "tsv", "np", "dare"] = "sum"
    protect: Text | None = None
    mu: Annotated[float, Field(ge=0, le=1000)] = 0.5
    keep: Annotated[float, Field(gt=0, le=1)] = 0.3
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 0


def _spelled_out(method: Any) -> Any:
    return {"name": method} if isinstance(method, str) else method


class Compression(Strict):
    """How much of the sum a merged file keeps; one of rank, energy and max_size.

    Attributes:
        energy: share of the squared norm, 0 to 1.
        max_size: bytes of the file.
        truncate: "optimal" has the least error of the sum; "fair" keeps a like share of
            each member.
    """

    rank: Annotated[int | None, Field(ge=1, le=4096)] = None
    energy: Annotated[float | None, Field(gt=0, le=1)] = None
    max_size: Annotated[int | None, Field(ge=1)] = None
    truncate: Literal["optimal", "fair"] = "optimal"


def size_of(text: str) -> int:
    """Bytes of a size as people write it.

    Raises:
        LoraregError: it is none.

    >>> size_of("30M"), size_of("512K"), size_of("1.5G")
    (30000000, 512000, 1500000000)
    """
    found = re.fullmatch(r"(\d{1,9}(?:\.\d+)?) ?([KMG]?)B?", text, re.IGNORECASE)
    if not found:
        raise LoraregError(f"{text!r} is no size", fix="write it as 30M, 512K or 1.5G")
    return int(float(found[1]) * 1000 ** " KMG".index(found[2].upper() or " "))


class Schedule(Strict):
    """How the members share the denoising.

    Attributes:
        mode: "sum" adds them up at every step; "switch" has one on at a time, each for ``every``
            steps in the order of the parts (LoRA-Switch, arXiv 2402.16843); "composite" averages
            their guidance (LoRA-Composite, same paper).
    """

    mode: Literal["sum", "switch", "composite"] = "sum"
    every: Annotated[int, Field(ge=1, le=1000)] = 5


class Guards(Strict):
    """Figures that a merged file must reach, or it is not kept."""

    min_retention: Annotated[float | None, Field(ge=0, le=1)] = None
    max_amplification: Annotated[float | None, Field(gt=0)] = None


class RecipeManifest(Strict):
    """``manifests/recipe/<name>/manifest.yaml``: a composition with a name."""

    schema_: Annotated[Literal["lorareg/1"], Field(alias="schema")]
    kind: Literal["recipe"]
    name: Slug
    title: Titles = {}
    parts: Annotated[tuple[RecipePart, ...], Field(min_length=1, max_length=MAX_PARTS)]
    method: Annotated[Method, BeforeValidator(_spelled_out)] = Method()
    compression: Compression | None = None
    schedule: Schedule = Schedule()
    guards: Guards = Guards()
    negative_prompt: str = ""
    owners: tuple[Person, ...] = ()
    visibility: Literal["private", "team", "public"] = "team"
    publish: Annotated[Publish | None, Later()] = None

    @property
    def id(self) -> AssetId:
        """``recipe/name``."""
        return AssetId(self.kind, self.name)

    @classmethod
    def of(cls, name: str, parts: tuple[RecipePart, ...], **how: Any) -> RecipeManifest:
        """A new recipe; ``how`` are the keys of ``COMPOSED`` behind the parts, as in YAML.

        Raises:
            InvalidFileError: no such name, or values out of bounds.
        """
        told = [part.model_dump(mode="json") for part in parts]
        document = {"schema": SCHEMA, "kind": KIND, "name": name, "parts": told, **how}
        return check(cls, document, f"recipe {name!r}", fix="correct what was typed")

    @property
    def is_static(self) -> bool:
        """Whether one merged file can be it: nothing changes from step to step."""
        return self.schedule.mode == "sum" and not any(part.windows for part in self.parts)

    @property
    def expression(self) -> Expression:
        """The composition."""
        return Expression(tuple(part.part for part in self.parts))


def load(path: Path, asset: AssetId) -> RecipeManifest:
    """Read the manifest of a recipe."""
    return check_document(yamlfile.load(path), asset)


def check_document(document: dict[str, Any], asset: AssetId) -> RecipeManifest:
    """Check the content of a recipe's manifest, and that it is that recipe's."""
    shown = f"manifests/{asset}/manifest.yaml"
    recipe = check(RecipeManifest, document, shown)
    if recipe.id != asset:
        raise InvalidFileError(
            f"{shown} says it is {recipe.id}",
            why="kind and name must be those of the folder",
            fix=f"set name: {asset.name}, or move the folder",
        )
    return recipe


def save(path: Path, wanted: RecipeManifest) -> None:
    """Write the manifest of a recipe; of one that exists, what differs is edited in place."""
    shown = f"manifests/{KIND}/{wanted.name}/{path.name}"
    if path.is_file():
        before, after = (each.model_dump(mode="json") for each in (_read(path, shown), wanted))
        changes = {key: after[key] for key in COMPOSED if after[key] != before[key]}
        yamlfile.edit(path, changes, lambda new: check(RecipeManifest, new, shown))
        return
    text = "\n".join(_lines(wanted)) + "\n"
    check(RecipeManifest, yamlfile.parse(text, path), shown)
    write_atomically(path, text)


def _read(path: Path, shown: str) -> RecipeManifest:
    return check(RecipeManifest, yamlfile.load(path), shown)


def _lines(wanted: RecipeManifest) -> list[str]:
    plain = yamlfile.as_scalar
    lines = [f"schema: {SCHEMA}", f"kind: {KIND}", f"name: {plain(wanted.name)}"]
    lines += [f"method: {wanted.method.name}"] if wanted.method == Method() else []
    lines += ["parts:", *(f"  - {_flow(part)}" for part in wanted.parts)]
    document = wanted.model_dump(mode="json", exclude_defaults=True)
    for key in (*COMPOSED[1:], "visibility"):
        if key in document:
            lines.append(f"{key}: {json.dumps(document[key], ensure_ascii=False)}")
    return lines


def _flow(part: RecipePart) -> str:
    """A member on one line, as people write it."""
    blocks = ", ".join(f"{key}: {weight!r}" for key, weight in part.blocks.items())
    windows = ", ".join(
        f"[{start!r}, {stop!r}, {factor!r}]" for start, stop, factor in part.windows
    )
    return (
        f"{{ref: {yamlfile.as_scalar(part.ref)}, weight: {part.weight!r}"
        + (f", blocks: {{{blocks}}}" if blocks else "")
        + (f", windows: [{windows}]" if windows else "")
        + "}"
    )
