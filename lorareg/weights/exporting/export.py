"""Writing an adapter in another form, and keeping the file only if its readers agree on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

from lorareg.errors import LoraregError, NotFoundError
from lorareg.registry import digest, tensors
from lorareg.registry.files import write_atomically
from lorareg.registry.lock import load_json
from lorareg.registry.tensors import tensor_digest
from lorareg.registry.workspace import Workspace
from lorareg.weights import algebra
from lorareg.weights.adapter import LoraAdapter
from lorareg.weights.exporting import family as families
from lorareg.weights.exporting import header, place, prompts, reload, servers, subject
from lorareg.weights.exporting.subject import Subject
from lorareg.weights.formats import diffusers, gguf, kohya, peft

Files = Literal["diffusers", "kohya", "peft", "gguf"]
Words = Literal["comfyui", "a1111", "snippet", "vllm", "lorax"]
Form = Literal["diffusers", "kohya", "peft", "gguf", "comfyui", "a1111", "snippet", "vllm", "lorax"]
TASKS: Mapping[str, tuple[str, ...]] = {
    "text-to-image": ("diffusers", "kohya", "comfyui", "a1111", "snippet"),
    "text-generation": ("peft", "gguf", "snippet", "vllm", "lorax"),
}
ENDINGS = {
    "diffusers": ".diffusers.safetensors", "kohya": ".safetensors", "peft": "", "gguf": ".gguf",
}  # fmt: skip
Tags = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class Wish:
    """What a person says to ``lorareg export``.

    Attributes:
        what: REF or EXPR.
        out: where to; None takes the name of the asset, here.
        public: leave out what tells of the data and of people.
        base_name: what consumers are told of the base; None takes the manifest's.
        tags: folder -> tag -> in how many captions, for the header.
    """

    what: str
    form: Form
    out: Path | None = None
    public: bool = False
    base_name: str | None = None
    tags: Tags = field(default_factory=dict)


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: file or folder; None if it is text that was not written.
        text: of a form that is text.
        worst: largest relative difference of a layer, over all readers; None for text.
        readers: who loaded it again.
        sha256: of the weights file.
        tensors: its tensor digest, of ``.safetensors``.
        base_name: what consumers were told of the base.
        warnings: of the composition.
    """

    path: Path | None
    text: str | None = None
    worst: float | None = None
    readers: tuple[str, ...] = ()
    sha256: str | None = None
    tensors: str | None = None
    base_name: str = ""
    warnings: tuple[str, ...] = ()


def export(workspace: Workspace, wish: Wish) -> Exported:
    """Write what was asked for.

    Raises:
        LoraregError: the form is of the other task, or cannot say this adapter.
        IntegrityError: a reader made something else of the file, which was not kept.
    """
    is_text = wish.form in get_args(Words)
    told = wish.form in ("comfyui", "a1111", "snippet")
    found = subject.find(workspace, wish.what, recommended=told, base_name=wish.base_name)
    task = found.composition.task
    if wish.form not in TASKS[task]:
        raise LoraregError(
            f"{found.ref} cannot be exported as {wish.form}",
            why=f"it does {task}, and {wish.form} does not",
            fix="choose one of --format " + ", ".join(TASKS[task]),
        )
    target = wish.out or Path(found.name + ENDINGS.get(wish.form, ""))
    if wish.out or not is_text:
        place.check(workspace, target, folder=wish.form == "peft")
    if is_text:
        written = _text(workspace, found, wish)
    else:
        adapter = subject.weights(workspace, found, wish.what)
        written = _PROVED[wish.form](found, adapter, wish, target)
    warnings = found.composition.warnings
    return replace(written, base_name=found.base_name, warnings=warnings)


def _text(workspace: Workspace, found: Subject, wish: Wish) -> Exported:
    if wish.form in ("vllm", "lorax"):
        server = servers.vllm if wish.form == "vllm" else servers.lorax
        text = server(found, subject.weights(workspace, found, wish.what))
    else:
        _refuse_unsayable(found, wish.form)
        text = {"comfyui": prompts.comfyui, "a1111": prompts.a1111, "snippet": prompts.snippet}[
            wish.form
        ](found)
    found.record(wish.out)
    if wish.out:
        write_atomically(wish.out, text)
    return Exported(wish.out, text)


