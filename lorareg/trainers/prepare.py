"""From a manifest to a task that is ready to train: data read and checked, base found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lorareg.errors import InvalidFileError, listed
from lorareg.registry import base, dataset, lock
from lorareg.registry.base import ResolvedBase
from lorareg.registry.dataset import Listing
from lorareg.registry.manifest import ImageManifest, Manifest, TextManifest
from lorareg.registry.workspace import Workspace
from lorareg.trainers.data import dialogues, images
from lorareg.trainers.data.records import of_dialogues, of_pictures, read_pictures
from lorareg.trainers.tasks.base import Task

Stage = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Prepared:
    """Everything that determines a run, before anything heavy is loaded.

    Attributes:
        records: record id -> digest of its caption or dialogue.
        inputs: as the lock will hold them.
    """

    manifest: ImageManifest | TextManifest
    base: ResolvedBase
    listing: Listing
    task: Task
    records: Mapping[str, str]
    inputs: lock.Inputs


class BrokenPicturesError(InvalidFileError):
    """Pictures that cannot be decoded; ``names`` can be quarantined."""

    def __init__(self, folder: str, problems: Sequence[str]) -> None:
        super().__init__(
            f"dataset {folder}/ has {len(problems)} broken pictures",
            why="\n" + listed(problems, limit=100),
            fix="replace them, or leave them out: lorareg train --skip-broken",
        )
        self.names = [problem.partition(": ")[0] for problem in problems]


def prepare(workspace: Workspace, manifest: ImageManifest | TextManifest, stage: Stage) -> Prepared:
    """Find the base, hash the inputs, read and check the data.

    Raises:
        LoraregError: whatever is wrong with base or data, before a model is loaded.
    """
    found = resolve_base(workspace, manifest)
    folder = workspace.dataset(manifest)
    listing = dataset.scan(folder, workspace.digests)
    task, records = _task(workspace, manifest, found, listing, stage)
    inputs = lock.Inputs(
        base=lock.BaseInput(
            model=base.public_name(manifest.base), revision=found.revision, digest=found.digest
        ),
        dataset=lock.DatasetInput(
            path=manifest.dataset.path,
            digest=listing.digest,
            files=len(listing.files),
            records=len(records),
            md5=workspace.dataset_md5(manifest),
        ),
        config=lock.ConfigInput(digest=manifest.config_digest(), resolved=manifest.config()),
        trainer=lock.TRAINER,
        chat_template=_template(task),
    )
    return Prepared(manifest, found, listing, task, records, inputs)


def resolve_base(workspace: Workspace, manifest: Manifest) -> ResolvedBase:
    """The base of a manifest, found and hashed."""
    return base.resolve(manifest.base, manifest.task, workspace.root, workspace.digests)


def _task(
    workspace: Workspace,
    manifest: ImageManifest | TextManifest,
    found: ResolvedBase,
    listing: Listing,
    stage: Stage,
) -> tuple[Task, dict[str, str]]:
    folder = workspace.dataset(manifest)
    if isinstance(manifest, TextManifest):
        from lorareg.trainers.tasks.text import TextTask

        rows = dialogues.read_dialogues(folder)
        replies = TextTask(found, rows, manifest.train.max_length)
        replies.max_new_tokens = manifest.sample.max_new_tokens
        return replies, of_dialogues(rows)
    from lorareg.trainers.tasks.image import ImageTask

    pictures = read_pictures(folder, manifest, listing)
    _check_pictures(folder.name, pictures, manifest.train.resolution, stage)
    task = ImageTask(found, pictures, manifest.train, manifest.sample, workspace.digests, stage)
    return task, of_pictures(pictures)


def _check_pictures(
    folder: str, pictures: Sequence[images.ImageRecord], resolution: int, stage: Stage
) -> None:
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        stage("checking pictures", done, len(pictures))

    broken, small = images.check_pictures(pictures, resolution, advance)
    if broken:
        raise BrokenPicturesError(folder, broken)
    if small:
        raise InvalidFileError(
            f"dataset {folder}/ has {len(small)} pictures below the minimum side",
            why="they would have to be enlarged:\n" + listed(small, limit=100),
            fix=f"replace them, or lower train.resolution (it is {resolution})",
        )


def _template(task: Task) -> dict[str, str] | None:
    from lorareg.trainers.tasks.text import TextTask

    if not isinstance(task, TextTask):
        return None
    return {"source": task.template_source, "digest": task.template_digest}
