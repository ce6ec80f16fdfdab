"""Gradient checkpointing of frozen models in evaluation mode: less is kept, the same comes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from transformers import CLIPTextModel, GPT2Config, GPT2LMHeadModel

from lorareg.registry.manifest import Lora
from lorareg.trainers.adapters import inject
from lorareg.trainers.adapters.inject import Adapters
from lorareg.trainers.core import recompute
from lorareg.trainers.core.randomness import Draws
from tests.trainers.conftest import make_llama
from tests.trainers.pico_images import make_text_config, make_unet

IDS = torch.arange(2 * 12).reshape(2, 12) % 180 + 2


def unet() -> tuple[torch.nn.Module, Callable[[Any], torch.Tensor]]:
    latents, texts = Draws(1).normal((2, 4, 8, 8)), Draws(2).normal((2, 24, 32))
    torch.manual_seed(3)
    return make_unet(), lambda model: model(latents, torch.tensor([3, 500]), texts).sample


def llama() -> tuple[torch.nn.Module, Callable[[Any], torch.Tensor]]:
    return make_llama(), lambda model: model(input_ids=IDS, use_cache=False).logits


def gpt2() -> tuple[torch.nn.Module, Callable[[Any], torch.Tensor]]:
    torch.manual_seed(3)
    shape = {"vocab_size": 350, "n_positions": 32, "n_embd": 48, "n_layer": 2, "n_head": 4}
    model = GPT2LMHeadModel(GPT2Config(**shape, tie_word_embeddings=False))
    return model, lambda model: model(input_ids=IDS, use_cache=False).logits


def clip() -> tuple[torch.nn.Module, Callable[[Any], torch.Tensor]]:
    torch.manual_seed(3)
    model = CLIPTextModel(make_text_config(32))
    return model, lambda model: model(input_ids=IDS).last_hidden_state


TARGETS = {
    unet: ("to_q", "to_v", "to_out.0", "conv1"),
    llama: ("q_proj", "down_proj"),
    gpt2: ("lm_head",),
    clip: ("q_proj", "fc2"),
}


@dataclass
class Pass:
    """What one forward and backward pass gave."""

    output: torch.Tensor
    gradients: list[torch.Tensor]
    kept: int  # bytes that the forward pass kept for the backward pass


def adapted(make: Callable[[], Any]) -> tuple[Adapters, Callable[[Any], torch.Tensor]]:
    """A frozen model in evaluation mode with adapters that have dropout and are not zero."""
    model, forward = make()
    model.requires_grad_(False).eval()
    names = inject.module_names(model, TARGETS[make])
    lora = Lora(rank=4, alpha=8, dropout=0.4)
    adapters = inject.inject({"": model}, dict.fromkeys(names, 4), lora, Draws(5))
    for name, parameter in adapters.named_parameters().items():
        parameter.data = Draws(6).normal(parameter.shape, name) * 0.1
    adapters.train(True)
    return adapters, forward


def run(adapters: Adapters, forward: Callable[[Any], torch.Tensor]) -> Pass:
    kept = 0

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += tensor.nbytes
        return tensor

    parameters = list(adapters.named_parameters().values())
    torch.manual_seed(9)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = forward(adapters.models[""])
    gradients = torch.autograd.grad(output.square().mean(), parameters)
    return Pass(output.detach(), list(gradients), kept)


@pytest.mark.parametrize("make", [unet, llama, clip])
def test_gradients_are_the_same_to_the_bit_and_less_is_kept(make: Callable[[], Any]) -> None:
    adapters, forward = adapted(make)
    before = run(adapters, forward)

    assert recompute.enable(adapters.models.values())

    after = run(adapters, forward)
    assert torch.equal(after.output, before.output)
    assert all(torch.equal(a, b) for a, b in zip(after.gradients, before.gradients, strict=True))
    assert after.kept < before.kept / 2


@pytest.mark.parametrize("make", [unet, llama])
def test_blocks_are_computed_again_in_the_backward_pass_alone(make: Callable[[], Any]) -> None:
    adapters, forward = adapted(make)
    recompute.enable(adapters.models.values())
    calls = []
    layer = next(iter(adapters.layers.values()))
    layer.register_forward_hook(lambda *ignored: calls.append(torch.is_grad_enabled()))

    run(adapters, forward)
    with torch.no_grad():
        forward(adapters.models[""])

    assert calls == [True, True, False]


def test_nothing_frozen_is_put_into_training_mode() -> None:
    adapters, forward = adapted(gpt2)  # it has dropout of its own
    before = run(adapters, forward)

    recompute.enable(adapters.models.values())

    assert torch.equal(run(adapters, forward).output, before.output)


def test_a_model_without_blocks_made_for_it_stays_as_it_is() -> None:
    assert not recompute.enable([torch.nn.Sequential(torch.nn.Linear(2, 2))])
