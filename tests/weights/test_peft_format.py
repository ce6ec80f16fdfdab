"""The text format against PEFT itself: what we write it loads, what it writes we read."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lorareg.weights.adapter import LoraAdapter, LoraLayer
from lorareg.weights.algebra import relative_difference, weighted_sum
from lorareg.weights.formats import peft

MakeAdapter = Callable[..., LoraAdapter]
SETTINGS = {
    "equal": lambda n: (2, 2.0),
    "alpha is not rank": lambda n: (2, 5.0),
    "mixed ranks and alphas": lambda n: (1 + n % 3, (4.0, 1.5, 3.0, 8.0)[n % 4]),
}
TOKENS = torch.tensor([[1, 5, 9, 2, 7, 30]])


@pytest.fixture(scope="module")
def fresh() -> Any:
    """A Llama with random weights; tests take copies."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


@pytest.fixture
def model(fresh: Any) -> Any:
    return copy.deepcopy(fresh)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(TOKENS).logits


def adapter_of(model: Any, make_adapter: MakeAdapter, kind: str) -> LoraAdapter:
    modules = {
        name: (module.out_features, (module.in_features,))
        for name, module in model.named_modules()
        if name.endswith(("q_proj", "k_proj", "o_proj", "down_proj"))
    }
    settings = {name: SETTINGS[kind](number) for number, name in enumerate(modules)}
    return weighted_scale(make_adapter(modules, settings, component=""))


def weighted_scale(adapter: LoraAdapter) -> LoraAdapter:
    """Weaker, so that the logits stay in range, with ranks and alphas as they were."""
    return LoraAdapter(
        {n: LoraLayer(x.down * 0.3, x.up * 0.3, x.alpha) for n, x in adapter.layers.items()}
    )


def add_densely(model: Any, adapter: LoraAdapter) -> Any:
    with torch.no_grad():
        for name, layer in adapter.layers.items():
            model.get_submodule(name).weight += torch.from_numpy(layer.delta())
    return model


@pytest.mark.parametrize("kind", SETTINGS)
def test_peft_loads_our_folder_and_computes_what_the_dense_sum_computes(
    tmp_path: Path, fresh: Any, model: Any, make_adapter: MakeAdapter, kind: str
) -> None:
    from peft import PeftModel

    adapter = adapter_of(model, make_adapter, kind)
    peft.write(tmp_path, adapter, "org/base", {"lorareg.asset": "tone/pirate"})

    loaded = PeftModel.from_pretrained(copy.deepcopy(fresh), tmp_path)

    assert torch.allclose(logits(loaded), logits(add_densely(model, adapter)), atol=1e-4)
    assert not torch.allclose(logits(loaded), logits(fresh), atol=1e-2), "the adapter did nothing"


def test_a_composition_is_loaded_by_peft_as_the_dense_sum(
    tmp_path: Path, fresh: Any, model: Any, make_adapter: MakeAdapter
) -> None:
    from peft import PeftModel

    one = adapter_of(model, make_adapter, "mixed ranks and alphas")
    other = adapter_of(model, make_adapter, "alpha is not rank")
    total = weighted_sum([(one, 0.7), (other, -0.4)])
    peft.write(tmp_path, total, "org/base", {})

    loaded = PeftModel.from_pretrained(copy.deepcopy(fresh), tmp_path)

    assert torch.allclose(logits(loaded), logits(add_densely(model, total)), atol=1e-4)


@pytest.mark.parametrize(
    "settings",
    [
        {"r": 2, "lora_alpha": 2},
        {"r": 2, "lora_alpha": 6},
        {
            "r": 2, "lora_alpha": 6,
            "rank_pattern": {"q_proj": 3}, "alpha_pattern": {"0.mlp.up_proj": 1},
        },
        {"r": 2, "lora_alpha": 6, "target_modules": "all-linear"},
    ],
    ids=["equal", "alpha is not rank", "patterns", "all-linear"],
)  # fmt: skip
def test_what_peft_saves_is_read_with_the_same_deltas(
    tmp_path: Path, fresh: Any, model: Any, settings: dict[str, Any]
) -> None:
    from peft import LoraConfig, get_peft_model

    wanted = {"target_modules": ["q_proj", "up_proj"]} | settings
    config = LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False, **wanted)
    tuned = get_peft_model(copy.deepcopy(fresh), config)
    tuned.save_pretrained(tmp_path)

    found = peft.read(tmp_path)

    assert torch.allclose(logits(tuned), logits(add_densely(model, found)), atol=1e-4)
    assert not torch.allclose(logits(tuned), logits(fresh), atol=1e-3), "the adapter did nothing"


def test_what_peft_saves_survives_our_reading_and_writing(tmp_path: Path, model: Any) -> None:
    from peft import LoraConfig, PeftModel, get_peft_model

    fresh = copy.deepcopy(model)
    config = LoraConfig(
        r=2, lora_alpha=6, target_modules=["q_proj"], init_lora_weights=False,
        rank_pattern={"1.self_attn.q_proj": 3},
    )  # fmt: skip
    tuned = get_peft_model(model, config)
    tuned.save_pretrained(tmp_path / "theirs")

    adapter = peft.read(tmp_path / "theirs")
    peft.write(tmp_path / "ours", adapter, "org/base", {})

    loaded = PeftModel.from_pretrained(fresh, tmp_path / "ours")
    assert torch.allclose(logits(tuned), logits(loaded), atol=1e-6)
    assert relative_difference(peft.read(tmp_path / "ours"), adapter) < 1e-7


def test_what_is_no_plain_lora_is_refused(tmp_path: Path, model: Any) -> None:
    from peft import LoraConfig, get_peft_model

    from lorareg.errors import InvalidFileError

    config = LoraConfig(target_modules=["q_proj"], bias="all")
    get_peft_model(model, config).save_pretrained(tmp_path)

    with pytest.raises(InvalidFileError, match="not a plain LoRA"):
        peft.read(tmp_path)


@pytest.mark.parametrize(
    "patterns",
    [
        {}, {"to_q": 8}, {"attn.to_q": 8}, {"mid.attn.to_q": 8}, {"^mid.attn.to_q": 8},
        {"^attn.to_q": 8}, {"o_q": 8}, {"to_k": 8}, {"to_q": 8, "mid.attn.to_q": 16},
        {"mid.attn.to_q": 16, "to_q": 8},
    ],
)  # fmt: skip
def test_patterns_are_looked_up_as_peft_does(patterns: dict[str, float]) -> None:
    from peft.utils.other import get_pattern_key

    from lorareg.weights.formats.pairs import setting

    found = setting({"lora_alpha": 4, "alpha_pattern": patterns}, "lora_alpha", "alpha_pattern",
                     "mid.attn.to_q")  # fmt: skip

    assert found == patterns.get(get_pattern_key(patterns, "mid.attn.to_q"), 4)
