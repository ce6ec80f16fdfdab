"""Chat models that read pictures (Qwen-VL and its class), asked one question about each.

Whatever ``AutoModelForImageTextToText`` loads and has a chat template is asked in the same way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lorareg.errors import InvalidFileError
from lorareg.trainers.data.label import weights
from lorareg.trainers.data.label.captioner import Asking, Model

if TYPE_CHECKING:
    from PIL import Image

QUESTION = (
    "Describe this picture in one or two plain sentences, as a caption to learn from: the subject, "
    "its pose and clothes, the surroundings, the light, the style. Answer with the caption only."
)
# Qwen-VL reads a picture as it is: at 12 megapixels as 16,000 tokens. A caption does not get better
# above one megapixel (1,300 tokens), only slower.
MAX_PIXELS = 1 << 20
MAX_RATIO = 100  # Qwen-VL refuses pictures more than 200 times as long as wide
THOUGHT, THOUGHT_ENDS = "<think>", "</think>"


@dataclass(frozen=True)
class Chat:
    """A chat model with its processor."""

    model: Any
    processor: Any
    asking: Asking

    def caption(self, images: list[Image.Image]) -> list[str]:
        """Answers; what a model thinks aloud before them is dropped, also if it never ends."""
        question = [{"type": "image"}, {"type": "text", "text": self.asking.prompt or QUESTION}]
        text = self.processor.apply_chat_template(
            [{"role": "user", "content": question}],
            add_generation_prompt=True,
            tokenize=False,
            enable_thinking=False,
        )
        inputs = self.processor(
            text=[text] * len(images),
            images=[[_of_a_size(image)] for image in images],
            padding=True,
            return_tensors="pt",
        )
        ids = weights.generate(self.model, inputs, self.asking.max_tokens)
        answers = weights.read(self.processor.tokenizer, ids[:, inputs["input_ids"].shape[1] :])
        spoken = [answer.rpartition(THOUGHT_ENDS)[2] for answer in answers]
        return [answer.partition(THOUGHT)[0].strip() for answer in spoken]


def load(model: Model, asking: Asking) -> Chat:
    """Load a chat model that reads pictures.

    Raises:
        InvalidFileError: also where it is none.
    """
    processor = weights.load_processor(model)
    tokenizer = processor.tokenizer
    processor.chat_template = processor.chat_template or tokenizer.chat_template
    if processor.chat_template is None:
        raise InvalidFileError(
            f"model {model.name} ({model.family}) cannot be asked about a picture",
            why="it has no chat template",
            fix="take BLIP, BLIP-2, Florence-2, a Qwen-VL class chat model, CLIP with a "
            "vocabulary, or a WD14 .onnx tagger",
        )
    tokenizer.padding_side = "left"  # an answer goes on where the question ends
    return Chat(weights.load_model(model, "AutoModelForImageTextToText"), processor, asking)


def _of_a_size(image: Image.Image) -> Image.Image:
    """At most ``MAX_PIXELS``, and no thinner than the model bears."""
    scale = min(1.0, math.sqrt(MAX_PIXELS / (image.width * image.height)))
    shortest = math.ceil(max(image.size) * scale / MAX_RATIO)
    width, height = (max(shortest, round(side * scale)) for side in image.size)
    return image if (width, height) == image.size else image.resize((width, height))
