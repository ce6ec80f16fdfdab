"""From a manifest to a task that is ready to train: data read and checked, base found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lorareg.errors import InvalidFileError, listed
from lorareg.registry import dataset, lock
from lorareg.registry.bases import base
from lorareg.registry.bases.base import ResolvedBase
from lorareg.registry.dataset import Listing
from lorareg.registry.manifest import ImageManifest, Manifest, TextManifest
from lorareg.registry.workspace import Workspace
from lorareg.trainers import personal_data
from lorareg.trainers.adapters import parents
from lorareg.trainers.adapters.parents import Parent
from lorareg.trainers.core.task import Task
from lorareg.trainers.data import class_pictures, dialogues, undecodable
from lorareg.trainers.data.check import run
from lorareg.trainers.data.check.findings import ordered
from lorareg.trainers.data.check.report import Report
from lorareg.trainers.data.check.wishes import Wishes
from lorareg.trainers.data.class_pictures import ClassPictures
from lorareg.trainers.data.records import of_dialogues, of_pictures, read_pictures

NAMED = 3  # files of one finding
Stage = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Prepared:
    """Everything that determines a run, before anything heavy is loaded.

    Attributes:
        records: record id -> digest of its caption or dialogue.
        report: what the check of the dataset said; no errors.
        inputs: as the lock will hold them.
        parent: the adapter to start from, if any.
        prior: the class pictures, if any.
    """

    manifest: ImageManifest | TextManifest
    base: ResolvedBase
    listing: Listing
    task: Task
    records: Mapping[str, str]
    report: Report
    inputs: lock.Inputs
    parent: Parent | None = None
    prior: ClassPictures | None = None


@dataclass(frozen=True)
class _Data:
    listing: Listing
    prior: ClassPictures | None


class BrokenPicturesError(InvalidFileError):
    """Pictures that cannot be decoded, perhaps among other problems; ``names`` can be skipped."""

    def __init__(self, what: str, why: str, names: Sequence[str]) -> None:
        super().__init__(
            what, why=why, fix="replace them, or leave them out: lorareg train --skip-broken"
        )
        self.names = names


def prepare(
    workspace: Workspace,
    manifest: ImageManifest | TextManifest,
    stage: Stage,
    file: Parent | None = None,
) -> Prepared:
    """Find base and parent, hash the inputs, read and check the data.

    ``file`` is a parent that the manifest does not name.

    Raises:
        LoraregError: whatever is wrong with base, parent or data, before a model is loaded.
    """
    found = resolve_base(workspace, manifest)
    parent = file or parents.find(workspace, manifest, found)
    folder = workspace.dataset(manifest)
    listing = dataset.scan(folder, workspace.digests)
    personal_data.refuse(manifest, folder, listing)
    report = run.of_manifest(
        workspace, manifest.dataset.path, listing, Wishes.of(manifest, found), stage
    )
    _refuse_errors(report)
    prior = class_pictures.find(workspace, manifest)
    task, records = _task(workspace, manifest, found, _Data(listing, prior), stage)
    inputs = lock.Inputs(
        base=lock.BaseInput(
            model=base.public_name(manifest.base), revision=found.revision, digest=found.digest
        ),
        dataset=lock.DatasetInput(
            path=manifest.dataset.path,
            digest=listing.digest,
            files=len(listing.files),
            records=len(records),
            md5=workspace.data_md5(folder),
        ),
        config=lock.ConfigInput(digest=manifest.config_digest(), resolved=manifest.config()),
        trainer=lock.TRAINER,
        chat_template=_template(task),
        parent=parent.input if parent else None,
        prior=prior.input if prior else None,
    )
    return Prepared(manifest, found, listing, task, records, report, inputs, parent, prior)


def resolve_base(workspace: Workspace, manifest: Manifest) -> ResolvedBase:
    """The base of a manifest, found and hashed."""
    return base.resolve(manifest.base, manifest.task, workspace.root, workspace.digests)


def _task(
    workspace: Workspace,
    manifest: ImageManifest | TextManifest,
    found: ResolvedBase,
    data: _Data,
    stage: Stage,
) -> tuple[Task, dict[str, str]]:
    folder = workspace.dataset(manifest)
    if isinstance(manifest, TextManifest):
        from lorareg.trainers.text.task import TextTask

        rows = dialogues.read_dialogues(folder)
        replies = TextTask(found, rows, manifest.train, stage=stage)
        replies.max_new_tokens = manifest.sample.max_new_tokens
        return replies, of_dialogues(rows)
    from lorareg.trainers.image.task import ImageTask

    pictures = read_pictures(folder, manifest, data.listing)
    beside = data.prior.records if data.prior else ()
    undecodable.refuse(pictures, beside, workspace.cache, stage)
    task = ImageTask(
        found, pictures, manifest.train, manifest.sample, workspace.digests, stage,
        class_pictures=beside, text_encoder=manifest.lora.text_encoder,
    )  # fmt: skip
    return task, of_pictures(pictures)


def _refuse_errors(report: Report) -> None:
    errors = ordered(report.errors)
    if not errors:
        return
    what = f"dataset {report.dataset} has {len(errors)} problem{'s' * (len(errors) > 1)}"
    lines = [f"{_named(f.files) or report.dataset}: {f.why}" for f in errors]
    why = "\n" + listed(lines, limit=100)
    broken = [name for finding in errors if finding.code == "broken" for name in finding.files]
    if broken:
        raise BrokenPicturesError(what, why, broken)
    fixes = dict.fromkeys(finding.fix for finding in errors)
    raise InvalidFileError(what, why=why, fix="; ".join(fixes))


def _named(files: Sequence[str]) -> str:
    """A few files, and how many more there are."""
    more = f" and {len(files) - NAMED} more" if len(files) > NAMED else ""
    return ", ".join(files[:NAMED]) + more


def _template(task: Task) -> dict[str, str] | None:
    from lorareg.trainers.text.task import TextTask

    if not isinstance(task, TextTask):
        return None
    return {"source": task.template_source, "digest": task.template_digest}
