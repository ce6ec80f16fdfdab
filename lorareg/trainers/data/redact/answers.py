"""Personal data that only the question before it gives away: "Your date of birth?", "03/05/1984".

The last sentences of the turn before name a field; what has that field's loose form in the answer
is taken for it. No checksum is asked for: who answers so means it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from lorareg.trainers.data.redact.chinese_names import surname
from lorareg.trainers.data.redact.contexts import DATE, MONTH
from lorareg.trainers.data.redact.span import Span
from lorareg.trainers.data.redact.words import any_of, names, section

SENTENCES = 2  # "Your phone number, please. Thank you!": the field may be in the last but one
_LONGEST_SENTENCE = 300
_LONGEST_ANSWER = 300  # characters; who says more does more than answer
_LONGEST_NAME_ANSWER = 60  # characters; who says more says more than a name
_HAN = "[\u4e00-\u9fff]"


@dataclass(frozen=True)
class _Field:
    """What a question asks for, and what an answer to it looks like."""

    kind: str
    asked: re.Pattern[str]
    value: re.Pattern[str]


def _field(kind: str, asked: str, value: str) -> _Field:
    inside = rf"(?<![0-9A-Za-z])(?:{value})(?![0-9A-Za-z])"
    return _Field(kind, re.compile(asked, re.I | re.A), re.compile(inside, re.I))


_ID_LIKE = r"(?=[A-Za-z_@.-]*\d)[A-Za-z]{0,4}[ -]?\d[\dA-Za-z]*(?:[ -]?\d+)*"
_HANDLE = r"@?(?=[A-Za-z0-9_.-]*[0-9_])[A-Za-z0-9][A-Za-z0-9_.-]{3,30}"
_ANY_DATE = (
    rf"{DATE}|\d{{2}}年\d{{1,2}}月\d{{1,2}}[日号]?|{MONTH}(?: \d{{1,2}}(?:st|nd|rd|th)?)?,? \d{{4}}"
    rf"|\d{{1,2}}(?:st|nd|rd|th)?(?: of)? {MONTH},? '?\d{{2}}(?:\d\d)?|\d{{6}}|\d{{8}}"
)
# The first of them that a sentence names is what is asked for.
_FIELDS = (
    _field(
        "BIRTHDATE",
        r"date of birth|birth ?da(?:te|y)|\bd\.?o\.?b\b|born|出生|生日|生辰|哪年生|哪天生",
        _ANY_DATE,
    ),
    _field(
        "MEDICAL_RECORD",
        r"\bMRN\b|medical record|(?:hospital|patient|chart|admission)[ -]?(?:id|no\b|number)"
        r"|(?:病历|病案|住院|门诊|就诊卡?|诊疗卡|医保卡?|社保卡?|检查|检验|病人|患者|病理)(?:号|ID|编号)",
        _ID_LIKE,
    ),
    _field(
        "PASSPORT",
        r"passport|travel document|护照|通行证|台胞证|回乡证|旅行证",
        r"[A-Z]{1,2} ?\d{6,10}|\d{8,9}",
    ),
    _field(
        "NATIONAL_ID",
        r"\bSSN\b|social security|national insurance|\bNINO\b|\bITIN\b|tax(?:payer)? id"
        r"|(?:national|identity|id) (?:id|number|card)|身份证|公民身份|证件号|身份号码",
        r"\d(?:[ -]?\d){7,17}(?:[ -]?[\dX])?|[A-Z]{2} ?\d{2} ?\d{2} ?\d{2} ?[A-D]",
    ),
    _field(
        "BANK_CARD",
        r"(?:credit|debit|bank|visa|master|payment)[ -]?card|card (?:number|no\b)"
        r"|银行卡|信用卡|储蓄卡|借记卡|卡号",
        r"\d(?:[ -]?\d){11,18}",
    ),
    _field(
        "ACCOUNT",
        r"\bQQ\b|扣扣|企鹅号|微信|薇信|\bVX\b|\bWX\b|抖音|支付宝|微博|小红书|快手|陌陌|账号|帐号|账户|帐户"
        r"|account (?:number|no\b|name)|routing number|sort code|wechat|weixin|telegram|skype"
        r"|snapchat|instagram|line id|discord|twitter|user ?name",
        rf"{_HANDLE}|\d[\d -]{{3,22}}\d",
    ),
    _field(
        "PHONE",
        r"phone|\b(?:tel|mobile|cell|fax)\b|(?:reach|call|text|contact) you|whats ?app"
        r"|(?:contact|callback) (?:number|no\b)|your number"
        r"|电话|手机|座机|传真|联系方式|联系号码|号码是多少",
        r"\+?\(?\d(?:[() .-]{0,2}\d){6,14}",
    ),
)
_NAME_ASKED = re.compile(
    r"(?:your|his|her|their|the (?:patient|customer|caller|recipient|guest)'?s?"
    r"|(?:patient|customer|caller|recipient|guest|contact)'?s?)"
    r" (?:(?:full|first|last|given|family|legal|complete|good|middle|own)[ ,]+)*"
    r"(?:sur)?name\b(?! of)"
    r"|^(?:full |first |last )?name(?:,? please)?\W*$"
    r"|who (?:am i|is) (?:speaking|talking|calling)|who's (?:speaking|calling)"
    r"|贵姓|姓名|姓什么|叫什么(?!东西)|(?:您|你|他|她|患者|客户)的?(?:名字|大名)|怎么称呼|如何称呼|尊姓大名",
    re.I,
)
_LATIN_NAME = re.compile(
    r"^\W*(?:(?:sure|yes|ok|okay|hi|hello|of course)[,.!]? )?"
    r"(?:(?:it'?s|it is|this is|i'?m|i am|my (?:\w+ )?name(?: is|'s)|the name'?s?(?: is)?|name'?s?"
    r"|he'?s|she'?s|(?:he|she|they) (?:is|are)|(?:his|her|their) name is|call me) )?"
    r"(?P<value>[^\W\d_][\w'’.-]*(?: [^\W\d_][\w'’.-]*){0,3}?)"
    r"(?=[.!]?\s*$|[,.!] |, (?:please|thanks))",
    re.I,
)
_HAN_NAME = re.compile(
    r"^\W*(?:(?:好的|嗯|您好|你好)[,，。!！ ]?)?(?:免贵)?"
    r"(?:我(?:的名字)?)?(?:就?[姓叫是]|名叫|叫做)?"
    rf"(?P<value>{_HAN}{{1,5}}(?:[·•・]{_HAN}{{1,8}}){{0,3}}?)"
    rf"(?=(?:{any_of('titles')})?(?:\W|$))"
)
_NO_HAN_NAME = re.compile("[不没好的谢吗呢你您是为么了很有请我他她这那哪]|怎|知道|保密|先生|女士")


def find(question: str, answer: str) -> Iterator[Span]:
    """Personal data of a folded answer that a folded question asked for."""
    sentences = [part for part in re.split(r"(?<=[.!?。！？;；\n])", question) if part.strip()]
    asked = "".join(sentences[-SENTENCES:])[-_LONGEST_SENTENCE:].strip()
    for field in _FIELDS:
        if len(answer) <= _LONGEST_ANSWER and field.asked.search(asked):
            for match in field.value.finditer(answer):
                yield Span(match.start(), match.end(), field.kind)
    if len(answer) <= _LONGEST_NAME_ANSWER and any(
        _NAME_ASKED.search(sentence.strip()) for sentence in sentences[-SENTENCES:]
    ):
        yield from _names(answer)


def _names(answer: str) -> Iterator[Span]:
    """A short answer, or its beginning, as the name it is."""
    if (
        (match := _HAN_NAME.match(answer))
        and _is_han_name(match["value"])
        or (match := _LATIN_NAME.match(answer))
        and _is_latin_name(match["value"])
    ):
        yield Span(match.start("value"), match.end("value"), "NAME")


def _is_han_name(value: str) -> bool:
    known = surname(value) or len(value) > 1
    return bool(known) and not _NO_HAN_NAME.search(value)


def _is_latin_name(value: str) -> bool:
    """Words that may be a name: capitalised, or on a list, and none that sentences are made of."""
    words = [word.strip(".,'").casefold() for word in value.split()]
    if any(word in section("sentence words") for word in words):
        return False
    listed = any(names().is_name(word) for word in words)
    return listed or (value[:1].isupper() and words[0] not in section("no names"))
