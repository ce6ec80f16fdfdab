"""One entry to every check of a dataset: for ``lorareg data check``, and for ``train``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from lorareg.errors import LoraregError
from lorareg.registry import dataset
from lorareg.registry.bases import base as bases
from lorareg.registry.bases import builtin
from lorareg.registry.bases.base import ResolvedBase
from lorareg.registry.dataset import Listing
from lorareg.registry.digest import DigestCache, of_file, of_json
from lorareg.registry.manifest import Base
from lorareg.registry.workspace import Workspace
from lorareg.trainers.data.check import report
from lorareg.trainers.data.check.findings import Finding
from lorareg.trainers.data.check.place import Place, Stage
from lorareg.trainers.data.check.report import Report
from lorareg.trainers.data.check.wishes import Wishes
from lorareg.trainers.data.redact.record import RULES
from lorareg.trainers.data.target import Target
from lorareg.trainers.data.unread import FIX, UNREAD, unread, why_unread, with_ending

CHECK = "2"
"""Version of the checks: raised when an unchanged dataset would get another report."""
# Not in the dataset's digest, but read by the check.
ASIDE = frozenset({".yaml", ".yml", ".json"})


def check(
    target: Target,
    *,
    resolution: int | None,
    base: str | None,
    trigger: str | None,
    stage: Stage,
) -> Report:
    """Find every problem of a dataset.

    Args:
        target: what the command line named.
        resolution: pixels; as the next two, instead of the manifest's or of a folder's default.
        base: whose tokenizer counts.
        trigger: word that every caption should have.
        stage: told how far it is.

    Raises:
        LoraregError: there is nothing to check, or names that cannot be used.
    """
    cache = target.workspace.cache if target.workspace else builtin.cache_folder() / "checks"
    place = Place(target.path, target.name, cache)
    listing = dataset.scan(place.path, place.digests)
    wishes, notes = _wishes(target, listing, base, place.digests)
    if resolution is not None:
        wishes = replace(wishes, resolution=resolution)
    if trigger is not None:
        wishes = replace(wishes, trigger=trigger)
    found = examine(place, listing, wishes, stage)
    kept = [f for f in found.findings if not notes or f.code != "uncounted"]
    return replace(found, findings=[*kept, *notes])


def examine(place: Place, listing: Listing, wishes: Wishes, stage: Stage) -> Report:
    """Check what is listed, or recall the report on the same bytes and wishes."""
    aside = _aside(place.path)
    # Fixes name the path.
    asked = [CHECK, RULES, str(place.path), listing.digest, sorted(aside.items())]
    asked.append(wishes.document())
    path = place.cache / "checks" / f"{of_json(asked).partition(':')[2]}.json"
    if known := report.recall(path, place.name):
        return known
    found = _examined(place, listing, wishes, stage)
    found = replace(found, findings=[*found.findings, *_unread(aside)])
    report.remember(path, found)
    return found


def _examined(place: Place, listing: Listing, wishes: Wishes, stage: Stage) -> Report:
    """Each task's checks load only what they need."""
    if wishes.task == "text-to-image":
        from lorareg.trainers.data.check import image_data

        return image_data.check(place, listing, wishes, stage)
    from lorareg.trainers.data.check import text_data

    return text_data.check(place, listing, wishes, stage)


def _wishes(
    target: Target, listing: Listing, base: str | None, digests: DigestCache
) -> tuple[Wishes, list[Finding]]:
    """What is expected, and a note if the base cannot be had without a network."""
    root = target.workspace.root if target.workspace else Path.cwd()
    if target.manifest is None:
        wishes = Wishes("text-to-image" if listing.images else "text-generation")
        chosen = Base(model=base) if base else None
    else:
        wishes = Wishes.of(target.manifest, None)
        chosen = Base(model=base) if base else target.manifest.base
    if chosen is None:
        return wishes, []
    try:
        found: ResolvedBase = bases.resolve(chosen, wishes.task, root, digests, fetch=False)
    except LoraregError as error:
        if base:
            raise
        why = f"nothing is counted in tokens: {error.what}"
        return wishes, [Finding("no-base", "note", (), why, error.fix)]
    return replace(wishes, base=found), []


def of_manifest(
    workspace: Workspace, name: str, listing: Listing, wishes: Wishes, stage: Stage
) -> Report:
    """Check the dataset of an adapter that is about to be trained."""
    place = Place(workspace.root / name, name, workspace.cache)
    return examine(place, listing, wishes, stage)


def _aside(path: Path) -> Mapping[str, str]:
    """Files beside those that count: name -> digest, or "" where only the name matters."""
    if not path.is_dir():
        return {}
    read = [name for name in with_ending(path, ASIDE) if (path / name).is_file()]
    return dict.fromkeys(unread(path), "") | {name: of_file(path / name) for name in read}


def _unread(aside: Mapping[str, str]) -> list[Finding]:
    """A warning for every picture that is passed by."""
    names = [name for name in sorted(aside) if Path(name).suffix.lower() in UNREAD]
    fix = f"{FIX}, or remove them"
    return [Finding("unread", "warning", (name,), why_unread(name), fix) for name in names]
