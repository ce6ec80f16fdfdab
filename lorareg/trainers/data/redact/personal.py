"""All personal data of a text, by kind; the one list of recognisers.

``scan`` is what a check runs: quick, and only what leaves no doubt. ``find`` is what redaction
runs: it also takes what is probably a name.
"""

from __future__ import annotations

import re
from collections import Counter

from lorareg.trainers.data.redact import (
    addresses,
    answers,
    chinese_names,
    contexts,
    english_names,
    numbers,
)
from lorareg.trainers.data.redact.span import Span, readable, settle

# Links and addresses of machines are redacted, but are no reason to suspect a dataset.
HARMLESS = frozenset({"URL", "IP"})
# Names that no mail reaches, kept free for examples. Source: RFC 2606.
_EXAMPLE = re.compile(r"@(?:[\w-]+\.)*(?:example(?:\.(?:com|net|org))?|test|invalid)$")
_PATTERNS = (
    *numbers.NATIONAL_IDS, numbers.BANK_CARD, numbers.IBAN, numbers.CREDIT_CODE,
    *contexts.ALL, *numbers.ALL,
)  # fmt: skip


def find(text: str, question: str = "") -> list[Span]:
    """Personal data of a text, disjoint and in order.

    Args:
        text: what somebody said.
        question: what was said before it.
    """
    reading = readable(text)
    found = candidates(reading.text)
    if question:
        found = [*answers.find(readable(question).text, reading.text), *found]
    return [reading.original(span) for span in settle(found)]


def candidates(plain: str) -> list[Span]:
    """All that any recogniser finds in readable text, most specific first; they may overlap."""
    found = [span for recogniser in _PATTERNS for span in recogniser.find(plain)]
    found.extend(addresses.find(plain))
    found.extend(chinese_names.find(plain))
    found.extend(english_names.find(plain))
    return found


def scan(text: str) -> Counter[str]:
    """How often which kind of personal data occurs beyond doubt; never the values.

    >>> scan("我叫张伟，电话13812345678") == Counter(NAME=1, PHONE=1)
    True
    """
    return Counter(
        span.kind
        for span in find(text)
        if span.certain and span.kind not in HARMLESS and not _EXAMPLE.search(text[: span.end])
    )
