"""The text task: the model's own loss, gradients that reach the adapter, replies that repeat."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model

from lorareg.errors import TrainingError
from lorareg.registry.bases.base import ResolvedBase
from lorareg.registry.manifest import Lora
from lorareg.registry.text_training import TextTraining
from lorareg.trainers.core.randomness import Draws
from lorareg.trainers.core.task import Runtime, Task
from lorareg.trainers.data.dialogue_rows import Message
from lorareg.trainers.data.dialogues import DialogueRecord
from lorareg.trainers.text.task import TextTask

DRAWS = Draws(42).at("train", 0)
Dialogues = Sequence[DialogueRecord]


@pytest.fixture(params=["pico_llama", "pico_gpt2", "pico_gemma2"])
def any_base(request: pytest.FixtureRequest) -> ResolvedBase:
    base: ResolvedBase = request.getfixturevalue(request.param)
    return base


def own_losses(task: TextTask, model: torch.nn.Module) -> torch.Tensor:
    """What transformers computes, one sequence at a time, with labels of -100 elsewhere."""
    losses = []
    for record in task.ids:
        (row,) = task._tokens.rows[record]
        ids = torch.tensor([row.ids])
        labels = torch.full_like(ids, -100)
        labels[0, list(row.learned)] = ids[0, list(row.learned)]
        losses.append(model(input_ids=ids, labels=labels).loss * len(row.learned))
    return torch.stack(losses)


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def with_lora(model: torch.nn.Module, targets: list[str]) -> torch.nn.Module:
    """PEFT's layers in place, B random instead of zero so that A has gradients too."""
    torch.manual_seed(3)
    config = LoraConfig(r=4, lora_alpha=8, target_modules=targets)
    adapted: torch.nn.Module = inject_adapter_in_model(config, model)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return adapted


def test_the_task_answers_the_core_s_protocol(
    pico_llama: ResolvedBase, dialogues: Dialogues, runtime: Runtime
) -> None:
    task: Task = TextTask(pico_llama, dialogues, TextTraining(max_length=128))
    model = task.load(runtime)[""]

    assert list(task.ids) == ["talk.jsonl:1", "talk.jsonl:2", "talk.jsonl:3"]
    assert (task.unit, task.validation_rounds) == ("token", 1)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not model.training


def test_a_loss_is_the_one_transformers_computes_on_masked_labels(
    any_base: ResolvedBase, dialogues: Dialogues, runtime: Runtime
) -> None:
    task = TextTask(any_base, dialogues, TextTraining(max_length=128))
    model = task.load(runtime)[""]

    torch.testing.assert_close(
        task.losses(task.ids, DRAWS), own_losses(task, model), rtol=1e-5, atol=1e-5
    )


def test_a_loss_is_the_same_alone_and_in_a_padded_batch(
    any_base: ResolvedBase, dialogues: Dialogues, runtime: Runtime
) -> None:
    task = TextTask(any_base, dialogues, TextTraining(max_length=128))
    task.load(runtime)

    alone = torch.cat([task.losses([record], DRAWS) for record in task.ids])

    torch.testing.assert_close(task.losses(task.ids, DRAWS), alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("preset", ["attention", "all-linear", ("q_proj", "lm_head")])
def test_gradients_of_a_lora_are_those_of_the_full_forward(
    pico_llama: ResolvedBase, dialogues: Dialogues, runtime: Runtime, preset: str | tuple[str, ...]
) -> None:
    task = TextTask(pico_llama, dialogues, TextTraining(max_length=128))
    model = with_lora(task.load(runtime)[""], task.targets(Lora(targets=preset)))

    task.losses(task.ids, DRAWS).sum().backward()
    ours = gradients(model)
    own_losses(task, model).sum().backward()
    theirs = gradients(model)

    assert ours.keys() == theirs.keys() == {n for n, _ in model.named_parameters() if "lora" in n}
    for name, gradient in ours.items():
        torch.testing.assert_close(gradient, theirs[name], rtol=1e-4, atol=1e-5, msg=name)


def test_the_base_s_dropout_stays_off_and_the_adapter_s_is_off_in_validation(
    pico_gpt2: ResolvedBase, dialogues: Dialogues, runtime: Runtime
) -> None:
    task = TextTask(pico_gpt2, dialogues, TextTraining(max_length=128))
    model = task.load(runtime)[""]
    names = task.targets(Lora(targets="attention"))
    inject_adapter_in_model(LoraConfig(r=4, lora_dropout=0.5, target_modules=names), model)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    dropouts = [module for name, module in model.named_modules() if "lora_dropout" in name]
    for module in dropouts:
        module.train()

    validated = [task.losses(task.ids, DRAWS, fixed_round=0) for _ in range(2)]
    trained = [task.losses(task.ids, DRAWS) for _ in range(2)]

    assert torch.equal(*validated)
    assert not torch.equal(*trained)
    assert all(module.training for module in dropouts)
    assert not model.transformer.h[0].attn.attn_dropout.training


def test_a_context_too_short_for_a_dialogue_is_an_error(
    pico_gpt2: ResolvedBase, runtime: Runtime
) -> None:
    long = DialogueRecord("a.jsonl:1", (Message("user", "x" * 300), Message("assistant", "Arr!")))

    with pytest.raises(TrainingError) as caught:
        TextTask(pico_gpt2, [long], TextTraining(max_length=512)).load(runtime)

    assert "reads 128" in caught.value.what


def test_a_reply_is_the_same_every_time_and_leaves_torch_s_stream_alone(
    pico_llama: ResolvedBase, dialogues: Dialogues, runtime: Runtime
) -> None:
    task = TextTask(pico_llama, dialogues, TextTraining(max_length=128), max_new_tokens=8)
    task.load(runtime)
    state = torch.random.get_rng_state()

    first, second = (task.sample(["Who are you?", "Tell me more."], seed) for seed in (1, 2))

    assert [sample.output for sample in first] == [sample.output for sample in second]
    assert [sample.prompt for sample in first] == ["Who are you?", "Tell me more."]
    assert torch.equal(torch.random.get_rng_state(), state)


def test_with_a_temperature_the_seed_decides_and_neighbours_do_not(
    pico_llama: ResolvedBase, dialogues: Dialogues, runtime: Runtime
) -> None:
    task = TextTask(pico_llama, dialogues, TextTraining(max_length=128), max_new_tokens=8)
    task.load(runtime)

    (alone,) = task.sample(["Who are you?"], seed=1, temperature=1.0)
    _, beside = task.sample(["Tell me more.", "Who are you?"], seed=1, temperature=1.0)
    (other,) = task.sample(["Who are you?"], seed=2, temperature=1.0)

    assert alone == beside
    assert alone.output != other.output


def test_a_trained_adapter_says_what_it_was_taught_and_stops(
    pico_llama: ResolvedBase, dialogues: Dialogues, runtime: Runtime
) -> None:
    task = TextTask(pico_llama, dialogues[:1], TextTraining(max_length=128))
    model = with_lora(task.load(runtime)[""], task.targets(Lora(targets="all-linear")))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-2)

    for _ in range(40):
        task.losses(task.ids, DRAWS).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    assert task.losses(task.ids, DRAWS).item() < 0.1
    assert task.sample(["Who are you?"], seed=0)[0].output == "Arr!"


def test_a_task_without_records_can_still_reply(pico_llama: ResolvedBase, runtime: Runtime) -> None:
    task = TextTask(pico_llama, [], TextTraining(max_length=128), max_new_tokens=4)
    task.load(runtime)

    (sample,) = task.sample(["Who are you?"], seed=0)

    assert sample.prompt == "Who are you?"