def _refuse_unsayable(found: Subject, form: str) -> None:
    """Refuse words that would draw the plain sum where the recipe is something else."""
    composition = found.composition
    method, mode = composition.method.name, composition.schedule.mode
    if found.composition.task != "text-to-image" or method == mode == "sum":
        return
    raise LoraregError(
        f"{form} cannot say method {method}, schedule {mode}",
        why="it adds all parts up at every step",
        fix=f"lorareg export {found.ref} --format kohya"
        if mode == "sum"
        else f"use it here: lorareg generate {found.ref}",
    )


def _kohya(found: Subject, adapter: LoraAdapter, wish: Wish, target: Path) -> Exported:
    family = families.of(adapter, found.home)
    raw = kohya.raw(adapter, family)
    shape = header.Shape(family, adapter.rank, kohya.common_alpha(adapter.layers))
    notes = header.entries(found, shape, wish.tags, public=wish.public)
    notes = header.with_hashes(raw, notes)
    with place.kept_if_proved(target) as file:
        tensors.write(file, raw, notes)
        read = {"its own reader": kohya.with_one_spelling(kohya.read(file))}
        wanted = kohya.with_one_spelling(adapter)
        if _diffusers_knows(adapter, family):
            read["diffusers"] = reload.by_diffusers(file, family, adapter)
            read["diffusers"] = kohya.with_one_spelling(read["diffusers"])
        worst = max(reload.compare(each, wanted, name) for name, each in read.items())
        return _facts(found, target, file, worst, tuple(read))


def _diffusers(found: Subject, adapter: LoraAdapter, wish: Wish, target: Path) -> Exported:
    notes = {"lorareg.asset": found.ref, "lorareg.base": found.composition.base.digest}
    family = families.of(adapter, found.home)
    with place.kept_if_proved(target) as file:
        diffusers.write(file, adapter, notes)
        read = {
            "its own reader": diffusers.read(file),
            "diffusers": reload.by_diffusers(file, family, adapter),
        }
        worst = max(reload.compare(each, adapter, name) for name, each in read.items())
        return _facts(found, target, file, worst, tuple(read))


def _peft(found: Subject, adapter: LoraAdapter, wish: Wish, target: Path) -> Exported:
    canonical = adapter if adapter.is_dora else algebra.weighted_sum([(adapter, 1.0)])
    notes = {"lorareg.asset": found.ref, "lorareg.base": found.composition.base.digest}
    with place.kept_if_proved(target, "") as folder:
        folder.mkdir()
        peft.write(folder, canonical, found.base_name, notes)
        read = {"its own reader": peft.read(folder), "peft": reload.by_peft(folder, adapter)}
        worst = max(reload.compare(each, adapter, name) for name, each in read.items())
        return _facts(found, target, folder / peft.WEIGHTS, worst, tuple(read))


def _gguf(found: Subject, adapter: LoraAdapter, wish: Wish, target: Path) -> Exported:
    base = _gguf_base(found)
    notes = {"general.name": found.name, "lorareg.base": found.composition.base.digest}
    with place.kept_if_proved(target, ".gguf") as file:
        gguf.write(file, adapter, base, notes)
        worst = reload.compare(gguf.read(file, base), adapter, "gguf")
        return _facts(found, target, file, worst, ("gguf",))


_PROVED: Mapping[str, Callable[[Subject, LoraAdapter, Wish, Path], Exported]] = {
    "kohya": _kohya,
    "diffusers": _diffusers,
    "peft": _peft,
    "gguf": _gguf,
}


def _diffusers_knows(adapter: LoraAdapter, family: str) -> bool:
    """Whether diffusers converts kohya's form of a family: not SD3's, Flux' at its own width."""
    if family == "flux1":
        widths = {
            layer.down.shape[1] for n, layer in adapter.layers.items() if n.endswith(".attn.to_q")
        }
        return widths <= {families.FLUX_WIDTH}
    return family != "sd3"


def _gguf_base(found: Subject) -> gguf.Base:
    if found.home is None:
        raise NotFoundError(
            f"the base {found.composition.base.model} is not on this disk",
            why="a GGUF adapter is named and ordered after its base's configuration",
            fix="fetch the base first: lorareg generate once, or put its folder there",
        )
    if found.home.suffix == ".gguf":
        return gguf.base_of_gguf(found.home)
    return gguf.base_of_config(load_json(found.home / "config.json", "config.json"))


def _facts(
    found: Subject, target: Path, file: Path, worst: float, readers: tuple[str, ...]
) -> Exported:
    """What was written; it is in the log of uses before the file appears under its name."""
    identity = tensor_digest(file) if file.suffix == ".safetensors" else None
    sha256 = digest.of_file(file)
    found.record(target, sha256=sha256, tensors=identity)
    return Exported(target, None, worst, readers, sha256, identity)
