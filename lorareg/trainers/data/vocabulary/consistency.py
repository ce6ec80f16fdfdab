"""What a vocabulary cannot mean: words with two meanings, rules that nothing can meet."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from lorareg.trainers.data.vocabulary.matching import key_of

if TYPE_CHECKING:
    from lorareg.trainers.data.vocabulary.schema import Vocabulary

PLACEHOLDER = "{trigger}"


def problems(vocabulary: Vocabulary) -> list[str]:
    """Everything that contradicts itself, a sentence each."""
    return [
        *_wordless(vocabulary),
        *_two_meanings(vocabulary),
        *_lost_aliases(vocabulary),
        *_lost_names(vocabulary),
        *_impossible_groups(vocabulary),
        *_impossible_openings(vocabulary),
    ]


def _wordless(vocabulary: Vocabulary) -> Iterator[str]:
    for meaning, phrase in _meanings(vocabulary):
        if not key_of(phrase):
            yield f"{phrase!r} is {meaning}, and has no letter or digit to be found by"


def _two_meanings(vocabulary: Vocabulary) -> Iterator[str]:
    seen: dict[tuple[str, ...], tuple[str, str]] = {}
    for meaning, phrase in _meanings(vocabulary):
        key = key_of(phrase)
        if key not in seen:
            seen[key] = (meaning, phrase)
            continue
        other, spelled = seen[key]
        also = f" (as {spelled!r})" if spelled != phrase else ""
        yield f"{phrase!r} is {meaning}, and {'again' if other == meaning else other}{also}"


def _meanings(vocabulary: Vocabulary) -> Iterator[tuple[str, str]]:
    for name, group in vocabulary.groups.items():
        yield from ((f"a term of {name}", term) for term in group.terms)
    yield from ((f"an alias of {term!r}", alias) for alias, term in vocabulary.aliases.items())
    yield from (("banned", phrase) for phrase in vocabulary.banned)


def _lost_aliases(vocabulary: Vocabulary) -> Iterator[str]:
    terms = set(vocabulary.terms())
    for alias, term in vocabulary.aliases.items():
        if term not in terms:
            yield f"aliases.{alias}: {term!r} is no term; {_hint(term, terms)}"


def _lost_names(vocabulary: Vocabulary) -> Iterator[str]:
    terms = set(vocabulary.terms())
    known = terms | vocabulary.groups.keys()
    for names in vocabulary.at_least_one_of:
        for name in names:
            if name not in known:
                hint = _hint(name, known)
                yield f"at_least_one_of: {name!r} is neither a term nor a group; {hint}"
            elif name in terms and name in vocabulary.groups:
                yield f"at_least_one_of: {name!r} is a term and a group; rename the group"


def _impossible_groups(vocabulary: Vocabulary) -> Iterator[str]:
    for name, group in vocabulary.groups.items():
        if group.at_least > len(group.terms):
            yield f"groups.{name}: at_least is {group.at_least}, of {len(group.terms)} terms"
        if group.exclusive and group.at_least > 1:
            yield f"groups.{name}: it is exclusive, so at_least cannot be {group.at_least}"


def _impossible_openings(vocabulary: Vocabulary) -> Iterator[str]:
    for opening in vocabulary.opening:
        rest = opening.replace(PLACEHOLDER, "")
        if "{" in rest or "}" in rest:
            yield f"opening {opening!r}: {PLACEHOLDER} is the only placeholder"
        for match in vocabulary.find(rest):
            phrase = match.phrase
            if phrase.kind == "alias":
                yield f"opening {opening!r}: {phrase.written!r} is an alias of {phrase.meaning!r}"
            elif phrase.kind == "banned":
                yield f"opening {opening!r}: {phrase.written!r} is banned"


def _hint(name: str, known: Iterable[str]) -> str:
    if near := difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.6):
        return f"did you mean {near[0]!r}?"
    return "add it to a group first"
