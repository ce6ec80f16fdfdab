r"""Personal data that its own form gives away: numbers with checksums, phones, e-mail and the like.

Checksums are python-stdnum's. Patterns look at neighbours themselves instead of using ``\b``: to a
regular expression a Chinese character is a letter, so ``\b`` misses a number that stands in
Chinese text.
"""

from __future__ import annotations

import ipaddress
import re
from datetime import date

from stdnum import iban, luhn
from stdnum.cn import ric, uscc

from lorareg.trainers.data.redact.span import Recogniser

PROVINCES = "京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼"
# First digits that the card schemes own: Visa, Mastercard, Amex, JCB, Diners, Discover, UnionPay.
_CARD = re.compile(r"4|2131|1800|5[0-8]|2[2-7]|3[4-8]|6[0-9]|95|9[09]")


def _digits(text: str) -> str:
    return "".join(character for character in text if character.isdigit())


def _is_card(value: str) -> bool:
    number = _digits(value)
    return 13 <= len(number) <= 19 and bool(_CARD.match(number)) and bool(luhn.is_valid(number))


def is_resident_id(value: str) -> bool:
    """A number of 18 characters with its check digit (ISO 7064 MOD 11-2), province and birthday.

    The county may be one the library does not know: counties are renamed and merged.
    """
    number = value.upper()
    try:
        born = date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
    except ValueError:
        return False
    known = number[0] in "123456789" and number[1] in "01234567"
    right: bool = ric.calc_check_digit(number) == number[-1]
    return known and date(1880, 1, 1) < born <= date.today() and right


def _is_iban(value: str) -> bool:
    return bool(iban.is_valid(value.replace(" ", "").replace("-", ""), check_country=False))


def _is_public_ip(value: str) -> bool:
    """Addresses that every machine has (loopback, netmasks) say nothing about a person."""
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        return False
    if address.version == 6 and len(re.findall("[0-9a-fA-F]+", value)) < 3:
        return False  # "a::b" is a name in C++
    mask = value.startswith(("255.", "0."))
    return not (address.is_loopback or address.is_unspecified or mask)


def _is_international(value: str) -> bool:
    return 8 <= len(_digits(value)) <= 15


