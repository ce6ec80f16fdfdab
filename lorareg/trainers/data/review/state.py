"""A review in progress: which captions wait for a person, and what that person said of each.

Nothing is kept back: an accepted caption is in the table and in ``captions.json`` before the answer
is sent, so a closed browser or a killed server loses no work.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lorareg.errors import LoraregError, NotFoundError
from lorareg.registry import dataset
from lorareg.trainers.data.caption_files import on_disk
from lorareg.trainers.data.caption_marks import Mark, Marks
from lorareg.trainers.data.review.disk import Disk
from lorareg.trainers.data.review.hints import Hints
from lorareg.trainers.data.target import Target

Status = Literal["empty", "machine", "hand", "reviewed"]
WAITING: tuple[Status, ...] = ("empty", "machine")


class ChangedMeanwhileError(LoraregError):
    """A caption is not the one that was shown: an editor or another tab wrote it.

    Attributes:
        caption: as it is now.
    """

    def __init__(self, name: str, caption: str) -> None:
        super().__init__(f"the caption of {name} was changed meanwhile")
        self.caption = caption


@dataclass(frozen=True)
class Item:
    """One picture with its caption as it is on disk.

    Attributes:
        picture: its number in the review.
        by: the model that wrote the caption; None for a person.
        status: "empty" and "machine" wait for a person.
        look: what ``Hints`` say of the caption.
    """

    picture: int
    name: str
    caption: str
    by: str | None
    status: Status
    look: Mapping[str, Any]

    def document(self) -> dict[str, Any]:
        """As the page gets it."""
        return dict(vars(self))


@dataclass(frozen=True)
class Summary:
    """What came of a review: ``edited`` of the ``reviewed`` were changed, ``left`` still wait."""

    reviewed: int
    edited: int
    left: int


@dataclass(frozen=True)
class _Step:
    """An accepted caption and what it took the place of."""

    picture: int
    caption: str
    before: str
    mark: Mark | None


class Review:
    """The captions of one dataset, read from disk and written to it one at a time."""

    def __init__(self, folder: Path, names: Sequence[str], disk: Disk, hints: Hints) -> None:
        self._folder = folder
        self._names = names
        self._disk = disk
        self._hints = hints
        self._steps: list[_Step] = []
        self._alone = threading.RLock()  # each request has its own thread

    @classmethod
    def open(cls, target: Target) -> Review:
        """Begin to review a dataset of pictures.

        Raises:
            NotFoundError: there are no pictures.
            InvalidFileError: the captions, the marks or the vocabulary cannot be read.
            LoraregError: its manifest keeps captions where none can be written.
        """
        chosen = target.manifest.dataset if target.manifest else None
        skip = target.manifest.left_alone if target.manifest else ()
        names = [name for name in sorted(dataset.files(target.path)) if dataset.is_image(name)]
        names = dataset.kept(names, skip)
        if not names or not target.path.is_dir():
            raise NotFoundError(
                f"{target.name} has no picture to review",
                why="the review page shows pictures with their captions",
                fix="name a folder with .jpg, .png or .webp pictures",
            )
        disk = Disk(target.path, chosen.captions if chosen else None)
        review = cls(target.path, names, disk, Hints.of(target))
        review.overview()  # so that a broken file is named here, not in the browser
        return review

    def overview(self) -> dict[str, Any]:
        """Every picture's name, status and number of problems, and the vocabulary."""
        return {
            "dataset": self._folder.resolve().name,
            "groups": self._hints.groups,
            "pictures": [
                {"name": item.name, "status": item.status, "problems": len(item.look["problems"])}
                for item in self._items(range(len(self._names)))
            ],
        }

    def item(self, picture: int) -> Item:
        """One picture with its caption.

        Raises:
            NotFoundError: there is no such number.
        """
        self._name(picture)
        return self._items([picture])[0]

    def look(self, caption: str) -> dict[str, Any]:
        """What the vocabulary says of a caption, also of one not accepted yet."""
        return self._hints.look(caption)

    def picture(self, picture: int) -> Path:
        """The file of a picture of the listing.

        Raises:
            NotFoundError: there is no such number, or the file is a link out of the folder now.
        """
        path = on_disk(self._folder, self._name(picture))
        if not path.resolve().is_relative_to(self._folder.resolve()):
            raise NotFoundError(f"picture {picture} is not in the dataset any more")
        return path

    def accept(self, picture: int, caption: str, seen: str) -> Item:
        """Write a caption if it changed, and mark it as reviewed.

        Args:
            picture: number of the picture.
            caption: what the person wants it to be.
            seen: what the page showed before they changed it.

        Raises:
            ChangedMeanwhileError: the caption on disk is not ``seen``.
            LoraregError: the caption is empty, or cannot be written.
        """
        name, caption = self._name(picture), caption.strip()
        if not caption:
            raise LoraregError("a caption cannot be empty", fix="write one, or skip the picture")
        with self._alone:
            before = self._unchanged(name, seen)
            mark = self._disk.marks().marks.get(name)
            if caption != before:
                self._disk.write(name, caption)
            self._disk.accept(name, caption)
            self._steps.append(_Step(picture, caption, before, mark))
            return self.item(picture)

    def undo(self) -> Item | None:
        """Take the last accepted caption back, text and mark; None if there is none left.

        Raises:
            ChangedMeanwhileError: the caption was changed since it was accepted.
        """
        with self._alone:
            if not self._steps:
                return None
            step = self._steps[-1]
            name = self._names[step.picture]
            self._unchanged(name, step.caption)
            if step.caption != step.before:
                self._disk.write(name, step.before)
            self._disk.restore(name, step.mark)
            self._steps.pop()
            return self.item(step.picture)

    def summary(self) -> Summary:
        """What was done; a write that is going on is waited for."""
        with self._alone:
            items = self._items(range(len(self._names)))
            return Summary(
                reviewed=len({step.picture for step in self._steps}),
                edited=len({s.picture for s in self._steps if s.caption != s.before}),
                left=sum(item.status in WAITING for item in items),
            )

    def _name(self, picture: int) -> str:
        if not 0 <= picture < len(self._names):
            raise NotFoundError(f"there is no picture {picture}")
        return self._names[picture]

    def _unchanged(self, name: str, seen: str) -> str:
        caption = self._disk.captions([name])[name]
        if caption != seen.strip():
            raise ChangedMeanwhileError(name, caption)
        return caption

    def _items(self, pictures: Sequence[int]) -> list[Item]:
        with self._alone:
            captions = self._disk.captions([self._names[picture] for picture in pictures])
            marks = self._disk.marks()
        return [
            self._item(picture, name, caption, marks)
            for picture, (name, caption) in zip(pictures, captions.items(), strict=True)
        ]

    def _item(self, picture: int, name: str, caption: str, marks: Marks) -> Item:
        machine = marks.is_machine(name, caption)
        status: Status = "machine" if machine else "hand"
        if not caption:
            status = "empty"
        elif marks.is_reviewed(name, caption):
            status = "reviewed"
        by = marks.by(name) if machine else None
        return Item(picture, name, caption, by, status, self.look(caption))
