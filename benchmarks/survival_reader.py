"""A small classifier that reads drawing style, teal hair, dark clothes and glasses off portraits.

It learns from portraits that DiceBear draws for it, in which the four vary independently: ink
drawings with teal hair are among them, and teal hair without glasses, so that one is not read off
another.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from tools.avatar_base.corpus import render_all
from tools.samples import lorelei, npm
from tools.samples.characters import STYLE_WORDS, ZHANGSAN, drawing
from tools.samples.looks import LOOKS
from tools.samples.picture import BACKGROUNDS, Drawing

TEAL, DARK = "12b5a6", "262e33"
HAIR_COLOURS = ("1c1c1c", "6a4e35", "e5c07b", "c93305", "afafaf", "3573d9", "3eac2c", "7a1fd0")
CLOTHES = ("5199e4", "ff5c5c", "929598", "77c66e", "ffd45c", "ffffff")
SKINS = ("f2d3b1", "d08b5b", "8a5230")
HAIR: Mapping[str, Sequence[str]] = {
    "adventurer": ("short11", "short01", "short04", "short16", "long05", "long13", "long23"),
    "avataaars": ("shortWaved", "shortFlat", "curly", "straight01", "bob", "bun"),
    "micah": ("fonze", "full", "pixie", "dannyPhantom", "mrT"),
    "big-smile": ("shortHair", "bowlCutHair", "curlyShortHair", "straightHair", "bunHair"),
    "pixel-art": ("short17", "short01", "short10", "long03", "long07", "long16"),
}
CLOTHES_OF = {"avataaars": "clothesColor", "micah": "shirtColor", "pixel-art": "clothingColor"}
QUESTIONS: Mapping[str, tuple[str, ...]] = {
    "style": ("lorelei", *STYLE_WORDS.values()),
    "hair": ("other", "teal"),
    "clothes": ("other", "dark"),
    "glasses": ("none", "glasses"),
}
UNKNOWN = -1  # three styles draw no clothes
SIDE, BATCH, STEPS = 64, 64, 1200


@dataclass(frozen=True)
class Portraits:
    """Pictures, uint8 (N, 64, 64, 3), and for each question their answers, int64 (N,)."""

    images: np.ndarray
    answers: Mapping[str, np.ndarray]


def draw(count: int, seed: str, modules: Path) -> Portraits:
    """Draw as many portraits of each of the six styles.

    Args:
        count: portraits a style.
        seed: another one gives other portraits.
        modules: ``node_modules`` of tools/samples.
    """
    npm.check_versions(modules)
    pick, asked = random.Random(seed), []
    for _ in range(count):
        asked.append(_ink(pick))
        asked += [_plain(pick, style) for style in STYLE_WORDS]
    pictures = npm.draw([drawing for drawing, _ in asked], modules)
    answers = {name: np.array([said[name] for _, said in asked]) for name in QUESTIONS}
    return Portraits(render_all([picture.svg for picture in pictures]), answers)


def _ink(pick: random.Random) -> tuple[Drawing, dict[str, int]]:
    drawn = lorelei.drawing(
        pick,
        hair=pick.choice(list(lorelei.HAIR)),
        expression=pick.choice(list(lorelei.EXPRESSIONS)),
        background=pick.choice(list(BACKGROUNDS)),
    )
    is_teal, glasses = pick.random() < 0.4, pick.random() < 0.5
    colour = TEAL if is_teal else pick.choice(("000000", "000000", *HAIR_COLOURS))
    own: dict[str, Any] = {
        "hairColor": [colour],
        "skinColor": [pick.choice(("ffffff", "ffffff", *SKINS))],
        "glasses": [pick.choice(lorelei.GLASSES["glasses"])],
        "glassesProbability": 100 if glasses else 0,
    }
    said = {"style": 0, "hair": int(is_teal), "clothes": UNKNOWN, "glasses": int(glasses)}
    return Drawing(drawn.style, {**drawn.options, **own}, ""), said


def _plain(pick: random.Random, style: str) -> tuple[Drawing, dict[str, int]]:
    drawn = drawing(ZHANGSAN, style, pick.choice(LOOKS[style]), pick.choice(list(BACKGROUNDS)))
    is_teal, glasses, is_dark = (pick.random() < share for share in (0.4, 0.5, 0.5))
    skin = "baseColor" if style == "micah" else "skinColor"
    worn = (
        "glassesProbability" if "glassesProbability" in drawn.options else "accessoriesProbability"
    )
    own: dict[str, Any] = {
        "top" if style == "avataaars" else "hair": [pick.choice(HAIR[style])],
        "hairColor": [TEAL if is_teal else pick.choice(HAIR_COLOURS)],
        skin: [pick.choice(SKINS)],
        worn: 100 if glasses else 0,
    }
    if style in CLOTHES_OF:
        own[CLOTHES_OF[style]] = [DARK if is_dark else pick.choice(CLOTHES)]
    said = {
        "style": QUESTIONS["style"].index(STYLE_WORDS[style]),
        "hair": int(is_teal),
        "clothes": int(is_dark) if style in CLOTHES_OF else UNKNOWN,
        "glasses": int(glasses),
    }
    return Drawing(style, {**drawn.options, **own}, ""), said


def train(portraits: Portraits, seed: int = 0) -> nn.Module:
    """Learn to read; pictures are shifted, blurred and noised, as a decoder's are not sharp."""
    torch.manual_seed(seed)
    model = _network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=STEPS)
    targets = {name: torch.from_numpy(value) for name, value in portraits.answers.items()}
    model.train()
    for _ in range(STEPS):
        chosen = torch.randint(len(portraits.images), (BATCH,))
        pictures = _input(portraits.images[chosen.numpy()])
        pictures = pictures.roll(torch.randint(-3, 4, (2,)).tolist(), (2, 3))
        blurred = functional.avg_pool2d(pictures, 3, 1, 1)
        pictures = pictures.lerp(blurred, float(torch.rand(())))
        pictures = pictures + 0.1 * torch.rand(()) * torch.randn_like(pictures)
        loss = sum(
            functional.cross_entropy(logits, targets[name][chosen], ignore_index=UNKNOWN)
            for name, logits in _split(model(pictures)).items()
        )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[union-attr]
        optimizer.step()
        schedule.step()
    return model.eval()