_ALONE = r"(?<![0-9A-Za-z.+@-])"  # not in the middle of a longer number, word or decimal
_END = r"(?![0-9A-Za-z]|[.-]\d)"
# Round brackets belong to an address in pairs only, and a quotation mark ends it.
_PLAIN = r"[A-Za-z0-9._~:/?#@!$&*+,;=%-]|'(?=[A-Za-z])"
URL = Recogniser(
    "URL",
    re.compile(
        r"(?<![A-Za-z0-9])(?:(?:https?|ftp)://(?:\[[0-9A-Fa-f:.]{2,45}\])?|www\.)"
        rf"(?:{_PLAIN}|\((?:{_PLAIN}){{0,200}}\)){{1,2000}}(?<![.,;:!?'])",
        re.I,
    ),
)
EMAIL = Recogniser(
    "EMAIL",
    re.compile(
        r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]{1,64} ?(?:@|[(\[]at[)\]]) ?"
        r"(?:[A-Za-z0-9-]{1,63} ?(?:\.|[(\[]dot[)\]]) ?){1,6}[A-Za-z]{2,24}(?![A-Za-z0-9-])",
        re.I,
    ),
)
PHONES = (
    Recogniser(  # a Chinese mobile: 1[3-9] and nine more digits
        "PHONE",
        re.compile(
            r"(?<![0-9A-Za-z.+@])(?<!\d-)(?:\+?\(?(?:00)?86\)?[- ]?)?"
            rf"1[3-9]\d(?:\d{{8}}|[- .]\d{{4}}[- .]\d{{4}}|(?: \d\d){{4}}){_END}"
            r"|(?<![0-9A-Za-z])\+86[- ]?1[3-9]\d[- ]?\d{4}[- ]?\d{4}" + _END
        ),
    ),
    Recogniser(  # a Chinese fixed line with its area code
        "PHONE",
        re.compile(
            rf"{_ALONE}(?:0(?:10|2\d|[3-9]\d{{2}})-|\(0\d{{2,3}}\) ?)[2-9]\d{{6,7}}"
            rf"(?:-\d{{1,5}})?{_END}"
        ),
    ),
    Recogniser(  # North America, with separators
        "PHONE",
        re.compile(
            r"(?<![0-9A-Za-z.@-])(?:(?:\+?|00)1[-. ])?(?:\([2-9]\d{2}\) ?|[2-9]\d{2}[-. ])"
            r"\d{3}[-. ]\d{4}"
            rf"(?: ?(?:x|ext\.?) ?\d{{1,5}})?{_END}"
        ),
    ),
    Recogniser(  # E.123: a plus, a country and eight to fifteen digits
        "PHONE",
        re.compile(
            r"(?<![0-9A-Za-z+])\+\d{1,3}(?:[ .-]?\(?\d{1,5}\)?){1,6}" + _END
        ),
        _is_international,
    ),
    Recogniser(  # the United Kingdom, from within
        "PHONE",
        re.compile(
            rf"{_ALONE}(?:\(?0(?:20|1\d{{2,3}}|7\d{{3}})\)? \d{{3,4}} ?\d{{3,4}}){_END}"
        ),
    ),
)  # fmt: skip
NATIONAL_IDS = (
    Recogniser(
        "NATIONAL_ID",
        re.compile(r"(?<![0-9A-Za-z])\d{6} ?(?:18|19|20)\d{6} ?\d{3}[\dXx](?![0-9A-Za-z])"),
        lambda value: is_resident_id(value.replace(" ", "")),
    ),
    Recogniser(  # a US social security number; 000, 666 and 9xx are never given out
        "NATIONAL_ID",
        re.compile(rf"{_ALONE}(?!000|666|9)\d{{3}}-(?!00)\d{{2}}-(?!0000)\d{{4}}{_END}"),
    ),
)
BANK_CARD = Recogniser(
    "BANK_CARD",
    re.compile(rf"{_ALONE}\d(?:[ -]?\d){{12,18}}{_END}"),
    _is_card,
)
IBAN = Recogniser(
    "IBAN",
    re.compile(rf"{_ALONE}[A-Z]{{2}}\d{{2}}(?: ?[A-Z0-9]{{4}}){{2,7}}(?: ?[A-Z0-9]{{1,3}})?{_END}"),
    _is_iban,
)
CREDIT_CODE = Recogniser(
    "CREDIT_CODE",
    re.compile(r"(?<![0-9A-Za-z])[0-9ANY][0-9]\d{6}[0-9A-HJ-NPQRTUWXY]{10}(?![0-9A-Za-z])"),
    lambda value: bool(uscc.is_valid(value)),
)
PLATE = Recogniser(
    "PLATE",
    re.compile(
        rf"[{PROVINCES}][A-HJ-NP-Z][·• -]?(?=[A-Z]*\d)[A-HJ-NP-Z0-9]{{4,5}}[A-HJ-NP-Z0-9挂学警港澳]"
        r"(?![A-Za-z0-9])"
    ),
)
IPS = (
    Recogniser(
        "IP",
        re.compile(
            r"(?<![\d.vV])(?<!version )(?<!Version )(?<!release )(?<!版本)(?<!版本 )"
            r"(?:\d{1,3}\.){3}\d{1,3}(?![\d]|\.\d)"
        ),
        _is_public_ip,
        certain=False,  # examples and private networks are no person's
    ),
    Recogniser(  # a MAC address: a machine's, as an IP address is
        "IP",
        re.compile(
            r"(?<![0-9A-Za-z:-])[0-9A-Fa-f]{2}(?P<by>[:-])[0-9A-Fa-f]{2}"
            r"(?:(?P=by)[0-9A-Fa-f]{2}){4}(?![0-9A-Za-z:-])"
        ),
        certain=False,
    ),
    Recogniser(
        "IP",
        re.compile(r"(?<![0-9A-Za-z:])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![0-9A-Za-z:])"),
        _is_public_ip,
        certain=False,
    ),
)
ALL = (URL, EMAIL, *NATIONAL_IDS, BANK_CARD, IBAN, CREDIT_CODE, *PHONES, PLATE, *IPS)
