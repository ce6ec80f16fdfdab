"""CLIP: chooses, for every group of a vocabulary, the terms that fit a picture.

The terms of a group compete with each other and with a sentence about nothing ("a photo"): their
shares add up to 1 (softmax of CLIP's scaled cosines). A term is chosen if it has at least the
threshold and more than the sentence about nothing; of an exclusive group only the best one is.
Of a group that every caption needs, the best ones are chosen whatever their share.

Source: arXiv 2103.00020, section 3.1 (zero-shot classification)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lorareg.errors import LoraregError
from lorareg.trainers.data.label import weights
from lorareg.trainers.data.label.captioner import Asking, Model
from lorareg.trainers.data.vocabulary.schema import Group

if TYPE_CHECKING:
    import torch
    from PIL import Image

THRESHOLD = 0.25  # so a picture gets four terms of a group at most, and mostly one or two
ENGLISH = "a photo of {}"
CHINESE = "一张{}的照片"


@dataclass(frozen=True)
class Choice:
    """A group to choose from.

    Attributes:
        sentences: unit vectors (n + 1, D) of its terms' sentences; the last is about nothing.
    """

    group: Group
    sentences: torch.Tensor


@dataclass(frozen=True)
class Chooser:
    """A CLIP model that has read the vocabulary."""

    model: Any
    images: Any
    choices: tuple[Choice, ...]
    threshold: float

    def caption(self, images: list[Image.Image]) -> list[str]:
        """Chosen terms, comma-joined, in the order of the vocabulary's groups."""
        groups = [choice.group for choice in self.choices]
        return [
            ", ".join(
                term
                for group, of_terms in zip(groups, of_groups, strict=True)
                for term in choose(group, of_terms, self.threshold)
            )
            for of_groups in self.shares(images)
        ]

    def shares(self, images: list[Image.Image]) -> list[list[list[float]]]:
        """For each picture and group the shares of its terms and, last, of nothing."""
        import torch

        pixels = self.images(images=images, return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            seen = self.model.get_image_features(
                pixel_values=pixels.to(self.model.device, self.model.dtype)
            )
            pictures = torch.nn.functional.normalize(seen.pooler_output.float(), dim=-1)
            scale = self.model.logit_scale.float().exp()
            found = [(scale * pictures @ c.sentences.T).softmax(-1).tolist() for c in self.choices]
        return [[rows[number] for rows in found] for number in range(len(images))]


def choose(group: Group, shares: Sequence[float], threshold: float) -> list[str]:
    """Terms of one group for one picture, likeliest first.

    Args:
        group: its terms and rules.
        shares: of each term, and of the sentence about nothing; they add up to 1.
        threshold: that a term needs.
    """
    *of_terms, nothing = shares
    ranked = sorted(zip(of_terms, group.terms, strict=True), key=lambda pair: -pair[0])
    fitting = sum(share >= threshold and share > nothing for share in of_terms)
    most = 1 if group.exclusive else len(ranked)
    return [term for _, term in ranked[: max(group.at_least, min(fitting, most))]]


def load(model: Model, asking: Asking) -> Chooser:
    """Load CLIP and let it read the vocabulary.

    Raises:
        InvalidFileError: its files are broken, or of another kind.
        LoraregError: the sentence to put terms in has no place for them.
    """
    sentence = asking.prompt or (CHINESE if model.family == "chinese_clip" else ENGLISH)
    if sentence.count("{}") != 1:
        raise LoraregError(
            f"CLIP cannot be asked {sentence!r}",
            why="it compares pictures with a sentence about each term",
            fix=f"--prompt '{ENGLISH}'",
        )
    kind = "ChineseCLIPModel" if model.family == "chinese_clip" else "CLIPModel"
    loaded = weights.load_model(model, kind)
    images, tokenizer = weights.load_parts(model)
    nothing = about_nothing(sentence)
    choices = tuple(
        Choice(
            group,
            _read(loaded, tokenizer, [sentence.replace("{}", t) for t in group.terms] + [nothing]),
        )
        for group in asking.groups.values()
    )
    threshold = THRESHOLD if asking.threshold is None else asking.threshold
    return Chooser(loaded, images, choices, threshold)


def about_nothing(sentence: str) -> str:
    """The sentence without a term.

    >>> about_nothing("a photo of {}"), about_nothing("一张{}的照片")
    ('a photo', '一张照片')
    """
    before, after = sentence.split("{}")
    before = before.rstrip().removesuffix(" of")
    return f"{before}{after.removeprefix('的')}".strip()


def _read(loaded: Any, tokenizer: Any, sentences: list[str]) -> torch.Tensor:
    """Unit vectors (n, D) of sentences."""
    import torch

    tokens = tokenizer(sentences, padding=True, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        read = loaded.get_text_features(
            input_ids=tokens["input_ids"].to(loaded.device),
            attention_mask=tokens["attention_mask"].to(loaded.device),
        )
        return torch.nn.functional.normalize(read.pooler_output.float(), dim=-1)
