"""What a changed key of a manifest means to those who use the asset: a table, and its reader."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lorareg.registry.releases.levels import Level, Reason
from lorareg.registry.training import WITHOUT_INFLUENCE

MISSING = object()
SHOWN = 60  # characters of a value in a reason

KEYS: dict[str, Level] = {
    # who holds on to one of these is broken by another
    "schema": "major",
    "kind": "major",
    "name": "major",
    "task": "major",
    "trigger": "major",
    "lora.targets": "major",  # loaders that know only the old modules drop the others in silence
    "lora.text_encoder": "major",
    "lora.use_dora": "major",  # a DoRA cannot be added up, and some servers refuse it
    "consent.subject": "major",  # another person's likeness
    # the weights become others
    "lora": "minor",
    "train": "minor",
    **{f"train.{key}": "patch" for key in sorted(WITHOUT_INFLUENCE)},
    "dataset": "minor",
    "origin": "minor",
    # a recipe's result becomes another
    "method": "minor",
    "compression": "minor",
    "schedule": "minor",
    "negative_prompt": "minor",
    # nothing that is computed changes; `rights_change` judges what people may do
    "base": "patch",  # the lock says whether it is another model, or only lies elsewhere now
    "dataset.path": "patch",  # and so of the data
    "origin.file": "patch",
    "parent": "patch",
    "parts": "patch",  # and of the members
    "title": "patch",
    "description": "patch",
    "weight": "patch",
    "sample": "patch",
    "guards": "patch",
    "owners": "patch",
    "publish": "patch",
    "visibility": "patch",
    "license": "patch",
    "scope": "patch",
    "consent": "patch",
    "dataset.sources": "patch",
    "dataset.vocabulary": "patch",
    "dataset.waiver": "patch",
    "dataset.contains_personal_data": "patch",
    "origin.url": "patch",
    "origin.author": "patch",
    "origin.license": "patch",
}
"""Dotted key -> step. The longest key that leads to a value decides."""

RIGHTS = ("visibility", "license", "scope", "consent", "dataset.sources", "origin.license")
"""Keys whose change may narrow or widen what people may do."""
LOCKED = ("base", "dataset.path", "origin.file", "parent", "parts")
"""Keys that lead to what the lock holds digests of."""


def rule(key: str) -> Level:
    """The step that a change of a key asks for.

    >>> rule("train.learning_rate"), rule("train.save_steps"), rule("lora.targets")
    ('minor', 'patch', 'major')
    """
    parts = key.split(".")
    starts = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next(KEYS[start] for start in starts if start in KEYS)


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Reason]:
    """A line for every value that differs between two manifests, read and with defaults."""
    for key, old, new in differences(before, after):
        yield Reason(rule(key), f"{key}: {said(old)} -> {said(new)}")


def differences(
    before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """Dotted key, old value and new value of what differs; a key that is not there is MISSING."""
    for key in dict.fromkeys([*before, *after]):
        old, new = before.get(key, MISSING), after.get(key, MISSING)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from differences(old, new, f"{prefix}{key}.")
        elif old != new:
            yield f"{prefix}{key}", old, new


def said(value: Any) -> str:
    """A value in a sentence.

    >>> said(True), said(None), said([1, 2]), said({"a": 1})
    ('true', 'none', '1, 2', 'a 1')
    """
    if value is MISSING or value in (None, "", [], {}):
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        text = ", ".join(f"{key} {said(inner)}" for key, inner in value.items())
    elif isinstance(value, list | tuple):
        text = ", ".join(map(said, value))
    else:
        text = f"{value:g}" if isinstance(value, float) else " ".join(str(value).split())
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
