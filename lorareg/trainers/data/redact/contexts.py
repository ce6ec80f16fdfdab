"""Personal data that only the words before it give away: dates of birth, record numbers, accounts.

A number in such a place is taken whether or not its checksum holds: a mistyped one is as personal.
"""

from __future__ import annotations

import re

from lorareg.trainers.data.redact.span import Recogniser

MONTH = (
    r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|"
    r"Sept?(?:ember)?|Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?)\.?"
)
DATE = (
    r"(?:(?:19|20)\d\d ?[-/.年] ?\d{1,2} ?[-/.月] ?\d{1,2} ?[日号]?"
    r"|\d{1,2} ?[-/.] ?\d{1,2} ?[-/.] ?(?:19|20)?\d\d"
    rf"|{MONTH} \d{{1,2}}(?:st|nd|rd|th)?,? (?:19|20)\d\d"
    rf"|\d{{1,2}}(?:st|nd|rd|th)?(?: of)? {MONTH},? (?:19|20)\d\d"
    r"|(?:19|20)\d{6}(?!\d)"
    r"|(?:19|20)\d\d年\d{1,2}月"
    r"|[一二][九〇零○]?[〇零○一二三四五六七八九]{2,3}年[一二三四五六七八九十]{1,3}月"
    r"[一二三四五六七八九十]{1,3}[日号])"
)
# Dates without a day or with a year of two digits: dates of birth only after words that say so.
_SHORT_DATE = (
    rf"(?:\d{{2}}年\d{{1,2}}月(?:\d{{1,2}}[日号]?)?|{MONTH},? (?:19|20)\d\d"
    rf"|\d{{1,2}}(?:st|nd|rd|th)? {MONTH},? '?\d\d|{MONTH} \d{{1,2}}(?:st|nd|rd|th)?,? '?\d\d)"
)
_IS = (
    r"[\s:=#为是于在-]{0,4}"
    r"(?:(?:is|was|are|on|of|no\.?|number|code|号码?|编号)[\s:#是为-]{0,3}){0,2}"
)


def _after(kind: str, words: str, value: str) -> Recogniser:
    """A value right after words that announce it."""
    latin = r"(?<![A-Za-z])" if words[:1].isascii() else ""
    return Recogniser(
        kind, re.compile(rf"{latin}(?:{words}){_IS}(?P<value>{value})(?![0-9A-Za-z])", re.I)
    )


def _phone_length(value: str) -> bool:
    return 7 <= sum(character.isdigit() for character in value) <= 15


