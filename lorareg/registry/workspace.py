"""A registry on disk: where its top is, and where everything in it is.

The schemas of manifests and locks, git and DVC are imported by the methods that use them: that
takes longer than listing a thousand assets, which needs none.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorareg.errors import InvalidFileError, NotFoundError
from lorareg.registry import stamp
from lorareg.registry.assetfolder import AssetFolder
from lorareg.registry.digest import DigestCache
from lorareg.registry.ids import RECIPE, SLUG, AssetId, Ref
from lorareg.registry.paths import resolve_inside
from lorareg.registry.stamp import Stamp

if TYPE_CHECKING:
    from lorareg.registry.dvc.store import Store
    from lorareg.registry.git.history import History
    from lorareg.registry.lock import Lock, RecipeLock
    from lorareg.registry.manifest import ImageManifest, Manifest, TextManifest
    from lorareg.registry.recipe import RecipeManifest
    from lorareg.registry.settings import Settings

SETTINGS = "lorareg.yaml"


class Workspace:
    """One registry.

    Attributes:
        root: its top folder, absolute.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        # checking one takes a millisecond, and a push of a thousand asks for each five times
        self._manifests: dict[AssetId, tuple[Stamp, ImageManifest | TextManifest]] = {}

    @classmethod
    def find(cls, start: Path | None = None) -> Workspace:
        """The registry that ``start`` (default: the current folder) is in.

        Raises:
            NotFoundError: no folder upward holds ``lorareg.yaml``.
        """
        here = (start or Path.cwd()).resolve()
        for folder in (here, *here.parents):
            if (folder / SETTINGS).is_file():
                return cls(folder)
        raise NotFoundError(
            "this is no registry",
            why=f"neither {here} nor a folder above it holds {SETTINGS}",
            fix="go to your registry, or make one here: lorareg init",
        )

    @cached_property
    def settings(self) -> Settings:
        """``lorareg.yaml``, checked."""
        from lorareg.registry import settings

        return settings.load(self.root)

    @property
    def manifests(self) -> Path:
        """Folder of all assets."""
        return self.root / "manifests"

    @property
    def scratch(self) -> Path:
        """Ignored by git; everything in it can be made again."""
        return self.root / ".lorareg"

    @property
    def cache(self) -> Path:
        """Latents, embeddings and digests, by content."""
        return self.scratch / "cache"

    @property
    def digests(self) -> DigestCache:
        """Digests of files, remembered by (inode, size, mtime)."""
        return DigestCache(self.cache / "digests.sqlite")

    @property
    def store(self) -> Store:
        """The DVC side of the registry."""
        from lorareg.registry.dvc.store import Store

        return Store(self.root)

    @property
    def history(self) -> History:
        """The git side of the registry."""
        from lorareg.registry.git.history import History

        return History(self.root)

    def folder(self, asset: AssetId) -> AssetFolder:
        """Paths of an asset, whether or not it exists."""
        return AssetFolder(asset, resolve_inside(self.root, f"manifests/{asset}"))

    def runs(self, asset: AssetId) -> Path:
        """Checkpoints and logs of an asset's training runs."""
        return self.scratch / "runs" / asset.kind / asset.name

    def dataset(self, wanted: Manifest) -> Path:
        """Folder (or .jsonl file) of a manifest's dataset, checked to be in the registry."""
        return resolve_inside(self.root, wanted.dataset.path)

    def data(self, wanted: Manifest) -> list[Path]:
        """Every folder that training reads, checked so: the dataset first, then class pictures."""
        return [resolve_inside(self.root, path) for path in wanted.data_paths]

    def assets(self) -> Iterator[AssetId]:
        """Every asset that has a manifest, sorted."""
        return (asset for asset, _ in self.manifest_stats())

    def manifest_stats(
        self, of_kind: str | None = None
    ) -> Iterator[tuple[AssetId, os.stat_result]]:
        """Every asset, or those of one kind, sorted, with what the system says of its manifest."""
        for kind in _folders(self.manifests):
            if not SLUG.fullmatch(kind.name) or of_kind not in (None, kind.name):
                continue
            for folder in _folders(Path(kind.path)):
                if not SLUG.fullmatch(folder.name):
                    continue
                try:
                    stat = os.stat(f"{folder.path}/manifest.yaml")
                except OSError:
                    continue
                yield AssetId(kind.name, folder.name), stat

    def find_asset(self, ref: Ref | str, *, any_version: bool = False) -> AssetId:
        """The asset a reference means; a bare name works where it is unique.

        Args:
            ref: as people type it.
            any_version: whether the caller looks at the version; else only what is checked out
                is meant, and a version is refused rather than ignored.

        Raises:
            NotFoundError: none, or several; the candidates are listed.
        """
        ref = Ref.parse(ref) if isinstance(ref, str) else ref
        if ref.at and not any_version:
            raise NotFoundError(
                f"{ref}: this command looks at what is checked out",
                why=f"it would have to ignore @{ref.at}",
                fix=f"git checkout the commit you mean, or write {str(ref).partition('@')[0]}",
            )
        if ref.kind is not None:
            asset = AssetId(ref.kind, ref.name)
            if self.folder(asset).manifest.is_file():
                return asset
            found = []
        else:
            found = [asset for asset in self.assets() if asset.name == ref.name]
        if len(found) == 1:
            return found[0]
        if found:
            raise NotFoundError(
                f"{ref.name!r} is the name of several assets",
                why=", ".join(str(asset) for asset in found),
                fix=f"write the kind too: {found[0]}",
            )
        raise NotFoundError(
            f"there is no asset {str(ref)!r}",
            why=self._near(ref),
            fix="lorareg list shows them all",
        )

    def load_manifest(self, asset: AssetId) -> ImageManifest | TextManifest:
        """The checked manifest of an adapter."""
        from lorareg.registry import manifest

        if asset.kind == RECIPE:
            raise NotFoundError(
                f"{asset} is a recipe, not an adapter",
                fix=f"use it in a composition: lorareg compose {asset}",
            )
        file = self.folder(asset).manifest
        now = stamp.of(str(file.parent), [file.name])
        known = self._manifests.get(asset)
        if known and known[0] == now:
            return known[1]
        found = manifest.load(file, asset)
        if now.is_settled:
            self._manifests[asset] = (now, found)
        return found

    def edit_manifest(self, asset: AssetId, changes: Mapping[str, Any]) -> None:
        """Set values in an adapter's manifest, unless they make it invalid."""
        from lorareg.registry import manifest, yamlfile

        path = self.folder(asset).manifest
        fix = f"correct the new value; nothing was written into manifests/{asset}/manifest.yaml"
        yamlfile.edit(path, changes, lambda new: manifest.check_document(new, asset, fix))

    def changed_manifest(
        self, asset: AssetId, changes: Mapping[str, Any]
    ) -> ImageManifest | TextManifest:
        """An adapter's manifest with other values, which are not written."""
        from lorareg.registry import manifest, yamlfile

        return manifest.check_document(
            yamlfile.changed(self.folder(asset).manifest, changes), asset
        )

    def load_asset(self, asset: AssetId) -> Manifest | RecipeManifest:
        """The checked manifest of an adapter or a recipe."""
        from lorareg.registry import recipe

        if asset.kind == RECIPE:
            return recipe.load(self.folder(asset).manifest, asset)
        return self.load_manifest(asset)

    def load_lock(self, asset: AssetId) -> Lock | None:
        """What was trained, or None if nothing was.

        Raises:
            InvalidFileError: it is no lock, or that of another asset.
        """
        from lorareg.registry import lock

        path = self.folder(asset).lock
        if not path.is_file():
            return None
        found = lock.load(path)
        if found.asset != str(asset):
            raise InvalidFileError(
                f"manifests/{asset}/{path.name} is the lock of {found.asset}",
                why="a copied folder brings the lock of the asset it was copied from",
                fix=f"rm manifests/{asset}/{path.name}, then lorareg train {asset}",
            )
        return found if isinstance(found, lock.Lock) else None

    def data_md5(self, folder: Path) -> str | None:
        """DVC's name for the bytes of a folder, if DVC tracks it."""
        from lorareg.registry.dvc import pointer

        file = pointer.pointer_path(folder)
        return pointer.read(self.root, file).md5 if file.is_file() else None

    def weights_match(self, folder: AssetFolder, known: Lock | RecipeLock) -> bool:
        """Whether the weights on disk are, byte for byte, the ones the lock promises."""
        return self.holds(folder.weights, known)

    def holds(self, folder: Path, known: Lock | RecipeLock) -> bool:
        """Whether the files of a folder are, byte for byte, the ones a lock promises."""
        files = {name: folder / name for name in known.outputs}
        if not all(path.is_file() for path in files.values()):
            return False
        found = self.digests.digests(files)
        return all(found[name] == output.sha256 for name, output in known.outputs.items())

    def _near(self, ref: Ref) -> str:
        import difflib

        assets = list(self.assets())
        names = set(difflib.get_close_matches(ref.name, {a.name for a in assets}, n=3, cutoff=0.5))
        if near := [str(asset) for asset in assets if asset.name in names]:
            return "near names: " + ", ".join(near)
        return f"manifests/ holds {len(assets)} other assets" if assets else "manifests/ is empty"


def _folders(path: Path) -> list[os.DirEntry[str]]:
    if not path.is_dir():
        return []
    with os.scandir(path) as entries:
        folders = [entry for entry in entries if entry.is_dir()]
    return sorted(folders, key=lambda entry: entry.name)
