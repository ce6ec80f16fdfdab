"""``provenance.json``: which picture each copy was made of, and how; which ones were left out.

It stands beside the copies, holds no path outside the dataset, and is what a later run of the same
command goes by. The dataset's digest does not count it.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from lorareg.errors import InvalidFileError
from lorareg.registry import jsontext
from lorareg.registry.files import read_utf8, write_atomically
from lorareg.registry.schema import Strict, check
from lorareg.trainers.data.copies.buckets import STEP

FILE = "provenance.json"
SCHEMA: Literal["lorareg/provenance/1"] = "lorareg/provenance/1"
MAX_BYTES = 256_000_000


def _plain_name(name: str) -> str:
    """A copy's name: a file right in its folder. A hostile provenance must not name others."""
    bad = any(unicodedata.category(letter) == "Cc" for letter in name)
    if not name or bad or name.startswith(".") or "/" in name or "\\" in name:
        raise ValueError("a copy is a file of the folder itself")
    return name


CopyName = Annotated[str, AfterValidator(_plain_name)]
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$", description="sha256:...")]
Pixels = Annotated[float, Field(ge=0)]


class Settings(Strict):
    """How copies are made.

    Attributes:
        shape: all square, or aspect buckets.
        size: pixels; a square's side, or the root of a bucket's area.
        crop: what the cut is centred on.
        upscale: whether pictures too small for their bucket are enlarged or left out.
        format: of the copies.
    """

    shape: Literal["square", "buckets"] = "square"
    size: Annotated[int, Field(ge=8, le=4096, multiple_of=8)] = 512
    crop: Literal["centre", "face"] = "centre"
    upscale: bool = False
    format: Literal["png", "jpeg", "webp"] = "png"

    @field_validator("size")
    @classmethod
    def _buckets_are_in_steps(cls, size: int, known: ValidationInfo) -> int:
        if known.data.get("shape") == "buckets" and size % STEP:
            raise ValueError(f"with buckets it is a multiple of {STEP}")
        return size


class Copy(Strict):
    """One copy.

    Attributes:
        source: the picture's name in its dataset.
        size: width and height of the copy.
        box: left, top, right, bottom of the part that was kept, in pixels of the upright picture.
        scale: pixels of the copy a pixel of the picture; above 1 it was enlarged.
        centred_on: "face" only where one was found.
        faces: how many were found; None where nobody looked.
        changes: what else was done to the pixels.
        stripped: what the file held beside its pixels.
        caption: digest of the caption as it was carried over.
    """

    source: str
    source_sha256: Digest
    sha256: Digest
    size: tuple[int, int]
    box: tuple[Pixels, Pixels, Pixels, Pixels]
    scale: Annotated[float, Field(gt=0)]
    centred_on: Literal["centre", "face"]
    faces: Annotated[int, Field(ge=0)] | None = None
    changes: tuple[str, ...] = ()
    stripped: tuple[str, ...] = ()
    caption: Digest | None = None

    @property
    def enlarged(self) -> bool:
        """Whether it shows more pixels than the picture has."""
        return self.scale > 1


class LeftOut(Strict):
    """A picture without a copy, and why.

    Attributes:
        source_sha256: None where the picture was not read.
        same_as: the picture that a duplicate equals.
    """

    source: str
    source_sha256: Digest | None = None
    reason: Literal["broken", "too small", "duplicate", "unread"]
    why: str
    same_as: str | None = None


class Provenance(Strict):
    """All of it.

    Attributes:
        made_with: library -> version; equal pictures, settings and versions give equal bytes.
        copies: by name.
        carried: other files taken over from the dataset, with their digests.
    """

    schema_: Annotated[Literal["lorareg/provenance/1"], Field(alias="schema")] = SCHEMA
    settings: Settings
    made_with: dict[str, str]
    copies: dict[CopyName, Copy] = {}
    left_out: tuple[LeftOut, ...] = ()
    carried: dict[CopyName, Digest] = {}

    def without(self, reason: str) -> list[LeftOut]:
        """Pictures left out for one reason."""
        return [entry for entry in self.left_out if entry.reason == reason]

    @property
    def duplicates_removed(self) -> int:
        """For statistics of the copies."""
        return len(self.without("duplicate"))

    def document(self) -> dict[str, Any]:
        """As the file and ``--json`` show it."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def save(self, folder: Path) -> None:
        """Write it, atomically; sorted, so that equal runs give equal bytes."""
        text = json.dumps(self.document(), ensure_ascii=False, indent=1, sort_keys=True)
        write_atomically(folder / FILE, text + "\n")


def load(folder: Path) -> Provenance | None:
    """Read the provenance of a dataset; None if it is no set of copies.

    Raises:
        InvalidFileError: the file is broken; it names every problem.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    name = f"{folder.name}/{FILE}"
    fix = f"restore {name}, or prepare into another --out"
    try:
        document = jsontext.parse(read_utf8(path, max_bytes=MAX_BYTES))
    except ValueError as error:
        raise InvalidFileError(f"{name} is not JSON", why=str(error), fix=fix) from error
    return check(Provenance, document, name, fix=fix)


def settings(**chosen: object) -> Settings:
    """Options of the command as settings; those that are None take their default.

    Raises:
        InvalidFileError: a size that cannot be.
    """
    given: Mapping[str, object] = {k: v for k, v in chosen.items() if v is not None}
    fix = f"choose a multiple of 8, with --shape buckets of {STEP}: --size 512, 768 or 1024"
    return check(Settings, given, "the command line", fix=fix)
