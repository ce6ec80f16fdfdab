"""What a merged file says of itself: the recipe in its header, by which it can be traced."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lorareg.errors import InvalidFileError, NotFoundError
from lorareg.registry import jsontext, lock
from lorareg.registry.header import read_header
from lorareg.registry.ids import AssetId
from lorareg.registry.lock import Member, RecipeLock
from lorareg.registry.schema import Strict, check
from lorareg.registry.workspace import Workspace

RECIPE_KEY = "lorareg.recipe"


class Provenance(Strict):
    """The recipe that a file carries in its header.

    Attributes:
        asset: ``recipe/name`` in the registry that made it.
        base: the model it belongs to, and its digest.
        method: as in ``RecipeLock``.
    """

    asset: str
    fingerprint: str
    base: dict[str, str | None]
    members: tuple[Member, ...]
    method: dict[str, Any] = {}
    error: float = 0.0


def notes(pins: RecipeLock, expression: str) -> dict[str, str]:
    """Header entries of a merged file."""
    told = Provenance(
        asset=pins.asset,
        fingerprint=pins.fingerprint,
        base={"model": pins.base.model, "digest": pins.base.digest},
        members=pins.members,
        method=dict(pins.method),
        error=pins.error,
    )
    return {
        "lorareg.asset": pins.asset,
        "lorareg.fingerprint": pins.fingerprint,
        "lorareg.merged_from": expression,
        RECIPE_KEY: json.dumps(told.model_dump(mode="json"), sort_keys=True, ensure_ascii=False),
    }


def read(file: Path) -> Provenance:
    """What a file says of itself; nothing of it is proved until it is compared with the recipe.

    Raises:
        NotFoundError: it says nothing.
        InvalidFileError: what it says is damaged.
    """
    header: Mapping[str, str] = read_header(file).metadata
    if RECIPE_KEY not in header:
        raise NotFoundError(
            f"{file.name} does not say what it was merged from",
            why=f"its header has no {RECIPE_KEY}: another tool wrote it, or somebody scrubbed it",
            fix=f"compare it with a recipe: lorareg compose verify recipe/NAME {file.name}",
        )
    try:
        document = jsontext.parse(header[RECIPE_KEY])
    except ValueError as error:
        raise InvalidFileError(
            f"{file.name}: {RECIPE_KEY} is not JSON", why=str(error), fix="export it again"
        ) from error
    return check(Provenance, document, f"{file.name}: {RECIPE_KEY}", fix="export it again")


def standing(workspace: Workspace, told: Provenance) -> str:
    """What this registry knows of the recipe that a file names."""
    asset = AssetId.parse(told.asset)
    path = workspace.folder(asset).lock
    known = lock.load(path) if path.is_file() else None
    if known is None:
        return f"this registry has no {asset}"
    if known.fingerprint == told.fingerprint:
        return f"{asset} here says the same; prove it: lorareg compose verify {asset} FILE"
    return f"{asset} here is another composition now ({known.fingerprint})"
