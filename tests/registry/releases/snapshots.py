"""States of assets as a version number sees them, with one thing or another different."""

from __future__ import annotations

import copy
import json
from typing import Any

from lorareg.registry import lock, manifest, recipe
from lorareg.registry.ids import AssetId
from lorareg.registry.releases.bump import Snapshot
from tests.conftest import TESTS

LOCK = json.loads((TESTS / "golden/v1/lock.json").read_text(encoding="utf-8"))
FILE = "pytorch_lora_weights.safetensors"
MANIFEST = {
    "schema": "lorareg/1",
    "kind": "character",
    "name": "zhangsan",
    "title": {"zh": "张三"},
    "task": "text-to-image",
    "base": {"model": "builtin:avatar"},
    "trigger": "zzhangsan",
    "dataset": {"path": "data/char_zhangsan"},
    "license": {"id": "CC-BY-4.0"},
    "scope": {"commercial": "images", "expires": "2030-01-01"},
    "owners": ["alice"],
}
RECIPE = {
    "schema": "lorareg/1",
    "kind": "recipe",
    "name": "hero",
    "parts": [{"ref": "character/zhangsan", "weight": 0.9}, {"ref": "style/ink", "weight": 0.7}],
}
RECIPE_LOCK = {
    "schema": "lorareg/lock/1",
    "asset": "recipe/hero",
    "task": "text-to-image",
    "base": LOCK["inputs"]["base"],
    "members": [
        {
            "ref": ref,
            "weight": weight,
            "commit": "1" * 40,
            "file": FILE,
            "sha256": f"sha256:{digit * 64}",
            "tensors": f"tensors-sha256-v1:{digit * 64}",
        }
        for ref, weight, digit in (("character/zhangsan", 0.9, "a"), ("style/ink", 0.7, "b"))
    ],
    "fingerprint": "recipe-sha256-v1:" + "c" * 64,
}
PATH = TESTS / "character" / "zhangsan" / "lock.json"  # only named in errors


def with_keys(document: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A copy with other values by dotted key; ``...`` takes a key away."""
    copied = copy.deepcopy(document)
    for dotted, value in changes.items():
        block = copied
        *parents, last = dotted.split("/")
        for part in parents:
            block = block[int(part)] if isinstance(block, list) else block.setdefault(part, {})
        if value is ...:
            block.pop(last, None)
        else:
            block[last] = value
    return copied


def adapter(
    keys: dict[str, Any] | None = None,
    locked: dict[str, Any] | None = None,
    card: dict[str, str] | None = None,
) -> Snapshot:
    """``character/zhangsan``; keys are paths such as ``scope/commercial``."""
    document = with_keys(MANIFEST, keys or {})
    wanted = manifest.parse(document, "manifest.yaml")
    known = lock.parse(json.dumps(with_keys(LOCK, locked or {})), PATH)
    return Snapshot(wanted, known, card=card or {})


def composition(
    keys: dict[str, Any] | None = None,
    locked: dict[str, Any] | None = None,
    members: tuple[dict[str, Any], ...] = ({}, {"name": "ink", "kind": "style", "trigger": "ink"}),
) -> Snapshot:
    """``recipe/hero``; ``members`` are the keys of their manifests."""
    wanted = recipe.check_document(with_keys(RECIPE, keys or {}), AssetId("recipe", "hero"))
    known = lock.parse(json.dumps(with_keys(RECIPE_LOCK, locked or {})), PATH)
    terms = [manifest.parse(with_keys(MANIFEST, each), "manifest.yaml") for each in members]
    return Snapshot(wanted, known, tuple(terms))
