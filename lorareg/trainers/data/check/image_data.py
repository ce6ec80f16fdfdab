"""Checking a dataset of pictures: what was measured, what is written, and both in numbers."""

from __future__ import annotations

from pathlib import Path

from lorareg.errors import LoraregError
from lorareg.registry.dataset import Listing, kept
from lorareg.trainers.data.caption_files import on_disk
from lorareg.trainers.data.check import captions, pictures, probes, statistics
from lorareg.trainers.data.check.findings import Finding
from lorareg.trainers.data.check.place import Place, Stage
from lorareg.trainers.data.check.report import Report
from lorareg.trainers.data.check.tokens import TokenCounter, uncounted
from lorareg.trainers.data.check.wishes import Wishes
from lorareg.trainers.data.vocabulary.schema import FILE, Vocabulary

MISNAMED = ("vocabulary.yml", "vocabulary.yaml.txt")


def check(place: Place, listing: Listing, wishes: Wishes, stage: Stage) -> Report:
    """Every finding on pictures and captions, the use of the vocabulary, and statistics."""
    names = kept(listing.images, wishes.skip)
    facts, broken = probes.probe_all(
        {name: on_disk(place.path, name) for name in names},
        listing.files,
        place.cache / "pictures.sqlite",
        _Counted(stage, len(names)),
    )
    seen = pictures.findings(
        facts,
        broken,
        {name: listing.files[name] for name in names},
        resolution=wishes.resolution,
        kind=wishes.kind,
        held_out=wishes.held_out(names),
        buckets=wishes.buckets,
        alpha_is_mask=wishes.alpha_is_mask,
    )
    counter, notes = _counter(place, wishes)
    vocabulary, wrong = _vocabulary(place.path, wishes)
    said = captions.check(
        place.path,
        names,
        captions=wishes.captions,
        skip=wishes.skip,
        text_files=[name for name in listing.files if name.lower().endswith(".txt")],
        trigger=wishes.trigger,
        counter=counter,
        vocabulary=vocabulary,
    )
    return Report(
        dataset=place.name,
        task=wishes.task,
        records=len(names),
        findings=[*seen, *said.findings, *notes, *wrong],
        statistics=statistics.of_pictures(
            {name: (fact.width, fact.height) for name, fact in facts.items()},
            said.captions,
            said.tokens or None,
            _removed(place.path),
        ),
        coverage=[use.document() for use in said.coverage],
    )


class _Counted:
    """Turns "so many more" into "so many of all"."""

    def __init__(self, stage: Stage, total: int) -> None:
        self._stage, self._total, self._done = stage, total, 0

    def __call__(self, count: int) -> None:
        self._done += count
        self._stage("checking pictures", self._done, self._total)


def _counter(place: Place, wishes: Wishes) -> tuple[TokenCounter | None, list[Finding]]:
    if wishes.base is None:
        return None, []
    try:
        return TokenCounter.of(wishes.base, place.cache / "tokens.sqlite"), []
    except LoraregError as error:
        return None, [uncounted(error)]


def _vocabulary(folder: Path, wishes: Wishes) -> tuple[Vocabulary | None, list[Finding]]:
    try:
        return Vocabulary.of(folder, wishes.vocabulary), _unread(folder, wishes)
    except LoraregError as error:
        return None, [Finding("vocabulary-file", "error", (), error.sentence, error.fix)]


def _unread(folder: Path, wishes: Wishes) -> list[Finding]:
    """A vocabulary under a name that is not looked for, where there is none under the right one."""
    if wishes.vocabulary is not None or (folder / FILE).is_file():
        return []
    folders = [f"{FILE}/"] if (folder / FILE).is_dir() else []
    found = [*folders, *(name for name in MISNAMED if (folder / name).is_file())]
    why = f"it is not read; name it {FILE}"
    fix = f"let the vocabulary be a file with the name {FILE}"
    return [Finding("vocabulary-unread", "warning", (name,), why, fix) for name in found]


def _removed(folder: Path) -> int | None:
    """Duplicates that ``data prepare`` left out of this folder."""
    from lorareg.trainers.data.copies import provenance

    try:
        known = provenance.load(folder)
    except LoraregError:
        return None  # whoever prepares into this folder again is told
    return known.duplicates_removed if known else None
