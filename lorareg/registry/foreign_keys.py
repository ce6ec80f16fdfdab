"""The words of lora-scripts and kohya, and what each means in a manifest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

OPTIMIZERS = {
    "adamw": "adamw", "adamw8bit": "adamw-8bit", "pagedadamw8bit": "adamw-8bit",
    "adafactor": "adafactor", "prodigy": "prodigy", "lion": "lion",
    "adamwschedulefree": "schedule-free", "radamschedulefree": "schedule-free",
}  # fmt: skip
SCHEDULERS = {
    "constant": "constant", "constant_with_warmup": "constant", "linear": "linear",
    "cosine": "cosine", "cosine_with_restarts": "cosine-restarts", "polynomial": "polynomial",
    "rex": "rex",
}  # fmt: skip
TASKS = {"text-to-image": "text-to-image", "image-generation": "text-to-image"}
TASKS |= {"text-generation": "text-generation", "causal-lm": "text-generation"}
PRECISIONS = {"no": "fp32", "fp32": "fp32", "float": "fp32", "bf16": "bf16", "fp16": "auto"}


def _as(dotted: str, kind: Callable[[Any], Any]) -> Callable[[Any], dict[str, Any]]:
    return lambda value: {dotted: kind(value)}


def _whole(value: Any) -> int:
    number = float(value)
    if number != int(number):
        raise ValueError("no whole number")
    return int(number)


def _side(value: Any) -> int:
    """``512``, ``"512"`` or ``"512,512"``: the side of a square of the same area."""
    sides = [_whole(part) for part in str(value).split(",")]
    if len(sides) > 2 or len(set(sides)) > 1:
        raise ValueError("only squares; shapes come from train.buckets")
    return sides[0]


def _named(table: Mapping[str, str]) -> Callable[[Any], str]:
    def look(value: Any) -> str:
        found = table.get(str(value).lower())
        if found is None:
            raise ValueError(f"known are {', '.join(table)}")
        return found

    return look


def _when(dotted: str, value: Any) -> Callable[[Any], dict[str, Any]]:
    """A switch: on sets a value, off says nothing."""
    return lambda on: {dotted: value} if on is True else {}


def _unless_zero(dotted: str) -> Callable[[Any], dict[str, Any]]:
    """A number of which 0 means off."""
    return lambda value: {dotted: float(value)} if float(value) else {}


def _encoder_rate(value: Any) -> dict[str, Any]:
    """At a rate of 0 kohya's scripts leave the text encoder alone."""
    if not float(value):
        return {"lora.text_encoder": False}
    return {"lora.text_encoder": True, "train.text_encoder_learning_rate": float(value)}


def _separator(value: Any) -> str:
    return str(value).strip() or ","


def _caption_files(value: Any) -> str:
    """``metadata.csv`` by its name, or the sidecars that ``caption_extension`` means."""
    name = Path(str(value)).name
    if name not in ("metadata.csv", "metadata.jsonl", ".txt"):
        raise ValueError("captions are metadata.csv, metadata.jsonl or .txt files")
    return name.removeprefix(".")


