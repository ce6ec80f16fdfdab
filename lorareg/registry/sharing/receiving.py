"""Pull: fetched into the cache, verified there, and only then put in place, asset by asset."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lorareg.errors import IntegrityError, LoraregError, listed
from lorareg.registry import destinations
from lorareg.registry.dvc import pointer
from lorareg.registry.dvc.pointer import Pointer, pointer_path
from lorareg.registry.ids import RECIPE, AssetId
from lorareg.registry.sharing import arrivals
from lorareg.registry.sharing.meter import Meter, Silent, spoken
from lorareg.registry.workspace import Workspace

Say = Callable[[str], None]


@dataclass(frozen=True)
class Pulled:
    """What a pull did.

    Attributes:
        verified: asset -> number of files compared with its lock.
        unverified: assets without a lock, whose data only match DVC's md5.
        objects: how many came; 0 when all were here.
        size: their bytes.
        refused: asset -> why nothing of it was put in place.
    """

    verified: Mapping[str, int]
    unverified: tuple[str, ...]
    objects: int
    size: int = 0
    refused: Mapping[str, LoraregError] = field(default_factory=dict)

    def refuse(self) -> None:
        """Raise what was refused, all in one.

        Raises:
            IntegrityError: bytes or signatures are not what they should be.
            LoraregError: something else is in the way of some assets.
        """
        errors = list(self.refused.values())
        if not errors:
            return
        if len(errors) == 1:
            raise errors[0]
        bad = any(isinstance(error, IntegrityError) for error in errors)
        kind = IntegrityError if bad else LoraregError
        raise kind(
            f"{len(errors)} assets are refused",
            why="\n" + listed([_with_name(*each) for each in self.refused.items()]),
            fix="\n".join(dict.fromkeys(error.fix for error in errors if error.fix)),
        )


def pull(
    workspace: Workspace, assets: Sequence[AssetId], say: Say, meter: Meter | None = None
) -> Pulled:
    """Fetch, verify and put in place the weights and datasets of assets.

    Raises:
        IntegrityError, LoraregError: as ``Pulled.refuse``; the other assets are in place.
    """
    done = pull_each(workspace, assets, say, meter)
    done.refuse()
    return done


def pull_each(
    workspace: Workspace, assets: Sequence[AssetId], say: Say, meter: Meter | None = None
) -> Pulled:
    """Like ``pull``, but what is refused is told in the answer: one asset never hides another."""
    destinations.remember(workspace)
    refused: dict[AssetId, LoraregError] = {}
    wanted: dict[AssetId, list[Pointer]] = {}
    for asset in assets:
        with _kept(refused, asset):
            _may(workspace, asset)
            wanted[asset] = pointers_of(workspace, asset)
    store = workspace.store
    moved = store.fetch_each(_unique(wanted.values()), meter or Silent())
    say(f"fetched {moved.objects} objects, {spoken(moved.size)}")
    verified, unverified, good = {}, [], dict[Path, Pointer]()
    for asset, pointers in wanted.items():
        with _kept(refused, asset):
            for tracked in pointers:
                if why := moved.failed.get(tracked.file):
                    raise why
            count = arrivals.verify(workspace, asset, pointers)
            good |= {tracked.file: tracked for tracked in pointers}
            if count is None:
                unverified.append(str(asset))
            else:
                verified[str(asset)] = count
    _place(workspace, wanted, good, refused)
    names = {str(asset) for asset in refused}
    return Pulled(
        {name: count for name, count in verified.items() if name not in names},
        tuple(name for name in unverified if name not in names),
        moved.objects,
        moved.size,
        {str(asset): error for asset, error in refused.items()},
    )


def fetch_data(workspace: Workspace, asset: AssetId) -> None:
    """Fetch, verify and put in place what one adapter learns from, as far as it is not there."""
    weights = workspace.folder(asset).weights
    found = [p for p in pointers_of(workspace, asset) if p.path != weights and not p.path.exists()]
    _fetch(workspace, asset, found)


def fetch_weights(workspace: Workspace, asset: AssetId) -> None:
    """Fetch, verify and put in place the weights of one adapter."""
    weights = workspace.folder(asset).weights
    _fetch(workspace, asset, [p for p in pointers_of(workspace, asset) if p.path == weights])


def pointers_of(workspace: Workspace, asset: AssetId) -> list[Pointer]:
    """The pointers of an asset's weights and data, as far as there are any."""
    folder = workspace.folder(asset)
    files = [folder.pointer]
    if asset.kind != RECIPE:
        files += map(pointer_path, workspace.data(workspace.load_manifest(asset)))
    return [pointer.read(workspace.root, file) for file in files if file.is_file()]


class _kept:  # noqa: N801, a context manager that reads as a phrase
    """Keeps what is refused within a block, and goes on with the next asset."""

    def __init__(self, refused: dict[AssetId, LoraregError], asset: AssetId) -> None:
        self._refused, self._asset = refused, asset

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, LoraregError):
            self._refused[self._asset] = error
            return True
        return False


def _may(workspace: Workspace, asset: AssetId) -> None:
    """Signed by who may, unless it is one's own and not in git yet, and for whoever pulls."""
    from lorareg.registry.access import authority, permission

    authority.refuse_unsigned(workspace, asset)
    authority.pin(workspace)
    permission.require_pull(workspace, asset)


def _place(
    workspace: Workspace,
    wanted: Mapping[AssetId, Sequence[Pointer]],
    good: Mapping[Path, Pointer],
    refused: dict[AssetId, LoraregError],
) -> None:
    """Put in place what is good; data that a refused asset shares with a good one are."""
    failed: dict[Path, LoraregError] = {}
    try:
        workspace.store.checkout(list(good.values()))
    except LoraregError:  # one is in the way: each for itself tells which
        for file, tracked in good.items():
            try:
                workspace.store.checkout([tracked])
            except LoraregError as error:
                failed[file] = error
    for asset, pointers in wanted.items():
        for tracked in pointers:
            if asset not in refused and tracked.file in failed:
                refused[asset] = failed[tracked.file]


def _fetch(workspace: Workspace, asset: AssetId, pointers: Sequence[Pointer]) -> None:
    workspace.store.fetch(pointers)
    arrivals.verify(workspace, asset, pointers)
    workspace.store.checkout(pointers)


def _unique(groups: Iterable[Sequence[Pointer]]) -> list[Pointer]:
    return list({each.file: each for group in groups for each in group}.values())


def _with_name(asset: str, error: LoraregError) -> str:
    return error.sentence if asset in error.sentence else f"{asset}: {error.sentence}"
