"""Packed kernels give what PyTorch and PEFT give, forward and backward, for every shape."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft.tuners import lora as peft_lora

from lorareg.registry.manifest import Lora
from lorareg.trainers.adapters import inject
from lorareg.trainers.adapters.inject import Adapters
from lorareg.trainers.core.randomness import Draws
from lorareg.trainers.core.task import Runtime
from lorareg.trainers.machine.rehearsal import peak_bytes
from lorareg.trainers.packed import layers
from lorareg.trainers.packed.adapted import AdaptedConv2d, AdaptedLinear
from lorareg.trainers.packed.install import install
from lorareg.trainers.packed.kernels import Direct, Product
from lorareg.trainers.packed.layers import FrozenConv2d, FrozenLinear
from lorareg.trainers.packed.norms import FrozenGroupNorm

PLAIN = Runtime("cpu", "float32", 1, Path())
PACKED = Runtime("cpu", "float32", 1, Path(), "packed")
PACKED_BF16 = Runtime("cpu", "bfloat16", 1, Path(), "packed")
# float32 sums in another order; bfloat16 keeps 8 bits, and LoRA's sum is rounded less often
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 4e-3}

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])


class Body(torch.nn.Module):
    """One layer at a path, as a model has it."""

    def __init__(self, layer: torch.nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return self.layer(values)  # type: ignore[no-any-return]


def frozen(layer: torch.nn.Module, dtype: torch.dtype = torch.float32) -> Body:
    return Body(layer).requires_grad_(False).eval().to(dtype)


def adapted(body: Body, lora: Lora | None = None) -> Adapters:
    """LoRA with both factors at work, the same every time."""
    lora = lora or Lora(rank=4, alpha=8)
    adapters = inject.inject({"": body}, {"layer": lora.rank}, lora, Draws(3))
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in adapters.named_parameters().values():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return adapters


def pair(layer: torch.nn.Module, dtype: torch.dtype, lora: Lora | None = None) -> Any:
    """The same adapted layer twice: plain and packed, each with its adapters."""
    body = frozen(layer, dtype)
    twin = copy.deepcopy(body)
    plain, packed = adapted(body, lora), adapted(twin, lora)
    install({"": twin}, packed, PACKED if dtype is torch.float32 else PACKED_BF16)
    return body, plain, twin, packed


def random(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).to(dtype).requires_grad_()


def outcome(
    model: torch.nn.Module, values: torch.Tensor, adapters: Adapters | None = None
) -> list[torch.Tensor]:
    """Output, gradient of the input, gradients of the adapter, as a bfloat16 run computes them."""
    values = values.detach().requires_grad_()
    parameters = list(adapters.named_parameters().values()) if adapters else []
    with torch.autocast("cpu", torch.bfloat16, enabled=values.dtype is torch.bfloat16):
        made = model(values)
    weights = random(*made.shape, seed=2).detach()
    gradients = torch.autograd.grad((made.float() * weights).sum(), [values, *parameters])
    return [made.detach(), *gradients]


def assert_close(found: list[torch.Tensor], expected: list[torch.Tensor], tolerance: float) -> None:
    for number, (one, other) in enumerate(zip(found, expected, strict=True)):
        assert one.shape == other.shape, number
        assert one.dtype == other.dtype, number
        error = (one.float() - other.float()).norm() / other.float().norm().clamp_min(1e-9)
        assert error <= tolerance, (number, float(error))


@DTYPES
@settings(max_examples=20)
@given(
    leading=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    sizes=st.tuples(st.sampled_from([1, 24, 320, 900]), st.sampled_from([1, 40, 512])),
    bias=st.booleans(),
)
def test_a_frozen_linear_layer_computes_what_it_did(
    dtype: torch.dtype, leading: list[int], sizes: tuple[int, int], bias: bool
) -> None:
    torch.manual_seed(0)
    body = frozen(torch.nn.Linear(*sizes, bias=bias), dtype)
    twin = copy.deepcopy(body)
    install({"": twin}, Adapters({}, {}, {}), PACKED if dtype is torch.float32 else PACKED_BF16)
    values = random(*leading, sizes[0], dtype=dtype)

    assert type(twin.layer) is FrozenLinear
    assert_close(outcome(twin, values), outcome(body, values), TOLERANCE[dtype])


@DTYPES
@pytest.mark.parametrize("kind", [Product, Direct])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [((3, 3), (1, 1), (1, 1)), ((1, 5), (1, 1), (0, 2)), ((3, 3), (2, 2), (1, 1)),
     ((2, 2), (2, 2), (0, 0)), ((1, 1), (1, 1), (0, 0)), ((3, 2), (2, 1), (0, 1))],
)  # fmt: skip
def test_a_frozen_convolution_computes_what_it_did_for_every_size_it_meets(
    monkeypatch: pytest.MonkeyPatch,
    dtype: torch.dtype,
    kind: type,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> None:
    monkeypatch.setattr(layers, "DIRECT_NUMEL", 0 if kind is Product else 10**9)
    torch.manual_seed(0)
    body = frozen(torch.nn.Conv2d(96, 80, kernel, stride, padding), dtype)
    twin = copy.deepcopy(body)
    install({"": twin}, Adapters({}, {}, {}), PACKED if dtype is torch.float32 else PACKED_BF16)
    direct = kind is Direct and stride == (1, 1) and kernel != (1, 1)

    assert type(twin.layer.kernel) is (Direct if direct else Product)
    for size in [(2, 8, 8), (1, 3, 5), (4, 16, 12), (1, 3, 2), (2, 8, 8)]:
        values = random(size[0], 96, *size[1:], dtype=dtype)
        assert_close(outcome(twin, values), outcome(body, values), TOLERANCE[dtype])


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_pictures_may_lie_in_memory_either_way(memory: torch.memory_format) -> None:
    body = frozen(torch.nn.Conv2d(64, 64, 3, padding=1))
    twin = copy.deepcopy(body)
    install({"": twin}, Adapters({}, {}, {}), PACKED)
    values = random(2, 64, 8, 8).detach().contiguous(memory_format=memory)

    assert_close(outcome(twin, values), outcome(body, values), TOLERANCE[torch.float32])


@DTYPES
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_a_group_norm_computes_what_it_did(dtype: torch.dtype, memory: torch.memory_format) -> None:
    torch.manual_seed(0)
    norm = torch.nn.GroupNorm(4, 24)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    body = frozen(norm, dtype)
    twin = copy.deepcopy(body)
    install({"": twin}, Adapters({}, {}, {}), PACKED if dtype is torch.float32 else PACKED_BF16)
    values = random(2, 24, 6, 5, dtype=dtype).detach().contiguous(memory_format=memory)

    assert type(twin.layer) is (FrozenGroupNorm if dtype is torch.bfloat16 else torch.nn.GroupNorm)
    assert_close(outcome(twin, values), outcome(body, values), TOLERANCE[dtype])


@pytest.mark.parametrize("rows", [0, 1])
def test_a_batch_may_be_empty_or_one_row(rows: int) -> None:
    body = frozen(torch.nn.Linear(2048, 2048))
    twin = copy.deepcopy(body)
    install({"": twin}, Adapters({}, {}, {}), PACKED)
    values = random(rows, 2048)

    assert_close(outcome(twin, values), outcome(body, values), TOLERANCE[torch.float32])


LAYERS = {
    "linear": (torch.nn.Linear(320, 640), (2, 40, 320)),
    "linear, few rows": (torch.nn.Linear(64, 32, bias=False), (3, 64)),
    "3x3": (torch.nn.Conv2d(96, 80, 3, padding=1), (2, 96, 8, 8)),
    "3x3 stride 2": (torch.nn.Conv2d(96, 80, 3, stride=2, padding=1), (2, 96, 9, 8)),
    "1x1": (torch.nn.Conv2d(96, 320, 1), (2, 96, 10, 10)),
}


@DTYPES
@pytest.mark.parametrize("name", LAYERS)
def test_an_adapted_layer_and_its_gradients_are_those_of_peft(
    name: str, dtype: torch.dtype
) -> None:
    layer, shape = LAYERS[name]
    body, plain, twin, packed = pair(layer, dtype)
    values = random(*shape, dtype=dtype)

    found = outcome(twin, values, packed)

    assert type(twin.layer) in (AdaptedLinear, AdaptedConv2d)
    assert_close(found, outcome(body, values, plain), TOLERANCE[dtype])
    assert all(gradient.dtype is torch.float32 for gradient in found[2:])


@pytest.mark.parametrize("name", LAYERS)
def test_with_dropout_at_work_the_same_values_are_dropped(name: str) -> None:
    layer, shape = LAYERS[name]
    body, plain, twin, packed = pair(layer, torch.float32, Lora(rank=4, alpha=8, dropout=0.5))
    values = random(*shape)
    results = []
    for model, adapters in ((twin, packed), (body, plain)):
        adapters.train(True)
        torch.manual_seed(9)
        results.append(outcome(model, values, adapters))
        adapters.train(False)
        results.append(outcome(model, values, adapters))

    assert_close(results[0], results[2], TOLERANCE[torch.float32])
    assert_close(results[1], results[3], TOLERANCE[torch.float32])
    assert not torch.allclose(results[0][0], results[1][0])


@pytest.mark.parametrize("name", LAYERS)
def test_disabled_adapters_leave_the_base_alone(name: str) -> None:
    layer, shape = LAYERS[name]
    body, _, twin, packed = pair(layer, torch.float32)
    values = random(*shape)

    with packed.disabled(), torch.no_grad():
        off = twin(values)
    on = twin(values)

    base = body.layer.base_layer
    assert_close([off], [base(values)], TOLERANCE[torch.float32])
    assert not torch.allclose(on, off)


def test_without_gradients_the_result_is_the_same() -> None:
    layer, shape = LAYERS["3x3"]
    _, _, twin, _ = pair(layer, torch.float32)
    values = random(*shape)

    with torch.no_grad():
        sampled = twin(values)

    assert torch.equal(sampled, twin(values))


def test_a_snapshot_can_be_restored_and_adapters_removed() -> None:
    layer, shape = LAYERS["linear"]
    _, _, twin, packed = pair(layer, torch.float32)
    values = random(*shape)
    before, snapshot = twin(values), packed.snapshot()
    with torch.no_grad():
        for parameter in packed.named_parameters().values():
            parameter.add_(1.0)
    moved = twin(values)

    packed.restore(snapshot)
    restored = twin(values)
    inject.remove(packed)

    assert torch.equal(restored, before)
    assert not torch.equal(moved, before)
    assert type(twin.layer) is FrozenLinear
    assert_close([twin(values)], [layer(values)], TOLERANCE[torch.float32])


def test_weights_keep_their_names_shapes_and_values() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.Conv2d(4, 6, 3, padding=1))
    model.requires_grad_(False)
    model.append(torch.nn.Conv2d(1300, 1200, 3, padding=1).requires_grad_(False))
    before = {name: value.clone() for name, value in model.state_dict().items()}

    install({"": model}, Adapters({}, {}, {}), PACKED)

    after = model.state_dict()
    assert [type(layer) for layer in model] == [FrozenLinear, FrozenConv2d, FrozenConv2d]
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)


def unusual() -> Iterator[tuple[str, torch.nn.Module]]:
    yield "grouped", torch.nn.Conv2d(8, 8, 3, groups=2)
    yield "dilated", torch.nn.Conv2d(8, 8, 3, dilation=2)
    yield "mirrored at the edge", torch.nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect")
    yield "padded by name", torch.nn.Conv2d(8, 8, 3, padding="same")
    yield "of another precision", torch.nn.Linear(8, 8, dtype=torch.bfloat16)
    yield "a class of its own", torch.nn.modules.linear.NonDynamicallyQuantizableLinear(8, 8)
    yield "one-dimensional", torch.nn.Conv1d(8, 8, 3)
    hooked = torch.nn.Linear(8, 8)
    hooked.register_forward_hook(lambda *_: None)
    yield "with a hook", hooked


@pytest.mark.parametrize(("name", "layer"), list(unusual()), ids=lambda value: str(value)[:20])
def test_an_unusual_layer_computes_as_ever(name: str, layer: torch.nn.Module) -> None:
    kind = type(layer)
    body = Body(layer).requires_grad_(False)

    install({"": body}, Adapters({}, {}, {}), PACKED)

    assert type(body.layer) is kind


def test_a_layer_that_is_trained_computes_as_ever() -> None:
    body = Body(torch.nn.Linear(8, 8))

    install({"": body}, Adapters({}, {}, {}), PACKED)

    assert type(body.layer) is torch.nn.Linear


def test_plain_kernels_change_nothing() -> None:
    body = frozen(torch.nn.Linear(8, 8))
    adapters = adapted(body)

    install({"": body}, adapters, PLAIN)

    assert type(body.layer) is peft_lora.Linear
    assert type(body.layer.base_layer) is torch.nn.Linear


def test_dora_goes_its_own_way_over_a_frozen_base() -> None:
    layer, shape = LAYERS["linear"]
    body, plain, twin, packed = pair(layer, torch.float32, Lora(rank=4, alpha=8, use_dora=True))
    values = random(*shape)

    assert type(twin.layer) is peft_lora.Linear
    assert type(twin.layer.base_layer) is FrozenLinear
    assert_close(
        outcome(twin, values, packed), outcome(body, values, plain), TOLERANCE[torch.float32]
    )


def test_a_file_of_which_little_is_used_is_let_go(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    more = {"a": torch.ones(64, 64), "b": torch.ones(64), "of another part": torch.ones(64, 64)}
    save_file(more, tmp_path / "base.safetensors")
    layer = torch.nn.Linear(64, 64).requires_grad_(False)
    mapped = load_file(tmp_path / "base.safetensors")
    layer.weight.data, layer.bias.data = mapped["a"], mapped["b"]

    install({"": Body(layer)}, Adapters({}, {}, {}), PACKED)

    for parameter in layer.parameters():
        assert parameter.untyped_storage().nbytes() == parameter.nbytes


def test_a_packed_model_can_be_copied_and_rehearsed() -> None:
    _, _, twin, packed = pair(torch.nn.Conv2d(96, 80, 3, padding=1), torch.float32)
    values = random(2, 96, 8, 8)
    before = outcome(twin, values, packed)

    def forward(models: Mapping[str, torch.nn.Module]) -> torch.Tensor:
        return models[""](torch.zeros(64, 96, 8, 8)).square().mean()  # type: ignore[no-any-return]

    rehearsed = peak_bytes({"": twin}, forward, checkpointing=True)
    copied = copy.deepcopy(twin)

    assert rehearsed is not None
    assert rehearsed >= 64 * 80 * 8 * 8 * 4
    assert torch.equal(copied(values), before[0])
    assert torch.equal(outcome(twin, values, packed)[1], before[1])
