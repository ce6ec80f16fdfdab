"""Compositions: the expression people type, and the manifest that keeps it.

EXPR := PART ('+' PART)*; PART := REF[':' weight]. A weight is linear in the delta and may be
negative (``style/ink:-0.3``); without one the adapter's recommended weight counts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from lorareg.errors import InvalidFileError, LoraregError
from lorareg.registry import yamlfile
from lorareg.registry.fields import Person, Slug, Text, Titles
from lorareg.registry.files import write_atomically
from lorareg.registry.ids import RECIPE, AssetId, Ref
from lorareg.registry.manifest import SCHEMA
from lorareg.registry.schema import Strict, check

KIND = RECIPE
MAX_PARTS = 64
MAX_WEIGHT = 100
WEIGHT = re.compile(r"-?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE]-?[0-9]{1,3})?")


@dataclass(frozen=True)
class Part:
    """One adapter (or recipe) of a composition and how strong it is."""

    ref: Ref
    weight: float | None = None

    def __str__(self) -> str:
        return str(self.ref) if self.weight is None else f"{self.ref}:{self.weight!r}"


@dataclass(frozen=True)
class Expression:
    """A composition as people type it.

    >>> str(Expression.parse("style/ink:0.7+character/zhangsan"))
    'style/ink:0.7+character/zhangsan'
    """

    parts: tuple[Part, ...]

    @classmethod
    def parse(cls, text: str) -> Expression:
        """Read an expression; the law is ``parse(str(e)) == e``.

        Raises:
            LoraregError: an empty part, a weight that is no number, or too many parts.
        """
        parts = tuple(_part(text, piece) for piece in text.split("+"))
        if len(parts) > MAX_PARTS:
            raise LoraregError(f"a composition has at most {MAX_PARTS} parts", why=f"{len(parts)}")
        return cls(parts)

    def __str__(self) -> str:
        return "+".join(str(part) for part in self.parts)


def _part(text: str, piece: str) -> Part:
    ref, colon, weight = (half.strip() for half in piece.partition(":"))
    if not ref:
        raise LoraregError(
            f"{text!r} has an empty part", fix="write it as style/ink:0.7+character/zhangsan:0.9"
        )
    if not colon:
        return Part(Ref.parse(ref))
    if not WEIGHT.fullmatch(weight) or abs(float(weight)) > MAX_WEIGHT:
        raise LoraregError(
            f"{piece.strip()!r}: {weight!r} is no weight",
            why=f"a weight is a number between -{MAX_WEIGHT} and {MAX_WEIGHT}",
            fix=f"write it as {ref}:0.7",
        )
    return Part(Ref.parse(ref), float(weight))


def _reference(text: str) -> str:
    try:
        return str(Ref.parse(text))
    except LoraregError as error:
        raise ValueError(error.what) from error


class RecipePart(Strict):
    """One member as the manifest keeps it."""

    ref: Annotated[Text, AfterValidator(_reference)]
    weight: Annotated[float, Field(ge=-MAX_WEIGHT, le=MAX_WEIGHT)]


class RecipeManifest(Strict):
    """``manifests/recipe/<name>/manifest.yaml``: a composition with a name."""

    schema_: Annotated[Literal["lorareg/1"], Field(alias="schema")]
    kind: Literal["recipe"]
    name: Slug
    title: Titles = {}
    parts: Annotated[tuple[RecipePart, ...], Field(min_length=1, max_length=MAX_PARTS)]
    method: Literal["sum"] = "sum"
    owners: tuple[Person, ...] = ()
    visibility: Literal["private", "team", "public"] = "team"

    @property
    def id(self) -> AssetId:
        """``recipe/name``."""
        return AssetId(self.kind, self.name)

    @property
    def expression(self) -> Expression:
        """The composition."""
        return Expression(tuple(Part(Ref.parse(part.ref), part.weight) for part in self.parts))


def load(path: Path, asset: AssetId) -> RecipeManifest:
    """Read the manifest of a recipe."""
    shown = f"manifests/{asset}/{path.name}"
    document: dict[str, Any] = yamlfile.load(path)
    recipe = check(RecipeManifest, document, shown)
    if recipe.id != asset:
        raise InvalidFileError(
            f"{shown} says it is {recipe.id}",
            why="kind and name must be those of the folder",
            fix=f"set name: {asset.name}, or move the folder",
        )
    return recipe


def save(path: Path, name: str, parts: Sequence[tuple[str, float]]) -> None:
    """Write the manifest of a recipe, or put new parts into one that exists."""
    written = [{"ref": ref, "weight": weight} for ref, weight in parts]
    shown = f"manifests/{KIND}/{name}/{path.name}"
    if path.is_file():
        yamlfile.edit(path, {"parts": written}, lambda new: check(RecipeManifest, new, shown))
        return
    plain = yamlfile.as_scalar
    lines = [f"schema: {SCHEMA}", f"kind: {KIND}", f"name: {plain(name)}", "method: sum", "parts:"]
    lines += [f"  - {{ref: {plain(ref)}, weight: {weight!r}}}" for ref, weight in parts]
    text = "\n".join(lines) + "\n"
    check(RecipeManifest, yamlfile.parse(text, path), shown)
    write_atomically(path, text)
