"""LoRA layers on a frozen model: where, how they start, and that they leave no trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from peft.tuners.lora import LoraLayer as PeftLayer

from lorareg.errors import TrainingError
from lorareg.registry.manifest import Lora
from lorareg.trainers.adapters.inject import Adapters, apply, inject, module_names, remove
from lorareg.trainers.core.randomness import Draws
from lorareg.trainers.image.families.sd import ATTENTION, FEED_FORWARD
from lorareg.weights.adapter import LoraAdapter, LoraLayer
from tests.trainers.pico_images import make_unet

CONVS = ("conv1", "conv_in", "conv_shortcut")


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, dtype=np.float32)


@pytest.fixture
def unet() -> Any:
    torch.manual_seed(3)
    return make_unet().requires_grad_(False).eval()


def output(model: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    noisy = torch.randn(2, 4, 8, 8, generator=generator).to(model.conv_in.weight.dtype)
    text = torch.randn(2, 5, 32, generator=generator).to(noisy.dtype)
    with torch.no_grad():
        found: torch.Tensor = model(noisy, torch.tensor([3, 900]), text).sample
    return found


def put(model: Any, endings: tuple[str, ...] = ATTENTION, **lora: Any) -> Adapters:
    settings = Lora(**{"rank": 4, "alpha": 8} | lora)
    names = [f"unet.{name}" for name in module_names(model, endings)]
    return inject({"unet": model}, dict.fromkeys(names, settings.rank), settings, Draws(42))


def move(adapters: Adapters) -> None:
    """Give every ``up`` matrix values, as training would."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in adapters.named_parameters().items():
            if name.endswith(".up"):
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)


