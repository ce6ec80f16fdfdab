"""Where a run reports beside its own metrics file: TensorBoard, Weights & Biases, MLflow.

``metrics.jsonl`` is the truth; a tracker is told of it. A resumed run goes on in the same run of
each tracker: what the tracker has already is not told again, what a kill kept from it is told late.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lorareg.errors import LoraregError
from lorareg.registry.files import write_atomically

if TYPE_CHECKING:
    from lorareg.registry.manifest import Manifest
    from lorareg.registry.workspace import Workspace

FILE = "reporting.json"
PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow"}


class Tracker(Protocol):
    """One place that shows the values of a run."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Tell it of one line of the metrics."""
        ...

    def close(self) -> None:
        """Tell it that the run ends here, for good or until it is resumed."""
        ...


@dataclass(frozen=True)
class History:
    """What a run logged before it goes on.

    Attributes:
        rows: of ``metrics.jsonl`` that stay.
        told: the last step that trackers were told of, perhaps beyond these rows; -1 for none.
    """

    rows: Sequence[Mapping[str, Any]] = ()
    told: int = -1


@dataclass(frozen=True)
class Reporting:
    """``reporting.json`` of a run's folder.

    Attributes:
        trackers: names of those to tell.
        project: the registry's name; title: of the run.
        shared: folder of what all runs of a registry share.
        config: what the run was asked to do, by dotted key.
        ids: of this run at the trackers that gave it one.
    """

    trackers: tuple[str, ...] = ("tensorboard",)
    project: str = "lorareg"
    title: str = "run"
    shared: str = "."
    config: Mapping[str, str | float] = field(default_factory=dict)
    ids: Mapping[str, str] = field(default_factory=dict)


def wanted(workspace: Workspace, manifest: Manifest) -> Reporting:
    """Where a registry wants its runs reported, and what this one is called there."""
    return Reporting(
        trackers=workspace.settings.trackers,
        project=workspace.settings.name,
        title=str(manifest.id),
        shared=str(workspace.scratch),
        config=flat(manifest.config()),
    )


def declare(folder: Path, reporting: Reporting) -> None:
    """Say where the run in ``folder`` reports; ids that it got before stay.

    Raises:
        LoraregError: the library of a tracker is not installed; the command to install it is named.
    """
    for name in reporting.trackers:
        if importlib.util.find_spec(PACKAGES[name]) is None:
            raise LoraregError(
                f"lorareg.yaml names the tracker {name}, which is not installed",
                why=f"there is no Python package {PACKAGES[name]} here",
                fix=f"pip install 'lorareg[{name}]', or take it out of trackers in lorareg.yaml",
            )
    _save(folder, replace(reporting, ids=known(folder).ids))


def known(folder: Path) -> Reporting:
    """Where the run in ``folder`` reports; TensorBoard, if nobody said."""
    path = folder / FILE
    if not path.is_file():
        return Reporting()
    document = json.loads(path.read_text(encoding="utf-8"))
    return Reporting(**document | {"trackers": tuple(document["trackers"])})


def remember(folder: Path, name: str, identity: str) -> None:
    """Keep the id that a tracker gave this run, so that a resumed run goes on there."""
    reporting = known(folder)
    _save(folder, replace(reporting, ids={**reporting.ids, name: identity}))


def forget(folder: Path) -> None:
    """Begin a new run at every tracker."""
    (folder / FILE).unlink(missing_ok=True)


def start(folder: Path, history: History) -> list[Tracker]:
    """Go on reporting, or begin."""
    reporting = known(folder)
    trackers: list[Tracker] = []
    for name in reporting.trackers:
        if name == "tensorboard":
            from lorareg.trainers.report.tensorboard import Board

            trackers.append(Board(folder, history))
        else:
            from lorareg.trainers.report import remote

            trackers.append(remote.OPENERS[name](folder, reporting, history))
    return trackers


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str | float]:
    """Values by dotted key, as trackers take them.

    >>> flat({"lora": {"rank": 4, "targets": ["to_q", "to_k"]}, "captions": None})
    {'lora.rank': 4, 'lora.targets': "['to_q', 'to_k']", 'captions': 'None'}
    """
    found: dict[str, str | float] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value if isinstance(value, int | float) else str(value)
    return found


def _save(folder: Path, reporting: Reporting) -> None:
    text = json.dumps(asdict(reporting), ensure_ascii=False, indent=2)
    write_atomically(folder / FILE, text + "\n")
