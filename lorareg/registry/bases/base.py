"""Which frozen model an adapter belongs to: found on disk, named by a digest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lorareg.errors import InvalidFileError, NotFoundError
from lorareg.registry import hub
from lorareg.registry.bases import builtin, modelfiles
from lorareg.registry.digest import DigestCache, of_tree
from lorareg.registry.fields import PICKLES, is_hub_id
from lorareg.registry.header import read_header
from lorareg.registry.lock import load_json
from lorareg.registry.manifest import Base

TASK_OF_LAYOUT = {
    "diffusers": "text-to-image",
    "checkpoint": "text-to-image",
    "transformers": "text-generation",
    "gguf": "text-generation",
}
TRANSFORMER_LATENTS = 128  # latent side of Flux, whose config names none


@dataclass(frozen=True)
class ResolvedBase:
    """A base model whose files are on this disk.

    Attributes:
        model: what the manifest says: "builtin:avatar", a Hub id, a path.
        revision: 40-hex commit on the Hub, else None.
        layout: "diffusers" or "transformers" (a folder), "checkpoint" (one .safetensors), "gguf".
        path: folder or file to load.
        digest: "base-sha256-v1:..." over weights and configs.
        config: folder with the configs of a single-file checkpoint, if one is given.
    """

    model: str
    revision: str | None
    layout: str
    path: Path
    digest: str
    config: Path | None = None


def resolve(
    base: Base, task: str, root: Path, cache: DigestCache, *, fetch: bool = True
) -> ResolvedBase:
    """Find the base model, check that it fits the task, and hash it.

    Args:
        base: what the manifest says.
        task: of the manifest.
        root: relative paths start here.
        cache: of file digests, so that a warm start does not read gigabytes.
        fetch: whether a model that is not on this disk may be downloaded.

    Raises:
        NotFoundError: it is not on this disk and cannot be fetched.
        InvalidFileError: it is no model that lorareg loads, or one of another task.
    """
    path = locate(base, root, fetch=fetch)
    layout = _layout(base, path)
    if TASK_OF_LAYOUT[layout] != task:
        raise InvalidFileError(
            f"base {base.model!r} does not fit task {task}",
            why=f"it is a {layout} model, which does {TASK_OF_LAYOUT[layout]}",
            fix=f"choose a base for {task}, or set task: {TASK_OF_LAYOUT[layout]}",
        )
    config = _existing(root, base.config) if base.config else None
    files = modelfiles.files(path) if path.is_dir() else {path.suffix.lower(): path}
    if config:
        files |= {f"config/{name}": file for name, file in modelfiles.configs(config).items()}
    digest = of_tree(cache.digests(files), "base-sha256-v1")
    return ResolvedBase(base.model, base.revision, layout, path, digest, config)


def locate(base: Base, root: Path, *, fetch: bool = True) -> Path:
    """The folder or file of a base model; fetches what may be fetched."""
    if base.model.startswith("builtin:"):
        return _builtin(base.model.removeprefix("builtin:"), fetch)
    local = _path(root, base.model)
    if local.exists():
        return local
    if is_hub_id(base.model):
        return hub.snapshot(base.model, base.revision, fetch=fetch)
    return _existing(root, base.model)


def _builtin(name: str, fetch: bool) -> Path:
    match name:
        case "avatar":
            return builtin.avatar()
        case "smollm2" if fetch:
            return builtin.fetch(builtin.cache_folder())
        case "smollm2":
            return builtin.fetched(builtin.cache_folder())
    raise NotFoundError(
        f"there is no built-in base {name!r}",
        why="there are builtin:avatar (text-to-image) and builtin:smollm2 (text-generation)",
        fix="correct base.model in the manifest",
    )


def _existing(root: Path, text: str) -> Path:
    path = _path(root, text)
    if not path.exists():
        raise NotFoundError(
            f"base model {text!r} is not here",
            why="it is neither builtin:<name>, nor a Hub id, nor an existing folder or file",
            fix="correct base.model in the manifest, or put the model there",
        )
    return path


def _path(root: Path, text: str) -> Path:
    home = Path.home() if text.startswith("~/") else root
    return (home / text.removeprefix("~/")).resolve()


def _layout(base: Base, path: Path) -> str:
    if path.is_dir():
        if (path / "model_index.json").is_file():
            return "diffusers"
        if (path / "config.json").is_file():
            return "transformers"
        raise InvalidFileError(
            f"base {base.model!r} is no model folder",
            why="it holds neither model_index.json (diffusers) nor config.json (transformers)",
            fix="point base.model at the folder that does",
        )
    suffix = path.suffix.lower()
    if suffix == ".safetensors":
        read_header(path)
        return "checkpoint"
    if suffix == ".gguf":
        return "gguf"
    raise InvalidFileError(
        f"base {base.model!r} is refused",
        why=f"{suffix or 'such'} files "
        + ("can run code when loaded" if suffix in PICKLES else "are no model format known here"),
        fix="convert it to .safetensors, or use a diffusers or transformers folder",
    )


def default_resolution(path: Path) -> int:
    """Side in pixels a diffusers folder was trained for: latent side times VAE reduction."""
    vae = load_json(path / "vae" / "config.json", "vae/config.json")
    if (path / "transformer").is_dir():
        denoiser = load_json(path / "transformer" / "config.json", "transformer/config.json")
        denoiser = {"sample_size": TRANSFORMER_LATENTS, **denoiser}
    else:
        denoiser = load_json(path / "unet" / "config.json", "unet/config.json")
    match denoiser, vae:
        case {"sample_size": int(latents)}, {"block_out_channels": list(blocks)} if blocks:
            return int(latents * 2 ** (len(blocks) - 1))
    raise InvalidFileError(
        f"base {path.name} does not say what resolution it was trained for",
        why="that takes sample_size in unet/config.json and block_out_channels in vae/config.json",
        fix="set train.resolution in the manifest",
    )


def public_name(base: Base) -> str:
    """How files that leave the machine call the base: nothing of this disk above the registry."""
    path = Path(base.model)
    if path.is_absolute() or ".." in path.parts or base.model.startswith("~"):
        return path.name
    return base.model
