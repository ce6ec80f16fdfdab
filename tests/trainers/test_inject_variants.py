"""Variants of LoRA on a frozen model: ranks by pattern, rsLoRA, DoRA, PiSSA."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from pydantic import ValidationError

from lorareg.errors import TrainingError
from lorareg.registry.manifest import Lora, parse
from lorareg.trainers.adapters import pissa
from lorareg.trainers.adapters.inject import Adapters, apply, inject, module_names, ranks_of, remove
from lorareg.trainers.adapters.variants import costs, published
from lorareg.trainers.core.randomness import Draws
from lorareg.weights.algebra import relative_difference
from tests.trainers.pico_images import make_unet

LINEAR = ("to_q", "to_v")
CONVS = ("conv1", "conv_in")
BOTH = LINEAR + CONVS
VARIANTS: dict[str, dict[str, Any]] = {
    "lora": {},
    "ranks by pattern": {"rank_pattern": {"*.mid_block.*": 2, "*to_q": 6}},
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "dora with rslora": {"use_dora": True, "use_rslora": True},
    "pissa": {"init": "pissa"},
    "pissa with rslora": {"init": "pissa", "use_rslora": True},
}


@pytest.fixture(scope="module")
def fresh() -> Any:
    """One block down, the middle, one block up; tests take copies."""
    torch.manual_seed(3)
    model = make_unet(
        block_out_channels=(32,),
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",),
    )
    return model.requires_grad_(False).eval()


@pytest.fixture
def unet(fresh: Any) -> Any:
    return copy.deepcopy(fresh)


def output(model: Any, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    noisy = torch.randn(2, 4, 8, 8, generator=generator).to(model.conv_in.weight.dtype)
    text = torch.randn(2, 5, 32, generator=generator).to(noisy.dtype)
    found: torch.Tensor = model(noisy, torch.tensor([3, 900]), text).sample
    return found


def seen(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return output(model)


def put(model: Any, endings: Sequence[str] = BOTH, **lora: Any) -> Adapters:
    settings = Lora(**{"rank": 4, "alpha": 8} | lora)
    names = [f"unet.{name}" for name in module_names(model, endings)]
    return inject({"unet": model}, ranks_of(names, settings), settings, Draws(42))


def train(adapters: Adapters, model: Any, steps: int = 2) -> None:
    """A few steps of plain gradient descent on random targets."""
    found = list(adapters.named_parameters().values())
    for step in range(steps):
        target = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(step))
        gradients = torch.autograd.grad((output(model, step) - target).square().mean(), found)
        with torch.no_grad():
            for parameter, gradient in zip(found, gradients, strict=True):
                parameter -= 0.5 * gradient / (gradient.norm() + 1e-6)


def state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The base's own tensors, by the names they have without adapters."""
    return {
        name.replace(".base_layer", ""): value.clone()
        for name, value in model.state_dict().items()
        if "lora_" not in name
    }


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


# every variant


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_fresh_adapter_changes_no_output(unet: Any, variant: str) -> None:
    expected = seen(unet)

    put(unet, **VARIANTS[variant])

    if "pissa" in variant:  # s B0 A0 is added and taken off again
        torch.testing.assert_close(seen(unet), expected, rtol=1e-5, atol=1e-5)
    else:
        assert torch.equal(seen(unet), expected)


@pytest.mark.parametrize("variant", VARIANTS)
def test_training_moves_every_matrix_and_no_weight_of_the_base(unet: Any, variant: str) -> None:
    base = state(unet)
    adapters = put(unet, **VARIANTS[variant])
    before = {name: p.detach().clone() for name, p in adapters.named_parameters().items()}

    train(adapters, unet)

    after = adapters.named_parameters()
    assert not any(torch.equal(value, before[name]) for name, value in after.items())
    assert same(state(unet), base)