_NUMBER = r"[A-Za-z]{0,3}-?\d(?:[\d-]{2,18}\d)"
BIRTHDATES = (
    Recogniser(
        "BIRTHDATE",
        re.compile(
            r"(?<![A-Za-z])(?:born(?: in [A-Z]\w+,?)?|birth ?da(?:y|te)s?|date of birth|b\."
            r"|d\.? ?o\.? ?b\.?)[\s:,.?(-]{0,3}(?:(?:is|it is|it's|was|falls|on)[\s:]){0,2}"
            rf"(?:in )?(?P<value>{DATE}|{_SHORT_DATE})(?![0-9A-Za-z])",
            re.I,
        ),
    ),
    Recogniser(
        "BIRTHDATE",
        re.compile(
            r"(?:出生(?:日期|年月日?|时间|于)?|生于|诞生于?|生日|生辰)"
            rf"(?:是|为|在|:| |,|，|农历|阳历){{0,3}}(?P<value>{DATE}|{_SHORT_DATE})"
        ),
    ),
    Recogniser(
        "BIRTHDATE", re.compile(rf"(?P<value>{DATE}) ?(?:出生|生人|生于|诞生|生[,，。;；)])")
    ),
)
MEDICAL_RECORDS = (
    _after(
        "MEDICAL_RECORD",
        r"MRN|medical record|(?:hospital|patient|chart|admission)[ -]?(?:id|no\.?|number|#)",
        _NUMBER,
    ),
    _after(
        "MEDICAL_RECORD",
        r"(?:病历|病案|住院|门诊|就诊|就诊卡|诊疗卡|医保卡?|社保卡?|检查|检验|病人|患者|病理)(?:号码?|ID|编号)",
        _NUMBER,
    ),
)
NATIONAL_IDS = (
    _after(
        "NATIONAL_ID",
        r"SSN|social security|national insurance|NINO|ITIN|tax(?:payer)? id|national id",
        r"\d{3}[- ]?\d{2}[- ]?\d{4}|[A-Z]{2} ?\d{2} ?\d{2} ?\d{2} ?[A-D]|\d{15,18}[Xx]?",
    ),
    _after(
        "NATIONAL_ID",
        r"身份证(?:件)?(?:号码?)?|公民身份号码|证件号码?|身份号码",
        r"\d{15}(?:\d{2}[\dXx])?|\d{6} \d{8} \d{3}[\dXx]",
    ),
)
PASSPORTS = (
    _after("PASSPORT", r"passport|travel document", r"[A-Z]{1,2}\d{6,8}|\d{9}"),
    _after(
        "PASSPORT",
        r"护照|通行证|台胞证|回乡证|旅行证",
        r"[A-Z]{1,2}\d{6,10}|\d{8,9}",
    ),
)
BANK_CARDS = (
    _after(
        "BANK_CARD",
        r"(?:credit|debit|bank|visa|master|payment)[ -]?card|card number|card no|card|cc",
        r"\d(?:[ -]?\d){11,18}",
    ),
    _after(
        "BANK_CARD", r"银行卡|信用卡|储蓄卡|借记卡|(?<![\u4e00-\u9fff])卡", r"\d(?:[ -]?\d){12,18}"
    ),
)
ACCOUNTS = (
    _after(
        "ACCOUNT",
        r"(?:bank |checking |savings )?account (?:number|no\.?|#)|routing number|sort code",
        r"\d[\d -]{4,20}\d",
    ),
    _after("ACCOUNT", r"账号|帐号|账户|帐户", r"\d[\d -]{5,22}\d"),
    _after("ACCOUNT", r"QQ|扣扣|企鹅号", r"[1-9]\d{4,11}"),
    _after(
        "ACCOUNT",
        r"微信|薇信|威信|V信|VX|WX|抖音|支付宝|微博|小红书|快手|陌陌",
        r"(?=[A-Za-z0-9_-]*[0-9_-])[A-Za-z][A-Za-z0-9_-]{4,19}|\d{6,11}",
    ),
    _after(
        "ACCOUNT",
        r"wechat|weixin|whats ?app|telegram|skype|snapchat|instagram|line id|discord|twitter",
        r"@?(?=[A-Za-z0-9_.-]*[0-9_])[A-Za-z][A-Za-z0-9_.-]{3,30}[A-Za-z0-9_]",
    ),
)
PHONES = (
    Recogniser(
        "PHONE",
        re.compile(
            r"(?<![A-Za-z])(?:tel|phone|telephone|mobile|cell|cellphone|fax|call|text|dial|whatsapp"
            r"|ring|reach)(?: number| no\.?)?(?: me| us| him| her| them)?"
            r"(?: is| at| on| under|:|\.|,)?[ :]{0,2}"
            r"(?P<value>\+?\(?\d[\d() .-]{5,18}\d)(?![\dA-Za-z])",
            re.I,
        ),
        _phone_length,
    ),
    Recogniser(
        "PHONE",
        re.compile(
            r"(?:电话|手机|座机|传真|致电|拨打|来电|联系方式|热线|分机)(?:号码?)?(?:是|为|:| )*"
            r"(?P<value>\+?\(?\d[\d() .-]{5,24}\d)(?![\dA-Za-z])"
        ),
        _phone_length,
    ),
    Recogniser(
        "PHONE",
        re.compile(
            r"(?<![A-Za-z])my (?:new |work |home |old )?number(?: is|'s|:)? ?:?"
            r"(?P<value>\+?\(?\d(?:[() .-]{0,2}\d){6,14})(?![\dA-Za-z])",
            re.I,
        ),
    ),
)
ALL = (
    *BIRTHDATES, *MEDICAL_RECORDS, *NATIONAL_IDS, *PASSPORTS, *BANK_CARDS, *ACCOUNTS, *PHONES,
)  # fmt: skip
