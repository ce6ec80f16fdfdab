"""A task so small that a whole run takes a blink: points on lines, of several numbers of points.

It has all that the shared core knows of a task: shapes, weights, draws, rounds of validation; and
real PEFT layers on a real model. What images and text add is tested with theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from lorareg.registry.manifest import Lora
from lorareg.registry.runfacts import Rung
from lorareg.registry.training import Training, Validation
from lorareg.trainers.adapters import inject
from lorareg.trainers.core import checkpoints
from lorareg.trainers.core.loop import Loop
from lorareg.trainers.core.randomness import Draws
from lorareg.trainers.core.task import Runtime, Sample
from lorareg.trainers.core.watching import StepFacts
from lorareg.trainers.machine.ranks import Ranks
from lorareg.trainers.machine.rehearsal import Pass

WIDTH = 6
TRAINING = Training(
    batch_size=2,
    epochs=3,
    learning_rate=1e-2,
    precision="fp32",
    save_steps=1000,
    validation=Validation(share=0.2),
)


class Lines:
    """The task protocol (``tasks.base.Task``) for thirteen records."""

    unit = "image"
    validation_rounds = 2

    def __init__(self, several_shapes: bool = False) -> None:
        self.ids = tuple(f"record-{number:02d}" for number in range(13))
        self._several = several_shapes
        self._judged: dict[str, int] = {}
        self.model = torch.nn.Sequential(
            torch.nn.Linear(WIDTH, 8), torch.nn.Tanh(), torch.nn.Linear(8, WIDTH)
        )

    def load(self, runtime: Runtime) -> Mapping[str, torch.nn.Module]:
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(Draws(3).normal(parameter.shape, name))
        self.model.requires_grad_(False).eval()
        return {"": self.model}

    def describe(self) -> list[str]:
        return [f"{len(self.ids)} lines"]

    def targets(self, lora: Lora) -> list[str]:
        return ["0", "2"]

    def shape(self, record: str) -> str:
        return str(self.weight(record)) if self._several else ""

    def weight(self, record: str) -> int:
        """Points of the line."""
        return 2 + int(record[-1]) % 3

    def losses(
        self, records: Sequence[str], draws: Draws, fixed_round: int | None = None
    ) -> torch.Tensor:
        if fixed_round is not None:
            self._judged |= {record: self.weight(record) for record in records}
        return torch.stack([self._loss(record, draws) for record in records])

    def rehearsal(self, count: int) -> Pass:
        points = Draws(4).normal((4 * count, WIDTH), "rehearsal")
        return lambda models: models[""](points).square().sum()

    def measured(self) -> dict[str, float]:
        """Mean points of the lines that were judged."""
        points, self._judged = list(self._judged.values()), {}
        return {"points": sum(points) / len(points)} if points else {}

    def sample(self, prompts: Sequence[str], seed: int) -> list[Sample]:
        return [Sample(prompt, seed, "a line") for prompt in prompts]

    def _loss(self, record: str, draws: Draws) -> torch.Tensor:
        points = Draws(4).normal((self.weight(record), WIDTH), record)
        noise = draws.normal(points.shape, "noise", record)
        error: torch.Tensor = (self.model(points + 0.3 * noise) - points.flip(1)).square().sum()
        return error


@dataclass
class Told:
    """A watcher that remembers; ``each_step`` may raise, as a process may die."""

    each_step: Callable[[int], None] = lambda step: None
    notes: list[str] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)

    def stage(self, what: str, done: int, total: int) -> None:
        self.notes.append(f"{what} {done}/{total}")

    def step(self, facts: StepFacts) -> None:
        self.steps.append(facts.step)
        self.each_step(facts.step)

    def validated(self, step: int, loss: float, base: float) -> None:
        self.notes.append(f"validated {step}")

    def note(self, text: str) -> None:
        self.notes.append(text)


@dataclass(frozen=True)
class Lab:
    """What to train; every test changes what it is about."""

    folder: Path
    training: Training = TRAINING
    lora: Lora = Lora(rank=2, alpha=4)
    task: Callable[[], Lines] = Lines
    ranks: Ranks = Ranks()
    rungs: tuple[Rung, ...] = ()

    def with_training(self, **changes: Any) -> Lab:
        return replace(self, training=self.training.model_copy(update=changes))

    def start(
        self,
        folder: str = "run",
        *,
        stop: Callable[[int], bool] = lambda step: False,
        each_step: Callable[[int], None] = lambda step: None,
        sample: Callable[[int], None] = lambda step: None,
        sample_steps: int = 0,
    ) -> Loop:
        """A loop that is ready to ``run``; ``stop`` is asked with the step."""
        task, runtime = self.task(), Runtime("cpu", "float32", 1, self.folder / "cache")
        models = task.load(runtime)
        sizes = dict.fromkeys(task.targets(self.lora), self.lora.rank)
        adapters = inject.inject(models, sizes, self.lora, Draws(self.training.seed))
        loop = Loop(
            task, adapters, self.training, runtime, self.folder / folder, Told(each_step),
            stop=lambda: stop(loop.cursor.step), sample=sample, sample_steps=sample_steps,
            ranks=self.ranks, rungs=self.rungs,
        )  # fmt: skip
        return loop


def told(loop: Loop) -> Told:
    """The watcher of a loop."""
    assert isinstance(loop.watcher, Told)
    return loop.watcher


def saved(loop: Loop) -> dict[str, torch.Tensor]:
    """All tensors of the last checkpoint."""
    found = checkpoints.latest(loop.folder / "checkpoints")
    assert found is not None
    return {f"{group}/{name}": t for group, named in found[1].items() for name, t in named.items()}


def same(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    """Whether tensors are equal to the bit."""
    return one.keys() == other.keys() and all(torch.equal(v, other[n]) for n, v in one.items())


def log(loop: Loop) -> str:
    """The metrics of a run, as they are on disk."""
    return (loop.folder / "metrics.jsonl").read_text(encoding="utf-8")


def assert_like(loop: Loop, straight: Loop) -> None:
    """Two runs that ended, ended alike: weights, optimizer, average, best, metrics, cursor."""
    assert same(dict(loop.state.parameters), dict(straight.state.parameters))
    assert same(saved(loop), saved(straight))
    assert log(loop) == log(straight)
    assert replace(loop.cursor, seconds=0.0) == replace(straight.cursor, seconds=0.0)
