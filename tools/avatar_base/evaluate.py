"""Does the base draw what it is asked? A small CNN, trained on real portraits, reads the pictures.

One network with one answer per attribute. Its accuracy on real portraits it never saw is reported
beside its verdict on generated ones: it is the ceiling of what the second number can be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

import numpy as np

from tools.avatar_base import corpus

if TYPE_CHECKING:
    import torch
    from torch import nn

QUESTIONS: dict[str, tuple[str, ...]] = {
    "style": corpus.STYLES,
    "hair_colour": corpus.HAIR_COLOURS,
    "background": corpus.BACKGROUNDS,
    "skin": ("light", "tan", "dark"),
    "eyewear": ("none", "glasses", "sunglasses"),
    "expression": ("happy", "sad", "surprised", "neutral"),
}
"""Attributes the classifier reads; expressions are those all five styles have."""
UNKNOWN = -1
"""Label of a picture that a question does not apply to."""


@dataclass(frozen=True)
class Confusion:
    """Counts (asked, read) for one attribute."""

    names: tuple[str, ...]
    counts: np.ndarray

    @property
    def accuracy(self) -> float:
        """Share of pictures read as asked, 0 to 1."""
        return float(np.trace(self.counts) / max(1, self.counts.sum()))

    def table(self) -> str:
        """A Markdown table: a row per asked value, a column per value read."""
        head = ["asked \\ read", *self.names]
        lines = [head, ["---", *["---:"] * len(self.names)]]
        for name, row in zip(self.names, self.counts.tolist(), strict=True):
            lines.append([name, *(str(count) if count else "." for count in row)])
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def confusion(asked: Sequence[int], read: Sequence[int], names: tuple[str, ...]) -> Confusion:
    """Count pairs of (asked, read) class numbers; `UNKNOWN` ones are left out."""
    counts = np.zeros((len(names), len(names)), dtype=np.int64)
    for wanted, got in zip(asked, read, strict=True):
        if wanted != UNKNOWN:
            counts[wanted, got] += 1
    return Confusion(names, counts)


def labels(attributes: Sequence[Mapping[str, str]]) -> dict[str, np.ndarray]:
    """Class numbers per question, int64 (N,).

    A hijab, turban or hat hides the hair but has its colour, so the question still applies.
    """
    answers = {}
    for question, names in QUESTIONS.items():
        values = [table.get(question, "none") for table in attributes]
        answers[question] = np.array(
            [names.index(value) if value in names else UNKNOWN for value in values]
        )
    return answers


def network(width: int = 32) -> nn.Module:
    """64x64 pixels in [-1, 1] -> logits of all questions side by side, (N, sum of classes)."""
    from torch import nn

    def stage(inside: int, outside: int) -> list[nn.Module]:
        return [
            nn.Conv2d(inside, outside, 3, stride=2, padding=1),
            nn.BatchNorm2d(outside),
            nn.ReLU(),
        ]

    side, classes = corpus.SIDE // 16, sum(map(len, QUESTIONS.values()))
    return nn.Sequential(
        *stage(3, width),
        *stage(width, 2 * width),
        *stage(2 * width, 4 * width),
        *stage(4 * width, 4 * width),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(4 * width * side * side, classes),
    )


def split(logits: torch.Tensor) -> dict[str, torch.Tensor]:
    """Logits per question."""
    import torch

    sizes = [len(names) for names in QUESTIONS.values()]
    return dict(zip(QUESTIONS, torch.split(logits, sizes, dim=1), strict=True))


def to_input(images: np.ndarray) -> torch.Tensor:
    """Pictures uint8 (N, 64, 64, 3) to float32 (N, 3, 64, 64) in [-1, 1]."""
    import torch

    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def fit(
    images: np.ndarray, attributes: Sequence[Mapping[str, str]], steps: int = 1200, seed: int = 0
) -> nn.Module:
    """Train the classifier: batch 64, one-cycle AdamW, pictures shifted up to 2 pixels, noised."""
    import torch
    from torch.nn import functional

    torch.manual_seed(seed)
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    targets = {name: torch.from_numpy(value) for name, value in labels(attributes).items()}
    model.train()
    for _ in range(steps):
        chosen = torch.randint(0, len(images), (64,))
        shift = torch.randint(-2, 3, (2,)).tolist()
        pictures = to_input(images[chosen.numpy()]).roll(shift, (2, 3))
        pictures = pictures + 0.1 * torch.rand(1) * torch.randn_like(pictures)
        loss = torch.zeros(())
        for name, logits in split(model(pictures)).items():
            wanted = targets[name][chosen]
            if (wanted != UNKNOWN).any():
                loss = loss + functional.cross_entropy(logits, wanted, ignore_index=UNKNOWN)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return model.eval()


def judge(
    model: nn.Module, images: np.ndarray, attributes: Sequence[Mapping[str, str]]
) -> dict[str, Confusion]:
    """Read every picture and compare with what was asked."""
    import torch

    with torch.no_grad():
        logits = torch.cat([model(part) for part in torch.split(to_input(images), 256)])
    asked = labels(attributes)
    return {
        name: confusion(asked[name].tolist(), answer.argmax(1).tolist(), QUESTIONS[name])
        for name, answer in split(logits).items()
    }


def questions_to_ask(
    known: Sequence[Mapping[str, str]], count: int, seed: int = 0
) -> list[dict[str, str]]:
    """Attribute tables to draw: as many of each style, the rest as in the corpus.

    Hair colour, skin, background and expression are drawn anew and evenly, so most combinations
    are ones the base has not seen.
    """
    random = Random(seed)
    by_style = {
        style: [table for table in known if table["style"] == style] for style in corpus.STYLES
    }
    asked = []
    for index in range(count):
        table = dict(random.choice(by_style[corpus.STYLES[index % len(corpus.STYLES)]]))
        for question in ("hair_colour", "skin", "background", "expression"):
            table[question] = random.choice(QUESTIONS[question])
        asked.append(table)
    return asked
