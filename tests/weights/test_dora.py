"""DoRA and rsLoRA at rest: written, read back, and kept out of sums."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lorareg.errors import InvalidFileError, LoraregError
from lorareg.registry import tensors
from lorareg.weights import algebra
from lorareg.weights.adapter import LoraAdapter, LoraLayer, to_raw
from lorareg.weights.formats import diffusers, peft

MakeAdapter = Callable[..., LoraAdapter]
MODULES = {"a.to_q": (5, (6,)), "b.conv": (4, (3, 3, 3))}
SETTINGS = {"a.to_q": (2, 4.0), "b.conv": (3, 1.5)}


def dora(adapter: LoraAdapter, seed: int = 7) -> LoraAdapter:
    """The same factors, with magnitudes."""
    random = np.random.default_rng(seed)
    return LoraAdapter(
        {
            name: replace(x, magnitude=random.uniform(1, 2, x.up.shape[0]).astype(np.float32))
            for name, x in adapter.layers.items()
        }
    )


@pytest.fixture
def unet(make_adapter: MakeAdapter) -> LoraAdapter:
    return dora(make_adapter(MODULES, SETTINGS))


def same(one: LoraAdapter, other: LoraAdapter) -> bool:
    def content(adapter: LoraAdapter) -> Any:
        return {
            name: (x.alpha, x.down.tolist(), x.up.tolist(),
                   None if x.magnitude is None else x.magnitude.tolist())
            for name, x in adapter.layers.items()
        }  # fmt: skip

    return bool(content(one) == content(other))


def test_a_dora_is_read_as_it_was_written_in_both_formats(
    tmp_path: Path, unet: LoraAdapter, make_adapter: MakeAdapter
) -> None:
    encoder = dora(make_adapter({"c": (5, (6,))}, {"c": (2, 4.0)}, component="text_encoder"))
    both = LoraAdapter({**unet.layers, **encoder.layers})
    text = dora(make_adapter(MODULES, SETTINGS, component=""))

    diffusers.write(tmp_path / diffusers.FILE, both, {})
    peft.write(tmp_path, text, "org/base", {})

    assert same(diffusers.read(tmp_path / diffusers.FILE), both)
    assert same(peft.read(tmp_path), text)


def test_one_component_may_be_a_dora_and_the_other_not(
    tmp_path: Path, unet: LoraAdapter, make_adapter: MakeAdapter
) -> None:
    encoder = make_adapter({"c": (5, (6,))}, {"c": (2, 4.0)}, component="text_encoder")
    both = LoraAdapter({**unet.layers, **encoder.layers})

    diffusers.write(tmp_path / diffusers.FILE, both, {})

    assert same(diffusers.read(tmp_path / diffusers.FILE), both)
    settings = diffusers.lora_settings(both)
    assert (settings["unet.use_dora"], settings["text_encoder.use_dora"]) == (True, False)


def test_modules_of_one_component_cannot_be_mixed(tmp_path: Path, unet: LoraAdapter) -> None:
    plain = replace(unet.layers["unet.a.to_q"], magnitude=None)
    mixed = LoraAdapter({**unet.layers, "unet.a.to_q": plain})

    with pytest.raises(ValueError, match="some layers have a magnitude"):
        diffusers.write(tmp_path / diffusers.FILE, mixed, {})


def test_a_magnitude_has_one_number_an_output() -> None:
    down, up = np.ones((2, 3), np.float32), np.ones((4, 2), np.float32)

    with pytest.raises(ValueError, match="magnitudes for 4 outputs"):
        LoraLayer(down, up, 2.0, np.ones(3, np.float32))


def edited(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    raw, notes = tensors.read(folder / peft.WEIGHTS)
    change(raw)
    tensors.write(folder / peft.WEIGHTS, raw, notes)
    return folder


KEY = "base_model.model.{}.lora_magnitude_vector"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda raw: raw.pop(KEY.format("a.to_q")), "a.to_q lacks its factors or its magnitude"),
        (lambda raw: raw.update({KEY.format("x"): to_raw(np.ones(4, np.float32))}), "module x"),
        (lambda raw: raw.update({KEY.format("a.to_q"): to_raw(np.ones(4, np.float32))}), "to_q"),
        (
            lambda raw: raw.update({KEY.format("a.to_q"): to_raw(np.ones((5, 1), np.float32))}),
            "shape (5, 1)",
        ),
        (
            lambda raw: raw.update({KEY.format("a.to_q") + ".weight": raw[KEY.format("a.to_q")]}),
            "not understood",
        ),
    ],
)
def test_magnitudes_that_do_not_fit_are_refused(
    tmp_path: Path, make_adapter: MakeAdapter, change: Any, said: str
) -> None:
    peft.write(tmp_path, dora(make_adapter(MODULES, SETTINGS, component="")), "org/base", {})

    with pytest.raises(InvalidFileError) as caught:
        peft.read(edited(tmp_path, change))

    assert said in str(caught.value)


def test_a_magnitude_that_the_settings_do_not_speak_of_is_refused(
    tmp_path: Path, make_adapter: MakeAdapter
) -> None:
    text = make_adapter(MODULES, SETTINGS, component="")
    peft.write(tmp_path, text, "org/base", {})
    folder = edited(
        tmp_path, lambda raw: raw.update({KEY.format("a.to_q"): to_raw(np.ones(5, np.float32))})
    )

    with pytest.raises(InvalidFileError, match="no LoRA file") as caught:
        peft.read(folder)

    assert "'base_model.model.a.to_q.lora_magnitude_vector' is not understood" in caught.value.why


@pytest.mark.parametrize(
    "variant", [{"use_dora": True}, {"use_rslora": True}, {"use_dora": True, "use_rslora": True}]
)
def test_what_peft_saves_is_read_and_written_with_the_same_logits(
    tmp_path: Path, variant: dict[str, bool]
) -> None:
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, initializer_range=0.3,
        )
    ).eval()  # fmt: skip
    fresh, tokens = copy.deepcopy(model), torch.tensor([[1, 5, 9, 2, 7, 30]])
    config = LoraConfig(
        r=3, lora_alpha=6, target_modules=["q_proj"], init_lora_weights=False,
        rank_pattern={"1.self_attn.q_proj": 2}, **variant,
    )  # fmt: skip
    tuned = get_peft_model(model, config)
    tuned.save_pretrained(tmp_path / "theirs")

    adapter = peft.read(tmp_path / "theirs")
    peft.write(tmp_path / "ours", adapter, "org/base", {})

    loaded = PeftModel.from_pretrained(fresh, tmp_path / "ours")
    with torch.no_grad():
        expected, found = tuned(tokens).logits, loaded(tokens).logits
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert adapter.is_dora == variant.get("use_dora", False)
    ranks = {layer.rank for layer in adapter.layers.values()}
    assert ranks == {2, 3}
    if variant.get("use_rslora"):
        assert all(x.scale == pytest.approx(6 / math.sqrt(x.rank)) for x in adapter.layers.values())


def test_a_dora_takes_no_part_in_sums_norms_and_angles(
    unet: LoraAdapter, make_adapter: MakeAdapter
) -> None:
    plain = make_adapter(MODULES, SETTINGS)
    asked: list[Callable[[], object]] = [
        lambda: algebra.weighted_sum([(plain, 1.0), (unet, 1.0)]),
        lambda: algebra.weighted_sum([(unet, 0.5)]),
        lambda: algebra.norm(unet),
        lambda: algebra.cosine(plain, unet),
        lambda: unet.layers["unet.a.to_q"].delta(),
    ]

    for ask in asked:
        with pytest.raises(LoraregError, match="a DoRA has no delta") as caught:
            ask()
        assert "lora.use_dora: false" in caught.value.fix


def test_the_difference_of_two_doras_counts_their_magnitudes(unet: LoraAdapter) -> None:
    other = dora(unet, seed=8)
    plain = LoraAdapter({n: replace(x, magnitude=None) for n, x in unet.layers.items()})

    size = algebra.norm(plain)
    gap = [
        np.linalg.norm(x.magnitude - y.magnitude)
        for x, y in zip(unet.layers.values(), other.layers.values(), strict=True)
        if x.magnitude is not None and y.magnitude is not None
    ]

    assert algebra.relative_difference(unet, unet) == 0
    assert algebra.relative_difference(other, unet) == pytest.approx(
        float(np.linalg.norm(gap)) / size, rel=1e-6
    )
    assert algebra.relative_difference(plain, unet) == math.inf
