"""Which encoding text is in that is not UTF-8: told from its bytes, for people and for iconv."""

from __future__ import annotations

import codecs
import re

# What captions and dialogues are made of besides the 7,445 characters of GB 2312.
COMMON = re.compile(
    "[\t\n\r -~\u00a0-\u017f\u2010-\u2026\u3000-\u30ff\uff01-\uff5e\U0001f000-\U0001faff]"
)
ASCII = re.compile("[\0-\x7f]")
LATIN = re.compile("[A-Za-z]")
TOGETHER = re.compile("[^\0-\x7f]{2}")
WESTERN = re.compile(r"[\w\s.,;:!?'\"()\u2018-\u201d\u2026\u2013\u2014-]*")
SPOKEN = {
    "WINDOWS-1252": "Windows-1252",
    "UTF-16LE": "UTF-16 without a byte-order mark",
    "UTF-16BE": "UTF-16 without a byte-order mark",
}
"""How people call an encoding, where it is not as iconv does."""


def likely_encoding(data: bytes) -> str | None:
    """Name the encoding that bytes which are no UTF-8 probably have, as iconv calls it.

    The bytes of Windows-1252's ``it’s`` are valid GBK too, as a character nobody uses; so GBK is
    named only where most of the characters are among the common ones of GB 2312 and, since the
    ``öß`` of ``größer`` is one of these, two stand together or there are no Latin letters. Or where
    it cannot be Windows-1252.

    >>> likely_encoding("你好，船长".encode("gbk")), likely_encoding("it’s".encode("cp1252"))
    ('GBK', 'WINDOWS-1252')
    """
    if wide := wide_encoding(data):
        return wide
    chinese = _decoded(data, "gb18030")
    is_common = 2 * _in_gb2312(chinese) > len(ASCII.sub("", chinese))
    if is_common and (TOGETHER.search(chinese) or not LATIN.search(chinese)):
        return "GBK"
    if _decoded(data, "cp1252"):
        return "WINDOWS-1252"
    return "GBK" if TOGETHER.search(chinese) else None


def wide_encoding(data: bytes) -> str | None:
    r"""UTF-16 by its mark, or by the order of bytes in which most of the text is common.

    Latin text in it has a NUL in every other byte. Chinese may have none, and then nearly all of
    it has to be common, since two letters of Western text are often one rare Chinese character.

    >>> wide_encoding("小猫在睡觉".encode("utf-16-le")), wide_encoding(b"two caf\xe9")
    ('UTF-16LE', None)
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "UTF-16"
    if not data or len(data) % 2:
        return None
    has_nul = b"\0" in data
    if not has_nul and (len(data) < 4 or WESTERN.fullmatch(data.decode("cp1252", "replace"))):
        return None
    orders = ("UTF-16LE", "UTF-16BE")
    shares = {order: _common_share(data.decode(order, "replace")) for order in orders}
    best = max(shares, key=shares.__getitem__)
    return best if shares[best] > (0.6 if has_nul else 0.9) else None


def _common_share(text: str) -> float:
    rest = COMMON.sub("", text)
    return (len(text) - len(rest) + _in_gb2312(rest)) / len(text)


def _in_gb2312(text: str) -> int:
    """How many characters beyond ASCII are in GB 2312, where each has two bytes."""
    return len(ASCII.sub("", text).encode("gb2312", "ignore")) // 2


def _decoded(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return ""
