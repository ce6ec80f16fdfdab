"""What arrives from a remote, compared with the lock before any of it appears as a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from lorareg.errors import IntegrityError, LoraregError, listed
from lorareg.registry import digest, lock
from lorareg.registry.dvc import pointer
from lorareg.registry.dvc.pointer import Pointer
from lorareg.registry.header import read_header
from lorareg.registry.ids import AssetId
from lorareg.registry.lock import RecipeLock
from lorareg.registry.tensors import tensor_digest
from lorareg.registry.workspace import Workspace

HARMLESS = {".json"}
WEIGHTS = ".safetensors"


def verify(workspace: Workspace, asset: AssetId, pointers: Sequence[Pointer]) -> int | None:
    """Compare fetched bytes with the lock.

    Only ``.safetensors`` whose header tells the truth and ``.json`` have a place among weights,
    and only those that the lock promises, with its sha256 and its tensors.

    Returns:
        How many files were compared, or None where there is no lock.

    Raises:
        IntegrityError: it names every file that is refused; those leave the cache.
    """
    folder = workspace.folder(asset)
    found = lock.load(folder.lock) if folder.lock.is_file() else None
    count = 0
    for tracked in pointers:
        files = workspace.store.cached_files(tracked)
        problems = {name: why for name, path in files.items() if (why := _corrupt(path))}
        damaged = [f"files/md5/{files[name].parent.name}/{files[name].name}" for name in problems]
        if tracked.path == folder.weights:
            problems |= _wrong_weights(files, found.outputs if found else {})
            count += len(files)
        elif isinstance(found, lock.TrainedLock):
            wrong, compared = _judge_data(workspace, found, tracked, files)
            problems |= wrong
            count += compared
        if problems:
            workspace.store.discard([files[name] for name in problems if name in files])
            name = tracked.path.relative_to(workspace.root).as_posix()
            raise IntegrityError(
                f"{asset}: {name}/ from the remote is refused",
                why="\n" + listed([f"{file}: {why}" for file, why in sorted(problems.items())]),
                fix="nothing of it was put in place; "
                + (f"delete {', '.join(damaged)} on the remote, then " if damaged else "")
                + "ask its owner to push it again",
            )
    return count if found else None


def refuse_modified(workspace: Workspace, locks: Mapping[AssetId, lock.Lock | RecipeLock]) -> None:
    """Refuse to push weights that are not those of their locks; all are hashed in one go.

    Raises:
        IntegrityError: somebody changed them after training.
    """
    promised: dict[AssetId, dict[str, str]] = {}
    files: dict[str, Path] = {}
    changed: list[AssetId] = []
    for asset, found in locks.items():
        folder = workspace.folder(asset).weights
        if not folder.is_dir():
            continue
        if {path.name for path in folder.iterdir()} != found.outputs.keys():
            changed.append(asset)
            continue
        promised[asset] = {str(folder / name): out.sha256 for name, out in found.outputs.items()}
        files |= {name: Path(name) for name in promised[asset]}
    now = workspace.digests.digests(files)
    changed += [asset for asset, then in promised.items() if any(now[n] != then[n] for n in then)]
    if changed:
        first = changed[0]
        others = [str(asset) for asset in changed[1:]]
        raise IntegrityError(
            f"{first}: weights/ does not match its lock.json"
            + (f"; neither do those of {', '.join(others)}" if others else ""),
            why="somebody changed the files after training; nothing was pushed",
            fix=f"restore them: lorareg pull {' '.join(map(str, changed))}, or train again",
        )


def _corrupt(path: Path) -> str | None:
    """DVC names objects by md5 but does not check it on the way in."""
    named = path.parent.name + path.name
    found = pointer.file_md5(path)
    return None if found == named else f"bytes changed on the way: md5 {found}, DVC says {named}"


def _wrong_weights(files: Mapping[str, Path], outputs: Mapping[str, lock.Output]) -> dict[str, str]:
    problems = dict.fromkeys(outputs.keys() - files, "the lock promises it, the remote lacks it")
    for name, path in files.items():
        if why := _objection(name, path, outputs.get(name)):
            problems[name] = why
    return problems


def _objection(name: str, path: Path, promised: lock.Output | None) -> str | None:
    """Why a file is refused, or None."""
    if Path(name).suffix not in {WEIGHTS, *HARMLESS}:
        return "is neither .safetensors nor .json"
    if promised is None:
        return "is not in the lock"
    if digest.of_file(path) != promised.sha256:
        return f"sha256 is not {promised.sha256}"
    if not name.endswith(WEIGHTS):
        return None
    try:
        read_header(path)
    except LoraregError as error:
        return error.why
    same = tensor_digest(path) == promised.tensors
    return None if same else f"tensors are not {promised.tensors}"


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
