"""Which files of a model folder make it what it is, on the Hub and on disk.

A digest and a download take the same ones: the default variant of the weights in safetensors, and
the configs and tokenizers beside them. Cards, other variants (``.fp16.safetensors``), whole-model
checkpoints at the top of a diffusers repository and safety checkers stay out, so that the digest
does not depend on what else happens to lie there.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from lorareg.errors import InvalidFileError
from lorareg.registry.lock import load_json

DIFFUSERS = "model_index.json"
WEIGHTED_PARTS = (
    "unet", "transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3",
)  # fmt: skip
PARTS = (*WEIGHTED_PARTS, "tokenizer", "tokenizer_2", "tokenizer_3", "scheduler")
INDEX = ".safetensors.index.json"
CONFIGS = (".json", ".model", ".jinja", "vocab.txt", "merges.txt")


def select(names: Iterable[str]) -> list[str]:
    """Of all files of a model folder, by relative POSIX path, those that count."""
    every = sorted(names)
    is_diffusers = DIFFUSERS in every
    return [name for name in every if _belongs(name, is_diffusers)]


def has_weights(names: Iterable[str]) -> bool:
    """Whether selected files hold any weights."""
    return any(name.endswith(".safetensors") for name in names)


def configs(folder: Path) -> dict[str, Path]:
    """Configs in diffusers layout without weights, for a single-file checkpoint."""
    names = [f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file()]
    return {name: folder / name for name in select(names) if not name.endswith(".safetensors")}


def files(folder: Path) -> dict[str, Path]:
    """Files of a model folder that count.

    Raises:
        InvalidFileError: there are no weights that can be loaded safely.
    """
    names = select(f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file())
    if not has_weights(names):
        raise InvalidFileError(
            f"base {folder.name} holds no .safetensors weights",
            why="weights in .bin or .ckpt can run code when loaded and are refused; of several "
            "variants the one without a name in the middle (.fp16.) is taken",
            fix="convert them to safetensors: load the model in Python and call "
            "save_pretrained(folder, safe_serialization=True)",
        )
    return {name: folder / name for name in names}


def is_complete(folder: Path) -> bool:
    """Whether everything that the folder's own indexes promise is there.

    The Hub client's cache holds what was asked for, by whomever: perhaps a tokenizer only.
    """
    if not (folder / DIFFUSERS).is_file():
        return (folder / "config.json").is_file() and _has_all_weights(folder)
    index = load_json(folder / DIFFUSERS, f"{folder.name}/{DIFFUSERS}")
    parts = [part for part in PARTS if isinstance(index, dict) and any(index.get(part) or ())]
    return all(
        _has_all_weights(folder / part) if part in WEIGHTED_PARTS else (folder / part).is_dir()
        for part in parts
    )


def _belongs(name: str, is_diffusers: bool) -> bool:
    folder, _, file = name.rpartition("/")
    if folder not in (PARTS if is_diffusers else ("",)):
        return is_diffusers and name == DIFFUSERS
    if file.startswith((".", "consolidated.")):
        return False
    if ".safetensors" in file:
        stem, _, ending = file.partition(".")
        return bool(stem) and ending in ("safetensors", INDEX[1:])
    return file.endswith(CONFIGS) and ".index." not in file


def _has_all_weights(folder: Path) -> bool:
    indexes = [path for path in folder.glob(f"*{INDEX}") if "." not in path.name.split(INDEX)[0]]
    if indexes:
        table = load_json(indexes[0], f"{folder.name}/{indexes[0].name}")
        shards = table.get("weight_map") if isinstance(table, dict) else None
        return isinstance(shards, dict) and all(
            (folder / str(shard)).is_file() for shard in shards.values()
        )
    return has_weights(select(path.name for path in folder.glob("*.safetensors")))
