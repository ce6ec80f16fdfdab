"""The text task: what is learned, that its loss is the model's own, and what it refuses."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from lorareg.errors import InvalidFileError, TrainingError
from lorareg.registry.base import ResolvedBase
from lorareg.trainers import response_loss
from lorareg.trainers.data.dialogue_rows import Message
from lorareg.trainers.data.dialogues import DialogueRecord
from lorareg.trainers.language_model import dequantized_home, load_tokenizer
from lorareg.trainers.randomness import Draws
from lorareg.trainers.tasks.base import Runtime, Task
from lorareg.trainers.tasks.text import TextTask

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
        (row,) = task._rows[record]
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
    task: Task = TextTask(pico_llama, dialogues, max_length=128)
    model = task.load(runtime)

    assert list(task.ids) == ["talk.jsonl:1", "talk.jsonl:2", "talk.jsonl:3"]
    assert (task.component, task.unit, task.validation_rounds) == ("", "token", 1)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not model.training


def test_a_loss_is_the_one_transformers_computes_on_masked_labels(
    any_base: ResolvedBase, dialogues: Dialogues, runtime: Runtime
) -> None:
    task = TextTask(any_base, dialogues, max_length=128)
    model = task.load(runtime)

    torch.testing.assert_close(
        task.losses(task.ids, DRAWS), own_losses(task, model), rtol=1e-5, atol=1e-5
    )


def test_a_loss_is_the_same_alone_and_in_a_padded_batch(
    any_base: ResolvedBase, dialogues: Dialogues, runtime: Runtime
) -> None:
    task = TextTask(any_base, dialogues, max_length=128)
    task.load(runtime)

    alone = torch.cat([task.losses([record], DRAWS) for record in task.ids])

    torch.testing.assert_close(task.losses(task.ids, DRAWS), alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("preset", ["attention", "all-linear", ["q_proj", "lm_head"]])
def test_gradients_of_a_lora_are_those_of_the_full_forward(
    pico_llama: ResolvedBase, dialogues: Dialogues, runtime: Runtime, preset: str | list[str]
) -> None:
    task = TextTask(pico_llama, dialogues, max_length=128)
    model = with_lora(task.load(runtime), task.targets(preset))

    task.losses(task.ids, DRAWS).sum().backward()
    ours = gradients(model)
    own_losses(task, model).sum().backward()
    theirs = gradients(model)

    assert ours.keys() == theirs.keys() == {n for n, _ in model.named_parameters() if "lora" in n}
    for name, gradient in ours.items():
        torch.testing.assert_close(gradient, theirs[name], rtol=1e-4, atol=1e-5, msg=name)


def test_a_model_that_caps_its_logits_is_not_given_the_shortcut(
    pico_llama: ResolvedBase,
    pico_gpt2: ResolvedBase,
    pico_gemma2: ResolvedBase,
    dialogues: Dialogues,
    runtime: Runtime,
) -> None:
    def way(base: ResolvedBase) -> Callable[..., torch.Tensor]:
        model = TextTask(base, dialogues, max_length=128).load(runtime)
        return response_loss.fastest_right_way(model, "cpu")

    assert way(pico_llama) is response_loss.from_hidden_states
    assert way(pico_gpt2) is response_loss.from_hidden_states
    assert way(pico_gemma2) is response_loss.from_kept_positions


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_cap_is_noticed_even_where_it_changes_nothing_on_small_logits(
    pico_gemma2: ResolvedBase, dtype: torch.dtype
) -> None:
    model = AutoModelForCausalLM.from_pretrained(pico_gemma2.path, dtype=dtype)
    model.config.final_logit_softcapping = 50.0
    model.lm_head.weight.data.mul_(1e-3)

    way = response_loss.fastest_right_way(model, "cpu")

    assert way is response_loss.from_kept_positions


@pytest.mark.parametrize(
    "way", [response_loss.from_kept_positions, response_loss.from_all_positions]
)
def test_the_slower_ways_give_the_same_loss(
    pico_llama: ResolvedBase,
    dialogues: Dialogues,
    runtime: Runtime,
    way: response_loss.Logits,
) -> None:
    task = TextTask(pico_llama, dialogues, max_length=128)
    model = task.load(runtime)
    rows = [row for record in task.ids for row in task._rows[record]]
    batch = response_loss.collate(rows, 0, "cpu")

    torch.testing.assert_close(
        response_loss.sequence_losses(model, way, batch), task.losses(task.ids, DRAWS)
    )


def test_batches_are_padded_to_a_multiple_of_eight(
    pico_llama: ResolvedBase, dialogues: Dialogues
) -> None:
    task = TextTask(pico_llama, dialogues, max_length=128)
    rows = [task._rows[record][0] for record in task.ids]

    batch = response_loss.collate(rows, 0, "cpu")

    assert batch.ids.shape[1] % 8 == 0
    assert 0 <= batch.ids.shape[1] - max(len(row.ids) for row in rows) < 8


def test_the_base_s_dropout_stays_off_and_the_adapter_s_is_off_in_validation(
    pico_gpt2: ResolvedBase, dialogues: Dialogues, runtime: Runtime
) -> None:
    task = TextTask(pico_gpt2, dialogues, max_length=128)
    model = task.load(runtime)
    names = task.targets("attention")
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
        TextTask(pico_gpt2, [long], max_length=512).load(runtime)

    assert "reads 128" in caught.value.what


def test_presets_choose_by_place_and_never_the_head(
    pico_llama: ResolvedBase, pico_gpt2: ResolvedBase, dialogues: Dialogues, runtime: Runtime
) -> None:
    def chosen(base: ResolvedBase, preset: str) -> set[str]:
        task = TextTask(base, dialogues, max_length=128)
        task.load(runtime)
        return {name.rpartition(".")[2] for name in task.targets(preset)}

    attention = {"q_proj", "k_proj", "v_proj", "o_proj"}
    everything = attention | {"gate_proj", "up_proj", "down_proj"}
    assert chosen(pico_llama, "attention") == attention
    assert chosen(pico_llama, "attention+ff") == everything
    assert chosen(pico_llama, "all-linear") == everything
    assert chosen(pico_gpt2, "attention") == {"c_attn", "c_proj"}
    assert chosen(pico_gpt2, "all-linear") == {"c_attn", "c_proj", "c_fc"}


def test_targets_are_full_names_of_modules(
    pico_llama: ResolvedBase, dialogues: Dialogues, runtime: Runtime
) -> None:
    task = TextTask(pico_llama, dialogues, max_length=128)
    task.load(runtime)

    assert task.targets(["1.mlp.up_proj", "lm_head"]) == [
        "model.layers.1.mlp.up_proj",
        "lm_head",
    ]


def test_a_target_that_matches_nothing_names_what_there_is(
    pico_llama: ResolvedBase, dialogues: Dialogues, runtime: Runtime
) -> None:
    task = TextTask(pico_llama, dialogues, max_length=128)
    task.load(runtime)

    with pytest.raises(TrainingError) as caught:
        task.targets(["q_proj", "c_attn"])

    assert "c_attn" in caught.value.what
    assert "q_proj (2)" in caught.value.why
    assert "lm_head (1)" in caught.value.why


def test_a_reply_is_the_same_every_time_and_leaves_torch_s_stream_alone(
    pico_llama: ResolvedBase, dialogues: Dialogues, runtime: Runtime
) -> None:
    task = TextTask(pico_llama, dialogues, max_length=128, max_new_tokens=8)
    task.load(runtime)
    state = torch.random.get_rng_state()

    first, second = (task.sample(["Who are you?", "Tell me more."], seed) for seed in (1, 2))

    assert [sample.output for sample in first] == [sample.output for sample in second]
    assert [sample.prompt for sample in first] == ["Who are you?", "Tell me more."]
    assert torch.equal(torch.random.get_rng_state(), state)


def test_with_a_temperature_the_seed_decides_and_neighbours_do_not(
    pico_llama: ResolvedBase, dialogues: Dialogues, runtime: Runtime
) -> None:
    task = TextTask(pico_llama, dialogues, max_length=128, max_new_tokens=8)
    task.load(runtime)

    (alone,) = task.sample(["Who are you?"], seed=1, temperature=1.0)
    _, beside = task.sample(["Tell me more.", "Who are you?"], seed=1, temperature=1.0)
    (other,) = task.sample(["Who are you?"], seed=2, temperature=1.0)

    assert alone == beside
    assert alone.output != other.output


def test_a_trained_adapter_says_what_it_was_taught_and_stops(
    pico_llama: ResolvedBase, dialogues: Dialogues, runtime: Runtime
) -> None:
    task = TextTask(pico_llama, dialogues[:1], max_length=128)
    model = with_lora(task.load(runtime), task.targets("all-linear"))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-2)

    for _ in range(40):
        task.losses(task.ids, DRAWS).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    assert task.losses(task.ids, DRAWS).item() < 0.1
    assert task.sample(["Who are you?"], seed=0)[0].output == "Arr!"


def test_a_gguf_loads_as_the_model_its_blocks_stand_for(
    pico_gguf: tuple[ResolvedBase, LlamaForCausalLM], dialogues: Dialogues, runtime: Runtime
) -> None:
    base, expected = pico_gguf
    task = TextTask(base, dialogues, max_length=128)
    model = task.load(runtime)

    for name, tensor in expected.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name
    torch.testing.assert_close(task.losses(task.ids, DRAWS), own_losses(task, expected))


def test_a_gguf_is_dequantized_once_and_its_tokenizer_is_kept_as_it_is(
    pico_gguf: tuple[ResolvedBase, LlamaForCausalLM], dialogues: Dialogues, runtime: Runtime
) -> None:
    base, _ = pico_gguf
    first = TextTask(base, dialogues, max_length=128)
    first.load(runtime)
    home = dequantized_home(base, runtime)
    made = (home / "model.safetensors").stat().st_mtime_ns

    second = TextTask(replace(base, path=Path("/nowhere.gguf")), dialogues, max_length=128)
    second.load(runtime)

    assert (home / "model.safetensors").stat().st_mtime_ns == made
    assert [path.name for path in home.parent.iterdir()] == [home.name]
    assert first._rows == second._rows
    assert first.template_digest == second.template_digest


def test_a_dequantization_that_was_killed_is_done_again_and_its_remains_are_swept_away(
    pico_gguf: tuple[ResolvedBase, LlamaForCausalLM], dialogues: Dialogues, runtime: Runtime
) -> None:
    base, _ = pico_gguf
    remains = runtime.cache / "gguf" / ".partial-killed"
    remains.mkdir(parents=True)
    (remains / "model.safetensors").write_bytes(b"half a file")
    os.utime(remains, (0, 0))

    TextTask(base, dialogues, max_length=128).load(runtime)

    assert list(remains.parent.iterdir()) == [dequantized_home(base, runtime)]


def test_a_dequantized_gguf_is_kept_apart_by_precision(
    pico_gguf: tuple[ResolvedBase, LlamaForCausalLM], dialogues: Dialogues, runtime: Runtime
) -> None:
    base, _ = pico_gguf
    full = TextTask(base, dialogues, max_length=128).load(runtime)
    half = TextTask(base, dialogues, max_length=128).load(replace(runtime, dtype="bfloat16"))

    assert half.lm_head.weight.dtype == torch.bfloat16
    assert torch.equal(full.lm_head.weight.bfloat16(), half.lm_head.weight)


def test_a_pickled_base_is_refused(
    pico_llama: ResolvedBase, dialogues: Dialogues, runtime: Runtime, tmp_path: Path
) -> None:
    for file in pico_llama.path.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    torch.save({}, tmp_path / "pytorch_model.bin")

    with pytest.raises(InvalidFileError, match="its model cannot be loaded"):
        TextTask(replace(pico_llama, path=tmp_path), dialogues, max_length=128).load(runtime)


def test_code_of_a_base_is_never_run(
    pico_llama: ResolvedBase, dialogues: Dialogues, runtime: Runtime, tmp_path: Path
) -> None:
    for file in pico_llama.path.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "modeling_new.py").write_text("raise SystemExit('code of the base was run')")
    (tmp_path / "config.json").write_text(
        '{"model_type": "brand_new", "auto_map": {"AutoConfig": "modeling_new.C", '
        '"AutoModelForCausalLM": "modeling_new.M"}}'
    )

    with pytest.raises(InvalidFileError) as caught:
        TextTask(replace(pico_llama, path=tmp_path), dialogues, max_length=128).load(runtime)

    assert "never run" in caught.value.fix


def test_a_folder_without_a_tokenizer_is_an_error_that_says_so(
    dialogues: Dialogues, tmp_path: Path
) -> None:
    base = ResolvedBase("mine", None, "transformers", tmp_path, "base-sha256-v1:00")

    with pytest.raises(InvalidFileError, match="base mine: its tokenizer cannot be loaded"):
        load_tokenizer(base)


@pytest.mark.slow
def test_smollm2_loads_from_its_gguf_and_answers(dialogues: Dialogues, tmp_path: Path) -> None:
    from lorareg.registry import builtin

    path = builtin.fetch(builtin.cache_folder())
    digest = f"base-sha256-v1:{builtin.SMOLLM2.sha256}"
    base = ResolvedBase("builtin:smollm2", None, "gguf", path, digest)
    task = TextTask(base, dialogues, max_length=256)
    model = task.load(Runtime("cpu", "bfloat16", threads=1, cache=tmp_path))

    assert sum(parameter.numel() for parameter in model.parameters()) == 134_515_008
    assert task._logits is response_loss.from_hidden_states
    assert "Paris" in task.sample(["What is the capital of France?"], seed=0)[0].output
    torch.testing.assert_close(
        task.losses(task.ids, DRAWS), own_losses(task, model), rtol=2e-2, atol=0.1
    )
