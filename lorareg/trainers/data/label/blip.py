"""BLIP: one plain sentence a picture, which may go on from given first words.

Source: arXiv 2201.12086
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lorareg.trainers.data.label import weights
from lorareg.trainers.data.label.captioner import Asking, Model

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Blip:
    """``BlipForConditionalGeneration`` with its processor."""

    model: Any
    processor: Any
    asking: Asking

    def caption(self, images: list[Image.Image]) -> list[str]:
        """Sentences; the first words that were given are not repeated in them."""
        words = [self.asking.prompt] * len(images) if self.asking.prompt else None
        inputs = self.processor(images=images, text=words, return_tensors="pt")
        ids = weights.generate(self.model, inputs, self.asking.max_tokens)
        # generate() drops the end-of-text token of the given words and repeats the others; with no
        # words it starts from a single token.
        given = inputs["input_ids"].shape[1] - 1 if words else 1
        return weights.read(self.processor.tokenizer, ids[:, given:])


def load(model: Model, asking: Asking) -> Blip:
    """Load BLIP."""
    loaded = weights.load_model(model, "BlipForConditionalGeneration")
    return Blip(loaded, weights.load_processor(model), asking)
