"""Every family of language models: what is learned, and the way from training to a reply."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from lorareg.errors import TrainingError
from lorareg.registry.manifest import Lora
from lorareg.registry.text_training import TextTraining
from lorareg.registry.training import Validation
from lorareg.trainers.adapters import inject
from lorareg.trainers.core.loop import Loop
from lorareg.trainers.core.randomness import Draws
from lorareg.trainers.core.task import Runtime
from lorareg.trainers.data.dialogue_rows import Message
from lorareg.trainers.data.dialogues import DialogueRecord
from lorareg.trainers.text.chat import Chat
from lorareg.trainers.text.language_model import load_tokenizer
from lorareg.trainers.text.task import TextTask
from lorareg.weights.formats import peft
from tests.trainers.pico_families import FAMILIES, Bases
from tests.trainers.pico_images import Notes

TALK = (
    Message("user", "Who are you?"),
    Message("assistant", "Arr!"),
    Message("user", "Tell me more."),
    Message("assistant", "Aye, matey."),
)
SYSTEM = Message("system", "Be a sailor.")
RECORD = DialogueRecord("talk.jsonl:1", TALK[:2])
ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}
GATED = {"gate_proj", "up_proj", "down_proj"}
FUSED = {"gate_up_proj", "down_proj"}


def learned(chat: Chat, messages: tuple[Message, ...]) -> list[str]:
    """The learned text of each answer."""
    texts = []
    for row in chat.rows(messages, 512):
        runs: list[list[int]] = []
        for before, at in zip((-1, *row.learned), row.learned, strict=False):
            if not runs or at != before + 1:
                runs.append([])
            runs[-1].append(row.ids[at])
        texts += [chat.tokenizer.decode(run) for run in runs]
    return texts


@pytest.mark.parametrize("family", FAMILIES)
def test_every_answer_is_learned_with_the_token_that_ends_it(bases: Bases, family: str) -> None:
    chat = Chat(load_tokenizer(bases(family)))

    answers = learned(chat, TALK)

    ends = FAMILIES[family].ends
    assert [answer.strip().removeprefix("<think>\n\n</think>\n\n") for answer in answers] == [
        f"Arr!{ends}", f"Aye, matey.{ends}",
    ]  # fmt: skip
    assert chat.tokenizer.convert_tokens_to_ids(ends) in chat.stop_ids


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "glm", "gemma3", "gpt2"])
def test_a_system_message_is_read_where_the_template_takes_one(bases: Bases, family: str) -> None:
    chat = Chat(load_tokenizer(bases(family)))

    (row,) = chat.rows((SYSTEM, *TALK[:2]), 512)

    assert SYSTEM.content in chat.tokenizer.decode(row.ids)
    assert learned(chat, (SYSTEM, *TALK[:2])) == learned(chat, TALK[:2])


@pytest.mark.parametrize(
    ("family", "words"),
    [("gemma2", "System role not supported"), ("mistral", "rewrites the prompt")],
)
def test_where_the_template_takes_no_system_message_the_row_is_named_with_a_remedy(
    bases: Bases, family: str, words: str
) -> None:
    task = TextTask(bases(family), [DialogueRecord("a.jsonl:7", (SYSTEM, *TALK))], TextTraining())

    with pytest.raises(TrainingError) as caught:
        task.weight("a.jsonl:7")

    assert "a.jsonl:7" in caught.value.why
    assert words in caught.value.why
    assert "first message of the user" in caught.value.fix


def test_glm_s_answers_end_with_the_mark_of_the_next_turn(bases: Bases) -> None:
    chat = Chat(load_tokenizer(bases("glm")))

    (row,) = chat.rows(TALK, 512)

    assert chat.tokenizer.decode(row.ids) == (
        "[gMASK]<sop><|user|>\nWho are you?<|assistant|>\nArr!"
        "<|user|>\nTell me more.<|assistant|>\nAye, matey.<|user|>"
    )


@pytest.mark.parametrize(
    ("family", "attention", "feed_forward"),
    [
        ("llama", ATTENTION, GATED),
        ("qwen2", ATTENTION, GATED),
        ("qwen3", ATTENTION, GATED),
        ("glm", ATTENTION, FUSED),
        ("glm4", ATTENTION, FUSED),
        ("gemma", ATTENTION, GATED),
        ("gemma2", ATTENTION, GATED),
        ("gemma3", ATTENTION, GATED),
        ("mistral", ATTENTION, GATED),
        ("gpt2", {"c_attn", "c_proj"}, {"c_fc", "c_proj"}),
    ],
)
def test_the_presets_find_the_layers_of_every_family(
    bases: Bases, runtime: Runtime, family: str, attention: set[str], feed_forward: set[str]
) -> None:
    task = TextTask(bases(family), [RECORD], TextTraining())
    task.load(runtime)

    def chosen(preset: str) -> set[str]:
        targets = task.targets(Lora.model_validate({"targets": preset}))
        return {name.rpartition(".")[2] for name in targets}

    assert chosen("attention") == attention
    assert chosen("attention+ff") == chosen("all-linear") == attention | feed_forward


@pytest.mark.parametrize("family", FAMILIES)
def test_an_adapter_is_trained_exported_reloaded_by_peft_and_replies(
    bases: Bases, runtime: Runtime, tmp_path: Path, family: str
) -> None:
    base, lora = bases(family), Lora(rank=8, alpha=16, targets="all-linear")
    settings = TextTraining(
        epochs=40, learning_rate=1e-2, scheduler="constant", validation=Validation(share=0)
    )
    task = TextTask(base, [RECORD], settings, max_new_tokens=24)
    models = task.load(runtime)
    before = task.losses(task.ids, Draws(0)).item()
    ranks = dict.fromkeys(task.targets(lora), lora.rank)
    adapters = inject.inject(models, ranks, lora, Draws(0))

    Loop(
        task, adapters, settings, runtime, tmp_path / "run", Notes(),
        stop=lambda: False, sample=lambda step: None, sample_steps=0,
    ).run()  # fmt: skip
    peft.write(tmp_path / "weights", adapters.snapshot(), "pico", {})

    fresh = AutoModelForCausalLM.from_pretrained(base.path)
    reloaded = PeftModel.from_pretrained(fresh, str(tmp_path / "weights")).eval()
    ids = torch.arange(3, 43)[None]
    with torch.no_grad():
        torch.testing.assert_close(
            reloaded(input_ids=ids).logits, models[""](input_ids=ids).logits, rtol=1e-4, atol=1e-4
        )
        assert task.losses(task.ids, Draws(0)).item() < 0.1 * before
    assert task.sample(["Who are you?"], seed=0)[0].output.endswith("Arr!")
