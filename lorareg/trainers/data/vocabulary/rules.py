"""Captions against their vocabulary: every picture whose caption breaks a rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lorareg.trainers.data.check.findings import Finding
from lorareg.trainers.data.vocabulary.matching import Match
from lorareg.trainers.data.vocabulary.schema import FILE, Vocabulary

BEGINNING = 40  # characters of a caption that are quoted


def findings(
    vocabulary: Vocabulary,
    captions: Mapping[str, str],
    found: Mapping[str, Sequence[Match]],
    trigger: str | None,
) -> list[Finding]:
    """What breaks a rule, a finding for each picture and kind of rule.

    Args:
        vocabulary: the rules.
        captions: by picture.
        found: by picture, what ``Vocabulary.find`` gives for its caption.
        trigger: the trigger word, for openings that name it.
    """
    broken = [] if trigger or not _needs_trigger(vocabulary) else [_unknown_trigger()]
    for name, caption in captions.items():
        matches = found[name]
        said = tuple(dict.fromkeys(m.phrase.meaning for m in matches if m.phrase.kind != "banned"))
        broken += [
            Finding(f"vocabulary-{code}", "warning", (name,), why, fix)
            for code, why, fix in (
                ("opening", _opening(vocabulary, caption, trigger), _opening_fix(vocabulary)),
                ("alias", _aliases(matches), "lorareg data check --fix writes them into a copy"),
                ("banned", _banned(matches), f"leave the words out, or allow them in {FILE}"),
                (
                    "missing",
                    _missing(vocabulary, said),
                    f"add what is seen, in the words of {FILE}",
                ),
                ("exclusive", _exclusive(vocabulary, said), "keep the one that is seen"),
            )
            if why
        ]
    return broken


def _needs_trigger(vocabulary: Vocabulary) -> bool:
    return bool(vocabulary.opening) and not vocabulary.openings(None)


def _unknown_trigger() -> Finding:
    return Finding(
        "vocabulary-opening",
        "note",
        (),
        "openings name the trigger word, and no trigger word is known here",
        "say --trigger WORD, or check the adapter: lorareg data check kind/name",
    )


def _opening(vocabulary: Vocabulary, caption: str, trigger: str | None) -> str:
    if not vocabulary.openings(trigger) or vocabulary.opens(caption, trigger):
        return ""
    begins = caption if len(caption) <= BEGINNING else f"{caption[:BEGINNING]}..."
    return f"begins with {begins!r}"


def _opening_fix(vocabulary: Vocabulary) -> str:
    return f"begin with {_either(vocabulary.opening)}"


def _aliases(matches: Sequence[Match]) -> str:
    said = {m.phrase.written: m.phrase.meaning for m in matches if m.phrase.kind == "alias"}
    return "; ".join(f"{alias!r} stands for {term!r}" for alias, term in said.items())


def _banned(matches: Sequence[Match]) -> str:
    return ", ".join(
        dict.fromkeys(repr(m.phrase.written) for m in matches if m.phrase.kind == "banned")
    )


def _missing(vocabulary: Vocabulary, said: Sequence[str]) -> str:
    lacks = []
    for name in vocabulary.lacking(said):
        least = vocabulary.groups[name].at_least
        lacks.append(f"no term of {name}" if least == 1 else f"fewer than {least} terms of {name}")
    have = {*said, *(vocabulary.group_of(term) for term in said)}
    lacks += [f"none of {_either(n)}" for n in vocabulary.at_least_one_of if not have & set(n)]
    return "; ".join(lacks)


def _exclusive(vocabulary: Vocabulary, said: Sequence[str]) -> str:
    clashes = []
    for name, group in vocabulary.groups.items():
        chosen = [repr(term) for term in said if vocabulary.group_of(term) == name]
        if group.exclusive and len(chosen) > 1:
            clashes.append(f"{' and '.join(chosen)} exclude each other ({name})")
    return "; ".join(clashes)


def _either(words: Sequence[str]) -> str:
    return " or ".join(map(repr, words))
