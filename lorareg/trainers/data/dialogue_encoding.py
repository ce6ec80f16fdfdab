"""Lines that are not UTF-8: which encoding they are in, told once for a file."""

from __future__ import annotations

from collections.abc import Iterator

SAMPLE = 64 << 10  # bytes that are no UTF-8, kept to guess the encoding of a file


class ForeignLines:
    """Lines of a file that are not UTF-8 or hold NUL bytes: one problem each, not one a line."""

    def __init__(self) -> None:
        self._undecoded = _Sample()
        self._nul = _Sample()

    def take(self, number: int, line: bytes) -> None:
        """Note a line."""
        try:
            line.decode()
        except UnicodeDecodeError as error:
            self._undecoded.take(number, line, line[error.start])
        else:
            self._nul.take(number, line, 0)

    def problems(self) -> Iterator[tuple[int, str, str, str | None]]:
        """Line, code, reason and likely encoding; at most two."""
        if bad := self._undecoded:
            guess = likely_encoding(bytes(bad.data))
            reads_as = f"; reads as {guess}" if guess else ""
            reason = f"not UTF-8, byte 0x{bad.byte:02x}{reads_as}{bad.more}"
            yield bad.line, "not-utf8", reason, guess
        if bad := self._nul:
            guess = _wide_encoding(bytes(bad.data))
            reads_as = f"; reads as {guess}" if guess else ", which no text holds"
            reason = f"holds NUL bytes{reads_as}{bad.more}"
            yield bad.line, "nul-bytes", reason, guess


class _Sample:
    """The first of some lines, how many there are, and enough bytes to guess by."""

    def __init__(self) -> None:
        self.line = self.byte = self.count = 0
        self.data = bytearray()

    def __bool__(self) -> bool:
        return self.count > 0

    @property
    def more(self) -> str:
        """How many lines there are besides the first."""
        return f" (and {self.count - 1} more lines)" if self.count > 1 else ""

    def take(self, number: int, line: bytes, byte: int) -> None:
        """Note a line; of its bytes no more than fit, cut where no character can be halved."""
        if not self.count:
            self.line, self.byte = number, byte
        self.count += 1
        room = SAMPLE - len(self.data)
        if room > 0:
            whole = len(line) <= room
            self.data += line if whole else line[: max(line.rfind(b'"', 0, room), 1)]


def _wide_encoding(data: bytes) -> str | None:
    """UTF-16 without its mark: mostly every other byte of Western text is NUL."""
    if 3 * data.count(0) < len(data):
        return None
    return "UTF-16LE" if data[0] else "UTF-16BE"


def likely_encoding(data: bytes) -> str | None:
    """Name the encoding that bytes which are no UTF-8 probably have, as iconv calls it.

    The bytes of Windows-1252's ``it’s`` are valid GBK too, as a character nobody uses; so GBK is
    named only where most of the characters are among the 7,445 common ones of GB 2312.

    >>> likely_encoding("你好，船长".encode("gbk")), likely_encoding("it’s".encode("cp1252"))
    ('GBK', 'WINDOWS-1252')
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "UTF-16"
    wide = [character for character in _decoded(data, "gb18030") if ord(character) > 127]
    if 2 * sum(bool(_encoded(character, "gb2312")) for character in wide) > len(wide):
        return "GBK"
    return "WINDOWS-1252" if _decoded(data, "cp1252") else None


def _decoded(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return ""


def _encoded(text: str, encoding: str) -> bytes:
    try:
        return text.encode(encoding)
    except UnicodeEncodeError:
        return b""
