"""The header of a file in kohya's form: what A1111, ComfyUI and model managers read of it.

A1111 tells the family from ``ss_base_model_version`` and ``ss_v2`` alone: without them it lists
SDXL's files as SD1, and hides them. No path ever goes in; and for the public, nothing of the data.
Source: kohya-ss/sd-scripts, train_network.py, library/sai_model_spec.py; ModelSpec 1.0.1.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorareg.registry import digest, tensors
from lorareg.registry.lock import TrainedLock
from lorareg.registry.manifest import ImageManifest
from lorareg.registry.tensors import RawTensor
from lorareg.weights.exporting import family as families
from lorareg.weights.exporting.subject import Subject

VERSIONS = {
    "sd1": "sd_v1", "sd2": "sd_v2", "sdxl": "sdxl_base_v1-0", "sd3": "sd3", "flux1": "flux1",
}  # fmt: skip
ARCHITECTURES = {
    "sd1": "stable-diffusion-v1", "sd2": "stable-diffusion-v2-512",
    "sdxl": "stable-diffusion-xl-v1-base", "sd3": "stable-diffusion-3", "flux1": "flux-1-dev",
}  # fmt: skip
V_ARCHITECTURE = "stable-diffusion-v2-768-v"
IMPLEMENTATIONS = {"flux1": "https://github.com/black-forest-labs/flux"}
PRIVATE = (
    "ss_dataset_dirs", "ss_num_train_images", "ss_num_reg_images", "ss_reg_dataset_dirs",
    "ss_tag_frequency", "ss_training_comment", "modelspec.author",
    "ss_num_batches_per_epoch", "ss_num_epochs",
    "lorareg.dataset",
)  # fmt: skip
"""What tells of the data and of people: left out for the public. Batches an epoch, and steps by
epochs, are the number of pictures."""
LEGACY_OFFSET, LEGACY_BYTES = 0x100000, 0x10000


@dataclass(frozen=True)
class Shape:
    """What of the tensors the header repeats."""

    family: str
    rank: int
    alpha: float


def entries(
    subject: Subject, shape: Shape, tags: Mapping[str, Mapping[str, int]], *, public: bool
) -> dict[str, str]:
    """All header entries but the hashes; every value is text, as the format wants it."""
    v = families.predicts_v(subject.home)
    found: dict[str, Any] = {
        "ss_network_module": "networks.lora",
        "ss_network_dim": shape.rank,
        "ss_network_alpha": f"{shape.alpha:g}",
        "ss_base_model_version": VERSIONS[shape.family],
        "ss_v2": shape.family == "sd2",
        "ss_sd_model_name": subject.base_name,
        "ss_resolution": f"({subject.resolution}, {subject.resolution})",
        "ss_output_name": subject.name,
        "ss_network_args": None,
        "ss_tag_frequency": {name: dict(counts) for name, counts in tags.items()} or None,
        "lorareg.asset": subject.ref,
        "lorareg.base": subject.composition.base.digest,
    }
    if shape.family == "sd2" and v:
        found["ss_base_model_version"] = "sd_v2_v"
    if subject.home and subject.home.suffix == ".safetensors":
        found |= _checkpoint(subject.home)
    if subject.is_alone:
        found |= _of_one(subject)
    found |= _modelspec(subject, shape, v)
    if public:
        found = {key: value for key, value in found.items() if key not in PRIVATE}
    return {key: _text(value) for key, value in found.items() if value is not None}


def _checkpoint(file: Path) -> dict[str, str]:
    """Both hashes by which UIs know a base of one file."""
    with file.open("rb") as stream:
        stream.seek(LEGACY_OFFSET)
        legacy = hashlib.sha256(stream.read(LEGACY_BYTES)).hexdigest()[:8]
    whole = digest.of_file(file).removeprefix("sha256:")
    return {"ss_sd_model_hash": legacy, "ss_new_sd_model_hash": whole}


def with_hashes(raw: Mapping[str, RawTensor], notes: Mapping[str, str]) -> dict[str, str]:
    """The entries with the hashes by which UIs know the file; they do not depend on the header.

    The legacy one is of 64 KiB at 1 MiB of the file as it is with ``ss_`` entries alone.
    """
    with tempfile.TemporaryDirectory(prefix="lorareg-") as folder:
        file = Path(folder) / "hashed.safetensors"
        tensors.write(file, raw, {k: v for k, v in notes.items() if k.startswith("ss_")})
        whole, legacy = hashlib.sha256(), hashlib.sha256()
        with file.open("rb") as stream:
            stream.seek(8 + int.from_bytes(stream.read(8), "little"))
            while chunk := stream.read(1 << 20):
                whole.update(chunk)
            stream.seek(LEGACY_OFFSET)
            legacy.update(stream.read(LEGACY_BYTES))
    model = whole.hexdigest()
    hashes = {"sshs_model_hash": model, "sshs_legacy_hash": legacy.hexdigest()[:8]}
    return {**notes, **hashes, "modelspec.hash_sha256": f"0x{model}"}


def _of_one(subject: Subject) -> dict[str, Any]:
    """What the lock knows of the training of one adapter."""
    part = subject.parts[0]
    known, manifest = part.lock, part.manifest
    found: dict[str, Any] = {"lorareg.fingerprint": known.fingerprint}
    if not isinstance(known, TrainedLock) or not isinstance(manifest, ImageManifest):
        return found
    inputs, result = known.inputs, known.result
    train: Mapping[str, Any] = inputs.config.resolved.get("train", {})
    lora: Mapping[str, Any] = inputs.config.resolved.get("lora", {})
    folder = inputs.dataset.path.rpartition("/")[2]
    batch = int(train.get("batch_size", 1)) or 1
    records = inputs.dataset.records - result.held_out
    counts = {
        "ss_training_comment": f"trained by lorareg {known.environment.packages.get('lorareg')}",
        "ss_seed": train.get("seed"),
        "ss_steps": result.best_step,
        "ss_max_train_steps": result.steps,
        "ss_num_epochs": train.get("epochs"),
        "ss_num_train_images": records,
        "ss_num_reg_images": inputs.prior.records if inputs.prior else 0,
        "ss_num_batches_per_epoch": -(-records // batch),
        "ss_batch_size_per_device": batch,
        "ss_total_batch_size": batch * int(train.get("gradient_accumulation_steps", 1)),
        "ss_gradient_accumulation_steps": train.get("gradient_accumulation_steps"),
        "ss_gradient_checkpointing": train.get("gradient_checkpointing", False),
        "ss_dataset_dirs": {folder: {"n_repeats": 1, "img_count": inputs.dataset.records}},
        "lorareg.dataset": inputs.dataset.digest,
    }
    return found | counts | _settings(train, lora, known.environment.precision)


def _settings(train: Mapping[str, Any], lora: Mapping[str, Any], precision: str) -> dict[str, Any]:
    return {
        "ss_learning_rate": train.get("learning_rate"),
        "ss_unet_lr": train.get("learning_rate"),
        "ss_text_encoder_lr": _encoder_rate(train) if lora.get("text_encoder") else None,
        "ss_lr_scheduler": train.get("scheduler"),
        "ss_lr_warmup_steps": train.get("warmup_steps"),
        "ss_optimizer": train.get("optimizer"),
        "ss_max_grad_norm": train.get("max_grad_norm"),
        "ss_mixed_precision": "no" if precision == "fp32" else precision,
        "ss_caption_dropout_rate": train.get("caption_dropout"),
        "ss_shuffle_caption": bool((train.get("tags") or {}).get("shuffle", False)),
        "ss_keep_tokens": (train.get("tags") or {}).get("keep_first", 0),
        "ss_noise_offset": train.get("noise_offset"),
        "ss_min_snr_gamma": train.get("min_snr_gamma"),
        "ss_zero_terminal_snr": train.get("zero_terminal_snr", False),
        "ss_prior_loss_weight": (train.get("prior") or {}).get("weight"),
        "ss_enable_bucket": bool(train.get("buckets")),
        "ss_network_dropout": lora.get("dropout"),
    }


def _modelspec(subject: Subject, shape: Shape, v: bool | None) -> dict[str, Any]:
    architecture = ARCHITECTURES[shape.family]
    if shape.family == "sd2" and v:
        architecture = V_ARCHITECTURE
    manifests = [part.manifest for part in subject.parts]
    licenses = {one.license.id for one in manifests if one.license}
    owners = dict.fromkeys(name for one in manifests for name in one.owners)
    weights = [one.weight for one in manifests] if subject.is_alone else []
    side = subject.resolution
    return {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": f"{architecture}/lora",
        "modelspec.implementation": IMPLEMENTATIONS.get(shape.family, "diffusers"),
        "modelspec.title": subject.title,
        "modelspec.resolution": f"{side}x{side}",
        "modelspec.description": (manifests[0].description or None) if subject.is_alone else None,
        "modelspec.author": ", ".join(owners) or None,
        "modelspec.license": ", ".join(sorted(licenses)) or None,
        "modelspec.usage_hint": f"weight {weights[0].default:g}" if weights else None,
        "modelspec.tags": ", ".join(sorted({one.kind for one in manifests})),
        "modelspec.trigger_phrase": ", ".join(subject.triggers) or None,
        "modelspec.prediction_type": None if v is None else ("v" if v else "epsilon"),
        "modelspec.merged_from": None if subject.is_alone else subject.composition.expression,
    }


def _encoder_rate(train: Mapping[str, Any]) -> Any:
    return train.get("text_encoder_learning_rate") or train.get("learning_rate")


def _text(value: Any) -> str:
    """As kohya's scripts write it: structures as JSON, the rest as Python prints it."""
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, sort_keys=True)
    return str(value)
