"""Frozen denoisers on disk as the kernels want them: aligned, large convolutions laid out.

Loaded the usual way the weights are read, copied to aligned memory and laid out anew by every run:
3 CPU s and twice the memory for Stable Diffusion 1.5 in float32. From here they are mapped: nothing
is read before it is used, nothing is copied, and the memory is the page cache's.

A file is a JSON header, filled up with spaces, and the tensors, each at a multiple of 64 bytes. Its
name is the digest of everything that it depends on and the digest of its bytes; a damaged one is
noticed and made again. The folder may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from lorareg.errors import LoraregError
from lorareg.registry.digest import DigestCache
from lorareg.registry.files import replaced_atomically
from lorareg.trainers.cache import key
from lorareg.trainers.core.task import Runtime
from lorareg.trainers.image.pipelines import DiffusionBase
from lorareg.trainers.machine import runtime as machine
from lorareg.trainers.packed.kernels import DIRECT_NUMEL
from lorareg.trainers.packed.layers import OUTPUTS

FORMAT = 1
SUFFIX = ".weights"
LAST = 10**15  # an offset as long as any
MOST_BYTES = 8_000_000_000  # of a denoiser that is kept; a larger one would take the disk by storm
MOST_FILES = 3  # of several bases, or of one in two precisions
SPARE = 3  # times its size must be free


def denoiser(base: DiffusionBase, runtime: Runtime, digests: DigestCache) -> Any:
    """The denoiser of a base: from the cache, or from the base, and then into the cache.

    Args:
        base: whose denoiser it is.
        runtime: without packed kernels the cache is not asked.
        digests: remembers which files are whole.
    """
    dtype: torch.dtype = getattr(torch, runtime.dtype)
    if runtime.kernels != "packed" or runtime.device != "cpu":
        return base.denoiser(dtype)
    family, folder = base.architecture, runtime.cache / "denoisers"
    weights = base.part_digest((family.component,), digests)
    name = key(FORMAT, weights, runtime.dtype, f"diffusers {version('diffusers')}")
    if file := _whole(folder, name, digests):
        return _mapped(family.denoiser, file)
    model = base.denoiser(dtype, aligned=False)
    if _is_to_keep(model, folder) and _keep(folder, name, model):
        _forget_oldest(folder)
        if file := _whole(folder, name, digests):
            del model  # or it would be held in memory twice
            return _mapped(family.denoiser, file)
    machine.align(model)
    return model


def _whole(folder: Path, name: str, digests: DigestCache) -> Path | None:
    for file in sorted(folder.glob(f"{name}-*{SUFFIX}")):
        found = digests.digests({"": file})[""]
        if file.name == _named(name, found.removeprefix("sha256:")):
            return file
        file.unlink(missing_ok=True)
    return None


def _named(name: str, digest: str) -> str:
    return f"{name}-{digest[:32]}{SUFFIX}"


def _is_to_keep(model: torch.nn.Module, folder: Path) -> bool:
    """Whether its state is all that it has, and there is room for it."""
    state = model.state_dict()
    size = sum(tensor.nbytes for tensor in state.values())
    names = {name for name, _ in (*model.named_parameters(), *model.named_buffers())}
    folder.mkdir(parents=True, exist_ok=True)
    has_room = size <= MOST_BYTES and shutil.disk_usage(folder).free > SPARE * size
    return has_room and names == state.keys()


def _forget_oldest(folder: Path) -> None:
    """Running processes that have mapped a file keep it until they end."""
    files = sorted(folder.glob(f"*{SUFFIX}"), key=lambda file: file.stat().st_mtime)
    for file in files[:-MOST_FILES]:
        file.unlink(missing_ok=True)


def _mapped(kind: str, file: Path) -> Any:
    """A model on weights that are mapped from a file, copy on write."""
    import diffusers

    size = file.stat().st_size
    values = torch.from_file(str(file), shared=False, size=size, dtype=torch.uint8)
    length = int.from_bytes(values[:8].numpy().tobytes(), "little")
    header = json.loads(values[8 : 8 + length].numpy().tobytes())
    state = {}
    for name, (dtype, shape, start, end) in header["tensors"].items():
        laid = values[start:end].view(getattr(torch, dtype)).view(shape)
        state[name] = laid.permute(0, 3, 1, 2) if name in header["laid_out"] else laid
    with torch.device("meta"):
        model = getattr(diffusers, kind).from_config(header["config"])
    model.load_state_dict(state, assign=True)
    return model.eval()


def _keep(folder: Path, name: str, model: Any) -> bool:
    """Write a model's weights; the file gets its name once its digest is known."""
    state = {n: tensor.detach() for n, tensor in model.state_dict().items()}
    laid_out = [n for n, tensor in state.items() if _is_to_lay_out(tensor)]
    state |= {n: state[n].permute(0, 2, 3, 1) for n in laid_out}
    config = {k: value for k, value in model.config.items() if k != "_name_or_path"}
    unnamed, digest = folder / f"{name}.partial", hashlib.sha256()
    try:
        with replaced_atomically(unnamed) as stream:
            for piece in _pieces({"config": config, "laid_out": laid_out}, state):
                digest.update(piece)
                stream.write(piece)
        unnamed.replace(folder / _named(name, digest.hexdigest()))
    except (OSError, LoraregError):  # a full disk is no reason not to train
        return False
    return True


def _is_to_lay_out(tensor: torch.Tensor) -> bool:
    """Whether it is a weight that ``layers.FrozenConv2d`` multiplies with."""
    return tensor.ndim == 4 and tensor.shape[2:] != (1, 1) and tensor.numel() >= DIRECT_NUMEL


def _pieces(header: Mapping[str, Any], state: Mapping[str, torch.Tensor]) -> Iterator[bytes]:
    """The bytes of a file, a few rows of a tensor at a time."""
    places = dict.fromkeys(state, LAST)
    room = position = _aligned(8 + len(_text(header, state, places)))
    for name, tensor in state.items():
        places[name] = position
        position = _aligned(position + tensor.nbytes)
    text = _text(header, state, places).ljust(room - 8)
    yield len(text).to_bytes(8, "little") + text
    for tensor in state.values():
        for some in torch.split(tensor, OUTPUTS) if tensor.ndim else (tensor,):
            yield some.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        yield bytes(_aligned(tensor.nbytes) - tensor.nbytes)


def _text(
    header: Mapping[str, Any], state: Mapping[str, torch.Tensor], places: Mapping[str, int]
) -> bytes:
    tensors = {
        name: (str(t.dtype).removeprefix("torch."), [*t.shape], place, place + t.nbytes)
        for (name, t), place in zip(state.items(), places.values(), strict=True)
    }
    return json.dumps({**header, "tensors": tensors}).encode()


def _aligned(position: int) -> int:
    return -(-position // machine.ALIGNMENT) * machine.ALIGNMENT
