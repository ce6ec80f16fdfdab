"""Postal addresses: a street with its number, and what is written before and after it.

A city alone is no address: it is let pass, unless the words before it say that somebody lives
there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from lorareg.trainers.data.redact.span import Recogniser, Span

_HAN = "[\u4e00-\u9fff]"
_PROVINCE = (
    "(?:北京|天津|上海|重庆|河北|山西|辽宁|吉林|黑龙江|江苏|浙江|安徽|福建|江西|山东|河南|湖北|湖南|广东|"
    "海南|四川|贵州|云南|陕西|甘肃|青海|台湾|内蒙古|广西|西藏|宁夏|新疆|香港|澳门)"
    "(?:市|省|(?:壮族|回族|维吾尔)?自治区|特别行政区)?"
)
_UNIT = (
    "(?:[0-9A-Za-z一二三四五六七八九十百甲乙丙丁东南西北]{1,5}-?"
    "(?:号楼|号院|院|栋|幢|座|楼|单元|层|室|号|户|房))"
)
_TAIL = rf"(?: ?{_UNIT}){{0,5}}(?:[0-9]{{1,4}}(?:-[0-9]{{1,4}}){{0,2}}(?![0-9年月日点时元块个件]))?"
_STREET = (
    rf"{_HAN}{{1,12}}?(?:路|街|道|巷|弄|胡同|里|段|村|区|园|苑|庄)"
    r"(?:[东南西北中]?[0-9一二三四五六七八九十]{0,2}段?)"
)
_CORE = re.compile(
    rf"(?:{_STREET}[0-9]{{1,5}}(?:-[0-9]{{1,4}})?(?:号院?|弄)(?!线|电|机){_TAIL}"
    rf"|{_HAN}{{2,10}}[0-9]{{1,4}}(?:号楼|栋|幢|座)(?: ?{_UNIT}){{1,4}})"
    r"(?:[\u4e00-\u9fffA-Z]{2,8}(?:大厦|广场|小区|花园|公寓|中心)[0-9]{0,4}室?)?"
)
_REGION = re.compile(rf"{_HAN}{{1,7}}?(?:省|自治区|市|自治州|区|县|旗|镇|乡|街道)")
# What stands before an address; of several, the last one counts.
_LEAD = re.compile(
    "住址|地址|住在|家住|居住于|居住在|位于|寄到|寄往|寄至|送到|送至|送往|发到|发往|搬到|来到|回到|前往|户籍|籍贯"
    "|[在到至往从去是为住寄和与]|[^\u4e00-\u9fff]"
)
_LIVES = re.compile(
    rf"(?:住址|地址|户籍地?|籍贯|现住|家住|居住[于在]|住在)[是为在: ]{{0,2}}"
    rf"(?P<value>(?:{_PROVINCE})?(?:{_HAN}{{1,6}}?(?:市|州|盟|区|县|旗|镇|乡|街道|村)){{2,5}})"
)
_WORD = r"(?:[A-Z][A-Za-zÀ-ɏ'.-]{0,40}|\d{1,3}(?:st|nd|rd|th))"
_KIND = (
    "(?:Street|St|Avenue|Ave|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Dr|Court|Ct|Place|Pl|Square|Sq|"
    "Terrace|Way|Parkway|Pkwy|Circle|Cir|Highway|Hwy|Close|Crescent|Row|Mews|Trail|Loop|Alley|Walk)"
)
_FLAT = r"(?:,? (?:Apt|Apartment|Suite|Ste|Unit|Flat|Floor|Fl|Room|Rm|#)\.? ?#?[0-9A-Za-z-]{1,6})"
_STATE = (
    "(?:A[AEKLPRSZ]|C[AOT]|D[CE]|F[LM]|G[AU]|HI|I[ADLN]|K[SY]|LA|M[ADEHINOPST]|N[CDEHJMVY]|O[HKR]|P[ARW]|"
    "RI|S[CD]|T[NX]|UT|V[AIT]|W[AIVY])"
)
_POSTCODE = r"(?:[A-Z]{2},? \d{5}(?:-\d{4})?|[A-Z]{1,2}\d[A-Z\d]? \d[A-Z]{2}|\d{5})(?![0-9A-Za-z])"
_CITY = rf"(?:,? {_WORD}(?: {_WORD}){{0,2}}(?:, [A-Z][a-z]+)?)"
ENGLISH = (
    Recogniser(
        "ADDRESS",
        re.compile(
            r"(?<![0-9A-Za-z$.,])(?<!Section )(?<!Chapter )(?<!Figure )(?:Flat [0-9A-Z]{1,4},? )?"
            rf"\d{{1,6}}(?:-\d{{1,5}})?[A-Za-z]? (?:{_WORD} ){{1,4}}{_KIND}(?![A-Za-z])"
            rf"(?:\.(?=,| [A-Z#]|$| [a-z]))?{_FLAT}?(?:{_CITY}?,? {_POSTCODE})?"
        ),
    ),
    Recogniser(  # any street of the United States, told by state and ZIP code
        "ADDRESS",
        re.compile(
            rf"(?<![0-9A-Za-z$.,])(?:\d{{1,6}} (?:{_WORD} ){{0,5}}{_WORD}\.?{_FLAT}?,?"
            rf"|(?:PSC|Unit|USNS|USS|USNV|USCGC) (?:[0-9]+|{_WORD}),?(?: Box \d+,?)?)"
            rf"(?: {_WORD}){{0,3}},? {_STATE} \d{{5}}(?:-\d{{4}})?(?![0-9A-Za-z])"
        ),
    ),
    Recogniser(
        "ADDRESS",
        re.compile(rf"(?<![A-Za-z])P\.? ?O\.? Box \d{{1,6}}(?:{_CITY}?,? {_POSTCODE})?", re.I),
    ),
    Recogniser(  # streets of France, Germany, Spain and Italy, where the number comes last
        "ADDRESS",
        re.compile(
            r"(?<![A-Za-z])(?:\d{1,4},? (?:rue|avenue|boulevard|place) (?:de |du |des |la |l')*"
            r"[A-ZÀ-Ý][\w'-]+(?: [A-ZÀ-Ý][\w'-]+){0,2}"
            r"|[A-ZÄÖÜ][\wäöüß-]{0,40}(?:stra(?:ß|ss)e|str\.|weg|platz|allee) \d{1,4}[a-z]?"
            r"|(?:Calle|Avenida|Via|Piazza) [A-Z]\w+(?: [A-Z]\w+){0,2},? \d{1,4})"
            r"(?:, (?:[A-Z]-?)?\d{4,5} [A-ZÀ-Ý][\w'-]+)?"
        ),
    ),
)


def find(text: str) -> Iterator[Span]:
    """Addresses in folded text, English and Chinese."""
    for recogniser in ENGLISH:
        yield from recogniser.find(text)
    for match in _CORE.finditer(text):
        yield Span(_beginning(text, match.start(), match.end()), match.end(), "ADDRESS")
    for match in _LIVES.finditer(text):
        yield Span(match.start("value"), match.end("value"), "ADDRESS")


def _beginning(text: str, start: int, end: int) -> int:
    """Where a Chinese address begins, of which ``start`` is somewhere in the first third.

    A province begins it; otherwise the words that lead to it end before it. A lead inside a name
    of a district (于洪区) is none: what stands before it ends with 市, 省 or 区 then.
    """
    floor = max(0, start - 24)
    whole = text[floor:end]
    if provinces := list(re.finditer(_PROVINCE, whole)):
        first = provinces[0]
        gap = whole[first.end() : start - floor]
        if not re.search("[^\u4e00-\u9fff]", gap):
            return floor + first.start()
    cuts = [
        lead.end()
        for lead in _LEAD.finditer(whole, 0, max(start - floor, 0) + 12)
        if whole[lead.start() - 1 : lead.start()] not in ("市", "省", "区", "县")
        and (_REGION.match(whole, lead.end()) or _CORE.match(whole, lead.end()))
    ]
    return floor + cuts[-1] if cuts else start
