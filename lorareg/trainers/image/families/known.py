"""Which family a base on disk is of."""

from __future__ import annotations

from pathlib import Path

from lorareg.errors import InvalidFileError
from lorareg.registry.bases.base import ResolvedBase
from lorareg.registry.header import read_header
from lorareg.registry.lock import load_json
from lorareg.trainers.image.families.family import Family
from lorareg.trainers.image.families.flux import FLUX
from lorareg.trainers.image.families.sd import SD
from lorareg.trainers.image.families.sd3 import SD3
from lorareg.trainers.image.families.sdxl import SDXL

FAMILIES: dict[str, Family] = {family.name: family for family in (SD, SDXL, SD3, FLUX)}


def family_of(base: ResolvedBase) -> str:
    """Name of the family of a base.

    Raises:
        InvalidFileError: another architecture, or a single file of one that needs a folder.
    """
    if base.layout == "checkpoint":
        return _of_checkpoint(base.path)
    index = load_json(base.path / "model_index.json", f"{base.path.name}/model_index.json")
    pipeline = str(index.get("_class_name"))
    for name, family in FAMILIES.items():
        if family.pipeline == pipeline:
            return name
    raise InvalidFileError(
        f"base {base.model!r} is a {pipeline}",
        why=f"lorareg trains {', '.join(family.pipeline for family in FAMILIES.values())}",
        fix="choose a base of one of these shapes",
    )


def _of_checkpoint(path: Path) -> str:
    """Tell the families apart by the names in an original-format checkpoint."""
    names = {entry.name for entry in read_header(path).tensors}
    if any(name.startswith("conditioner.embedders.1.") for name in names):
        return "sdxl"
    if any(name.startswith("cond_stage_model.") for name in names):
        return "sd"
    for mark, family in (("joint_blocks.", "sd3"), ("double_blocks.", "flux")):
        if any(mark in name for name in names):
            raise InvalidFileError(
                f"{path.name} is a single file of {FAMILIES[family].title}",
                why="such files hold the transformer, and mostly neither text encoders nor the "
                "autoencoder",
                fix="set base.model to a folder or Hub id in diffusers layout",
            )
    raise InvalidFileError(
        f"{path.name} is no Stable Diffusion checkpoint",
        why="it holds neither cond_stage_model.* (SD) nor conditioner.embedders.1.* (SDXL)",
        fix="use a full checkpoint, not a LoRA, a VAE or another architecture",
    )
