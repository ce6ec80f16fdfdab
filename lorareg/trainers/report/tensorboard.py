"""TensorBoard: event files in the run's own folder."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from lorareg.trainers.report.trackers import History


class Board:
    """The values of a run for TensorBoard.

    Events wait in memory for minutes before they are written, and a kill loses them. So the files
    are made anew from the metrics whenever a run goes on.
    """

    def __init__(self, folder: Path, history: History) -> None:
        from torch.utils.tensorboard import SummaryWriter

        place = folder / "tensorboard"
        shutil.rmtree(place, ignore_errors=True)
        # A TensorBoard that has the old files open forgets them at this mark.
        self._writer = SummaryWriter(str(place), purge_step=0)
        for row in history.rows:
            self.write(row["step"], {name: row[name] for name in row if name != "step"})

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """One scalar a value."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush everything to disk."""
        self._writer.close()
