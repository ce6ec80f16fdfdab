"""Which words and tags captions are made of, also where a language writes no spaces.

Captions are tag lists ("zhangsan, red coat, smiling") or sentences. What stands between commas and
is short is one term; longer parts are split into words, without those that every sentence has.
Languages that write no spaces are split into runs of two to eight characters: those that come more
than once, and of runs within one another only the longest. (A dictionary splits better, but that is
19 MB of jieba for naming what a dataset is about, where what is repeated is enough.)
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping

TAG_WORDS = 4  # words; a longer part between commas is a sentence
TAG_CHARACTERS = 6  # of a language without spaces
RUNS = range(2, 9)  # characters
CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uac00-\ud7af"
BETWEEN_TAGS = re.compile(r"[,;|\n，、；。！？]|[.!?](?=\s|$)")
WORD = re.compile(rf"[{CJK}]|[^\W_{CJK}]+(?:['’_-][^\W_{CJK}]+)*")
CJK_RUN = re.compile(rf"[{CJK}]+")
STOP_WORDS = frozenset(
    WORD.findall(
        "a about above after against all along also am an and another any are around as at be "
        "because been before behind being below beside between both but by can could did do does "
        "doing down each few for from further had has have having he her here hers him his how i "
        "if in inside into is it its itself just like me more most my near no nor not of off on "
        "one only onto or other our out over own she so some such than that the their them then "
        "there these they this those through to too two under until up very was we were what when "
        "where which while who whose why will with within without would you your"
    )
)
STOP_CHARACTERS = re.compile(
    "一个|一位|一只|一张|一种|这个|那个|正在|以及|或者|并且|因为|所以|但是|"
    "[的了着在是和与及或也都把被从其之这那他她它我你们而很就还]|[はがをにのとでもへや]"
)


def top(captions: Iterable[str], count: int) -> list[tuple[str, int]]:
    """The terms that most captions have, with the number of captions; equal ones by alphabet.

    >>> top(["一个研究员站在金属台前", "张三看着金属台", "zhangsan, red coat"], 3)
    [('金属台', 2), ('red coat', 1), ('zhangsan', 1)]
    """
    whole: Counter[str] = Counter()
    runs: Counter[str] = Counter()
    for caption in captions:
        terms, parts = of_caption(caption)
        whole.update(terms)
        runs.update(parts | terms)
    repeated = {run: number for run, number in runs.items() if number > 1}
    shown = _without_parts({**whole, **repeated})
    return sorted(shown.items(), key=lambda item: (-item[1], item[0]))[:count]


def of_caption(caption: str) -> tuple[set[str], set[str]]:
    """The terms of one caption, and all runs of characters of a language without spaces.

    >>> sorted(of_caption("Zhang San, red coat, he is standing in front of an old wooden gate")[0])
    ['front', 'gate', 'old', 'red coat', 'standing', 'wooden', 'zhang san']
    >>> terms, runs = of_caption("张三，红外套")
    >>> sorted(terms), sorted(runs - terms)
    (['张三', '红外套'], ['外套', '红外'])
    """
    terms: set[str] = set()
    runs: set[str] = set()
    for part in BETWEEN_TAGS.split(unicodedata.normalize("NFKC", caption).lower()):
        tag = " ".join(part.split()).strip(" .!?'\"()[]{}:")
        words = WORD.findall(tag)
        is_cjk = bool(CJK_RUN.search(tag))
        if len(words) <= (TAG_CHARACTERS if is_cjk else TAG_WORDS):
            terms.add(tag)
        else:
            terms.update(word for word in words if not CJK_RUN.fullmatch(word))
        for run in CJK_RUN.findall(STOP_CHARACTERS.sub(" ", tag)):
            runs.update(_inner(run))
    return {term for term in terms if term not in STOP_WORDS and len(term) > 1}, runs


def words(caption: str) -> int:
    """Length of a caption: words, and characters of languages that write no spaces.

    >>> words("zhangsan, 红色外套"), words("a red coat")
    (5, 3)
    """
    return len(WORD.findall(unicodedata.normalize("NFKC", caption)))


def _inner(run: str) -> set[str]:
    """Every part of a run that is two to eight characters long, itself among them."""
    return {run[i : i + n] for n in RUNS for i in range(len(run) - n + 1)}


def _without_parts(found: Mapping[str, int]) -> dict[str, int]:
    """Leave out runs that never stand without the same longer one."""
    parts = {
        part
        for term, count in found.items()
        if CJK_RUN.fullmatch(term)
        for part in _inner(term) - {term}
        if found.get(part) == count
    }
    return {term: count for term, count in found.items() if term not in parts}
