"""What every labelling model has in common: it says something about each picture it is shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lorareg.trainers.data.vocabulary.schema import Group

if TYPE_CHECKING:
    from PIL import Image

MAX_TOKENS = 75  # what CLIP's text encoder reads of a caption; a longer one is cut in training


@dataclass(frozen=True)
class Model:
    """A labelling model whose files are on this disk.

    Attributes:
        name: as the marks record it: "org/name@commit", or "folder@sha256:" and 12 digits.
        path: folder, or a tagger's ``.onnx`` file.
        family: ``model_type`` of its config, or "onnx".
        source: what another machine finds the same model by: "org/name@commit", or the path.
    """

    name: str
    path: Path
    family: str
    source: str


@dataclass(frozen=True)
class Asking:
    """How the model is asked; what a family does not know it ignores.

    Attributes:
        prompt: words of the model's own kind: a question, a task token, the first words of a
            caption, a sentence with ``{}`` for a term. None takes the family's own.
        max_tokens: the longest text a model may write.
        threshold: confidence from 0 to 1 that a tag or a term needs. None takes the family's own.
        groups: of the vocabulary, whose terms CLIP chooses from.
    """

    prompt: str | None = None
    max_tokens: int = MAX_TOKENS
    threshold: float | None = None
    groups: Mapping[str, Group] = field(default_factory=dict)


class Captioner(Protocol):
    """A loaded model."""

    def caption(self, images: list[Image.Image]) -> list[str]:
        """One text for each upright RGB picture; "" where the model has nothing to say."""
