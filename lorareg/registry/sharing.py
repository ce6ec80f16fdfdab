"""Push and pull: bytes through DVC, truth through git, and nothing trusted on arrival.

Push goes commit, bytes, git, so that nothing is announced before its bytes are up; every step can
be repeated. Pull fetches into DVC's cache, verifies there, and only then lets files appear.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lorareg.errors import IntegrityError, LoraregError, listed
from lorareg.registry import card, digest, lineage, lock, pointer
from lorareg.registry.header import read_header
from lorareg.registry.ids import RECIPE, AssetId
from lorareg.registry.lock import RecipeLock
from lorareg.registry.pointer import Pointer, pointer_path
from lorareg.registry.tensors import tensor_digest
from lorareg.registry.workspace import Workspace

Say = Callable[[str], None]
TOP_FILES = ("lorareg.yaml", ".gitignore", ".dvcignore", ".dvc/config", ".dvc/.gitignore")
HARMLESS = {".json"}
WEIGHTS = ".safetensors"


@dataclass(frozen=True)
class Pushed:
    """What a push did; all zero when everything was up already."""

    commit: str | None
    objects: int
    remote: str | None


@dataclass(frozen=True)
class Pulled:
    """What a pull did.

    Attributes:
        verified: asset -> number of files compared with its lock.
        unverified: assets without a lock, whose data only match DVC's md5.
    """

    verified: Mapping[str, int]
    unverified: tuple[str, ...]
    objects: int


def push(workspace: Workspace, assets: Sequence[AssetId], say: Say) -> Pushed:
    """Commit the assets' folders, upload their bytes, then push the branch.

    Raises:
        IntegrityError: weights that are not the lock's; nothing was committed.
        LoraregError: an adapter that more people may see than one it descends from.
        ExternalToolError: a remote said no; run the same push again.
    """
    for asset in assets:
        _refuse_modified(workspace, asset)
        _refuse_hidden(workspace, asset)
        card.refresh(workspace, asset)
    pointers = [found for asset in assets for found in _track(workspace, asset)]
    paths = _commit_paths(workspace, assets)
    names = ", ".join(str(asset) for asset in assets)
    commit = workspace.history.commit(paths, f"Update {names}")
    say(f"committed {commit[:10]}" if commit else "nothing new to commit")
    objects = workspace.store.push(_unique(pointers))
    say(f"uploaded {objects} objects")
    remote = workspace.history.remote()
    if remote is None:
        say("no git remote: git remote add origin URL, then push again, to share the history")
    else:
        workspace.history.push()
        say("pushed the branch")
    return Pushed(commit, objects, remote)


def pull(workspace: Workspace, assets: Sequence[AssetId], say: Say) -> Pulled:
    """Fetch, verify and put in place the weights and datasets of assets.

    Raises:
        IntegrityError: bytes that are not those the lock promises, or a file that has no place in
            a weights folder; it is named, and nothing of it appears.
    """
    wanted = {asset: _pointers(workspace, asset) for asset in assets}
    everything = _unique([each for pointers in wanted.values() for each in pointers])
    objects = workspace.store.fetch(everything)
    say(f"fetched {objects} objects")
    verified, unverified = {}, []
    for asset in assets:
        count = _verify_cached(workspace, asset, wanted[asset])
        if count is None:
            unverified.append(str(asset))
        else:
            verified[str(asset)] = count
    workspace.store.checkout(everything)
    return Pulled(verified, tuple(unverified), objects)


def fetch_data(workspace: Workspace, asset: AssetId) -> None:
    """Fetch, verify and put in place what one adapter learns from, as far as it is not there."""
    weights = workspace.folder(asset).weights
    found = [p for p in _pointers(workspace, asset) if p.path != weights and not p.path.exists()]
    _fetch(workspace, asset, found)


def fetch_weights(workspace: Workspace, asset: AssetId) -> None:
    """Fetch, verify and put in place the weights of one adapter."""
    weights = workspace.folder(asset).weights
    _fetch(workspace, asset, [p for p in _pointers(workspace, asset) if p.path == weights])


def _fetch(workspace: Workspace, asset: AssetId, pointers: Sequence[Pointer]) -> None:
    workspace.store.fetch(pointers)
    _verify_cached(workspace, asset, pointers)
    workspace.store.checkout(pointers)


def _refuse_modified(workspace: Workspace, asset: AssetId) -> None:
    folder = workspace.folder(asset)
    if not folder.lock.is_file() or not folder.weights.is_dir():
        return
    found = lock.load(folder.lock)
    here = {path.name for path in folder.weights.iterdir()}
    if here != found.outputs.keys() or not workspace.weights_match(folder, found):
        raise IntegrityError(
            f"{asset}: weights/ does not match its lock.json",
            why="somebody changed the files after training; nothing was pushed",
            fix=f"restore them: lorareg pull {asset}, or train again",
        )


def _refuse_hidden_members(workspace: Workspace, asset: AssetId) -> None:
    path = workspace.folder(asset).lock
    known = lock.load(path) if path.is_file() else None
    if isinstance(known, RecipeLock) and (
        hidden := lineage.hidden_members(workspace, asset, known)
    ):
        raise LoraregError(
            f"the merged file of {asset} holds {', '.join(hidden)}",
            why=f"{asset} is {workspace.load_asset(asset).visibility}; nothing was pushed",
            fix=f"set a narrower visibility in manifests/{asset}/manifest.yaml",
        )


def _refuse_hidden(workspace: Workspace, asset: AssetId) -> None:
    if asset.kind == RECIPE:
        _refuse_hidden_members(workspace, asset)
        return
    known = workspace.load_lock(asset)
    if known is None or not lineage.ancestors(workspace, known):
        return
    manifest = workspace.load_manifest(asset)
    if hidden := lineage.hidden_ancestors(workspace, manifest, known):
        raise LoraregError(
            f"{asset} is {manifest.visibility}, but it descends from {', '.join(hidden)}",
            why="its weights hold most of what its parents learned; nothing was pushed",
            fix=f"set a narrower visibility in manifests/{asset}/manifest.yaml, or train it "
            "without that parent",
        )


def _track(workspace: Workspace, asset: AssetId) -> list[Pointer]:
    """Let DVC know the data and weights as they are now."""
    folder = workspace.folder(asset)
    found = []
    if folder.weights.is_dir():
        remote = _remote(workspace, asset)
        found.append(workspace.store.track(folder.weights, remote=remote))
    if asset.kind != RECIPE:
        data = workspace.data(workspace.load_manifest(asset))
        found += [workspace.store.track(folder) for folder in data if folder.exists()]
    return found


def _remote(workspace: Workspace, asset: AssetId) -> str | None:
    visibility = workspace.load_asset(asset).visibility
    return workspace.settings.remotes.get(visibility)


def _pointers(workspace: Workspace, asset: AssetId) -> list[Pointer]:
    folder = workspace.folder(asset)
    files = [folder.pointer]
    if asset.kind != RECIPE:
        files += map(pointer_path, workspace.data(workspace.load_manifest(asset)))
    return [pointer.read(workspace.root, file) for file in files if file.is_file()]


def _commit_paths(workspace: Workspace, assets: Sequence[AssetId]) -> list[Path]:
    paths: list[Path] = []
    for asset in assets:
        paths.append(workspace.folder(asset).path)
        if asset.kind != RECIPE:
            for data in workspace.data(workspace.load_manifest(asset)):
                # A single file's record of redaction lies beside it; a folder holds its own.
                record = data.with_suffix(".redaction.json")
                paths += [pointer_path(data), data.parent / ".gitignore", record]
    paths += [workspace.root / name for name in TOP_FILES]
    return [path for path in dict.fromkeys(paths) if path.exists()]


def _unique(pointers: Sequence[Pointer]) -> list[Pointer]:
    return list({each.file: each for each in pointers}.values())


def _verify_cached(workspace: Workspace, asset: AssetId, pointers: Sequence[Pointer]) -> int | None:
    """Compare fetched bytes with the lock; returns how many, or None where there is no lock."""
    folder = workspace.folder(asset)
    found = lock.load(folder.lock) if folder.lock.is_file() else None
    count = 0
    for tracked in pointers:
        files = workspace.store.cached_files(tracked)
        problems = {name: why for name, path in files.items() if (why := _corrupt(path))}
        if tracked.path == folder.weights:
            outputs = found.outputs if found else {}
            problems |= _wrong_weights(files, outputs)
            count += len(files)
        elif isinstance(known := workspace.load_lock(asset), lock.TrainedLock):
            wrong, compared = _judge_data(workspace, known, tracked, files)
            problems |= wrong
            count += compared
        if problems:
            workspace.store.discard([files[name] for name in problems if name in files])
            name = tracked.path.relative_to(workspace.root).as_posix()
            raise IntegrityError(
                f"{asset}: {name}/ from the remote is refused",
                why="\n" + listed([f"{file}: {why}" for file, why in sorted(problems.items())]),
                fix="nothing of it was put in place; ask its owner to push it again",
            )
    return count if found else None


def _corrupt(path: Path) -> str | None:
    """DVC names objects by md5 but does not check it on the way in."""
    named = path.parent.name + path.name
    found = pointer.file_md5(path)
    return None if found == named else f"bytes changed on the way: md5 {found}, DVC says {named}"


def _wrong_weights(files: Mapping[str, Path], outputs: Mapping[str, lock.Output]) -> dict[str, str]:
    problems = dict.fromkeys(outputs.keys() - files, "the lock promises it, the remote lacks it")
    for name, path in files.items():
        promised = outputs.get(name)
        if promised is None:
            problems[name] = "is not in the lock"
        elif digest.of_file(path) != promised.sha256:
            problems[name] = f"sha256 is not {promised.sha256}"
        elif name.endswith(WEIGHTS):
            try:
                read_header(path)
            except LoraregError as error:
                problems[name] = error.why
                continue
            if tensor_digest(path) != promised.tensors:
                problems[name] = f"tensors are not {promised.tensors}"
        elif Path(name).suffix not in HARMLESS:
            problems[name] = "is neither .safetensors nor .json"
    return problems


def _judge_data(
    workspace: Workspace, known: lock.TrainedLock, tracked: Pointer, files: Mapping[str, Path]
) -> tuple[dict[str, str], int]:
    """Compare a folder of data with what was trained on, unless it was changed since.

    Returns:
        Problems by file, and how many files were compared.
    """
    asset = AssetId.parse(known.asset)
    index = workspace.folder(asset).dataset
    is_dataset = tracked.path == workspace.dataset(workspace.load_manifest(asset))
    given = known.inputs.dataset if is_dataset else known.inputs.prior
    if given is None or not index.is_file() or (given.md5 and given.md5 != tracked.md5):
        return {}, 0
    listed_then = lock.load_index(index, known.inputs)
    promised = listed_then.files if is_dataset else listed_then.prior
    wrong = _wrong_data(files, promised)
    if wrong and given.md5 is None:
        return {}, 0  # locked before DVC tracked the data: other data are no alarm
    return wrong, len(promised)


def _wrong_data(files: Mapping[str, Path], promised: Mapping[str, str]) -> dict[str, str]:
    problems = dict.fromkeys(promised.keys() - files.keys(), "is missing")
    for name in promised.keys() & files.keys():
        if digest.of_file(files[name]) != promised[name]:
            problems[name] = f"sha256 is not {promised[name]}"
    return problems
