"""Which model labels: found on this disk or on the Hub, named so that its captions can be traced.

=============================  ==================================================================
model                          family
=============================  ==================================================================
BLIP, BLIP-2, Florence-2       writes a sentence
Qwen-VL, LLaVA, any such       a chat model that reads pictures: answers a question
CLIP, Chinese-CLIP             chooses terms of the dataset's vocabulary
WD14 tagger (``.onnx``)        tags; a folder with ``model.onnx`` and ``selected_tags.csv``
=============================  ==================================================================

Weights are safetensors or ONNX; pickles are refused and no code of a model is ever run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from lorareg.errors import ExternalToolError, InvalidFileError, LoraregError, NotFoundError
from lorareg.registry import hub
from lorareg.registry.bases import modelfiles
from lorareg.registry.bases.builtin import cache_folder
from lorareg.registry.digest import DigestCache, of_tree
from lorareg.registry.fields import is_hub_id
from lorareg.registry.lock import load_json
from lorareg.trainers.data.label import blip, blip2, chat, clip, florence, tagger
from lorareg.trainers.data.label.captioner import Asking, Captioner, Model

DEFAULT = "florence-community/Florence-2-base"  # 0.23 B parameters, 0.5 GB: also for a CPU
ONNX = "onnx"

FAMILIES: Mapping[str, Callable[[Model, Asking], Captioner]] = {
    "blip": blip.load,
    "blip-2": blip2.load,
    "florence2": florence.load,
    "clip": clip.load,
    "chinese_clip": clip.load,
    ONNX: tagger.load,
}
CHOOSERS = ("clip", "chinese_clip")


def load(model: Model, asking: Asking) -> Captioner:
    """Load a model; what is of no family of its own is asked as a chat model.

    Raises:
        InvalidFileError: its files are broken, or it cannot describe pictures.
        LoraregError: a library it needs is not installed.
    """
    return FAMILIES.get(model.family, chat.load)(model, asking)


def locate(text: str) -> Model:
    """Find a model by folder, ``.onnx`` file, or Hub id (``org/name`` or ``org/name@commit``).

    Raises:
        NotFoundError: there is no such model here.
        ExternalToolError: it is on the Hub, which cannot be reached or refuses.
        InvalidFileError: it is no model that can be loaded safely.
    """
    path = Path(text).expanduser()
    if path.exists():
        return _local(path.resolve())
    name, _, revision = text.partition("@")
    if not is_hub_id(name):
        raise NotFoundError(
            f"there is no model {text!r}",
            why="it is neither a folder or .onnx file here nor a Hub id (org/name)",
            fix=f"lorareg data caption DIR --model {DEFAULT}",
        )
    try:
        commit = hub.resolve(name, revision or None)
        folder = hub.snapshot(name, commit)
    except (ExternalToolError, NotFoundError) as error:
        at = f" --revision {revision}" if revision else ""
        local = name.rpartition("/")[2]
        raise ExternalToolError(
            f"cannot fetch the model {text!r}",
            why=error.why or error.what,
            fix=f"download it where there is a network: hf download {name}{at} --local-dir {local}"
            f", then copy the folder here and say --model {local}",
        ) from error
    return Model(f"{name}@{commit}", folder, _family(folder, name), f"{name}@{commit}")


def _local(path: Path) -> Model:
    onnx = path / tagger.MODEL if path.is_dir() else path
    if onnx.suffix.lower() == ".onnx" and onnx.is_file():
        files = {onnx.name: onnx, tagger.TAGS: onnx.with_name(tagger.TAGS)}
        name = path.stem if onnx == path and path.name != tagger.MODEL else onnx.parent.name
        return Model(_named(name, files), onnx, ONNX, str(path))
    if not path.is_dir():
        raise InvalidFileError(
            f"model {path.name} is refused",
            why="a model is a folder with config.json and safetensors, or an .onnx tagger; weights "
            "in .bin, .pt or .ckpt can run code when they are loaded",
            fix="name the folder the model was downloaded into",
        )
    family = _family(path, path.name)
    chosen = modelfiles.select(p.relative_to(path).as_posix() for p in path.rglob("*"))
    name = _named(path.name, {name: path / name for name in chosen})
    return Model(name, path, family, str(path))


def _named(name: str, files: Mapping[str, Path]) -> str:
    """Gigabytes are hashed once: the cache of digests is this user's, not a registry's."""
    there = {file: path for file, path in files.items() if path.is_file()}
    digests = DigestCache(cache_folder() / "digests.sqlite").digests(there)
    return f"{name}@sha256:{of_tree(digests).rpartition(':')[2][:12]}"


def _family(folder: Path, name: str) -> str:
    if not (folder / "config.json").is_file():
        raise InvalidFileError(
            f"{name} is no labelling model",
            why=f"it has neither config.json, as models of transformers, nor {tagger.MODEL}",
            fix="name the folder that a model was downloaded into",
        )
    if not modelfiles.has_weights(modelfiles.select(path.name for path in folder.iterdir())):
        raise InvalidFileError(
            f"model {name} has no .safetensors weights",
            why="weights in .bin or .ckpt can run code when they are loaded and are refused",
            fix="take a model with safetensors; one you trust can be converted: load it in Python, "
            "then call save_pretrained(FOLDER)",
        )
    config = load_json(folder / "config.json", f"{name}/config.json")
    family = config.get("model_type") if isinstance(config, dict) else None
    if not isinstance(family, str):
        raise InvalidFileError(
            f"{name}/config.json names no model_type",
            why="transformers cannot tell what kind of model it is",
            fix=f"a WD14 tagger is loaded from a folder with {tagger.MODEL} and {tagger.TAGS}; "
            "another model needs the config.json of transformers",
        )
    return family


def check_asking(model: Model, asking: Asking) -> None:
    """Refuse what cannot work before a model is loaded.

    Raises:
        LoraregError: CLIP has no vocabulary to choose from.
    """
    if model.family in CHOOSERS and not asking.groups:
        raise LoraregError(
            f"{model.name} needs a vocabulary",
            why="CLIP writes no text: it chooses terms, and the dataset has no vocabulary.yaml "
            "with groups of terms",
            fix=f"write vocabulary.yaml, or take a model that writes: --model {DEFAULT}",
        )