SAYS: Mapping[str, Callable[[Any], dict[str, Any]]] = {
    "metadata_path": _as("dataset.captions", _caption_files),
    "caption_extension": _as("dataset.captions", _caption_files),
    "lora_rank": _as("lora.rank", _whole),
    "network_dim": _as("lora.rank", _whole),
    "lora_alpha": _as("lora.alpha", float),
    "network_alpha": _as("lora.alpha", float),
    "network_dropout": _as("lora.dropout", float),
    "resolution": _as("train.resolution", _side),
    "batch_size": _as("train.batch_size", _whole),
    "train_batch_size": _as("train.batch_size", _whole),
    "gradient_accumulation_steps": _as("train.gradient_accumulation_steps", _whole),
    "gradient_checkpointing": _when("train.gradient_checkpointing", True),
    "epochs": _as("train.epochs", _whole),
    "max_train_epochs": _as("train.epochs", _whole),
    "learning_rate": _as("train.learning_rate", float),
    "unet_lr": _as("train.learning_rate", float),
    "text_encoder_lr": _encoder_rate,
    "optimizer": _as("train.optimizer", _named(OPTIMIZERS)),
    "optimizer_type": _as("train.optimizer", _named(OPTIMIZERS)),
    "scheduler": _as("train.scheduler", _named(SCHEDULERS)),
    "lr_scheduler": _as("train.scheduler", _named(SCHEDULERS)),
    "lr_scheduler_num_cycles": _as("train.scheduler_cycles", _whole),
    "lr_scheduler_power": _as("train.scheduler_power", float),
    "lr_warmup_steps": _as("train.warmup_steps", _whole),
    "max_grad_norm": _as("train.max_grad_norm", float),
    "mixed_precision": _as("train.precision", _named(PRECISIONS)),
    "seed": _as("train.seed", _whole),
    "save_steps": _as("train.save_steps", _whole),
    "save_every_n_steps": _as("train.save_steps", _whole),
    "min_snr_gamma": _unless_zero("train.min_snr_gamma"),
    "noise_offset": _as("train.noise_offset", float),
    "zero_terminal_snr": _when("train.zero_terminal_snr", True),
    "enable_bucket": _when("train.buckets.step", 64),
    "bucket_reso_steps": _as("train.buckets.step", _whole),
    "bucket_no_upscale": lambda value: {"train.buckets.upscale": value is not True},
    "flip_aug": _when("train.flip", True),
    "caption_dropout_rate": _as("train.caption_dropout", float),
    "caption_tag_dropout_rate": _as("train.tags.dropout", float),
    "shuffle_caption": _when("train.tags.shuffle", True),
    "keep_tokens": _as("train.tags.keep_first", _whole),
    "caption_separator": _as("train.tags.separator", _separator),
    "alpha_mask": _when("train.masked_loss.source", "alpha"),
    "max_length": _as("train.max_length", _whole),
    "sample_every_n_steps": _as("sample.every_steps", _whole),
}  # fmt: skip
KOHYA_ONLY = {"network_dim", "network_alpha", "network_module", "network_args", "unet_lr"}
DATA = ("train_data_dir", "train_file", "dataset_path")
BASE = ("base_model", "pretrained_model_name_or_path")
_RUNS = "runs, curves and checkpoints are in .lorareg/runs"
_CACHED = "latents and captions are always cached, by content"
_FORMAT = "weights are safetensors; lorareg export writes other forms"
_MEMORY = "attention is torch's own, chosen by itself"
_KNOWN = "it is read from the base"
NEEDLESS: Mapping[str, str] = {
    "output_dir": "weights are in manifests/KIND/NAME/weights",
    "output_name": "the adapter is called as its REF",
    "logging_dir": _RUNS,
    "log_with": "trackers are set in lorareg.yaml",
    "log_prefix": _RUNS,
    "save_model_as": _FORMAT,
    "save_precision": "adapters are float32",
    "save_every_n_epochs": "checkpoints come by train.save_steps; the best is always kept",
    "network_module": "an adapter is a LoRA; see lora: in the manifest",
    "network_train_unet_only": "that is so unless lora.text_encoder is true",
    "cache_latents": _CACHED,
    "cache_latents_to_disk": _CACHED,
    "cache_text_encoder_outputs": _CACHED,
    "vae_batch_size": _CACHED,
    "xformers": _MEMORY,
    "sdpa": _MEMORY,
    "mem_eff_attn": _MEMORY,
    "v2": _KNOWN,
    "v_parameterization": _KNOWN,
    "model_type": _KNOWN,
    "persistent_data_loader_workers": _CACHED,
    "max_data_loader_n_workers": _CACHED,
    "no_half_vae": "the VAE always runs in float32",
}
