"""What two base models must have in common for an adapter of the one to mean anything on the other.

A finetune changes values, not shapes: of one family are models with the same layers, the same
prediction type and the same text encoders or vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from lorareg.registry.bases.base import ResolvedBase
from lorareg.registry.lock import load_json

DENOISERS = ("unet", "transformer")
ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3")
# What decides the shape of a module; names and other notes of a config differ between finetunes.
DENOISER_KEYS = (
    "_class_name", "in_channels", "block_out_channels", "down_block_types", "up_block_types",
    "layers_per_block", "transformer_layers_per_block", "cross_attention_dim", "num_layers",
    "num_single_layers", "num_attention_heads", "attention_head_dim", "joint_attention_dim",
    "caption_projection_dim", "guidance_embeds",
)  # fmt: skip
ENCODER_KEYS = ("hidden_size", "num_hidden_layers", "intermediate_size", "vocab_size")
TEXT_KEYS = {
    "hidden_size": "embedding_length",
    "num_hidden_layers": "block_count",
    "intermediate_size": "feed_forward_length",
    "num_attention_heads": "attention.head_count",
}
"""A config's key -> that of a GGUF, behind the architecture's name."""


@dataclass(frozen=True)
class Family:
    """Everything that must agree, as text that can be shown.

    Attributes:
        shape: of the denoiser or the language model.
        prediction: what a denoiser predicts: "epsilon", "v_prediction", "flow".
        reader: text encoders, or a language model's vocabulary.
    """

    shape: str
    prediction: str
    reader: str

    def differences(self, other: Family) -> list[str]:
        """In words; empty for one family."""
        pairs = [(f.name, getattr(self, f.name), getattr(other, f.name)) for f in fields(self)]
        words = {"shape": "layers", "prediction": "prediction type", "reader": "text side"}
        return [f"{words[name]} {one} and {two}" for name, one, two in pairs if one != two]


def of(base: ResolvedBase) -> Family | None:
    """The family of a base; None if its files do not tell, as a bare checkpoint does not.

    Raises:
        InvalidFileError: damaged configs.
    """
    home = base.config if base.layout == "checkpoint" else base.path
    if base.layout == "gguf":
        return _of_gguf(base.path)
    if base.layout == "transformers":
        config = _config(base.path)
        shape = {key: config.get(key) for key in TEXT_KEYS}
        return Family(_shown(config.get("model_type"), shape), "", str(config.get("vocab_size")))
    return _of_pipeline(home) if home else None


def _of_pipeline(home: Path) -> Family | None:
    part = next((name for name in DENOISERS if (home / name).is_dir()), None)
    if part is None:
        return None
    config = _config(home / part)
    scheduler = _config(home / "scheduler", "scheduler_config.json")
    is_flow = "Flow" in str(scheduler.get("_class_name"))
    encoders = [name for name in ENCODERS if (home / name).is_dir()]
    return Family(
        _shown(part, {key: config[key] for key in DENOISER_KEYS if config.get(key) is not None}),
        "flow" if is_flow else str(scheduler.get("prediction_type", "epsilon")),
        ", ".join(_encoder(name, _config(home / name)) for name in encoders),
    )


def _encoder(name: str, config: Mapping[str, Any]) -> str:
    return _shown(name, {key: config.get(key) for key in ENCODER_KEYS})


def _of_gguf(path: Path) -> Family | None:
    from gguf import GGUFReader

    reader = GGUFReader(path)
    name = reader.get_field("general.architecture")
    tokens = reader.get_field("tokenizer.ggml.tokens")
    if name is None or tokens is None:
        return None
    kind = str(name.contents())
    found = {key: reader.get_field(f"{kind}.{theirs}") for key, theirs in TEXT_KEYS.items()}
    shape = {key: field.contents() if field else None for key, field in found.items()}
    return Family(_shown(kind, shape), "", str(len(tokens.data)))


def _config(folder: Path, file: str = "config.json") -> Mapping[str, Any]:
    path = folder / file
    found = load_json(path, f"{folder.name}/{file}") if path.is_file() else {}
    return found if isinstance(found, dict) else {}


def _shown(name: object, values: Mapping[str, object]) -> str:
    return f"{name}({', '.join(f'{key}={value}' for key, value in values.items())})"