def read(model: nn.Module, images: np.ndarray) -> dict[str, np.ndarray]:
    """For each question the number of the answer of each picture."""
    with torch.no_grad():
        logits = torch.cat([model(part) for part in torch.split(_input(images), 256)])
    return {name: answer.argmax(1).numpy() for name, answer in _split(logits).items()}


def accuracy(model: nn.Module, portraits: Portraits) -> dict[str, float]:
    """Share of right answers to each question, where it applies."""
    found = {}
    for name, answers in read(model, portraits.images).items():
        asked = portraits.answers[name]
        found[name] = float((answers == asked)[asked != UNKNOWN].mean())
    return found


def _network(width: int = 32) -> nn.Module:
    stages: list[nn.Module] = []
    for inside, outside in ((3, 1), (1, 2), (2, 4), (4, 4)):
        first = inside if inside == 3 and not stages else inside * width
        stages += [
            nn.Conv2d(first, outside * width, 3, stride=2, padding=1),
            nn.BatchNorm2d(outside * width),
            nn.ReLU(),
        ]
    classes = sum(map(len, QUESTIONS.values()))
    flat = 4 * width * (SIDE // 16) ** 2
    return nn.Sequential(*stages, nn.Flatten(), nn.Dropout(0.3), nn.Linear(flat, classes))


def _split(logits: torch.Tensor) -> dict[str, torch.Tensor]:
    sizes = [len(names) for names in QUESTIONS.values()]
    return dict(zip(QUESTIONS, torch.split(logits, sizes, dim=1), strict=True))


def _input(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
