"""Forms of Chinese names that need no surname in front, or no more than one.

Nicknames (小张, 阿明), a surname with a title (孙经理, 上官先生) or alone (我姓欧阳), names with
a middle dot, which are one name, and what follows 我叫 or 姓名： whether or not it begins with a
surname.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator

from lorareg.trainers.data.redact.span import Span
from lorareg.trainers.data.redact.words import any_of, names, section

Tokens = list[tuple[int, str, str]]
_HAN = "[\u4e00-\u9fff]"
_DOT = "[·•・‧]"
_FOREIGN = f"[{''.join(sorted(section('foreign characters')))}]"
_SURNAME = (
    f"(?:{any_of('compound surnames')}|"
    f"[{''.join(sorted(section('surnames') - section('function characters')))}])"
)
_OF_MANY = f"(?:{any_of('nickname surnames')})"
_NEVER = section("never given") | section("dishes")
_NO_ANSWERS = section("no answers")
# Where a new word surely begins: at the start, after what is not Chinese, after some words.
_BEGINS = (
    rf"(?:(?<!{_HAN})|(?<=[找请问叫是给和跟与让帮替对由被姓])|(?<=联系)|(?<=客服)|(?<=叫我)"
    r"|(?<=我的)|(?<=感谢)|(?<=谢谢)|(?<=告诉)|(?<=同事)|(?<=转告))"
)
_ENDS = (
    r"(?=$|[^\u4e00-\u9fff]|[你您]?好|[说在的来是吧啊呀吗呢和跟与给让帮把也都就已为去昨今明刚]"
    r"|您|先生|同学|师傅|马上|正在|负责)"
)
_NICKNAMES = re.compile(rf"{_BEGINS}(?P<value>[小老阿]{_OF_MANY}){_ENDS}")
_SERVES = re.compile(
    rf"(?:客服|顾问|专员|助理|店长|叫我)(?P<value>[小阿](?![姐时哥二店程心白]){_HAN}){_ENDS}"
)
_TITLED = re.compile(rf"{_BEGINS}(?P<value>{_SURNAME})(?P<title>{any_of('titles')})")
_CHIEF = re.compile(
    rf"{_BEGINS}(?P<value>{_OF_MANY})(?=[总工哥姐董](?:$|[^\u4e00-\u9fff]|[你您]?好|[说在的]))"
)
_RARE = re.compile(
    rf"(?<!{_HAN})(?P<value>(?![老小大女男某位这那该此两几各名个的])({_HAN}))(?=先生|女士)"
)
_FAMILY = re.compile(rf"(?:我|免贵|本人|他|她|客户|对方)姓(?P<value>{_SURNAME}|{_HAN}(?!{_HAN}))")
_MIXED = re.compile(
    rf"{_BEGINS}(?P<value>{_SURNAME}(?P<given>[A-Z][a-z]{{1,11}}(?: [A-Z][a-z]{{1,11}})?))"
    r"(?![A-Za-z])"
)
_SPACED = re.compile(
    rf"(?:{any_of('labels')}) ?(?:[:是为]) ?(?P<value>{_SURNAME} {{1,3}}{_HAN}{{1,2}})(?!{_HAN}|:)"
)
_CALLED = re.compile(
    r"(?:(?:我叫做?|我的名字叫?做?是?|名叫|我名叫"
    rf"|(?P<label>(?:{any_of('labels')})(?:是|为|:| ){{1,3}}))"
    rf"(?P<value>{_HAN}{{2,5}}(?:{_DOT}{_HAN}{{1,8}}){{0,4}}))(?P<open>{_HAN})?"
)
_DOTTED = re.compile(rf"{_HAN}{{1,8}}(?:{_DOT}{_HAN}{{1,8}}){{1,4}}")
_FOREIGN_END = re.compile(
    rf"(?:太郎|次郎|[一二三]郎|{_FOREIGN}{{1,3}}(?!{_HAN})|(?:{_FOREIGN}{{1,3}})?(?=先生|女士))"
)


def find(text: str, tokens: Callable[[], Tokens], is_word: Callable[[str], bool]) -> Iterator[Span]:
    """Names in folded text.

    Args:
        text: what is read.
        tokens: its words with offset and part of speech.
        is_word: whether the dictionary knows a name as an ordinary word.
    """
    for pattern in (_NICKNAMES, _SERVES, _CHIEF, _RARE, _FAMILY, _SPACED):
        for match in pattern.finditer(text):
            yield Span(match.start("value"), match.end("value"), "NAME", certain=False)
    yield from _with_one_surname(text, is_word)
    for match in _CALLED.finditer(text):
        if end := _called(match, tokens, is_word):
            yield Span(match.start("value"), end, "NAME")
    for match in _DOTTED.finditer(text):
        if span := _dotted(match, tokens()):
            yield span


def _with_one_surname(text: str, is_word: Callable[[str], bool]) -> Iterator[Span]:
    """A surname before a title (孙经理) or before a given name in Latin script (张Wei)."""
    for match in _TITLED.finditer(text):
        if not is_word(match[0]):
            yield Span(match.start("value"), match.end("value"), "NAME", certain=False)
    for match in _MIXED.finditer(text):
        if all(names().is_name(word.casefold()) for word in match["given"].split()):
            yield Span(match.start("value"), match.end("value"), "NAME", certain=False)


def has_sentence_characters(name: str) -> bool:
    """Whether a supposed name has what no name has: 钱不够, 白切鸡; or is doubled: 谢谢."""
    return name[:1] == name[1:2] or any(character in _NEVER for character in name[1:])


def grown(text: str, end: int) -> int:
    """Where a foreign name ends of which the dictionary knows the beginning: 霍尔|顿."""
    rest = _FOREIGN_END.match(text, end)
    return rest.end() if rest else end


def _called(
    match: re.Match[str], tokens: Callable[[], Tokens], is_word: Callable[[str], bool]
) -> int:
    """Where a name ends after 我叫 or 姓名：; 0 if what stands there is none."""
    name, start = match["value"], match.start("value")
    if re.search(_DOT, name):
        return match.end("value") if not match["open"] else 0  # _dotted finds where it ends
    if any(stop in name for stop in _NO_ANSWERS) or name[0] in _NEVER:
        return 0
    if re.search(f"(?:{any_of('titles')})$", name):
        return 0  # the surname before the title is found as such
    if re.match("[小阿]", name) and (match["open"] or len(name) > 3):
        ends = {at + len(word) for at, word, _ in tokens()}
        name = name[:2] if start + 2 in ends else name[:3]
    elif match["open"] or len(name) > 4:
        foreign = re.match(f"{_FOREIGN}{{3,5}}", name)
        name = foreign[0] if foreign else ""
    filled_in = match["label"] and not match["open"] and len(name) == 2
    if not name or has_sentence_characters(name) or (is_word(name) and not filled_in):
        return 0
    return start + len(name)


def _dotted(match: re.Match[str], tokens: Tokens) -> Span | None:
    """A name of parts with a dot between, without the words around it."""
    text, base = match[0], match.start()
    dots = [base + dot.start() for dot in re.finditer(_DOT, text)]
    start, end = dots[0], dots[-1] + 1
    first = bisect_left(tokens, base, key=lambda token: token[0])
    last = bisect_left(tokens, match.end(), key=lambda token: token[0])
    near = tokens[first:last]
    for at, word, tag in reversed(near):
        if at + len(word) == start and (start == dots[0] or _is_foreign(word, tag)):
            start = at
    for at, word, tag in near:
        begun = end > dots[-1] + 1
        if at == end and at + len(word) <= match.end() and (not begun or _is_foreign(word, tag)):
            end = at + len(word)
    before = re.compile(f"{_FOREIGN}+$").search(text, 0, dots[0] - base)
    after = re.compile(f"{_FOREIGN}+").match(text, dots[-1] + 1 - base)
    start = min(start, base + before.start()) if before else start
    end = max(end, base + after.end()) if after else end
    parts = re.split(_DOT, text[start - base : end - base])
    foreign = [part for part in parts if re.fullmatch(f"{_FOREIGN}{{2,8}}", part)]
    return Span(start, end, "NAME", certain=False) if foreign else None


def _is_foreign(word: str, tag: str) -> bool:
    return tag.startswith("nr") or re.fullmatch(f"{_FOREIGN}+", word) is not None
