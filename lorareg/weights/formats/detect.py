"""Which form a file of LoRA weights has, by its header and keys, and what is in it.

Nothing is skipped: a key that nobody here understands is named, and the file refused. Files that
can run code when they are loaded are never opened here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorareg.errors import InvalidFileError, LoraregError, NotFoundError, listed
from lorareg.registry import digest
from lorareg.registry.fields import PICKLES
from lorareg.registry.header import read_header
from lorareg.registry.lock import load_json
from lorareg.registry.origin import Form
from lorareg.weights.adapter import LoraAdapter
from lorareg.weights.formats import diffusers, kohya, peft

KOHYA_PREFIXES = ("lora_unet_", "lora_te_", "lora_te1_", "lora_te2_", "lora_te3_")
LYCORIS_PARTS = (".hada_", ".lokr_", ".lora_mid.")
TASK = {
    "diffusers": "text-to-image",
    "kohya": "text-to-image",
    "lycoris": "text-to-image",
    "peft": "text-generation",
}


@dataclass(frozen=True)
class Foreign:
    """A file of another program, understood to the last key.

    Attributes:
        name: of the file, without its folders.
        sha256: of its bytes; of a PEFT folder those of the weights.
        metadata: its header; of a PEFT folder what the configuration says of the base.
    """

    adapter: LoraAdapter
    form: Form
    name: str
    sha256: str
    metadata: Mapping[str, str]

    @property
    def task(self) -> str:
        """What its base does."""
        return TASK[self.form]


def read(path: Path, task: str | None = None) -> Foreign:
    """Recognise a file or a PEFT folder and read it.

    Args:
        path: ``.safetensors``, or a folder that holds one.
        task: that it has to be for; None takes any.

    Raises:
        NotFoundError: there is nothing.
        InvalidFileError: a pickle; a form that is not known; keys that are not, every one named.
    """
    file = _file(path)
    form = form_of(file)
    if task not in (None, TASK[form]):
        raise InvalidFileError(
            f"{file.name} is a {form} file, which is for {TASK[form]}",
            why=f"{task} is asked for",
            fix="name a file of the other task",
        )
    if form == "peft":
        adapter, metadata = _peft(file), _told(file.parent)
    else:
        metadata = dict(read_header(file).metadata)
        adapter = (diffusers if form == "diffusers" else kohya).read(file)
        adapter = kohya.with_one_spelling(adapter)
    return Foreign(adapter, form, file.name, digest.of_file(file), metadata)


def form_of(file: Path) -> Form:
    """The form of a ``.safetensors`` file, by its keys alone.

    Raises:
        InvalidFileError: no form that is known; it names the keys.
    """
    keys = [entry.name for entry in read_header(file).tensors]
    if keys and all(key.startswith(KOHYA_PREFIXES) for key in keys):
        inside = any(part in key for key in keys for part in LYCORIS_PARTS)
        return "lycoris" if inside else "kohya"
    if keys and all(key.startswith(peft.PREFIX) for key in keys):
        return "peft"
    if keys and all(key.partition(".")[0] in diffusers.COMPONENTS for key in keys):
        return "diffusers"
    raise InvalidFileError(
        f"{file.name} has no form that lorareg knows",
        why="\n" + listed(_strangers(keys)) if keys else "it holds no tensors",
        fix="it reads kohya's keys (lora_unet_...), diffusers' (unet. ...), LyCORIS' LoHa and LoKr "
        "and PEFT folders; save it in one of these",
    )


def refuse_pickle(path: Path) -> None:
    """Refuse a file that can run code when it is loaded.

    Raises:
        InvalidFileError: it can.
    """
    if path.suffix.lower() in PICKLES:
        raise InvalidFileError(
            f"{path.name} is refused",
            why=f"{path.suffix} files can run code when they are loaded",
            fix="ask for .safetensors; or, to read its tensors alone in a process of its own: "
            "lorareg import FILE KIND/NAME --from-pickle",
        )


def _file(path: Path) -> Path:
    """The weights: of a folder those of PEFT, or the only ``.safetensors`` in it."""
    if not path.exists():
        raise NotFoundError(f"there is no {path.name}", fix="correct the path")
    refuse_pickle(path)
    if path.is_file():
        if path.suffix.lower() != ".safetensors":
            raise InvalidFileError(
                f"{path.name} is no file of LoRA weights",
                why=f"{path.suffix or 'such files'} is not what adapters are kept in",
                fix="name a .safetensors file, or a folder that PEFT saved",
            )
        return path
    found = sorted(path.glob("*.safetensors"))
    named = [file for file in found if file.name in (peft.WEIGHTS, diffusers.FILE)]
    if len(named or found) == 1:
        return (named or found)[0]
    for file in sorted(path.iterdir()):
        refuse_pickle(file)
    names = ", ".join(file.name for file in found[:5]) or "no .safetensors"
    raise InvalidFileError(
        f"{path.name}/ is no folder of one adapter",
        why=f"it holds {names}",
        fix="name the file itself",
    )


def _peft(file: Path) -> LoraAdapter:
    if not (file.parent / peft.CONFIG).is_file():
        raise NotFoundError(
            f"there is no {peft.CONFIG} beside {file.name}",
            why="rank and alpha of a PEFT adapter are in it",
            fix="copy it from where the adapter was saved: save_pretrained writes both files",
        )
    return peft.read(file.parent, file.name)


def _strangers(keys: Iterable[str]) -> list[str]:
    known = (*KOHYA_PREFIXES, peft.PREFIX, *(f"{name}." for name in diffusers.COMPONENTS))
    return [key for key in keys if not key.startswith(known)] or list(keys)


def _told(folder: Path) -> dict[str, str]:
    """What a PEFT folder says of its base; a path of somebody's machine is none of our business."""
    try:
        config: Any = load_json(folder / peft.CONFIG, peft.CONFIG)
    except LoraregError:
        return {}
    name = config.get("base_model_name_or_path") if isinstance(config, dict) else None
    is_path = isinstance(name, str) and (name.startswith(("/", "~", ".")) or "\\" in name)
    return {"base_model_name_or_path": name} if isinstance(name, str) and not is_path else {}
