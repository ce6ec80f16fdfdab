"""Names of people in Chinese characters: a surname, one or two more characters, and what is around.

Chinese has no capitals and no spaces, so words are told apart by jieba's dictionary (``rjieba``):
高兴 is a word and no Mr. Gao. Where a name must stand (after 姓名 or 患者, before 先生) a surname
is enough; elsewhere it takes a word that the dictionary knows as a name, or unknown characters
between words that go with people.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property

import rjieba

from lorareg.trainers.data.redact import chinese_forms
from lorareg.trainers.data.redact.span import Span
from lorareg.trainers.data.redact.words import any_of, section

_HAN = "[\u4e00-\u9fff]"
_ROLE, _LABEL, _TITLE = any_of("roles"), any_of("labels"), any_of("titles")
_NAMED = re.compile(
    rf"(?:(?P<label>(?:{_LABEL})(?:是|为|:| ){{1,3}})"
    r"|(?P<own>我叫做?|我的名字叫?做?是?|名叫|叫做|名字[叫是]|我名叫|我姓名是|本人"
    rf"|(?:{_ROLE})叫|{_LABEL})"
    rf"|(?P<am>我就?是|这里是|这是)|(?P<role>(?:{_ROLE})[: ]?))(?={_HAN}{{2}})"
)
# What a person is or what kind of thing it is, not who: 安全员, 金牛座.
_CLASS = tuple("生员人座族党家师者迷民方版型工商岁年月日")
# Parts of speech, by jieba's letters, that follow a name but are never its last character.
_NOT_GIVEN = ("u", "c", "p", "v", "r", "m", "d", "y", "f", "x", "t", "q")
_SURNAMES, _COMPOUND = section("surnames"), section("compound surnames")
_WORDS, _FUNCTION = section("chinese words"), section("function characters")
_BEFORE, _AFTER = section("before"), section("after")
_TRAILING = section("trailing characters")
_DISHES = section("dishes")


class _Text:
    """A text cut into words with jieba's part of speech."""

    def __init__(self, text: str) -> None:
        self.text = text

    @cached_property
    def tokens(self) -> list[tuple[int, str, str]]:
        """Offset, word, tag."""
        found, at = [], 0
        for word, tag in rjieba.tag(self.text):
            found.append((at, word, tag))
            at += len(word)
        return found

    @cached_property
    def words(self) -> dict[int, str]:
        """Offset -> the word that begins there."""
        return {at: word for at, word, _ in self.tokens}

    @cached_property
    def named(self) -> frozenset[int]:
        """Offsets where a word ends that the dictionary knows as a name."""
        return frozenset(at + len(word) for at, word, tag in self.tokens if tag.startswith("nr"))


def find(plain: str) -> Iterator[Span]:
    """Names in folded text."""
    if re.search(_HAN, plain):
        text = _Text(plain)
        yield from _announced(text)
        yield from _titled(text)
        yield from _alone(text)
        yield from chinese_forms.find(plain, lambda: text.tokens, is_word)


def is_word(name: str) -> bool:
    """Whether it is an ordinary word: one entry of the dictionary that is no name."""
    if name in _WORDS:
        return True
    tokens = rjieba.tag(name)
    return len(tokens) == 1 and len(name) > 1 and not tokens[0][1].startswith(("nr", "x"))


def surname(text: str) -> str:
    """The surname a text begins with; "" if there is none."""
    if text[:2] in _COMPOUND:
        return text[:2]
    return text[:1] if text[:1] in _SURNAMES else ""


def _announced(text: _Text) -> Iterator[Span]:
    """Names after words that announce one: 姓名：, 我叫, 我是, 患者."""
    for match in _NAMED.finditer(text.text):
        start = match.end()
        end = _extent(text, start)
        if not end:
            continue
        end = chinese_forms.grown(text.text, end)
        name = text.text[start:end]
        closed = re.match(_HAN, text.text[end : end + 1]) is None
        word = is_word(name)
        if (match["label"] and not (word and len(name) > 2)) or (
            match["own"] and (closed or not word)
        ):
            yield Span(start, end, "NAME")
        elif match["am"] and not word:
            if end in text.named or (closed and not name.endswith(_CLASS)):
                yield Span(start, end, "NAME", certain=False)
        elif match["role"] and not word and name[0] not in _FUNCTION:
            yield Span(start, end, "NAME", certain=closed)


