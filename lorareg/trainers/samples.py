"""Samples of a run: the base beside the adapter, with the same prompts and seeds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from PIL.Image import Image

from lorareg.registry.files import write_atomically
from lorareg.registry.lock import Reply
from lorareg.registry.manifest import Sampling
from lorareg.trainers.inject import Adapters
from lorareg.trainers.report.grid import save_grid
from lorareg.trainers.tasks.base import Sample, Task


class Sampler:
    """Generates with the prompts of the manifest, for people to look at."""

    def __init__(self, task: Task, adapters: Adapters, sampling: Sampling, run: Path) -> None:
        self._task = task
        self._adapters = adapters
        self._sampling = sampling
        self._run = run

    def keep(self, step: int) -> None:
        """Save the samples of a step in the run's folder."""
        if self._sampling.prompts:
            self._save(self._run / "samples" / f"step-{step:06d}", {"adapter": self._draw()})

    def final(self) -> list[Reply]:
        """Save base and adapter side by side; returns the replies of a language model."""
        if not self._sampling.prompts:
            return []
        with self._adapters.disabled():
            base = self._draw()
        adapter = self._draw()
        self._save(self._run / "preview", {"base": base, "adapter": adapter})
        return [
            Reply(prompt=one.prompt, base=one.output, adapter=other.output)
            for one, other in zip(base, adapter, strict=True)
            if isinstance(one.output, str) and isinstance(other.output, str)
        ]

    def _draw(self) -> list[Sample]:
        self._adapters.train(False)
        return self._task.sample(self._sampling.prompts, self._sampling.seed)

    def _save(self, path: Path, rows: dict[str, Sequence[Sample]]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        heads = list(self._sampling.prompts)
        pictures = {
            label: [s.output for s in row if isinstance(s.output, Image)]
            for label, row in rows.items()
        }
        if all(pictures.values()):
            save_grid(path.with_suffix(".png"), list(pictures.items()), heads)
            return
        replies = {label: [str(s.output) for s in row] for label, row in rows.items()}
        document = {"prompts": heads, **replies}
        text = json.dumps(document, ensure_ascii=False, indent=2)
        write_atomically(path.with_suffix(".json"), text + "\n")
