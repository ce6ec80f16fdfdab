"""How captions of a dataset are worded: its trigger word, its opening, its own terms."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from lorareg.trainers.data.label.captioner import Asking
from lorareg.trainers.data.label.wording import joined
from lorareg.trainers.data.target import Target
from lorareg.trainers.data.vocabulary.fix import canonical
from lorareg.trainers.data.vocabulary.matching import begins_with, contains
from lorareg.trainers.data.vocabulary.schema import FILE, Vocabulary


@dataclass(frozen=True)
class HouseStyle:
    """What a machine's words are fitted into.

    Attributes:
        trigger: word that stands at the head of new captions, after an opening that must be first.
        vocabulary: the words a team agreed on.
    """

    trigger: str | None = None
    vocabulary: Vocabulary | None = None

    @classmethod
    def of(cls, target: Target, trigger: str | None) -> HouseStyle:
        """The style of a dataset; a given trigger goes before the manifest's.

        Raises:
            NotFoundError: the manifest names a vocabulary that is not there.
            InvalidFileError: the vocabulary is broken.
        """
        manifest = target.manifest
        named = manifest.dataset.vocabulary if manifest else None
        path = target.path / (named or FILE)
        is_given = named is not None or path.is_file()
        word = trigger or (manifest.trigger if manifest else None)
        return cls(word, Vocabulary.load(path) if is_given else None)

    def new(self, text: str) -> str:
        """A caption out of what a machine said: opening, trigger, its words."""
        caption = self.canonical(text)
        openings = self.vocabulary.openings(self.trigger) if self.vocabulary else ()
        there = [opening for opening in openings if begins_with(caption, opening)]
        opening, trigger = next(iter(there or openings), ""), self.trigger or ""
        if trigger and (contains(opening, trigger) or begins_with(caption, trigger)):
            trigger = ""
        return caption if there and not trigger else joined(opening, trigger, caption)

    def canonical(self, text: str) -> str:
        """The same with the vocabulary's terms instead of their aliases."""
        return canonical(self.vocabulary, text) if self.vocabulary else text

    def asking(self, asking: Asking) -> Asking:
        """The same with the groups that CLIP chooses from."""
        return replace(asking, groups=self.vocabulary.groups if self.vocabulary else {})

    def document(self) -> dict[str, Any]:
        """What it is, as JSON."""
        words = self.vocabulary.model_dump(mode="json") if self.vocabulary else None
        return {"trigger": self.trigger, "vocabulary": words}
