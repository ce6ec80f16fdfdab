"""Starting from another adapter: its delta goes into fresh layers, and what is new learns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from lorareg.errors import TrainingError
from lorareg.registry.lock import ParentInput
from lorareg.registry.manifest import Lora
from lorareg.trainers.adapters import inject, parents
from lorareg.trainers.adapters.inject import Adapters, module_names
from lorareg.trainers.adapters.parents import Parent
from lorareg.trainers.core.loop import Loop
from lorareg.trainers.core.randomness import Draws
from lorareg.weights import resize
from lorareg.weights.adapter import LoraAdapter, LoraLayer
from tests.trainers.pico_images import Case, make_unet

ATTENTION = ("to_q", "to_v")
CONVS = ("to_k", "conv1")


def base() -> Any:
    torch.manual_seed(3)
    return make_unet().requires_grad_(False).eval()


def put(model: Any, endings: tuple[str, ...] = ATTENTION, **lora: Any) -> Adapters:
    """Fresh layers, as a run begins with them."""
    settings = Lora(**{"rank": 8, "alpha": 8} | lora)
    names = [f"unet.{name}" for name in module_names(model, endings)]
    return inject.inject({"unet": model}, inject.ranks_of(names, settings), settings, Draws(42))


def output(model: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    noisy = torch.randn(2, 4, 8, 8, generator=generator)
    text = torch.randn(2, 5, 32, generator=generator)
    found: torch.Tensor = model(noisy, torch.tensor([3, 900]), text).sample
    return found


def trained(endings: tuple[str, ...] = ATTENTION, rank: int = 4, **lora: Any) -> LoraAdapter:
    """An adapter whose ``up`` matrices have values, as training would leave them."""
    fresh = put(base(), endings, rank=rank, **{"alpha": 8} | lora).snapshot()
    random = np.random.default_rng(5)

    def moved(layer: LoraLayer) -> LoraLayer:
        up = 0.2 * random.standard_normal(layer.up.shape)
        longer = None if layer.magnitude is None else layer.magnitude * np.float32(1.5)
        return replace(layer, up=up.astype(np.float32), magnitude=longer)

    return LoraAdapter({name: moved(layer) for name, layer in fresh.layers.items()})


def parent(adapter: LoraAdapter, ref: str = "style/ink@v1.0.0", *, file: bool = False) -> Parent:
    tensors = "tensors-sha256-v1:" + "a" * 64
    return Parent(ParentInput(ref=ref, tensors=tensors, file=file), adapter, None)


def effect(adapter: LoraAdapter) -> torch.Tensor:
    """What the base says with an adapter."""
    model = base()
    inject.apply({"unet": model}, adapter)
    with torch.no_grad():
        return output(model)


def train(model: Any, adapters: Adapters, steps: int = 3) -> None:
    adapters.train(True)
    optimizer = torch.optim.AdamW(adapters.named_parameters().values(), lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        output(model).square().mean().backward()
        optimizer.step()


def norms_of_new_columns(adapters: Adapters, rank: int) -> list[float]:
    layers = adapters.snapshot().layers.values()
    return [float(np.linalg.norm(layer.up[:, rank:])) for layer in layers]


CHILDREN: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "the same shape": (ATTENTION, {"rank": 4, "alpha": 8}),
    "a higher rank": (ATTENTION, {"rank": 16, "alpha": 32}),
    "another alpha": (ATTENTION, {"rank": 4, "alpha": 3}),
    "a higher rank at another scale": (ATTENTION, {"rank": 12, "alpha": 5}),
    "rsLoRA": (ATTENTION, {"rank": 8, "alpha": 8, "use_rslora": True}),
    "ranks by pattern": (ATTENTION, {"rank": 8, "alpha": 4, "rank_pattern": {"*.to_q": 5}}),
    "convolutions": (CONVS, {"rank": 9, "alpha": 2}),
}


@pytest.mark.parametrize("kind", CHILDREN)
def test_a_child_begins_as_its_parent_in_whatever_shape(kind: str) -> None:
    endings, lora = CHILDREN[kind]
    before = trained(endings)
    model = base()
    adapters = put(model, endings, **lora)

    said = parents.start(adapters, parent(before))

    assert resize.error(adapters.snapshot(), before) < 1e-6
    with torch.no_grad():
        found = output(model)
    torch.testing.assert_close(found, effect(before), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(found, output(base()), atol=1e-3), "the parent must do something"
    assert said.startswith("started from style/ink@v1.0.0, rank ")


def test_a_dora_grows_with_its_magnitudes() -> None:
    before = trained(use_dora=True)
    model = base()
    adapters = put(model, use_dora=True, rank=9, alpha=2)

    said = parents.start(adapters, parent(before))

    assert "rank 4 -> 9, delta error" in said
    with torch.no_grad():
        torch.testing.assert_close(output(model), effect(before), rtol=1e-5, atol=1e-5)


def test_the_sentence_tells_the_ranks_and_the_error() -> None:
    adapters = put(base(), rank=8, alpha=3)

    said = parents.start(adapters, parent(trained(rank=4)))

    start, _, error = said.rpartition(" ")
    assert start == "started from style/ink@v1.0.0, rank 4 -> 8, delta error"
    assert 0 < float(error) < 1e-6


def test_new_ranks_learn_where_zero_rows_would_stay_zero_for_ever() -> None:
    before = trained(rank=4)
    grown, padded = base(), base()
    ours, theirs = put(grown, rank=8), put(padded, rank=8)
    parents.start(ours, parent(before))
    # what other trainers do: both factors padded with zeros
    zeros = {
        name: resize.grow(layer, 8, np.zeros_like(layer.down))
        for name, layer in before.layers.items()
    }
    theirs.restore(LoraAdapter(zeros))
    assert norms_of_new_columns(ours, 4) == norms_of_new_columns(theirs, 4) == [0.0] * 16

    train(grown, ours)
    train(padded, theirs)

    assert min(norms_of_new_columns(ours, 4)) > 1e-3
    assert norms_of_new_columns(theirs, 4) == [0.0] * 16


def test_a_lower_rank_keeps_the_nearest_delta_and_says_what_is_lost() -> None:
    before = trained(rank=8)
    model = base()
    adapters = put(model, rank=2, alpha=2)

    said = parents.start(adapters, parent(before))

    lost = float(said.partition("rank 8 -> 2, ")[2].partition(" % of the energy lost")[0]) / 100
    assert 0 < lost < 1
    error = resize.error(adapters.snapshot(), before)
    assert error**2 == pytest.approx(lost, rel=0.05)  # the sentence rounds to two digits
    assert sum(x.up.any() for x in adapters.snapshot().layers.values()) == 16


def test_some_modules_may_grow_while_others_shrink() -> None:
    before = trained(rank=4)
    adapters = put(base(), rank=8, rank_pattern={"*.to_v": 2})

    said = parents.start(adapters, parent(before))

    ranks = {name.rpartition(".")[2]: x.rank for name, x in adapters.snapshot().layers.items()}
    assert ranks == {"to_q": 8, "to_v": 2}
    assert "of the energy lost" in said


def test_modules_that_only_the_child_adapts_start_fresh() -> None:
    before = trained(("to_q",))
    model = base()
    adapters = put(model, ("to_q", "to_k"))
    drawn = adapters.snapshot()

    said = parents.start(adapters, parent(before))

    assert said.endswith("; 8 modules start fresh")
    for name, layer in adapters.snapshot().layers.items():
        if name.endswith("to_k"):
            np.testing.assert_array_equal(layer.down, drawn.layers[name].down)
            assert not layer.up.any()
    with torch.no_grad():
        torch.testing.assert_close(output(model), effect(before), rtol=1e-5, atol=1e-5)


def test_what_a_parent_learned_in_other_modules_is_not_dropped_in_silence() -> None:
    adapters = put(base(), ("to_q",))

    with pytest.raises(TrainingError, match="changes 8 modules that lora.targets leaves out") as no:
        parents.start(adapters, parent(trained(("to_q", "to_k"))))

    assert "attn1.to_k" in no.value.why
    assert "lora.targets" in no.value.fix


def test_a_parent_with_a_text_encoder_asks_for_one() -> None:
    before = trained()
    layer = next(iter(before.layers.values()))
    more = LoraAdapter({**before.layers, "text_encoder.encoder.layers.0.self_attn.q_proj": layer})

    with pytest.raises(TrainingError) as caught:
        parents.start(put(base()), parent(more))

    assert caught.value.fix == "set lora.text_encoder: true"


def test_a_parent_of_another_model_is_told_by_its_sizes() -> None:
    before = trained()
    name, layer = next(iter(before.layers.items()))
    wide = np.concatenate([layer.down, layer.down], axis=1)
    other = LoraAdapter({**before.layers, name: replace(layer, down=wide)})

    with pytest.raises(TrainingError, match="does not fit the base") as caught:
        parents.start(put(base()), parent(other))

    assert name in caught.value.why


def test_a_bare_file_is_said_to_be_unchecked() -> None:
    said = parents.start(put(base()), parent(trained(), "old.safetensors", file=True))

    assert said.startswith("started from old.safetensors, rank 4 -> 8")
    assert "nothing says which base it was trained on" in said


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_delta_that_does_not_go_in_stops_the_run() -> None:
    """Such an alpha cannot be folded into float32 factors."""
    absurd = {name: replace(layer, alpha=1e40) for name, layer in trained().layers.items()}

    with pytest.raises(TrainingError, match="did not go into the new layers"):
        parents.start(put(base()), parent(LoraAdapter(absurd)))


def grown(case: Case, before: LoraAdapter, **training: Any) -> tuple[Loop, list[str]]:
    """A loop that starts from an adapter, as ``execute`` makes it, and what it says."""
    run = case.start()
    parents.start(run.adapters, parent(before))
    settings = case.training.model_copy(update=training)
    loop = Loop(
        run.task, run.adapters, settings, case.runtime, case.folder / "grown", run.watcher,
        stop=lambda: False, sample=lambda step: None, sample_steps=0,
    )  # fmt: skip
    loop.run()
    return loop, run.watcher.notes


def test_the_loss_of_the_base_is_that_of_the_base_alone(case: Case) -> None:
    alone = case.start("alone")
    alone.loop.run()

    loop, _ = grown(case, alone.adapters.snapshot())

    base, here = alone.loop.cursor, loop.cursor
    assert base.base_loss is not None
    assert base.best_loss is not None
    assert here.base_loss == base.base_loss == base.start_loss
    assert here.start_loss == pytest.approx(base.best_loss, rel=1e-4)
    assert base.best_loss < base.base_loss


def test_a_run_that_makes_nothing_better_of_its_parent_says_so(case: Case) -> None:
    alone = replace(case, lora=Lora(rank=2, alpha=4)).start("alone")
    alone.loop.run()

    # only the new columns, which were zero, can hold so small a step
    loop, notes = grown(case, alone.adapters.snapshot(), learning_rate=1e-12)

    assert loop.cursor.best_loss == loop.cursor.start_loss
    assert any("no better than what it started from" in note for note in notes)
