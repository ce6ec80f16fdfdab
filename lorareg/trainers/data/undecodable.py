"""Class pictures and masks that cannot be decoded, all named before anything heavy is loaded.

Pictures of the dataset itself are decoded by its check (``data.check``), in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from lorareg.errors import InvalidFileError, listed
from lorareg.trainers.data.check.probes import probe_all
from lorareg.trainers.data.images import ImageRecord


def refuse(
    records: Sequence[ImageRecord],
    class_pictures: Sequence[ImageRecord],
    cache: Path,
    stage: Callable[[str, int, int], None],
) -> None:
    """Decode every mask and class picture, or remember that they were.

    Args:
        records: whose masks are meant.
        class_pictures: of prior preservation.
        cache: of the registry.
        stage: told ("checking class pictures and masks", done, total).

    Raises:
        InvalidFileError: lists the broken ones.
    """
    masks = [(f"mask of {r.id}", r.mask.path, r.mask.sha256) for r in records if r.mask]
    found = [*masks, *((f"class picture {p.id}", p.path, p.sha256) for p in class_pictures)]
    if not found:
        return
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        stage("checking class pictures and masks", done, len(found))

    _, broken = probe_all(
        {name: path for name, path, _ in found},
        {name: sha256 for name, _, sha256 in found},
        cache / "pictures.sqlite",
        advance,
    )
    if broken:
        raise InvalidFileError(
            f"{len(broken)} class pictures or masks cannot be decoded",
            why="\n" + listed([f"{name}: {why}" for name, why in sorted(broken.items())]),
            fix="replace them, or remove them",
        )