@pytest.mark.parametrize("variant", VARIANTS)
def test_disabled_is_the_base_to_the_bit_and_training_goes_on_after_it(
    unet: Any, variant: str
) -> None:
    expected = seen(unet)
    adapters = put(unet, **VARIANTS[variant])
    train(adapters, unet)
    adapted = seen(unet)

    with adapters.disabled():
        within = seen(unet)

    assert torch.equal(within, expected)
    assert torch.equal(seen(unet), adapted)
    assert not torch.allclose(adapted, expected, atol=1e-3)
    trainable = {id(p) for p in unet.parameters() if p.requires_grad}
    assert trainable == {id(p) for p in adapters.named_parameters().values()}


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_published_does_on_the_base_what_was_trained(unet: Any, variant: str) -> None:
    fresh = copy.deepcopy(unet)
    base = state(fresh)
    adapters = put(unet, **VARIANTS[variant])
    train(adapters, unet)

    applied = apply({"unet": fresh}, adapters.snapshot())

    torch.testing.assert_close(seen(fresh), seen(unet), rtol=1e-5, atol=1e-5)
    remove(applied)
    assert same(state(fresh), base)


@pytest.mark.parametrize("variant", VARIANTS)
def test_restoring_a_snapshot_gives_the_same_output_to_the_bit(unet: Any, variant: str) -> None:
    adapters = put(unet, **VARIANTS[variant])
    train(adapters, unet, steps=2)
    saved, expected = adapters.snapshot(), seen(unet)
    train(adapters, unet, steps=1)
    assert not torch.equal(seen(unet), expected)

    adapters.restore(saved)

    assert torch.equal(seen(unet), expected)
    assert relative_difference(adapters.snapshot(), saved) == 0


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_start_is_the_same_in_every_process_and_for_every_layer_by_its_name(
    unet: Any, variant: str
) -> None:
    other = copy.deepcopy(unet)
    torch.manual_seed(99)
    few = put(unet, ("to_q",), **{**VARIANTS[variant], "rank_pattern": {}}).named_parameters()
    all_of_them = put(other, **{**VARIANTS[variant], "rank_pattern": {}}).named_parameters()

    assert few
    assert all(torch.equal(value, all_of_them[name]) for name, value in few.items())


@pytest.mark.parametrize("variant", VARIANTS)
def test_dropout_is_on_in_training_only(unet: Any, variant: str) -> None:
    adapters = put(unet, dropout=0.5, **VARIANTS[variant])
    train(adapters, unet)
    unet.eval()  # as a pipeline may do between two steps

    adapters.train(True)
    trained = [seen(unet) for _ in range(2)]
    adapters.train(False)
    judged = [seen(unet) for _ in range(2)]

    assert not torch.equal(*trained)
    assert torch.equal(*judged)