def _titled(text: _Text) -> Iterator[Span]:
    """Names before a title: 王医生, 张晓明先生."""
    for match in re.finditer(_TITLE, text.text):
        for length in (4, 3, 2, 1):
            start = match.start() - length
            if start in text.words and _may_be_titled(text, start, match.start()):
                yield Span(start, match.start(), "NAME", certain=False)
                break


def _may_be_titled(text: _Text, start: int, end: int) -> bool:
    name = text.text[start:end]
    family = surname(name)
    if not family or len(name) - len(family) > 2:
        return False
    if family in _FUNCTION and end not in text.named:
        return False
    if len(name) > 1:
        return not is_word(name) and re.fullmatch(f"{_HAN}+", name) is not None
    # A single character is a word of its own: 王医生, but not 语文老师.
    word = text.words[start]
    return re.fullmatch(f"{name}(?:{_TITLE})?", word) is not None


def _alone(text: _Text) -> Iterator[Span]:
    """Names that jieba's dictionary knows, or unknown words where a name would stand."""
    before = ""
    for number, (at, word, tag) in enumerate(text.tokens):
        family = surname(word)
        if family and family not in _FUNCTION and word not in _WORDS:
            if word == family and (not before or before in _BEFORE):
                end = _extent(text, at)
                if end and _is_strange(text.text[at:end]) and _followed(text, end):
                    yield Span(at, end, "NAME", certain=False)
            elif _is_known(word, tag, family):
                end = at + len(word) + _cut_off(text, number, family)
                if len(word) == len(family) + 2 and word[-1] in _TRAILING:
                    end -= 1  # the dictionary guesses 刘洋来 where 刘洋 came
                if _is_strange(text.text[at:end]) and text.text[end : end + 1] not in _DISHES:
                    end = chinese_forms.grown(text.text, end)
                    yield Span(at, end, "NAME", certain=False)
        before = word.strip()


def _is_strange(name: str) -> bool:
    """Whether it is no word of a sentence."""
    return not is_word(name) and not chinese_forms.has_sentence_characters(name)


def _is_known(word: str, tag: str, family: str) -> bool:
    """Whether the dictionary has the word as a name; 王医生 is in it too."""
    name = tag.startswith("nr") and 0 < len(word) - len(family) <= 2
    return name and not re.search(f"(?:{_TITLE})$", word)


def _cut_off(text: _Text, number: int, family: str) -> int:
    """1 if the next word is the last character of a name that jieba cut in two: 胡佳|怡."""
    if number + 1 == len(text.tokens) or len(text.tokens[number][1]) != len(family) + 1:
        return 0
    _, word, tag = text.tokens[number + 1]
    if word in _TRAILING or tag.startswith(_NOT_GIVEN):
        return 0
    return 1 if len(word) == 1 and re.match(_HAN, word) else 0


def _followed(text: _Text, end: int) -> bool:
    return end == len(text.text) or text.words.get(end, "").strip() in _AFTER


def _extent(text: _Text, start: int) -> int:
    """Where a name that begins at ``start`` ends; 0 if none can begin there."""
    run = re.compile(f"{_HAN}{{1,12}}").match(text.text, start)
    family = surname(run[0]) if run else ""
    if not run or not family or len(run[0]) <= len(family):
        return 0
    shortest = start + len(family) + 1
    title = re.compile(_TITLE).search(text.text, shortest - 1, shortest + 6)
    if title and title.start() < shortest:
        return 0  # 张先生: only the surname is a name
    limit = min(run.end(), title.start()) if title else run.end()
    longest = min(shortest + 1, limit)
    if limit <= shortest + 1:
        return longest if longest >= shortest else 0
    if longest in text.words and shortest in text.words:
        return shortest if text.text[shortest] in _TRAILING else longest
    return longest if longest in text.words else shortest
