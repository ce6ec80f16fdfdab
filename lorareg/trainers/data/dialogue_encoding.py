"""Lines that are not UTF-8: which encoding they are in, told once for a file."""

from __future__ import annotations

from collections.abc import Iterator

from lorareg.registry.encodings import likely_encoding, wide_encoding

SAMPLE = 64 << 10  # bytes that are no UTF-8, kept to guess the encoding of a file


class ForeignLines:
    """Lines of a file that are not UTF-8 or hold NUL bytes: one problem each, not one a line."""

    def __init__(self) -> None:
        self._undecoded = _Sample()
        self._nul = _Sample()
        self._of_file: str | None = None

    def take(self, number: int, line: bytes) -> None:
        """Note a line."""
        if number == 1:
            # Only the first line tells the two kinds of UTF-16: later ones may begin with the
            # second half of a line end.
            self._of_file = wide_encoding(_pairs(line[:SAMPLE]))
        try:
            line.decode()
        except UnicodeDecodeError as error:
            self._undecoded.take(number, line, line[error.start])
        else:
            self._nul.take(number, line, 0)

    def problems(self) -> Iterator[tuple[int, str, str, str | None]]:
        """Line, code, reason and likely encoding; at most two."""
        if bad := self._undecoded:
            guess = self._of_file or likely_encoding(bytes(bad.data))
            reads_as = f"; reads as {guess}" if guess else ""
            reason = f"not UTF-8, byte 0x{bad.byte:02x}{reads_as}{bad.more}"
            yield bad.line, "not-utf8", reason, guess
        if bad := self._nul:
            guess = self._of_file or wide_encoding(_pairs(bytes(bad.data)))
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


def _pairs(data: bytes) -> bytes:
    """Without the half of a character that is left where a line is cut."""
    return data[: len(data) // 2 * 2]
