"""Samples of a run: the base beside the adapter, with the same prompts and seeds."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from lorareg.registry.digest import of_json
from lorareg.registry.files import write_atomically
from lorareg.registry.runfacts import Reply
from lorareg.registry.sampling import Sampling
from lorareg.trainers.adapters.inject import Adapters
from lorareg.trainers.core.task import Sample, Task
from lorareg.trainers.report.grid import save_grid


class Sampler:
    """Generates with the prompts of the manifest, for people to look at.

    What the base alone makes of them is the same at every step: it is generated once and kept in
    the run's folder, for a resumed run too.
    """

    def __init__(self, task: Task, adapters: Adapters, sampling: Sampling, run: Path) -> None:
        self._task = task
        self._adapters = adapters
        self._sampling = sampling
        self._run = run

    def keep(self, step: int) -> None:
        """Save the samples of a step in the run's folder, the base's above the adapter's."""
        if self._sampling.prompts:
            rows = {"base": self._base(), "adapter": self._draw()}
            self._save(self._run / "samples" / f"step-{step:06d}", rows)

    def final(self) -> list[Reply]:
        """Save base and adapter side by side; returns the replies of a language model."""
        if not self._sampling.prompts:
            return []
        base, adapter = self._base(), self._draw()
        self._save(self._run / "preview", {"base": base, "adapter": adapter})
        return [
            Reply(prompt=one.prompt, base=one.output, adapter=other.output)
            for one, other in zip(base, adapter, strict=True)
            if isinstance(one.output, str) and isinstance(other.output, str)
        ]

    def _base(self) -> list[Sample]:
        # Sampling does not enter the fingerprint of a run: other prompts have a folder of their own
        name = of_json(self._sampling.model_dump(mode="json")).partition(":")[2][:16]
        folder = self._run / "base-samples" / name
        found = [self._read(folder, number) for number in range(len(self._sampling.prompts))]
        kept = [sample for sample in found if sample is not None]
        if len(kept) == len(found):
            return kept
        with self._adapters.disabled():
            drawn = self._draw()
        for number, sample in enumerate(drawn):
            _write(folder, number, sample)
        return drawn

    def _read(self, folder: Path, number: int) -> Sample | None:
        picture, reply = folder / f"{number}.png", folder / f"{number}.txt"
        prompt, seed = self._sampling.prompts[number], self._sampling.seed
        try:
            if reply.is_file():
                return Sample(prompt, seed, reply.read_bytes().decode())
            return Sample(prompt, seed, Image.open(io.BytesIO(picture.read_bytes())).convert("RGB"))
        except (OSError, UnicodeDecodeError):
            return None

    def _draw(self) -> list[Sample]:
        self._adapters.train(False)
        return self._task.sample(self._sampling.prompts, self._sampling.seed)

    def _save(self, path: Path, rows: Mapping[str, Sequence[Sample]]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        heads = list(self._sampling.prompts)
        pictures = {
            label: [s.output for s in row if isinstance(s.output, Image.Image)]
            for label, row in rows.items()
        }
        if all(pictures.values()):
            save_grid(path.with_suffix(".png"), list(pictures.items()), heads)
            return
        replies = {label: [str(s.output) for s in row] for label, row in rows.items()}
        document = {"prompts": heads, **replies}
        text = json.dumps(document, ensure_ascii=False, indent=2)
        write_atomically(path.with_suffix(".json"), text + "\n")


def _write(folder: Path, number: int, sample: Sample) -> None:
    if isinstance(sample.output, str):
        write_atomically(folder / f"{number}.txt", sample.output)
        return
    stream = io.BytesIO()
    sample.output.convert("RGB").save(stream, "PNG")
    write_atomically(folder / f"{number}.png", stream.getvalue())
