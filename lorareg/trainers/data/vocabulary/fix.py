"""Aliases turned into their terms, in a copy of the captions. Originals stay as they are.

Only the cells that change are written anew; every other byte of the copy is the original's.
"""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorareg.errors import InvalidFileError, LoraregError
from lorareg.registry.files import write_atomically
from lorareg.trainers.data import caption_files
from lorareg.trainers.data.target import Target
from lorareg.trainers.data.vocabulary.cells import Pieces, lines, of_csv, of_jsonl, of_sidecars
from lorareg.trainers.data.vocabulary.matching import WORD, Match, has_plural
from lorareg.trainers.data.vocabulary.schema import FILE, Vocabulary

ROUNDS = 20  # a term and the words around it may be an alias again


@dataclass(frozen=True)
class FixedCopy:
    """What ``--fix`` did.

    Attributes:
        path: of the copy; None where no caption has an alias.
        captions: how many were changed.
        diff: from the caption file to the copy, unified, without context.
        adopt: how to use the copy.
    """

    path: Path | None
    captions: int
    diff: str
    adopt: str

    def document(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        return {
            "path": str(self.path) if self.path else None,
            "captions": self.captions,
            "diff": self.diff,
            "adopt": self.adopt,
        }


def fix_target(target: Target) -> FixedCopy:
    """``fix`` with the files that the target's manifest names, or those that are there.

    Raises:
        LoraregError: there is no vocabulary; or as ``fix``.
    """
    chosen = target.manifest.dataset if target.manifest else None
    vocabulary = Vocabulary.of(target.path, chosen.vocabulary if chosen else None)
    if vocabulary is None:
        raise LoraregError(
            f"{target.name} has no {FILE}",
            why="--fix turns the aliases it lists into their terms",
            fix=f"write {target.name}/{FILE}; docs/vocabulary.md shows one",
        )
    return fix(target.path, chosen.captions if chosen else None, vocabulary)


def fix(folder: Path, captions: str | None, vocabulary: Vocabulary) -> FixedCopy:
    """Write ``metadata.fixed.csv`` (or ``.jsonl``), with terms in the place of aliases.

    Args:
        folder: of the dataset; pictures and caption files are only read.
        captions: name of the caption file, "txt" for sidecars, or None to take what is there.
        vocabulary: with the aliases.

    Raises:
        NotFoundError: there is no such caption file.
        InvalidFileError: the captions cannot be read, or aliases lead in a circle.
        LoraregError: there is another copy already.
    """
    source = captions or caption_files.default_source(folder)
    images = caption_files.pictures_in(folder) if source == caption_files.SIDECARS else []
    table = caption_files.read_captions(folder, images, source)

    def turn(caption: str) -> str:
        return canonical(vocabulary, caption)

    if source == caption_files.SIDECARS:
        pieces, mark = of_sidecars(table, turn), False
        name = caption_files.CAPTION_FILES[0]
    else:
        text, mark = caption_files.read_text(folder / source, caption_files.MAX_CAPTION_FILE)
        pieces = (of_jsonl if source.endswith(".jsonl") else of_csv)(text, turn)
        name = source
    changed = sum(before != after for before, after in pieces)
    if not changed:
        return FixedCopy(None, 0, "", "")
    copy = folder / f"{Path(name).stem}.fixed{Path(name).suffix}"
    _write(copy, caption_files.MARK * mark + "".join(after for _, after in pieces))
    adopt = f"mv {shlex.quote(str(copy))} {shlex.quote(str(folder / name))}"
    if captions == caption_files.SIDECARS:
        adopt += "  # and remove captions: txt from the manifest"
    shown = "*.txt" if source == caption_files.SIDECARS else source
    return FixedCopy(copy, changed, "".join(_diff(pieces, shown, copy.name)), adopt)


def canonical(vocabulary: Vocabulary, caption: str) -> str:
    """A caption with terms in the place of aliases; of such a caption it is the caption itself.

    Raises:
        InvalidFileError: the aliases lead in a circle.
    """
    text = caption
    for _ in range(ROUNDS):
        before, text = text, turned(text, vocabulary.find(text))
        if text == before:
            return text
    raise InvalidFileError(
        f"aliases lead in a circle in the caption {caption[:80]!r}",
        why=f"after {ROUNDS} rounds it still has an alias: {text[-80:]!r}",
        fix="remove one of the aliases from the vocabulary",
    )


def turned(text: str, matches: Iterable[Match]) -> str:
    """A text with the terms of the aliases among its matches in their place, plurals kept."""
    done, place = "", 0
    for match in matches:
        if match.phrase.kind != "alias":
            continue
        term = match.phrase.meaning
        term += "s" if match.plural and has_plural(term) else ""
        done = _joined(_joined(done, text[place : match.start], place), term, 1)
        place = match.end
    return _joined(done, text[place:], place)


def _joined(left: str, right: str, place: int) -> str:
    """Two pieces of text, with a space where two words would become one: LED and lamp."""
    seam = left[-1:] + right[:1]
    return f"{left} {right}" if place and len(seam) == 2 and WORD.fullmatch(seam) else left + right


def _write(copy: Path, text: str) -> None:
    try:
        if copy.read_bytes() == text.encode():
            return
    except FileNotFoundError:
        write_atomically(copy, text)
        return
    raise LoraregError(
        f"{copy.name} is there already, and is another copy",
        why="it was made from other captions or another vocabulary, or edited by hand",
        fix=f"use it, or remove it: rm {shlex.quote(str(copy))}",
    )


def _diff(pieces: Pieces, source: str, copy: str) -> Iterator[str]:
    """Pairs stay in step, so nothing is searched for: ``difflib`` takes 5 s for 10,000 rows."""
    yield f"--- {source}\n+++ {copy}\n"
    old = new = 1
    for changed, group in itertools.groupby(pieces, key=lambda piece: piece[0] != piece[1]):
        before, after = ("".join(texts) for texts in zip(*group, strict=True))
        gone, come = lines(before), lines(after)
        if changed:
            yield f"@@ -{old},{len(gone)} +{new},{len(come)} @@\n"
            yield from (_ended(f"-{line}") for line in gone)
            yield from (_ended(f"+{line}") for line in come)
        old, new = old + len(gone), new + len(come)


def _ended(line: str) -> str:
    return line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
