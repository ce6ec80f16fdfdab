"""BLIP-2: a language model (OPT, Flan-T5) that is shown a picture as a few learned tokens.

Source: arXiv 2301.12597
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lorareg.errors import InvalidFileError
from lorareg.trainers.data.label import weights
from lorareg.trainers.data.label.captioner import Asking, Model

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Blip2:
    """``Blip2ForConditionalGeneration`` with its processor."""

    model: Any
    processor: Any
    asking: Asking

    def caption(self, images: list[Image.Image]) -> list[str]:
        """What the language model says, without the words it was given."""
        words = [self.asking.prompt or ""] * len(images)
        inputs = self.processor(images=images, text=words, return_tensors="pt")
        ids = weights.generate(self.model, inputs, self.asking.max_tokens)
        given = inputs["input_ids"]
        # A decoder (OPT) repeats what it was given; the decoder of Flan-T5 starts afresh.
        if ids.shape[1] >= given.shape[1] and (ids[:, : given.shape[1]] == given).all():
            ids = ids[:, given.shape[1] :]
        return weights.read(self.processor.tokenizer, ids)


def load(model: Model, asking: Asking) -> Blip2:
    """Load BLIP-2.

    Raises:
        InvalidFileError: also where its tokenizer has no token that stands for the picture.
    """
    loaded = weights.load_model(model, "Blip2ForConditionalGeneration")
    processor = weights.load_processor(model)
    processor.num_query_tokens = loaded.config.num_query_tokens  # older folders do not say it
    token = processor.tokenizer.convert_tokens_to_ids(str(processor.image_token))
    if token != loaded.config.image_token_index:
        raise InvalidFileError(
            f"model {model.name} does not know where the picture goes",
            why=f"its tokenizer has <image> as {token}, its config says "
            f"{loaded.config.image_token_index}",
            fix="take a revision of it made for transformers 4.46 or later",
        )
    return Blip2(loaded, processor, asking)
