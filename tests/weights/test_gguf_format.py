"""The GGUF adapter against the gguf library, and against what transformers undoes of llama.cpp."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorareg.errors import LoraregError
from lorareg.weights.adapter import LoraAdapter, LoraLayer
from lorareg.weights.exporting import reload
from lorareg.weights.formats import gguf
from tests.weights.conftest import random_layer

MakeAdapter = Callable[..., LoraAdapter]
LLAMA = gguf.Base("llama", blocks=2, heads=4, kv_heads=2)
MODULES = {
    "model.layers.0.self_attn.q_proj": (16, (16,)),
    "model.layers.1.self_attn.k_proj": (8, (16,)),
    "model.layers.1.self_attn.v_proj": (8, (16,)),
    "model.layers.1.mlp.down_proj": (16, (24,)),
    "lm_head": (32, (16,)),
}


def mixed(make_adapter: MakeAdapter) -> LoraAdapter:
    chosen = {name: (1 + n % 3, (4.0, 1.5, 3.0)[n % 3]) for n, name in enumerate(MODULES)}
    return make_adapter(MODULES, chosen, component="")


def test_names_shapes_and_fields_are_those_that_llama_cpp_looks_for(
    tmp_path: Path, make_adapter: MakeAdapter
) -> None:
    from gguf import GGUFReader

    gguf.write(tmp_path / "x.gguf", mixed(make_adapter), LLAMA, {})

    reader = GGUFReader(tmp_path / "x.gguf")
    told = {key: reader.fields[key].contents() for key in reader.fields if "." in key}
    assert told["general.type"] == "adapter"
    assert told["general.architecture"] == "llama"
    assert told["adapter.type"] == "lora"
    assert told["adapter.lora.alpha"] == 3.0
    shapes = {t.name: tuple(map(int, t.shape)) for t in reader.tensors}  # the fastest axis first
    assert shapes["blk.0.attn_q.weight.lora_a"] == (16, 3)
    assert shapes["blk.0.attn_q.weight.lora_b"] == (3, 16)
    assert shapes["output.weight.lora_b"] == (3, 32)
    ranks = {shape[1] for name, shape in shapes.items() if name.endswith("lora_a")}
    assert ranks == {3}, "llama.cpp divides one alpha by each tensor's own rank"


def test_rows_of_q_and_k_stand_where_transformers_expects_them_in_a_gguf(
    tmp_path: Path, make_adapter: MakeAdapter
) -> None:
    from gguf import GGUFReader
    from transformers.modeling_gguf_pytorch_utils import LlamaTensorProcessor

    adapter = mixed(make_adapter)
    gguf.write(tmp_path / "x.gguf", adapter, LLAMA, {})

    found = {t.name: np.array(t.data) for t in GGUFReader(tmp_path / "x.gguf").tensors}
    undo = LlamaTensorProcessor({"num_attention_heads": 4, "num_key_value_heads": 2})
    for name, module in [
        ("blk.0.attn_q", "model.layers.0.self_attn.q_proj"),
        ("blk.1.attn_k", "model.layers.1.self_attn.k_proj"),
        ("blk.1.attn_v", "model.layers.1.self_attn.v_proj"),
    ]:
        dense = found[f"{name}.weight.lora_b"] @ found[f"{name}.weight.lora_a"]
        weights = undo.process(dense, f"{name}.weight").weights
        np.testing.assert_allclose(weights, adapter.layers[module].delta(), rtol=1e-4, atol=1e-5)


@settings(max_examples=20)
@given(
    st.lists(st.tuples(st.integers(1, 6), st.floats(0.25, 64, width=16)), min_size=1, max_size=5)
)
def test_any_ranks_and_alphas_are_read_back_with_the_same_deltas(
    tmp_path_factory: pytest.TempPathFactory, chosen: list[tuple[int, float]]
) -> None:
    file = tmp_path_factory.mktemp("gguf") / "x.gguf"
    adapter = LoraAdapter({
        name: random_layer(rank, alpha, down, out, rank)
        for (name, (out, down)), (rank, alpha) in zip(MODULES.items(), chosen, strict=False)
    })  # fmt: skip

    gguf.write(file, adapter, LLAMA, {})

    assert reload.compare(gguf.read(file, LLAMA), adapter, "gguf") <= 1e-5


def test_a_dora_a_convolution_and_an_unknown_module_are_refused(tmp_path: Path) -> None:
    q = "model.layers.0.self_attn.q_proj"
    plain = random_layer(2, 2.0, (16,), 16)
    refused = {
        "DoRA": {q: LoraLayer(plain.down, plain.up, 2.0, np.ones(16, np.float32))},
        "no name": {"model.layers.0.self_attn.gate": plain},
        "1 modules": {q: random_layer(2, 2.0, (16, 1, 1), 16)},
    }

    for words, layers in refused.items():
        with pytest.raises(LoraregError, match=words):
            gguf.write(tmp_path / "x.gguf", LoraAdapter(layers), LLAMA, {})
    assert not (tmp_path / "x.gguf").exists()


def test_a_base_whose_weights_llama_cpp_rearranges_otherwise_is_refused() -> None:
    with pytest.raises(LoraregError, match="falcon"):
        gguf.base_of_config({"model_type": "falcon", "num_attention_heads": 8})
