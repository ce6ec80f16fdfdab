"""What a run has to do: which copies are there, which are to be made, which pictures get none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lorareg.trainers.data.copies.destination import copy_names
from lorareg.trainers.data.copies.picture import ENDINGS
from lorareg.trainers.data.copies.provenance import Copy, LeftOut, Provenance, Settings


@dataclass(frozen=True)
class Dataset:
    """The pictures of a dataset.

    Attributes:
        digests: of the pictures, by name.
        captions: by name.
    """

    digests: Mapping[str, str]
    captions: Mapping[str, str]

    def chosen(self, same: Sequence[str]) -> str:
        """The one of several equal pictures that gets a copy: the first with a caption."""
        return min(same, key=lambda name: (not self.captions.get(name, "").strip(), name))

    def duplicate(self, name: str, of: str, what: str) -> LeftOut:
        """A picture that equals another."""
        mine, its = (self.captions.get(n, "").strip() for n in (name, of))
        lost = "; its caption differs and is not used" if mine and mine != its else ""
        return LeftOut(
            source=name,
            source_sha256=self.digests[name],
            reason="duplicate",
            why=f"the same {what} as {of}{lost}",
            same_as=of,
        )


@dataclass(frozen=True)
class Plan:
    """What is there and what is to do.

    Attributes:
        names: picture -> name of its copy; of pictures whose files are equal, only one is in it.
        kept: copies of an earlier run that are still right, by name.
        left_out: pictures without a copy that are known before any is decoded.
    """

    names: Mapping[str, str]
    kept: Mapping[str, Copy]
    left_out: Sequence[LeftOut]

    @property
    def todo(self) -> dict[str, str]:
        """Picture -> name of the copy to make."""
        settled = {entry.source for entry in self.left_out}
        return {
            picture: copy
            for picture, copy in self.names.items()
            if copy not in self.kept and picture not in settled
        }


def plan(dataset: Dataset, settings: Settings, out: Path, before: Provenance | None) -> Plan:
    """Compare a dataset with what an earlier run made of it.

    Args:
        dataset: what is to be copied.
        settings: of this run.
        out: where copies are.
        before: the earlier run, of the same libraries; None makes everything anew.
    """
    unique, left_out = _unique(dataset)
    names = copy_names({name: dataset.digests[name] for name in unique}, ENDINGS[settings.format])
    copies = before.copies if before else {}
    kept = {
        copy: copies[copy]
        for picture, copy in names.items()
        if copy in copies
        and copies[copy].source_sha256 == dataset.digests[picture]
        and (out / copy).is_file()
    }
    # A picture that was renamed keeps the copy that its bytes and its stem gave it.
    source = {copy: picture for picture, copy in names.items()}
    kept = {n: copy.model_copy(update={"source": source[n]}) for n, copy in kept.items()}
    return Plan(names, kept, [*left_out, *_known(dataset, names, kept, before)])


def pixel_duplicates(dataset: Dataset, copies: Mapping[str, Copy]) -> dict[str, LeftOut]:
    """Copies that equal another one, though their pictures' files differ; by name."""
    same: dict[str, dict[str, str]] = {}
    for name, copy in copies.items():
        same.setdefault(copy.sha256, {})[copy.source] = name
    found = {}
    for group in same.values():
        first = dataset.chosen(list(group))
        for source in group.keys() - {first}:
            found[group[source]] = dataset.duplicate(source, first, "pixels")
    return found


def _unique(dataset: Dataset) -> tuple[list[str], list[LeftOut]]:
    """Pictures whose files differ, and the others."""
    same: dict[str, list[str]] = {}
    for name, sha256 in dataset.digests.items():
        same.setdefault(sha256, []).append(name)
    chosen = {sha256: dataset.chosen(group) for sha256, group in same.items()}
    twins = [
        dataset.duplicate(name, chosen[sha256], "file")
        for sha256, group in same.items()
        for name in group
        if name != chosen[sha256]
    ]
    return sorted(chosen.values()), twins


def _known(
    dataset: Dataset,
    names: Mapping[str, str],
    kept: Mapping[str, Copy],
    before: Provenance | None,
) -> list[LeftOut]:
    """Pictures an earlier run found no use for, whose bytes are still the same."""
    return [
        entry
        for entry in (before.left_out if before else ())
        if entry.source in names
        and dataset.digests[entry.source] == entry.source_sha256
        and (entry.same_as is None or names.get(entry.same_as) in kept)
    ]
