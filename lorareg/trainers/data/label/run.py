"""Labelling a dataset: which pictures, in what order, and what becomes of what the model says.

After every batch the marks are written, then the captions. A run that is stopped between the two
leaves marks of captions that are not there, which count for nothing; the next run says the same
again. So however a run ends, one batch at most is done twice, and none is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lorareg.errors import NotFoundError
from lorareg.registry import dataset
from lorareg.registry.digest import DigestCache, of_json
from lorareg.trainers.data import caption_marks, caption_table
from lorareg.trainers.data.caption_files import on_disk, read_captions
from lorareg.trainers.data.caption_marks import Marks
from lorareg.trainers.data.label import executors, models
from lorareg.trainers.data.label.batches import Picture, Said, in_batches
from lorareg.trainers.data.label.captioner import Asking
from lorareg.trainers.data.label.house_style import HouseStyle
from lorareg.trainers.data.label.wording import joined
from lorareg.trainers.data.target import Target

Merge = Literal["keep", "append", "replace"]
Stage = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Order:
    """What is to be done.

    Attributes:
        model: folder, ``.onnx`` file or Hub id; None takes ``models.DEFAULT``.
        asking: how it is asked; the vocabulary's groups are added.
        merge: what becomes of captions that are there: keep them, append to them, replace them.
        trigger: word that new captions start with; None takes the manifest's.
        batch_size: pictures shown to the model at a time.
        executor: "local" or "ray".
        workers: of a Ray cluster; None lets it choose.
    """

    model: str | None = None
    asking: Asking = field(default_factory=Asking)
    merge: Merge = "keep"
    trigger: str | None = None
    batch_size: int = 8
    executor: str = "local"
    workers: int | None = None


@dataclass
class Report:
    """What was done, in pictures.

    Attributes:
        by: the model, and eight digits that stand for how it was asked; None if it was not needed.
        kept: captions left as they were.
        skipped: picture -> why it got no caption.
    """

    by: str | None = None
    labelled: int = 0
    appended: int = 0
    replaced: int = 0
    kept: int = 0
    skipped: dict[str, str] = field(default_factory=dict)


def caption(target: Target, order: Order, stage: Stage) -> Report:
    """Label the pictures of a dataset.

    Args:
        target: a dataset of pictures.
        order: what is to be done.
        stage: told what is going on, how much of it is done, and of how much.

    Raises:
        NotFoundError: no pictures, or no such model.
        InvalidFileError: captions, marks or the model are broken.
        ExternalToolError: the model is on the Hub, which cannot be reached.
    """
    job = _Job(target, order)
    captions = job.captions()
    names = [name for name in job.names if order.merge != "keep" or not captions[name]]
    job.report.kept = len(job.names) - len(names)
    if not names:
        return job.report
    model = models.locate(order.model or models.DEFAULT)
    asking = job.style.asking(order.asking)
    models.check_asking(model, asking)
    job.report.by = f"{model.name} #{_settings(asking, job)}"
    marks = Marks.load(target.path)
    todo = [name for name in names if not _is_done(marks, name, captions[name], job.report.by)]
    job.report.kept += len(names) - len(todo)
    pictures = [Picture(name, on_disk(target.path, name)) for name in todo]
    stage("labelling", 0, len(todo))
    done = 0
    run = executors.EXECUTORS[order.executor]
    for outcomes in run(model, asking, in_batches(pictures, order.batch_size), order.workers):
        job.save(outcomes)
        done += len(outcomes)
        stage("labelling", done, len(todo))
    return job.report


class _Job:
    """A dataset while it is labelled."""

    def __init__(self, target: Target, order: Order) -> None:
        self.order = order
        self.folder = target.path
        self.chosen = target.manifest.dataset.captions if target.manifest else None
        skip = target.manifest.left_alone if target.manifest else ()
        if not self.folder.is_dir():
            raise _no_pictures(target.name)
        digests = target.workspace.digests if target.workspace else DigestCache(None)
        self.names = dataset.kept(dataset.scan(self.folder, digests).images, skip)
        if not self.names:
            raise _no_pictures(target.name)
        self._sweep(caption_table.destination(self.folder, self.chosen))
        self.style = HouseStyle.of(target, order.trigger)
        self.report = Report()

    def _sweep(self, table: Path) -> None:
        """Remove what a killed run was writing: DVC would track it with the dataset."""
        with caption_marks.writing(self.folder):
            for name in (table.name, caption_marks.FILE):
                for unfinished in self.folder.glob(f".{name}.*.tmp"):
                    unfinished.unlink(missing_ok=True)

    def captions(self) -> Mapping[str, str]:
        """As they are on disk now, without white space around them; "" where there is none."""
        is_there = self.chosen is not None and (self.folder / self.chosen).is_file()
        found = read_captions(self.folder, self.names, self.chosen if is_there else None)
        return {name: found.get(name, "").strip() for name in self.names}

    def save(self, outcomes: Sequence[Said]) -> None:
        """Put what the model said beside what is there by now: a person may be writing too."""
        captions = self.captions()
        changes = {}
        for said in outcomes:
            if said.problem:
                self.report.skipped[said.name] = said.problem
            elif (merged := self._merged(captions[said.name], said.text)) is not None:
                changes[said.name] = merged
        if not changes:
            return
        by = str(self.report.by)
        caption_marks.change(self.folder, lambda marks: _marked(marks, changes, by))
        caption_table.update(self.folder, changes, self.chosen)

    def _merged(self, before: str, text: str) -> str | None:
        """The new caption of a picture, or None to leave the old one."""
        if not before:
            self.report.labelled += 1
            return self.style.new(text)
        if self.order.merge == "replace":
            self.report.replaced += 1
            return self.style.new(text)
        after = joined(before, self.style.canonical(text))
        if self.order.merge == "keep" or after == before:
            self.report.kept += 1
            return None
        self.report.appended += 1
        return after


def _is_done(marks: Marks, name: str, caption: str, by: str) -> bool:
    """Whether this very model, asked in this very way, wrote the caption already."""
    return marks.is_machine(name, caption) and marks.by(name) == by


def _marked(marks: Marks, changes: Mapping[str, str], by: str) -> Marks:
    for name, text in changes.items():
        marks = marks.mark(name, text, by)
    return marks


def _settings(asking: Asking, job: _Job) -> str:
    """Eight digits that change with whatever would change the captions."""
    document = {
        "prompt": asking.prompt,
        "max_tokens": asking.max_tokens,
        "threshold": asking.threshold,
        "style": job.style.document(),
        "append": job.order.merge == "append",
    }
    return of_json(document).rpartition(":")[2][:8]


def _no_pictures(name: str) -> NotFoundError:
    return NotFoundError(
        f"there are no pictures in {name}",
        why="captions are written for .jpg, .jpeg, .png and .webp files of a folder",
        fix="name a folder of pictures, or an adapter of a text-to-image model",
    )
