"""A DoRA in a composition: alone it is itself, in company it is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lorareg.errors import LoraregError
from lorareg.registry.ids import AssetId
from lorareg.registry.lock import Lock
from lorareg.registry.manifest import ImageManifest
from lorareg.registry.strength import Strength
from lorareg.registry.versions import State
from lorareg.weights import company, compose
from lorareg.weights.adapter import LoraAdapter
from lorareg.weights.formats import diffusers
from lorareg.weights.members import Component, Composition

MakeAdapter = Callable[..., LoraAdapter]


@pytest.fixture
def member(tmp_path: Path, make_adapter: MakeAdapter) -> Callable[..., Component]:
    """A member with weights on disk; its manifest may say something newer than they do."""

    def make(name: str, weight: float, *, trained_as_dora: bool, use_dora: bool) -> Component:
        adapter = make_adapter({"a": (5, (6,))}, {"a": (2, 4.0)})
        if trained_as_dora:
            ones = np.ones(5, np.float32)
            layers = {n: replace(x, magnitude=ones) for n, x in adapter.layers.items()}
            adapter = LoraAdapter(layers)
        file = tmp_path / f"{name}.safetensors"
        diffusers.write(file, adapter, {})
        document = {
            "schema": "lorareg/1", "kind": "style", "name": name, "task": "text-to-image",
            "base": {"model": "builtin:avatar"}, "dataset": {"path": "data/x"},
            "lora": {"use_dora": use_dora},
        }  # fmt: skip
        manifest = ImageManifest.model_validate(document)
        state = State(AssetId("style", name), None, manifest, Lock.model_construct(), None)
        return Component(state, Strength(weight), file)

    return make


def test_a_dora_alone_at_weight_one_is_itself(member: Callable[..., Component]) -> None:
    alone = Composition((member("ink", 1.0, trained_as_dora=True, use_dora=True),), ())

    company.refuse_dora(alone.components)

    (layer,) = compose.build(alone).layers.values()
    assert layer.magnitude is not None
    assert layer.rank == 2
    assert compose.measure(alone) == [compose.Measure("style/ink", 1.0, 0.0)]


@pytest.mark.parametrize("weights", [(0.5,), (1.0, 1.0)])
def test_a_dora_in_company_or_at_another_weight_is_refused_by_name(
    member: Callable[..., Component], weights: tuple[float, ...]
) -> None:
    parts = [
        member(name, weight, trained_as_dora=name == "ink", use_dora=name == "ink")
        for name, weight in zip(("ink", "oil"), weights, strict=False)
    ]

    with pytest.raises(LoraregError, match="style/ink is a DoRA") as caught:
        company.refuse_dora(parts)

    assert "style/ink:1" in caught.value.fix


@pytest.mark.parametrize("weights", [(0.5,), (1.0, 1.0)])
def test_weights_that_are_a_dora_against_their_manifest_are_not_summed_either(
    member: Callable[..., Component], weights: tuple[float, ...]
) -> None:
    parts = tuple(
        member(name, weight, trained_as_dora=name == "ink", use_dora=False)
        for name, weight in zip(("ink", "oil"), weights, strict=False)
    )

    for ask in (compose.build, compose.measure):
        with pytest.raises(LoraregError, match="a DoRA has no delta"):
            ask(Composition(parts, ()))
