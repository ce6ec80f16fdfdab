"""Training configs of other trainers, in lorareg's words: lora-scripts YAML and kohya TOML.

What can be said in a manifest is taken over, what has no meaning here is named with the reason,
and everything else is named too: nothing is dropped in silence.

Source: kohya-ss/sd-scripts, ``train_network.py`` and ``library/train_util.py`` (argument names);
Akegarasu/lora-scripts writes the same TOML.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lorareg.errors import InvalidFileError
from lorareg.registry import yamlfile
from lorareg.registry.files import read_utf8
from lorareg.registry.foreign_keys import BASE, DATA, KOHYA_ONLY, NEEDLESS, SAYS, TASKS

REPEATED = re.compile(r"\d{1,6}_.+")


@dataclass
class Taken:
    """What a foreign config says.

    Attributes:
        changes: dotted manifest key -> value.
        data: its dataset folder, as written.
        base: its base model, as written.
        needless: key -> why it means nothing here.
        unknown: keys that a manifest cannot say, with their values.
    """

    changes: dict[str, Any] = field(default_factory=dict)
    data: str | None = None
    base: str | None = None
    task: str | None = None
    needless: dict[str, str] = field(default_factory=dict)
    unknown: dict[str, Any] = field(default_factory=dict)


def read(path: Path) -> Taken:
    """Read a ``.toml`` of kohya's scripts, or a ``.yaml`` of lora-scripts.

    Raises:
        NotFoundError: there is no such file.
        InvalidFileError: not UTF-8, not TOML or YAML, or a value that is none of its key.
    """
    taken = Taken()
    problems = []
    document = _flat(_document(path))
    for key, value in document.items():
        try:
            _take(taken, key, value)
        except (ValueError, TypeError, KeyError) as error:
            problems.append(f"{key}: {value!r} ({str(error) or type(error).__name__})")
    if problems:
        raise InvalidFileError(
            f"{path.name} has values that are not understood",
            why="\n" + "\n".join(f"  - {line}" for line in problems),
            fix="correct them there, or delete these keys and set them in the manifest",
        )
    if not KOHYA_ONLY.isdisjoint(document):
        _settle_kohya(taken.changes, document)
    _settle_schedule(taken.changes)
    return taken


def one_repeated_folder(taken: Taken, folder: Path) -> Path:
    """The dataset in a parent folder of kohya's form, ``N_name`` with N repeats an epoch.

    Raises:
        InvalidFileError: there are several; each would be a dataset of its own.
    """
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    inner = [path for path in found if REPEATED.fullmatch(path.name) and path.is_dir()]
    if len(inner) > 1:
        raise InvalidFileError(
            f"{folder.name}/ holds {len(inner)} datasets: {', '.join(p.name for p in inner)}",
            why="a manifest names one dataset; kohya's repeats of several are not taken over",
            fix="put the pictures into one folder, or say --data with one of these",
        )
    if not inner:
        return folder
    repeats = int(inner[0].name.partition("_")[0])
    taken.changes["train.epochs"] = max(1, repeats * int(taken.changes.get("train.epochs", 1)))
    return inner[0]


def _settle_kohya(changes: dict[str, Any], document: Mapping[str, Any]) -> None:
    """What a kohya config means without saying it, and switches that decide over other keys."""
    changes.setdefault("lora.rank", 4)
    alpha = changes.setdefault("lora.alpha", 1.0)
    changes["lora.alpha"] = alpha or float(changes["lora.rank"])
    changes.setdefault("lora.targets", "kohya")
    changes.setdefault("train.caption_dropout", 0.0)
    changes.setdefault("train.batch_size", 1)
    changes.setdefault("train.scheduler", "constant")
    changes.setdefault("train.warmup_steps", 0)
    if "unet_lr" in document:
        changes["train.learning_rate"] = float(document["unet_lr"])
    learns = changes.get("lora.text_encoder", True)
    changes["lora.text_encoder"] = learns and document.get("network_train_unet_only") is not True
    if not changes["lora.text_encoder"]:
        changes.pop("train.text_encoder_learning_rate", None)
    if document.get("enable_bucket") is True:
        changes.setdefault("train.buckets.upscale", True)
    else:
        _drop(changes, "train.buckets.")
        changes["train.buckets"] = None
    if document.get("shuffle_caption") is not True:
        if changes.get("train.tags.dropout"):
            changes["train.tags.shuffle"] = False
        else:
            _drop(changes, "train.tags.")


def _settle_schedule(changes: dict[str, Any]) -> None:
    """Leave out what the schedule has no use for: kohya ignores it, a manifest does not."""
    if changes.get("train.optimizer") == "schedule-free":
        changes["train.scheduler"] = "constant"
    scheduler = changes.get("train.scheduler")
    if scheduler != "cosine-restarts":
        changes.pop("train.scheduler_cycles", None)
    if scheduler != "polynomial":
        changes.pop("train.scheduler_power", None)


def _drop(changes: dict[str, Any], prefix: str) -> None:
    for key in [key for key in changes if key.startswith(prefix)]:
        del changes[key]


def _document(path: Path) -> dict[str, Any]:
    if path.suffix.lower() != ".toml":
        return yamlfile.load(path)
    try:
        return tomllib.loads(read_utf8(path, max_bytes=yamlfile.MAX_BYTES))
    except tomllib.TOMLDecodeError as error:
        raise InvalidFileError(
            f"{path.name} is not valid TOML", why=str(error), fix="mend that line"
        ) from error


def _flat(document: Mapping[str, Any]) -> dict[str, Any]:
    """Kohya's scripts ignore the names of sections, and so does this."""
    found: dict[str, Any] = {}
    for key, value in document.items():
        found |= _flat(value) if isinstance(value, dict) else {key: value}
    return found


def _take(taken: Taken, key: str, value: Any) -> None:
    if value in (None, "") or key in NEEDLESS:
        taken.needless[key] = NEEDLESS.get(key, "it is empty")
    elif key in DATA:
        taken.data = str(value)
    elif key in BASE:
        taken.base = str(value)
    elif key == "task_type":
        taken.task = TASKS[str(value)]
    elif key in SAYS:
        taken.changes |= SAYS[key](value)
    elif key == "network_args":
        _take_network_args(taken, value)
    elif value is False or value in (0, "0"):
        taken.needless[key] = "it is off"
    else:
        taken.unknown[key] = value


def _take_network_args(taken: Taken, pairs: list[str]) -> None:
    for pair in pairs:
        key, _, value = str(pair).partition("=")
        if key == "loraplus_lr_ratio":
            taken.changes["train.loraplus_lr_ratio"] = float(value)
        else:
            taken.unknown[f"network_args {key}"] = value
