"""Captions of a dataset: there, readable, short enough, and saying what they should."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lorareg.errors import LoraregError
from lorareg.trainers.data import caption_files
from lorareg.trainers.data.caption_files import CAPTION_FILES, SIDECARS, CaptionTable, sidecar_name
from lorareg.trainers.data.caption_marks import Marks
from lorareg.trainers.data.check.caption_names import astray, astray_files
from lorareg.trainers.data.check.caption_tags import contradiction, twice
from lorareg.trainers.data.check.caption_text import leftover, placeholder
from lorareg.trainers.data.check.findings import Finding
from lorareg.trainers.data.check.tokens import TokenCounter, uncounted
from lorareg.trainers.data.vocabulary import coverage, rules
from lorareg.trainers.data.vocabulary.coverage import Use
from lorareg.trainers.data.vocabulary.matching import contains, key_of
from lorareg.trainers.data.vocabulary.schema import Vocabulary

QUOTED = 60  # characters
LINE_END = re.compile(r"\r\n|\r|\n")
FORMS = {name: name for name in CAPTION_FILES} | {SIDECARS: ".txt files beside the pictures"}


@dataclass(frozen=True)
class CaptionCheck:
    """What a look at the captions gave.

    Attributes:
        captions: picture -> caption, stripped, of the pictures that have one.
        tokens: picture -> tokens of its caption, start and end included; empty if not counted.
        limit: tokens that the base reads; None if unknown or without bound.
        coverage: the use of each term; empty without a vocabulary.
    """

    captions: Mapping[str, str]
    findings: Sequence[Finding]
    tokens: Mapping[str, int] = field(default_factory=dict)
    limit: int | None = None
    coverage: Sequence[Use] = ()


def check(
    folder: Path,
    images: Sequence[str],
    *,
    captions: str | None = None,
    skip: Sequence[str] = (),
    text_files: Sequence[str] = (),
    trigger: str | None = None,
    counter: TokenCounter | None = None,
    vocabulary: Vocabulary | None = None,
) -> CaptionCheck:
    """Read the captions and say everything that is wrong with them.

    Args:
        folder: of the dataset.
        images: names of its pictures that are trained on (NFC).
        captions: name of the caption file, "txt", or None to take what is there.
        skip: names of quarantined pictures, which may have captions.
        text_files: names of all .txt files of the dataset (NFC).
        trigger: the word that every caption should have.
        counter: of the base; None leaves out what needs tokens.
        vocabulary: what captions must, may and must not say.
    """
    table = caption_files.read_table(folder, images, captions)
    chosen = (table.captions.get(name, "") for name in images)
    texts = {name: text.strip() for name, text in zip(images, chosen, strict=True) if text.strip()}
    found = [
        *_files(folder, table),
        *_missing(table, images),
        *astray(table.captions, images, skip),
        *(astray_files(text_files, images, skip) if table.source == SIDECARS else ()),
        *_twice(folder, table, images, is_named=captions is not None),
        *_trigger(texts, trigger),
        *_texts(texts),
        *_unreviewed(folder, texts),
    ]
    counts, notes = _tokens(texts, counter)
    found += notes
    uses: list[Use] = []
    if vocabulary:
        matches = {name: vocabulary.find(text) for name, text in texts.items()}
        uses = coverage.coverage(vocabulary, matches) if texts else []
        found += rules.findings(vocabulary, texts, matches, trigger)
        found += coverage.findings(uses, len(texts))
    return CaptionCheck(texts, found, counts, counter.limit if counter else None, uses)


def _files(folder: Path, table: CaptionTable) -> Iterator[Finding]:
    for name, error in table.faults.items():
        code = "caption-encoding" if "UTF-8" in f"{error.what}{error.why}" else "caption-file"
        yield Finding(code, "error", (name,), error.sentence, error.fix)
    for line in table.bad_lines:
        place = f"{table.source}:{line.number}"
        yield Finding("caption-line", "error", (place,), line.why, line.fix)
    for name in table.marked:
        why = "begins with a byte-order mark, which other trainers read as part of the first name"
        place = shlex.quote(str(folder / name))
        fix = f"nothing, lorareg drops it; to remove it: sed -i '1s/^\\xEF\\xBB\\xBF//' {place}"
        yield Finding("byte-order-mark", "note", (name,), why, fix)


def _missing(table: CaptionTable, images: Sequence[str]) -> Iterator[Finding]:
    """Pictures without captions; not those whose captions are on lines that cannot be read."""
    empty = [n for n in images if n in table.captions and not table.captions[n].strip()]
    for name in empty:
        yield Finding("caption-empty", "error", (name,), "its caption is empty", "write one")
    unread = {line.name for line in table.bad_lines}
    if table.source == SIDECARS:
        unread |= {n for n in images if sidecar_name(n) in table.faults}
    missing = [n for n in images if n not in table.captions and n not in unread]
    if not table.is_whole or not missing:
        return
    if not table.captions and not unread:
        why = f"there is no {', no '.join(CAPTION_FILES)} and no .txt file beside a picture"
        if table.source != SIDECARS:
            why = f"{table.source} has no caption"
        fix = "write them, or let a model do it: lorareg data caption"
        yield Finding("caption-missing", "error", (), f"no picture has a caption: {why}", fix)
        return
    fix = "write one, or let a model do it: lorareg data caption; or remove the picture"
    where = "beside it" if table.source == SIDECARS else f"in {table.source}"
    for name in missing:
        yield Finding("caption-missing", "error", (name,), f"no caption {where}", fix)


def _twice(
    folder: Path, table: CaptionTable, images: Sequence[str], *, is_named: bool
) -> Iterator[Finding]:
    """Other caption files that say something else. A manifest that names one has decided."""
    if not table.captions:
        return
    for form, spoken in FORMS.items():
        if form == table.source or not (form == SIDECARS or (folder / form).is_file()):
            continue
        other = caption_files.read_table(folder, images, form).captions
        differ = tuple(
            name
            for name in images
            if name in other and table.captions.get(name, "").strip() != other[name].strip()
        )
        if differ:
            why = f"{FORMS.get(table.source, table.source)} and {spoken} differ; training reads "
            why += f"{FORMS.get(table.source, table.source)}"
            fix = "remove the one that is out of date, or name one in dataset.captions"
            yield Finding("captions-twice", "note" if is_named else "warning", differ, why, fix)


def _trigger(texts: Mapping[str, str], trigger: str | None) -> Iterator[Finding]:
    if not trigger or not texts:
        return
    without = [name for name, text in texts.items() if not contains(text, trigger)]
    fix = f"begin the caption with {trigger!r}, or correct trigger in the manifest"
    if len(without) == len(texts) > 1:
        why = f"no caption has the trigger word {trigger!r}"
        yield Finding("trigger-missing", "warning", (), why, fix)
        return
    for name in without:
        why = f"without the trigger word {trigger!r}"
        yield Finding("trigger-missing", "warning", (name,), why, fix)
    alone = tuple(name for name, text in texts.items() if key_of(text) == key_of(trigger))
    if alone and len(alone) < len(texts):
        why = "the caption is the trigger word alone, which then stands for all that is seen"
        yield Finding("trigger-alone", "note", alone, why, "describe what shall stay changeable")


def _texts(texts: Mapping[str, str]) -> Iterator[Finding]:
    if len(texts) > 1 and len(set(texts.values())) == 1:
        why = f"every picture has the same caption: {_quoted(next(iter(texts.values())))}"
        fix = "say what differs between the pictures, or it is learned as one thing"
        yield Finding("captions-equal", "warning", (), why, fix)
    for name, text in texts.items():
        if why := contradiction(text):
            why = f"{why} exclude each other"
            yield Finding("caption-contradiction", "warning", (name,), why, "keep what is seen")
        if why := leftover(text):
            fix = "write it as a person would; a model learns these marks too"
            yield Finding("caption-leftover", "warning", (name,), f"holds {why}", fix)
        if why := placeholder(name, text):
            fix = "say what is seen, or let a model do it: lorareg data caption"
            yield Finding("caption-leftover", "warning", (name,), f"is only {why}", fix)
        if why := twice(text):
            fix = "keep each once, unless it shall weigh more"
            yield Finding("caption-repeats", "note", (name,), f"more than once: {why}", fix)
        if lines := len(LINE_END.findall(text)):
            why = f"has {lines + 1} lines; many trainers read the first one only"
            yield Finding("caption-lines", "note", (name,), why, "write it in one line")


def _unreviewed(folder: Path, texts: Mapping[str, str]) -> Iterator[Finding]:
    """Captions that a machine wrote and no person looked at."""
    try:
        marks = Marks.load(folder)
    except LoraregError as error:
        yield Finding("caption-marks", "warning", (), error.sentence, error.fix)
        return
    count = sum(
        marks.is_machine(name, text) and not marks.is_reviewed(name, text)
        for name, text in texts.items()
    )
    if count:
        which = "1 caption" if count == 1 else f"{count} captions"
        why = f"{which} written by a machine and not yet reviewed by a person"
        yield Finding("unreviewed", "note", (), why, "lorareg data caption DATASET --review")


def _tokens(
    texts: Mapping[str, str], counter: TokenCounter | None
) -> tuple[dict[str, int], list[Finding]]:
    if counter is None:
        return {}, []
    try:
        counts = counter.count(set(texts.values()))
    except LoraregError as error:
        return {}, [uncounted(error)]
    found = []
    for name, text in texts.items():
        count = counts[text]
        if counter.limit is not None and count.tokens > counter.limit:
            why = f"{count.tokens} tokens, the base reads {counter.limit}; it never sees "
            why += _quoted(text[count.kept :])
            fix = "shorten it, or move what matters to the front"
            found.append(Finding("caption-too-long", "warning", (name,), why, fix))
    return {name: counts[text].tokens for name, text in texts.items()}, found


def _quoted(text: str) -> str:
    return repr(text.strip() if len(text.strip()) <= QUOTED else f"{text.strip()[:QUOTED]}...")
