"""A WD14-class tagger: an ONNX model that gives every one of its tags a confidence.

Its conventions are SmilingWolf's: blue, green, red from 0 to 255 as float32, (B, H, W, 3), the
picture padded to a square with white; ``selected_tags.csv`` names the outputs in their order. Kinds
of tags: 0 general, 4 character, 9 rating, which is no description and is left out.

Source: the WaifuDiffusion Tagger's demonstration, https://huggingface.co/spaces/SmilingWolf/wd-tagger
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lorareg.errors import InvalidFileError, LoraregError
from lorareg.registry.files import read_utf8
from lorareg.trainers.data.label.captioner import Asking, Model

MODEL = "model.onnx"
TAGS = "selected_tags.csv"
GENERAL, CHARACTER, RATING = "0", "4", "9"
THRESHOLD = 0.35
CHARACTER_THRESHOLD = 0.85  # a wrong name is worse than none
MAX_TAGS_FILE = 16_000_000  # bytes; the largest known has 0.3 MB
# Faces made of letters and signs (>_<, o_o) keep their underscore: one, between parts without two
# letters or digits in a row.
FACE = re.compile(r"(?:(?![^\W_]{2})[^_])+_(?:(?![^\W_]{2})[^_])+")


@dataclass(frozen=True)
class Tag:
    """One output of the model: words and kind."""

    words: str
    kind: str


@dataclass(frozen=True)
class Tagger:
    """An ONNX session with the names of its outputs.

    Attributes:
        side: pixels of the square it reads.
        batch: pictures it takes at a time, or None for any number.
    """

    session: Any
    tags: tuple[Tag, ...]
    side: int
    batch: int | None
    threshold: float

    def caption(self, images: list[Image.Image]) -> list[str]:
        """Tags, comma-joined: characters first, then by falling confidence."""
        size = self.batch or len(images)
        pixels = np.stack([as_read(image, self.side) for image in images])
        name = self.session.get_inputs()[0].name
        found: list[str] = []
        for start in range(0, len(images), size):
            part = pixels[start : start + size]
            missing = size - len(part)
            filled = np.concatenate([part, np.repeat(part[-1:], missing, 0)]) if missing else part
            (confidences,) = self.session.run(None, {name: filled})
            found += [self._chosen(row) for row in confidences[: len(part)].tolist()]
        return found

    def _chosen(self, confidences: Sequence[float]) -> str:
        needed = {GENERAL: self.threshold, CHARACTER: max(self.threshold, CHARACTER_THRESHOLD)}
        sure = [
            (tag.kind != CHARACTER, -confidence, tag.words)
            for tag, confidence in zip(self.tags, confidences, strict=True)
            if confidence >= needed.get(tag.kind, 2)
        ]
        return ", ".join(words for _, _, words in sorted(sure))


def as_read(image: Image.Image, side: int) -> np.ndarray[Any, Any]:
    """A picture as the model reads it: float32 (side, side, 3), blue first, 0 to 255."""
    longest = max(image.size)
    square = Image.new("RGB", (longest, longest), "white")
    square.paste(image, ((longest - image.width) // 2, (longest - image.height) // 2))
    scaled = square.resize((side, side), Image.Resampling.BICUBIC)
    return np.ascontiguousarray(np.asarray(scaled, np.float32)[:, :, ::-1])


def words_of(tag: str) -> str:
    """A tag as people write it.

    >>> words_of("long_hair"), words_of(">_<"), words_of("hatsune_miku_(vocaloid)")
    ('long hair', '>_<', 'hatsune miku (vocaloid)')
    """
    return tag if FACE.fullmatch(tag) else tag.replace("_", " ")


def load(model: Model, asking: Asking) -> Tagger:
    """Open the model and read its tags.

    Raises:
        InvalidFileError: the model or the tags are broken, or do not belong together.
        LoraregError: onnxruntime is not installed.
    """
    tags = read_tags(model.path.with_name(TAGS))
    session = _open(model)
    inputs, outputs = session.get_inputs(), session.get_outputs()
    shape, width = inputs[0].shape, outputs[0].shape[-1]
    match shape:
        case [batch, int(side), int(other), 3] if side == other and len(inputs) == 1:
            threshold = THRESHOLD if asking.threshold is None else asking.threshold
        case _:
            raise _no_tagger(model, f"it reads {shape}, a tagger reads [batch, side, side, 3]")
    if len(outputs) != 1 or (isinstance(width, int) and width != len(tags)):
        raise _no_tagger(model, f"it has {width} outputs, {TAGS} names {len(tags)} tags")
    return Tagger(session, tags, side, batch if isinstance(batch, int) else None, threshold)


def read_tags(path: Path) -> tuple[Tag, ...]:
    """Names and kinds of the outputs, in their order.

    Raises:
        NotFoundError: there is no such file beside the model.
        InvalidFileError: it is not a table with name and category.
    """
    table = csv.DictReader(io.StringIO(read_utf8(path, max_bytes=MAX_TAGS_FILE), newline=""))
    if not {"name", "category"} <= set(table.fieldnames or ()):
        raise InvalidFileError(
            f"{path.name} is not a tagger's table",
            why=f"it has no columns name and category, but {', '.join(table.fieldnames or ())}",
            fix=f"download {TAGS} that belongs to the model again",
        )
    return tuple(Tag(words_of(row["name"] or ""), row["category"] or "") for row in table)


def _open(model: Model) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise LoraregError(
            "a WD14 tagger needs onnxruntime, which is not installed",
            why=str(error),
            fix="pip install 'lorareg[caption]'",
        ) from error
    known = set(onnxruntime.get_available_providers())
    wanted = [p for p in ("CUDAExecutionProvider", "CPUExecutionProvider") if p in known]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    try:
        return onnxruntime.InferenceSession(str(model.path), options, providers=wanted)
    except _complaints() as error:
        raise _no_tagger(model, str(error).strip().splitlines()[0][:300]) from error


def _complaints() -> tuple[type[Exception], ...]:
    """What onnxruntime raises for a bad file: a dozen classes without a common one."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = [kind for kind in vars(state).values() if isinstance(kind, type)]
    return (*(kind for kind in own if issubclass(kind, Exception)), RuntimeError, ValueError)


def _no_tagger(model: Model, why: str) -> InvalidFileError:
    return InvalidFileError(
        f"{model.name} cannot be used as a tagger",
        why=why,
        fix=f"take {MODEL} and {TAGS} of one WD14 tagger (SmilingWolf/wd-vit-tagger-v3), both into "
        "one folder, and name the folder",
    )