@contextmanager
def unchanged(model: torch.nn.Module) -> Iterator[None]:
    """Within the block nothing about the model changes that outlives it."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modules = [(name, type(module)) for name, module in model.named_modules()]
    attributes = set(vars(model))
    yield
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert [(name, type(module)) for name, module in model.named_modules()] == modules
    assert set(vars(model)) == attributes


@pytest.mark.parametrize("endings", [ATTENTION, ATTENTION + FEED_FORWARD, CONVS])
def test_a_fresh_adapter_changes_no_output(unet: Any, endings: tuple[str, ...]) -> None:
    expected = output(unet)

    put(unet, endings)

    assert torch.equal(output(unet), expected)


def test_adapters_are_float32_on_a_bfloat16_base(unet: Any) -> None:
    half = unet.to(torch.bfloat16)
    expected = output(half)

    adapters = put(half, ATTENTION + CONVS)

    assert {p.dtype for p in adapters.named_parameters().values()} == {torch.float32}
    assert half.conv_out.weight.dtype == torch.bfloat16
    assert torch.equal(output(half), expected)


def test_only_the_adapter_is_trainable(unet: Any) -> None:
    adapters = put(unet)

    trainable = {id(p) for p in unet.parameters() if p.requires_grad}

    assert trainable == {id(p) for p in adapters.named_parameters().values()}


def test_the_start_depends_on_the_seed_and_the_layer_s_name_alone(unet: Any) -> None:
    few = put(unet, ("to_q",)).snapshot()
    torch.manual_seed(99)
    all_of_them = put(make_unet(), ATTENTION).snapshot()

    for name, layer in few.layers.items():
        assert np.array_equal(layer.down, all_of_them.layers[name].down)
    downs = [layer.down for layer in few.layers.values()]
    assert not np.array_equal(downs[0], downs[1])


def test_down_starts_uniform_within_one_over_the_root_of_its_inputs(unet: Any) -> None:
    layers = put(unet, ("conv1", "to_q"), rank=16).snapshot().layers

    for layer in layers.values():
        bound = layer.down[0].size ** -0.5
        assert abs(layer.down).max() <= bound
        assert layer.down.std() == pytest.approx(bound / 3**0.5, rel=0.1)
        assert not layer.up.any()


def test_the_delta_is_up_times_down_scaled_by_alpha_over_rank(unet: Any) -> None:
    (name,) = module_names(unet, ("mid_block.attentions.0.transformer_blocks.0.attn1.to_q",))
    base = unet.get_submodule(name)
    adapters = put(unet, (name,), rank=4, alpha=2)
    move(adapters)
    x = torch.randn(3, base.in_features, generator=torch.Generator().manual_seed(4))

    found = unet.get_submodule(name)(x)

    delta = torch.from_numpy(adapters.snapshot().layers[f"unet.{name}"].delta())
    torch.testing.assert_close(found, base(x) + x @ delta.T, rtol=1e-4, atol=1e-5)


def test_a_convolution_s_delta_is_the_kernel_that_up_and_down_make(unet: Any) -> None:
    base = unet.conv_in
    adapters = put(unet, ("conv_in",))
    move(adapters)
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(4))

    found = unet.conv_in(x)

    layer = adapters.snapshot().layers["unet.conv_in"]
    assert layer.down.shape == (4, 4, 3, 3)
    assert layer.up.shape == (32, 4, 1, 1)
    kernel = torch.from_numpy(layer.delta()).reshape(base.weight.shape)
    expected = base(x) + torch.nn.functional.conv2d(x, kernel, padding=1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_disabled_is_the_base_and_training_goes_on_after_it(unet: Any) -> None:
    expected = output(unet)
    adapters = put(unet)
    move(adapters)
    adapted = output(unet)

    with adapters.disabled():
        within = output(unet)

    assert torch.equal(within, expected)
    assert torch.equal(output(unet), adapted)
    assert not torch.equal(adapted, expected)
    assert all(p.requires_grad for p in adapters.named_parameters().values())


def test_dropout_is_on_in_training_only(unet: Any) -> None:
    adapters = put(unet, dropout=0.5)
    move(adapters)

    adapters.train(True)
    trained = [output(unet) for _ in range(2)]
    adapters.train(False)
    judged = [output(unet) for _ in range(2)]

    assert not torch.equal(*trained)
    assert torch.equal(*judged)
    assert not unet.training


def test_inputs_are_cast_twice_no_more_under_autocast_with_the_same_result(unet: Any) -> None:
    half = unet.to(torch.bfloat16)
    adapters = put(half)
    move(adapters)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = output(half)
        with adapters.uncast_inputs(True):
            found = output(half)

    assert torch.equal(found, expected)
    assert all(layer.cast_input_dtype_enabled for layer in adapters.layers.values())


@pytest.mark.parametrize("endings", [ATTENTION, CONVS])
def test_applying_a_snapshot_gives_the_adapted_model_and_removing_it_the_base(
    unet: Any, endings: tuple[str, ...]
) -> None:
    base = output(unet)
    adapters = put(unet, endings)
    move(adapters)
    saved, expected = adapters.snapshot(), output(unet)
    remove(adapters)

    with unchanged(unet):
        assert torch.equal(output(unet), base)
        applied = apply({"unet": unet}, saved)
        assert torch.equal(output(unet), expected)
        remove(applied)

    assert torch.equal(output(unet), base)


def test_an_adapter_may_be_put_on_and_taken_off_many_times(unet: Any) -> None:
    one, other = (LoraAdapter({"unet.conv_in": conv_in_layer(rank)}) for rank in (2, 5))

    found = []
    with unchanged(unet):
        for adapter in (one, other, one):
            applied = apply({"unet": unet}, adapter)
            found.append(output(unet))
            remove(applied)

    assert torch.equal(found[0], found[2])
    assert not torch.equal(found[0], found[1])


def test_layers_may_have_different_ranks(unet: Any) -> None:
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(4))
    time = next(n for n in module_names(unet, ("linear_1",)))
    low, high = conv_in_layer(1), LoraLayer(random(6, 32), random(128, 6), 3.0)
    expected = unet.conv_in(x) + torch.nn.functional.conv2d(
        x, torch.from_numpy(low.delta()).reshape(32, 4, 3, 3), padding=1
    )

    adapters = apply({"unet": unet}, LoraAdapter({"unet.conv_in": low, f"unet.{time}": high}))

    torch.testing.assert_close(unet.conv_in(x), expected, rtol=1e-4, atol=1e-5)
    assert np.array_equal(adapters.snapshot().layers[f"unet.{time}"].up, high.up)


@pytest.mark.parametrize(
    "layers",
    [
        {"conv_in": LoraLayer(ones(2, 4, 1, 1), ones(32, 2, 1, 1), 2.0)},
        {"conv_in": LoraLayer(ones(2, 9, 3, 3), ones(32, 2, 1, 1), 2.0)},
        {"somewhere.else": LoraLayer(ones(2, 4), ones(4, 2), 2.0)},
    ],
    ids=["kernel", "channels", "module"],
)
def test_an_adapter_of_another_base_is_refused_and_leaves_the_model_alone(
    unet: Any, layers: dict[str, LoraLayer]
) -> None:
    with unchanged(unet), pytest.raises(TrainingError, match="does not fit the base"):
        apply({"unet": unet}, LoraAdapter({f"unet.{n}": x for n, x in layers.items()}))


def test_targets_are_chosen_by_the_ends_of_their_names(unet: Any) -> None:
    attention = module_names(unet, ATTENTION)
    more = module_names(unet, ATTENTION + FEED_FORWARD)
    linear = module_names(unet, None)

    assert len(attention) == 4 * 8  # q, k, v, out of self and cross attention in 4 blocks
    assert set(attention) < set(more)
    assert all(isinstance(unet.get_submodule(name), torch.nn.Linear) for name in linear)
    assert "time_embedding.linear_1" in linear
    assert "mid_block.attentions.0.proj_in" in more  # a 1x1 convolution here
    assert not any(name.endswith("conv1") for name in more)


def test_a_target_is_an_ending_of_whole_names() -> None:
    model = torch.nn.ModuleDict({"q": torch.nn.Linear(2, 2), "to_q": torch.nn.Linear(2, 2)})

    assert module_names(model, ("q",)) == ["q"]


def test_an_unknown_target_lists_the_endings_there_are(unet: Any) -> None:
    with pytest.raises(TrainingError) as caught:
        module_names(unet, ("q_proj", "k_proj"))

    assert "q_proj, k_proj match no module" in caught.value.what
    assert "to_q" in caught.value.why
    assert "conv_shortcut" in caught.value.why


def test_every_adapted_module_is_one_that_was_asked_for(unet: Any) -> None:
    adapters = put(unet, ("conv_in", "attn1.to_q"))

    found = {f"unet.{n}" for n, module in unet.named_modules() if isinstance(module, PeftLayer)}

    assert found == set(adapters.layers)


def conv_in_layer(rank: int) -> LoraLayer:
    return LoraLayer(random(rank, 4, 3, 3), random(32, rank, 1, 1), 3.0)


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)
