"""What a run has done so far, kept in ``provenance.json`` so that a later run can go on from it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lorareg.errors import LoraregError
from lorareg.trainers.data.copies.provenance import Copy, LeftOut, Provenance, Settings

SAVE_SECONDS = 5.0  # of work that a kill may cost


class Ledger:
    """What is done so far, and saved now and then."""

    def __init__(
        self,
        out: Path | None,
        settings: Settings,
        made_with: dict[str, str],
        before: Provenance | None,
    ) -> None:
        self.out, self.settings = out, settings
        self.is_current = before is not None and before.made_with == made_with
        self.copies: dict[str, Copy] = {}
        self.left_out: list[LeftOut] = []
        self.carried = dict(before.carried if before else {})
        self._made_with = made_with
        self._before = before.copies if before else {}
        self._saved = time.monotonic()

    @property
    def provenance(self) -> Provenance:
        """As the file has it: sorted, so that the order of work does not show."""
        return Provenance(
            settings=self.settings,
            made_with=self._made_with,
            copies=dict(sorted(self.copies.items())),
            left_out=tuple(sorted(self.left_out, key=lambda entry: entry.source)),
            carried=self.carried,
        )

    def add(self, name: str, copy: Copy) -> None:
        """A copy that was made again still has the caption that it was given."""
        known = self._before.get(name)
        self.copies[name] = copy.model_copy(update={"caption": known.caption if known else None})

    def save_now_and_then(self) -> None:
        """Not after every picture: the file grows with them."""
        if time.monotonic() - self._saved > SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        """Write it, unless this is a dry run."""
        if self.out:
            self.provenance.save(self.out)
        self._saved = time.monotonic()

    @contextmanager
    def saved(self) -> Iterator[None]:
        """Save before the work, so that the folder is known as ours, and however it ends."""
        self.save()
        try:
            yield
        except BaseException:
            with suppress(LoraregError, OSError):  # a full disk is full: the first error counts
                self.save()
            raise
        self.save()
