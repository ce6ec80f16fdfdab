"""Which family of text-to-image bases an adapter belongs to, in the words of kohya's form."""

from __future__ import annotations

from pathlib import Path

from lorareg.registry.lock import load_json
from lorareg.weights.adapter import LoraAdapter

PIPELINES = {
    "StableDiffusionXLPipeline": "sdxl",
    "StableDiffusion3Pipeline": "sd3",
    "FluxPipeline": "flux1",
}
TEXT_WIDTHS = {2048: "sdxl", 1024: "sd2", 768: "sd1"}
"""Inputs of a cross-attention's keys -> family."""
FLUX_WIDTH = 3072


def of(adapter: LoraAdapter, home: Path | None) -> str:
    """The family, by the base if its folder is here, else by names and shapes of the modules."""
    index = home / "model_index.json" if home else None
    if index and index.is_file():
        found = PIPELINES.get(str(load_json(index, "model_index.json").get("_class_name")))
        if found:
            return found
    names = adapter.layers.keys()
    if any(name.startswith("transformer.") for name in names):
        return _of_transformer(adapter)
    widths = {
        TEXT_WIDTHS.get(layer.down.shape[1])
        for name, layer in adapter.layers.items()
        if name.endswith(("attn2.to_k", "attn2.to_v"))
    }
    deep = any(".transformer_blocks.1." in name for name in names)
    if "sdxl" in widths or deep or any(name.startswith("text_encoder_2.") for name in names):
        return "sdxl"
    return "sd2" if "sd2" in widths else "sd1"


def _of_transformer(adapter: LoraAdapter) -> str:
    single = any(".single_transformer_blocks." in name for name in adapter.layers)
    widths = {x.down.shape[1] for n, x in adapter.layers.items() if n.endswith("attn.to_q")}
    return "flux1" if single or FLUX_WIDTH in widths else "sd3"


def predicts_v(home: Path | None) -> bool | None:
    """Whether the base predicts v; None if its scheduler's configuration is not here."""
    path = home / "scheduler" / "scheduler_config.json" if home else None
    if path is None or not path.is_file():
        return None
    found = load_json(path, "scheduler_config.json")
    return str(found.get("prediction_type", "epsilon")) == "v_prediction"
