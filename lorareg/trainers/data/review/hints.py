"""What helps a person with one caption: the vocabulary's terms, what is wrong, how to mend it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lorareg.trainers.data.target import Target
from lorareg.trainers.data.vocabulary.fix import turned
from lorareg.trainers.data.vocabulary.matching import Match, contains
from lorareg.trainers.data.vocabulary.schema import FILE, Vocabulary

COMMA = re.compile(r"\s*[,，、]\s*")
SHOWN = 6  # terms of a list that a sentence names


@dataclass(frozen=True)
class Problem:
    """Something wrong with a caption, and the caption without it where that can be told.

    Attributes:
        what: a short sentence.
        does: what the mending does, for a button: "use flashlight".
        caption: the mended caption.
    """

    what: str
    does: str = ""
    caption: str | None = None

    def document(self) -> dict[str, Any]:
        """As the page gets it."""
        mend = None if self.caption is None else {"does": self.does, "caption": self.caption}
        return {"what": self.what, "mend": mend}


@dataclass(frozen=True)
class Hints:
    """The vocabulary and the trigger word of one dataset; it may have neither."""

    vocabulary: Vocabulary | None
    trigger: str | None

    @classmethod
    def of(cls, target: Target) -> Hints:
        """The hints for a dataset: the vocabulary that its manifest names, or the one it has.

        Raises:
            NotFoundError: the manifest names a vocabulary that is not there.
            InvalidFileError: the vocabulary is broken.
        """
        manifest = target.manifest
        named = manifest.dataset.vocabulary if manifest else None
        path = target.path / (named or FILE)
        known = Vocabulary.load(path) if named or path.exists() else None
        return cls(known, manifest.trigger if manifest else None)

    @property
    def groups(self) -> list[dict[str, Any]]:
        """Terms by group, in the order of the file."""
        groups = self.vocabulary.groups if self.vocabulary else {}
        return [
            {"name": name, "required": group.at_least > 0, "terms": list(group.terms)}
            for name, group in groups.items()
        ]

    def look(self, caption: str) -> dict[str, Any]:
        """Of a caption: its problems, the terms it uses, the groups it lacks."""
        known = self.vocabulary
        return {
            "problems": [problem.document() for problem in self.problems(caption)],
            "used": list(known.said(caption)) if known else [],
            "missing": list(known.missing_groups(caption)) if known else [],
        }

    def problems(self, caption: str) -> Iterator[Problem]:
        """What is wrong with a caption; an empty one is just empty."""
        if not caption.strip():
            return
        known, trigger = self.vocabulary, self.trigger
        openings = known.openings(trigger) if known and not known.opens(caption, trigger) else ()
        if trigger and not contains(caption, trigger):
            # An opening that holds the trigger mends both at once.
            first = next((o for o in openings if contains(o, trigger)), trigger)
            yield _prepended(f"the trigger word {trigger} is missing", first, caption)
        if openings:
            yield _prepended(f"the opening {_either(openings)} is missing", openings[0], caption)
        if known:
            yield from self._of_words(known, caption)
            yield from self._of_rules(known, caption)

    def _of_words(self, known: Vocabulary, caption: str) -> Iterator[Problem]:
        for match in known.find(caption):
            written = caption[match.start : match.end]
            term = match.phrase.meaning
            if match.phrase.kind == "alias":
                yield Problem(f"{written} is an alias", f"use {term}", turned(caption, [match]))
            elif match.phrase.kind == "banned":
                yield Problem(f"{written} is banned", "remove it", _without(caption, match))

    def _of_rules(self, known: Vocabulary, caption: str) -> Iterator[Problem]:
        said = known.said(caption)
        groups = [known.group_of(term) for term in said]
        for name, group in known.groups.items():
            if lacking := max(0, group.at_least - groups.count(name)):
                yield Problem(f"{name}: {lacking} more term{'s' * (lacking > 1)} needed")
            terms = [term for term in said if term in group.terms]
            if group.exclusive and len(terms) > 1:
                yield Problem(f"{name}: {' and '.join(terms)} exclude each other")
        for names in known.at_least_one_of:
            if not any(name in said or name in groups for name in names):
                yield Problem(f"it has none of {', '.join(names[:SHOWN])}")


def _prepended(what: str, words: str, caption: str) -> Problem:
    comma = "，" if re.search("[，、]", caption) else ", "
    return Problem(what, f"begin with {words}", f"{words}{comma}{caption.lstrip()}")


def _either(phrases: tuple[str, ...]) -> str:
    return " or ".join(phrases[:SHOWN])


def _without(caption: str, match: Match) -> str:
    """The caption without a phrase, and without the comma or space that set it apart."""
    before, after = caption[: match.start], caption[match.end :]
    if not before.strip():
        return COMMA.sub("", after, count=1) if COMMA.match(after) else after.lstrip()
    if (not after.strip() or COMMA.match(after)) and (last := re.search(r"\s*[,，、]\s*$", before)):
        return before[: last.start()] + after
    return before.rstrip() + after if before.endswith(" ") else before + after
