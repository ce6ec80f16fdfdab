"""A scratch registry with three adapters, and what its recipes hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lorareg.weights import algebra
from lorareg.weights.adapter import LoraAdapter
from lorareg.weights.formats import diffusers
from tests.flows.conftest import git
from tests.weights.composed import Shelf
from tests.weights.planted import SMALL, sharing

EXPR = "style/ink:0.7+character/zhangsan:0.9"
FILE = diffusers.FILE
INK, ZHANGSAN, GLOW = sharing(SMALL, [4, 6, 2], 0.0, seed=1)


def commit(root: Path, message: str) -> None:
    git(root, "add", "--all", "--", ".", ":!manifests/*/*/weights/")
    git(root, "commit", "--quiet", "-m", message)


def recipe(shelf: Shelf, name: str) -> Path:
    return shelf.root / "manifests" / "recipe" / name


def lock(shelf: Shelf, name: str) -> Any:
    return json.loads((recipe(shelf, name) / "lock.json").read_text(encoding="utf-8"))


def edit(shelf: Shelf, asset: str, before: str, after: str) -> None:
    path = shelf.root / "manifests" / asset / "manifest.yaml"
    text = path.read_text(encoding="utf-8")
    assert before in text
    path.write_text(text.replace(before, after), encoding="utf-8")


def merged(shelf: Shelf, name: str) -> LoraAdapter:
    return diffusers.read(recipe(shelf, name) / "weights" / FILE)


def differs(shelf: Shelf, name: str, *parts: tuple[LoraAdapter, float]) -> float:
    """How far a recipe's file is from a weighted sum."""
    return algebra.relative_difference(merged(shelf, name), algebra.weighted_sum(parts))
