"""Write the base as a diffusers folder in half precision, byte-stable, with its checksums."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from tools.avatar_base import checkpoints, denoiser, schedule, tokenizer

if TYPE_CHECKING:
    import torch
    from diffusers import DDIMScheduler
    from torch import nn

CHECKSUMS, CARD = "checksums.json", "README.md"
_PARTS = ("scheduler", "text_encoder", "tokenizer", "unet", "vae")


def sampler() -> DDIMScheduler:
    """DDIM over the training schedule.

    `trailing` spacing starts at pure noise, as zero terminal SNR needs (arXiv:2305.08891);
    `steps_offset=1` is what StableDiffusionPipeline expects, and unused with this spacing.
    """
    from diffusers import DDIMScheduler

    config = dict(schedule.noise_schedule().config)
    return DDIMScheduler.from_config(config, timestep_spacing="trailing", steps_offset=1)


def write_pipeline(
    folder: Path, tokens: Path, autoencoder: Path, checkpoint: Path, shape: denoiser.Shape
) -> None:
    """Replace the model files of `folder`; the weights are the moving average of the checkpoint."""
    import torch
    from diffusers import AutoencoderKL, StableDiffusionPipeline

    tensors, _ = checkpoints.read(checkpoint)
    average = checkpoints.part(tensors, "average")
    loaded = tokenizer.load(tokens)
    text, unet = denoiser.build(shape, loaded)
    networks: dict[str, nn.Module] = {"text_encoder": text, "unet": unet}
    with torch.no_grad():
        for name, parameter in checkpoints.named(networks).items():
            parameter.copy_(average[name])
    vae = AutoencoderKL.from_pretrained(autoencoder)
    vae.register_to_config(force_upcast=False)
    pipeline = StableDiffusionPipeline(
        vae=vae.half(),
        text_encoder=text.half(),
        tokenizer=loaded,
        unet=unet.half(),
        scheduler=sampler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    for part in _PARTS:
        shutil.rmtree(folder / part, ignore_errors=True)
    pipeline.save_pretrained(folder)
    shutil.rmtree(folder / "tokenizer")
    tokenizer.save(*tokenizer.read(tokens), folder / "tokenizer")
    for weights in sorted(folder.rglob("*.safetensors")):
        _rewrite(weights)
    for config in sorted(folder.rglob("config.json")):
        _load_as_float32(config)


def write_checksums(folder: Path) -> dict[str, str]:
    """Write the SHA-256 of every file but itself and the card, by relative path."""
    sums = checksums(folder)
    text = json.dumps(sums, indent=1, sort_keys=True) + "\n"
    (folder / CHECKSUMS).write_text(text, encoding="utf-8")
    return sums


def checksums(folder: Path) -> dict[str, str]:
    """SHA-256 in hex of every file below `folder`; people may edit the card, so it is left out."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.name not in {CHECKSUMS, CARD}
    }


def _rewrite(path: Path) -> None:
    """Equal tensors give equal bytes: sorted names, one metadata entry (several have no order)."""
    from safetensors.torch import load_file, save_file

    tensors: dict[str, torch.Tensor] = load_file(path)
    ordered = {name: tensors[name].contiguous() for name in sorted(tensors)}
    save_file(ordered, path, {"format": "pt"})
    path.chmod(0o644)  # safetensors writes for the owner alone


def _load_as_float32(config: Path) -> None:
    """Ask for float32 in memory, whatever is on disk, and drop the folder a part came from.

    transformers 5 loads a text encoder in the precision its config names, diffusers loads the rest
    in float32; with "float16" here a plain `from_pretrained` gives a pipeline that cannot run.
    """
    values = json.loads(config.read_text("utf-8"))
    values.pop("_name_or_path", None)
    if "dtype" in values:
        values["dtype"] = "float32"
    config.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
