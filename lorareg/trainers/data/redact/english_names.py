"""Names of people in Latin script: by the words around them, and by lists of names.

The lists hold given names of the US Social Security Administration, surnames of the US censuses of
1990 and 2010 (public domain) and the names of faker's locales (MIT). Names that are English words
too (May, Will, Rose) are marked there and count only beside an unmarked name, or in a place where
a name must be.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from lorareg.trainers.data.redact.span import Span
from lorareg.trainers.data.redact.words import any_of, names, section

_LETTERS = "A-Za-zÀ-ÖØ-öø-ɏ"
_CAPITAL = "A-ZÀ-ÖØ-ÞĀ-Ž"
_WORD = rf"[{_CAPITAL}](?:[{_LETTERS}]|['-](?=[{_LETTERS}]{{2}}))+"
_JOINT = r"(?:van|von|de|der|den|del|della|di|da|dos|la|le|bin|ibn|al|el|ter|ten)"
_FULL = rf"{_WORD}(?: (?:[{_CAPITAL}]\.?(?= )|{_WORD}|{_JOINT}(?= ))){{0,4}}"
_VALUE = rf"(?P<value>{_FULL})(?![{_LETTERS}])"
_NO_NAMES = section("no names")
_ASKING = frozenset(("can", "will", "may"))  # words that begin a question, and rarely a name

# A name stands after these whatever it is; after the first group it is certainly a person's own.
_SURE = re.compile(
    r"(?<![A-Za-z])(?:"
    r"(?P<own>(?i:my (?:full |first |last |legal )?nam(?:e is|e's)|your (?:last |full )?name\?"
    r"|(?:(?:first|last|full|patient|customer|user|legal|maiden|family|holder|contact)[ _-]?name"
    r"|contact(?: person)?|attn|recipient|holder|signed)"
    r"(?= ?:|,(?! and)) ?[:,]|signed(?: by)?|born as|née"
    r"|(?:best |kind |warm )?regards|sincerely|yours(?: truly| faithfully)?|best wishes)[,.]?)"
    r"|(?i:(?:is|are|was|were|be) (?:called|named)|named|calls? (?:me|him|her|them|us)"
    r"|'s (?:first |last )?name|nam(?:e )?is|cheers,|(?:from|to|cc|user|customer|caller)(?= ?:) ?:)"
    r"|(?P<bare>(?<![.\w])(?i:name) ?:)"
    r"|(?:Mr|Mrs|Ms|Miss|Mx|Dr|Prof|Professor|Rev|Messrs|Nurse|Judge|Attorney|Detective)\.?"
    r"|(?:mr|mrs|ms|dr)\."
    rf")\s{{1,2}}(?:(?:Mr|Mrs|Ms|Dr|Prof)\.? )?{_VALUE}"
)
# A person stands after these, known by name or not: "the tenant Chinedu Okafor".
_ROLE = re.compile(rf"(?<![A-Za-z])(?i:{any_of('english roles')})[,:]? {_VALUE}")
# A name stands after these if it is on a list.
_LIKELY = re.compile(
    r"(?<![A-Za-z])(?i:i'?m|i am|this is|it'?s|it was|call me|dear|hi|hello|hey|said|starring|heard"
    r"|add|thanks|thank you|ask(?:ed)?|met|saw|told|tell|email|e-mail|contact|call"
    r"|forward(?:ed)? (?:it|this) to|according to|by|for|from|with|to|of|about|and|does|is|did|has)"
    rf",? {_VALUE}"
)
_ANY = re.compile(rf"(?<![{_LETTERS}'.-]){_VALUE}")
_SPEAKS = re.compile(
    rf"(?:^|(?<=\n))(?P<value>{_FULL})(?=: )|(?P<here>{_FULL})(?= (?:here|speaking)[.,!])"
)
# A short greeting or farewell, and a title in capitals: the given name may be a word too.
_GREETED = re.compile(
    rf"(?<![A-Za-z])(?i:hi|hello|dear|thanks|thank you|cheers|bye|regards),? (?P<value>{_WORD})"
    rf"(?=[,.!?]|\s*$)"
)
_SHOUTED = re.compile(
    rf"(?<![A-Za-z])(?:MR|MRS|MS|DR)\.? (?P<value>[{_CAPITAL}]{{2,}}(?: [{_CAPITAL}]{{2,}})?)"
    rf"(?![{_LETTERS}])"
)
_HERE = re.compile(r"(?<![A-Za-z])(?i:this is) (?P<value>[a-z]{2,15}) (?i:speaking|here|calling)\b")
_LOWER = re.compile(
    r"(?<![A-Za-z])(?i:my name is|my name's|i am called) "
    r"(?P<value>[a-z]{2,15}(?: [a-z]{2,15})?)(?![A-Za-z])"
)


def find(plain: str) -> Iterator[Span]:
    """Names in folded text."""
    for match in _SURE.finditer(plain):
        part = _trimmed(match["value"])
        if match["bare"] and not names().is_given(_bare(part.partition(" ")[0])):
            part = _listed(part, single=False)  # "name: String" stands in programs
        certain = bool(match["own"] or (match["bare"] and part))
        yield from _span(match, "value", part, certain=certain)
    for match in _ROLE.finditer(plain):
        part = _trimmed(match["value"])
        unknown = " " not in part and not names().is_name(_bare(part))
        yield from _span(match, "value", "" if unknown else part, certain=False)
    for match in _SPEAKS.finditer(plain):
        group = "value" if match["value"] else "here"
        yield from _span(match, group, _listed(match[group], single=True), certain=False)
    for match in _LIKELY.finditer(plain):
        yield from _span(match, "value", _listed(match["value"], single=True), certain=False)
    for match in _ANY.finditer(plain):
        yield from _span(match, "value", _listed(match["value"], single=False), certain=False)
    yield from _addressed(plain)
    for match in _LOWER.finditer(plain):
        yield from _span(match, "value", _lower(match["value"]), certain=True)


def _addressed(plain: str) -> Iterator[Span]:
    """Names after a greeting or a title, and of who speaks."""
    for match in _GREETED.finditer(plain):
        bare = _bare(match["value"])
        if bare in names().given and bare not in _NO_NAMES | names().places:
            yield from _span(match, "value", match["value"], certain=False)
    for match in _SHOUTED.finditer(plain):
        listed = [word for word in match["value"].split() if names().is_name(_bare(word))]
        yield from _span(match, "value", match["value"] if listed else "", certain=False)
    for match in _HERE.finditer(plain):
        known = match["value"] in names().given and match["value"] not in _NO_NAMES
        yield from _span(match, "value", match["value"] if known else "", certain=False)


def is_telling(word: str) -> bool:
    """Whether a part of a name points to a person wherever it stands in a conversation."""
    bare = _bare(word)
    known = names()
    return len(bare) > 2 and bare not in _NO_NAMES | known.marked | known.places


def _span(match: re.Match[str], group: str, part: str, *, certain: bool) -> Iterator[Span]:
    if part:
        start = match.start(group) + match[group].index(part)
        yield Span(start, start + len(part), "NAME", certain)


def _bare(word: str) -> str:
    return word.casefold().removesuffix("'s")


def _trimmed(value: str) -> str:
    """The words up to the first that is none of a name; "" if that is the first."""
    kept: list[str] = []
    for word in value.split(" "):
        bare = _bare(word)
        if bare in _NO_NAMES and (not names().is_name(bare) or not _fits(kept, bare)):
            break
        kept.append(word)
    return " ".join(kept).removesuffix("'s")


def _fits(before: list[str], word: str) -> bool:
    """Whether a word that is seldom a name is one here: June Carter, Jonathan Green."""
    if before:
        return word in names().frequent
    return word in ("may", "june", "april", "august")


def _listed(value: str, *, single: bool) -> str:
    """The part of some capitalised words that is a name by the lists; "" if none is.

    Args:
        value: words that stand together.
        single: whether one listed word is enough although it may be a surname.
    """
    known = names()
    words = value.split(" ")
    for start, word in enumerate(words):
        bare = [_bare(other) for other in words[start:]]
        if bare[0] in _NO_NAMES and bare[0] not in known.given:
            continue
        if bare[0] in _ASKING and len(bare) > 1 and _is_asked_about(*bare[:2]):
            continue  # Can Ann join? Will Bob?
        length = _length(bare)
        if length > 1:
            return " ".join(words[start : start + length]).removesuffix("'s")
        if word.isupper() or bare[0] in _NO_NAMES:
            continue
        alone = single and len(bare) == 1 and bare[0] in known.frequent and known.is_firm(bare[0])
        if known.is_given(bare[0]) or alone:
            return word.removesuffix("'s")
    return ""


def _is_asked_about(verb: str, name: str) -> bool:
    return names().is_given(name) and (verb == "can" or name not in names().frequent)


def _length(words: list[str]) -> int:
    """How many of the words are one name: a given name, initials, joints, and a surname."""
    known = names()
    taken, parts = 1, [words[0]]
    for position, word in enumerate(words[1:], start=1):
        if len(word.rstrip(".")) == 1 or re.fullmatch(_JOINT, word):
            continue
        if word in _NO_NAMES and not (word in known.frequent and known.is_given(words[0])):
            break
        parts.append(word)
        taken = position + 1
    if len(parts) < 2:
        return 1
    first, last = parts[0], parts[-1]
    given = first in known.given or first.partition("-")[0] in known.given
    family = last in known.surnames or last.partition("-")[0] in known.surnames
    firm = [part for part in parts if known.is_firm(part)]
    if given and firm and (family or first not in known.marked | known.places):
        return taken
    if first in known.common_given and last in known.common_surnames:
        return taken
    return taken if first in known.surnames and family and len(firm) == len(parts) else 1


def _lower(value: str) -> str:
    """Lower-case words after "my name is": the given name, and a surname that is no word."""
    known = names()
    first, _, second = value.partition(" ")
    if first in _NO_NAMES or not (known.is_given(first) or first in known.common_given):
        return ""
    return value if second in known.surnames and second not in known.marked else first
