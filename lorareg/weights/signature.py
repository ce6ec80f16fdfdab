"""Which modules a base model has, and of what shape, by the headers of its files alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lorareg.errors import LoraregError, listed
from lorareg.registry.bases.base import ResolvedBase
from lorareg.registry.header import read_header
from lorareg.weights.adapter import LoraAdapter, LoraLayer
from lorareg.weights.formats import gguf
from lorareg.weights.formats.diffusers import COMPONENTS
from lorareg.weights.formats.kohya import encoder_path

Shapes = Mapping[str, tuple[int, ...]]
WEIGHT = ".weight"


def of(base: ResolvedBase) -> Shapes | None:
    """Module path -> shape of its weight; None of a single-file checkpoint, which has other names.

    Raises:
        InvalidFileError: a damaged file.
    """
    if base.layout == "transformers":
        return _of_folder(base.path)
    if base.layout == "gguf":
        return gguf.shapes(base.path)
    if base.layout != "diffusers":
        return None
    is_sd3 = (base.path / "transformer").is_dir() and (base.path / "text_encoder_3").is_dir()
    found = {}
    for component in COMPONENTS:
        for path, shape in _of_folder(base.path / component).items():
            encodes = component in ("text_encoder", "text_encoder_2")
            name = encoder_path(component, path, is_sd3=is_sd3) if encodes else path
            found[f"{component}.{name}"] = shape
    return found


def fitted(adapter: LoraAdapter, base: ResolvedBase, name: str) -> LoraAdapter:
    """The same deltas, each shaped as its module is: a 1x1 convolution may come as a matrix.

    Args:
        adapter: of another program.
        base: that it is said to be for.
        name: of its file, for errors.

    Raises:
        LoraregError: modules that the base does not have, or that are of another size there.
    """
    shapes = of(base)
    if shapes is None:
        return adapter
    layers, problems = {}, []
    for path, layer in sorted(adapter.layers.items()):
        shape = shapes.get(path)
        if shape is None:
            problems.append(f"{path} is not in the base")
        elif (fitting := _shaped(layer, shape)) is None:
            own = (layer.up.shape[0], *layer.down.shape[1:])
            problems.append(f"{path} is {own}, in the base {shape}")
        else:
            layers[path] = fitting
    if problems:
        raise LoraregError(
            f"{name} does not belong to {base.model}: {len(problems)} of {len(adapter.layers)} "
            "modules do not fit",
            why="\n" + listed(problems),
            fix="name the base that it was trained on: --base MODEL",
        )
    return LoraAdapter(layers)


def _shaped(layer: LoraLayer, shape: tuple[int, ...]) -> LoraLayer | None:
    rank, (out, *rest) = layer.rank, shape
    size = 1
    for side in rest:
        size *= side
    if layer.up.shape[0] != out or layer.down.size != rank * size:
        return None
    if layer.down.ndim == len(shape) and layer.down.shape[1:] != (*rest,):
        return None
    up = layer.up.reshape(out, rank, *(1 for _ in rest[1:]))
    return LoraLayer(layer.down.reshape(rank, *rest), up, layer.alpha, layer.magnitude)


def _of_folder(folder: Path) -> dict[str, tuple[int, ...]]:
    if not folder.is_dir():
        return {}
    return {
        entry.name.removesuffix(WEIGHT): entry.shape
        for file in sorted(folder.glob("*.safetensors"))
        for entry in read_header(file).tensors
        if entry.name.endswith(WEIGHT) and len(entry.shape) in (2, 4)
    }