@pytest.mark.parametrize("variant", ["lora", "dora", "pissa"])
def test_on_a_bfloat16_base_a_fresh_adapter_is_float32_and_changes_nothing(
    unet: Any, variant: str
) -> None:
    half = unet.to(torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = seen(half)

    adapters = put(half, **VARIANTS[variant])

    assert {p.dtype for p in adapters.named_parameters().values()} == {torch.float32}
    with torch.autocast("cpu", dtype=torch.bfloat16), adapters.uncast_inputs(True):
        found = seen(half)
    if variant == "pissa":
        assert (found - expected).norm() < 0.02 * expected.norm(), "rounding to 8 bits"
    else:
        assert torch.equal(found, expected)


# ranks by pattern


def test_the_first_pattern_that_fits_a_full_path_gives_the_rank() -> None:
    names = ["unet.down.attn1.to_q", "unet.mid.attn1.to_q", "text_encoder.layers.0.q_proj"]
    pattern = {"unet.mid.*": 2, "*to_q": 16, "text_encoder*": 1}

    assert ranks_of(names, Lora(rank=8, rank_pattern=pattern)) == {
        names[0]: 16,
        names[1]: 2,
        names[2]: 1,
    }
    assert ranks_of(names, Lora(rank=8)) == dict.fromkeys(names, 8)


def test_patterns_that_fit_no_module_are_named_with_a_path_to_compare() -> None:
    lora = Lora(rank_pattern={"mid": 2, "*to_q": 4, "to_out": 8})

    with pytest.raises(TrainingError) as caught:
        ranks_of(["unet.mid.to_q"], lora)

    assert "mid, to_out" in caught.value.what
    assert "unet.mid.to_q" in caught.value.why
    assert "*mid*" in caught.value.fix


def test_modules_of_every_rank_have_the_same_scale_and_of_rslora_one_by_their_own_rank(
    unet: Any,
) -> None:
    pattern = {"*.mid_block.*": 2, "*conv_in": 9}
    plain = put(copy.deepcopy(unet), rank=4, alpha=6, rank_pattern=pattern).snapshot()
    stable = put(unet, rank=4, alpha=6, rank_pattern=pattern, use_rslora=True).snapshot()

    assert {layer.rank for layer in plain.layers.values()} == {2, 4, 9}
    assert all(layer.scale == pytest.approx(6 / 4) for layer in plain.layers.values())
    assert all(
        layer.scale == pytest.approx(6 / math.sqrt(layer.rank)) for layer in stable.layers.values()
    )


def test_the_order_of_patterns_is_part_of_the_config_that_a_run_is_known_by() -> None:
    def digest(pattern: dict[str, int]) -> str:
        document = {
            "schema": "lorareg/1", "kind": "style", "name": "ink", "task": "text-to-image",
            "base": {"model": "builtin:avatar"}, "dataset": {"path": "data/ink"},
            "lora": {"rank_pattern": pattern},
        }  # fmt: skip
        return parse(document, "manifest.yaml").config_digest()

    one, other = {"*mid*": 2, "*to_q": 4}, {"*to_q": 4, "*mid*": 2}

    assert digest(one) == digest(dict(one))
    assert digest(one) != digest(other)


# rsLoRA and DoRA against PEFT's own


@pytest.mark.parametrize(
    "variant", [{"use_rslora": True}, {"use_dora": True}, {"use_rslora": True, "use_dora": True}]
)
def test_a_variant_computes_what_peft_computes_with_the_same_numbers(
    unet: Any, variant: dict[str, bool]
) -> None:
    theirs = copy.deepcopy(unet)
    adapters = put(unet, rank=3, alpha=5, **variant)
    train(adapters, unet)
    names = [name.removeprefix("unet.") for name in adapters.layers]
    config = LoraConfig(r=3, lora_alpha=5, target_modules=names, **variant)
    inject_adapter_in_model(config, theirs)
    ours = {n: p for n, p in unet.named_parameters() if "lora_" in n}
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "lora_" in name:
                parameter.copy_(ours.pop(name))
    assert not ours

    torch.testing.assert_close(seen(unet), seen(theirs), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_dora_has_a_magnitude_an_output_that_begins_at_the_length_of_the_base_s_row(
    unet: Any, dtype: torch.dtype
) -> None:
    adapters = put(unet.to(dtype), use_dora=True)

    found = adapters.named_parameters()
    for name, layer in adapters.snapshot().layers.items():
        module = unet.get_submodule(name.removeprefix("unet."))
        weight = module.base_layer.weight.float().flatten(1)
        assert layer.magnitude is not None
        assert layer.magnitude.shape == (layer.up.shape[0],)
        np.testing.assert_allclose(layer.magnitude, weight.norm(dim=1).numpy(), rtol=1e-6)
        assert found[f"{name}.magnitude"].requires_grad


# PiSSA


def test_principal_factors_are_the_best_of_their_rank_with_signs_that_the_matrix_decides() -> None:
    matrix = torch.randn(12, 20, generator=torch.Generator().manual_seed(5), dtype=torch.float64)

    down, up = pissa.principal(matrix, 5)

    values = np.linalg.svd(matrix.numpy(), compute_uv=False)
    assert (matrix - up @ down).norm().item() == pytest.approx(np.linalg.norm(values[5:]))
    torch.testing.assert_close(up.norm(dim=0).square(), torch.from_numpy(values[:5].copy()))
    torch.testing.assert_close(down.norm(dim=1).square(), torch.from_numpy(values[:5].copy()))
    assert all(row[row.abs().argmax()] > 0 for row in down)


def test_pissa_begins_where_peft_s_own_begins(unet: Any) -> None:
    theirs = copy.deepcopy(unet)
    adapters = put(unet, LINEAR, rank=3, alpha=6, init="pissa")
    names = [name.removeprefix("unet.") for name in adapters.layers]
    config = LoraConfig(r=3, lora_alpha=6, target_modules=names, init_lora_weights="pissa")
    inject_adapter_in_model(config, theirs)

    for name in names:
        ours, other = unet.get_submodule(name), theirs.get_submodule(name)
        product = ours.lora_B["default"].weight @ ours.lora_A["default"].weight
        expected = other.lora_B["default"].weight @ other.lora_A["default"].weight
        torch.testing.assert_close(product, expected, rtol=1e-4, atol=1e-5)


def test_pissa_trains_like_the_residual_base_of_its_paper(unet: Any) -> None:
    """The base minus s B0 A0, kept as a second model, with a plain adapter that begins there."""
    residual = copy.deepcopy(unet)
    adapters = put(unet, init="pissa")
    plain = put(residual)
    with torch.no_grad():
        for name, layer in adapters.layers.items():
            other = plain.layers[name]
            other.lora_A["default"].weight.copy_(layer.lora_A["default"].weight)
            other.lora_B["default"].weight.copy_(layer.lora_B["default"].weight)
            first, second = (w.flatten(1) for w in (
                layer.lora_A["default"].weight, layer.lora_B["default"].weight
            ))  # fmt: skip
            base = other.get_base_layer().weight
            base -= (2 * second @ first).view_as(base)

    train(adapters, unet)
    train(plain, residual)

    torch.testing.assert_close(seen(unet), seen(residual), rtol=1e-3, atol=1e-4)


def test_pissa_is_published_as_a_plain_lora_of_twice_the_rank_at_the_same_scale(
    unet: Any,
) -> None:
    adapters = put(unet, rank=3, alpha=6, init="pissa")

    fresh = adapters.snapshot()
    train(adapters, unet)

    for layer in adapters.snapshot().layers.values():
        assert (layer.rank, layer.scale, layer.magnitude) == (6, 2.0, None)
    assert all(abs(layer.delta()).max() < 1e-6 for layer in fresh.layers.values())


def test_a_rank_above_the_number_of_components_is_refused_with_every_module(unet: Any) -> None:
    with pytest.raises(TrainingError) as caught:
        put(unet, ("conv_in", "conv_out", "to_q"), rank=34, init="pissa")

    assert "unet.conv_in has 32 components, its rank is 34" in caught.value.why
    assert "unet.conv_out has 4 components" in caught.value.why
    assert "rank_pattern" in caught.value.fix


# what excludes each other, and what is said


def test_dora_from_principal_components_is_refused() -> None:
    with pytest.raises(ValidationError, match="use_dora and init: pissa exclude each other"):
        Lora(use_dora=True, init="pissa")


def test_every_variant_says_what_it_costs_and_a_plain_lora_costs_nothing() -> None:
    assert costs(Lora()) == []
    assert "alpha 64" in " ".join(costs(Lora(rank=16, alpha=16, use_rslora=True)))
    assert "lorareg compose refuses it" in " ".join(costs(Lora(use_dora=True)))
    assert "rank 32" in " ".join(costs(Lora(rank=16, init="pissa")))


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_published_rank_and_alpha_are_those_of_the_weights(unet: Any, variant: str) -> None:
    lora = {"rank": 4, "alpha": 6, **VARIANTS[variant], "rank_pattern": {}}

    layers = put(unet, **lora).snapshot().layers.values()

    assert {(layer.rank, layer.alpha) for layer in layers} == {published(Lora(**lora))}
