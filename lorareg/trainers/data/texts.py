"""Which text a picture is shown with: its caption, a variant of it, or none."""

from __future__ import annotations

from collections.abc import Sequence

from lorareg.registry.image_training import ImageTraining
from lorareg.trainers.core.randomness import Draws
from lorareg.trainers.data.images import ImageRecord
from lorareg.trainers.data.tags import variants


class Texts:
    """The texts of a run, all known before its first step, so that they can be cached.

    Args:
        records: pictures with captions.
        settings: of the manifest; ``tags`` and ``caption_dropout`` count here.
    """

    def __init__(self, records: Sequence[ImageRecord], settings: ImageTraining) -> None:
        self._written = {record.id: record.caption for record in records}
        self._dropout = settings.caption_dropout
        self._tags = settings.tags
        self._variants = {
            caption: variants(caption, settings.tags, settings.seed)
            if settings.tags
            else (caption,)
            for caption in dict.fromkeys(self._written.values())
        }

    @property
    def every(self) -> set[str]:
        """Each text that a picture may be shown with, as written and empty ones included."""
        drawn = {text for texts in self._variants.values() for text in texts}
        return drawn | self._variants.keys() | {""}

    def written(self, record: str) -> str:
        """The caption as it is in the dataset, for validation."""
        return self._written[record]

    def drawn(self, record: str, draws: Draws) -> str:
        """The text of a step."""
        if draws.uniform("caption_dropout", record) < self._dropout:
            return ""
        texts = self._variants[self._written[record]]
        if len(texts) == 1:
            return texts[0]
        return texts[int(draws.uniform("caption_variant", record) * len(texts))]

    def describe(self) -> list[str]:
        """How many texts are made of how many captions, in one sentence; none without tags."""
        if self._tags is None:
            return []
        lists = [texts for texts in self._variants.values() if len(texts) > 1]
        different = len({text for texts in lists for text in texts})
        plain = len(self._variants) - len(lists)
        kept = f"; without {self._tags.separator!r}, as written: {plain}" if plain else ""
        return [f"captions: {different} variants of {len(lists)} with tags{kept}"]
