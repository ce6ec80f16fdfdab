"""Florence-2: small, and asked by task tokens instead of words.

Source: arXiv 2311.06242
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lorareg.errors import LoraregError
from lorareg.trainers.data.label import weights
from lorareg.trainers.data.label.captioner import Asking, Model

if TYPE_CHECKING:
    from PIL import Image

# The default fits into what CLIP reads of a caption; the longest one, a paragraph, mostly does not.
TASKS = ("<DETAILED_CAPTION>", "<CAPTION>", "<MORE_DETAILED_CAPTION>")


@dataclass(frozen=True)
class Florence:
    """``Florence2ForConditionalGeneration`` with its processor."""

    model: Any
    processor: Any
    task: str
    max_tokens: int

    def caption(self, images: list[Image.Image]) -> list[str]:
        """A sentence, a few, or a paragraph, by the task."""
        tasks = [self.task] * len(images)
        inputs = self.processor(images=images, text=tasks, return_tensors="pt")
        ids = weights.generate(self.model, inputs, self.max_tokens)
        return weights.read(self.processor.tokenizer, ids)


def load(model: Model, asking: Asking) -> Florence:
    """Load Florence-2.

    Raises:
        LoraregError: the prompt is none of its captioning tasks.
    """
    task = asking.prompt or TASKS[0]
    if task not in TASKS:
        raise LoraregError(
            f"Florence-2 cannot be asked {task!r}",
            why="it takes a task token, not a question",
            fix=f"--prompt '{TASKS[2]}', or one of {', '.join(TASKS[:2])}",
        )
    loaded = weights.load_model(model, "Florence2ForConditionalGeneration")
    return Florence(loaded, weights.load_processor(model), task, asking.max_tokens)
