"""Which tokens are learned: exactly the responses, in the words the model will be prompted with."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from transformers import PreTrainedTokenizerFast

from lorareg.errors import LoraregError, TrainingError
from lorareg.registry import digest
from lorareg.registry.bases.base import ResolvedBase
from lorareg.registry.text_training import TextTraining
from lorareg.trainers.data.dialogue_rows import Message
from lorareg.trainers.data.dialogues import DialogueRecord
from lorareg.trainers.text.chat import Chat, TokenRow
from lorareg.trainers.text.chat_template import PLAIN_TEMPLATE
from lorareg.trainers.text.task import TextTask

MakeTokenizer = Callable[..., PreTrainedTokenizerFast]
LLAMA2 = (
    "{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'] + ' ' + eos_token }}"
    "{% else %}{{ raise_exception('System role not supported') }}{% endif %}{% endfor %}"
)
# Qwen3's habit: an empty thought before the last answer, none before earlier ones.
THINKING = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' and loop.last %}{{ '<think></think>' }}{% endif %}"
    "{{ message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
REWRITING = (
    "{{ 'answered ' if messages[-1]['role'] == 'assistant' else 'asked ' }}"
    "{% for message in messages %}{{ message['content'] }}{% endfor %}"
)
DATED = (
    "{% if strftime_now is defined %}{% set today = strftime_now('%d %b %Y') %}{% endif %}"
    "{{ 'Today: ' + today + '\n' }}"
    "{% for message in messages %}{{ message['content'] + '<|im_end|>' }}{% endfor %}"
)
TWO_TURNS = (
    Message("user", "Who are you?"),
    Message("assistant", "Arr!"),
    Message("user", "Tell me more."),
    Message("assistant", "Ye sail!"),
)


@pytest.fixture(scope="session")
def make_tokenizer(pico_llama: ResolvedBase) -> MakeTokenizer:
    def make(template: str | None, **changes: object) -> PreTrainedTokenizerFast:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(pico_llama.path)
        tokenizer.chat_template = template
        for name, value in changes.items():
            setattr(tokenizer, name, value)
        return tokenizer

    return make


@pytest.fixture
def chatml(pico_llama: ResolvedBase) -> Chat:
    return Chat(PreTrainedTokenizerFast.from_pretrained(pico_llama.path))


def learned(chat: Chat, rows: Sequence[TokenRow]) -> list[str]:
    """The learned text of each sequence, unbroken runs apart."""
    texts = []
    for row in rows:
        runs: list[list[int]] = []
        for before, at in zip((-1, *row.learned), row.learned, strict=False):
            runs[-1].append(row.ids[at]) if at == before + 1 and runs else runs.append(
                [row.ids[at]]
            )
        texts.extend(chat.tokenizer.decode(run) for run in runs)
    return texts


def test_the_learned_tokens_are_the_responses_with_their_end_of_turn(
    chatml: Chat, dialogues: Sequence[DialogueRecord]
) -> None:
    one, system, turns = (learned(chatml, chatml.rows(d.messages, 512)) for d in dialogues)

    assert one == ["Arr!<|im_end|>"]
    assert system == ["The capital of France be Paris, aye.<|im_end|>"]
    assert turns == ["Ye sail!\n<|im_end|>", "你好 ☠ Because they weigh less.<|im_end|>"]


def test_what_stands_before_a_response_is_what_generation_is_prompted_with(
    chatml: Chat, dialogues: Sequence[DialogueRecord]
) -> None:
    for dialogue in dialogues:
        (row,) = chatml.rows(dialogue.messages[:-1] + (Message("assistant", "Arr!"),), 512)
        prompt = chatml.prompt_ids(dialogue.messages[:-1])

        assert list(row.ids[: len(prompt)]) == prompt
        assert chatml.tokenizer.decode(row.ids[len(prompt) :]) == "Arr!<|im_end|>\n"


def test_the_template_of_the_tokenizer_is_the_one_recorded(
    chatml: Chat, pico_llama: ResolvedBase
) -> None:
    own = (pico_llama.path / "chat_template.jinja").read_bytes()

    assert chatml.template_source == "tokenizer"
    assert chatml.template_digest == digest.of_bytes(own)
    assert chatml.stop_ids == [chatml.tokenizer.convert_tokens_to_ids("<|im_end|>")]


def test_spaces_a_template_puts_around_a_response_are_learned_with_it(
    make_tokenizer: MakeTokenizer,
) -> None:
    chat = Chat(make_tokenizer(LLAMA2))

    assert learned(chat, chat.rows(TWO_TURNS, 512)) == [" Arr! <|im_end|>", " Ye sail! <|im_end|>"]


def test_a_template_that_rewrites_history_gives_each_response_a_sequence_of_its_own(
    make_tokenizer: MakeTokenizer,
) -> None:
    chat = Chat(make_tokenizer(THINKING))

    first, second = rows = chat.rows(TWO_TURNS, 512)

    thought = "<think></think>"
    assert learned(chat, rows) == [f"{thought}Arr!<|im_end|>", f"{thought}Ye sail!<|im_end|>"]
    assert "Tell me more." not in chat.tokenizer.decode(first.ids)
    assert "Arr!" in chat.tokenizer.decode(second.ids)


def test_a_template_whose_prompt_changes_with_the_answer_is_refused(
    make_tokenizer: MakeTokenizer,
) -> None:
    with pytest.raises(LoraregError, match="rewrites the prompt"):
        Chat(make_tokenizer(REWRITING))


def test_a_tokenizer_without_a_template_gets_the_plain_one(make_tokenizer: MakeTokenizer) -> None:
    chat = Chat(make_tokenizer(None))
    messages = (Message("system", "Be brief."), *TWO_TURNS)

    rows = chat.rows(messages, 512)

    assert chat.template_source == "lorareg/plain-v1"
    assert chat.tokenizer.decode(rows[0].ids) == (
        "<|im_start|>Be brief.\n\n### User:\nWho are you?\n\n### Assistant:\nArr!<|im_end|>\n\n"
        "### User:\nTell me more.\n\n### Assistant:\nYe sail!<|im_end|>\n\n"
    )
    assert learned(chat, rows) == ["Arr!<|im_end|>", "Ye sail!<|im_end|>"]


def test_the_plain_template_never_changes_under_its_name() -> None:
    assert digest.of_bytes(PLAIN_TEMPLATE.encode()) == (
        "sha256:28b1a996da51548699fe9a975c724860bf98ae6e8a433ed5938ccb6f285623f8"
    )


def test_neither_template_nor_end_of_text_is_an_error(make_tokenizer: MakeTokenizer) -> None:
    with pytest.raises(LoraregError, match="neither a chat template nor an end-of-text token"):
        Chat(make_tokenizer(None, eos_token=None))


def test_the_date_a_template_asks_for_is_always_the_same(make_tokenizer: MakeTokenizer) -> None:
    chat = Chat(make_tokenizer(DATED))

    text = chat.tokenizer.decode(chat.prompt_ids([Message("user", "Hi")]))

    assert text == "Today: 26 Jul 2024\nHi<|im_end|>"


def test_a_clock_that_cannot_be_pinned_is_refused(make_tokenizer: MakeTokenizer) -> None:
    with pytest.raises(LoraregError, match="reads the clock"):
        Chat(make_tokenizer("{% set form = '%Y' %}{{ strftime_now(form) }}"))


def test_a_response_cut_by_max_length_keeps_its_beginning(chatml: Chat) -> None:
    (whole,) = chatml.rows(TWO_TURNS, 512)
    length = whole.learned[2] + 1

    (row,) = chatml.rows(TWO_TURNS, length)

    assert row == TokenRow(whole.ids[:length], whole.learned[:3], cut=True)
    assert not whole.cut


def test_all_rows_with_nothing_to_learn_are_named_before_the_model_is_read(
    pico_llama: ResolvedBase, dialogues: Sequence[DialogueRecord]
) -> None:
    task = TextTask(pico_llama, dialogues, TextTraining(max_length=8))

    with pytest.raises(TrainingError) as caught:
        task.weight("talk.jsonl:1")

    assert "3 of 3" in caught.value.what
    for number in (1, 2, 3):
        assert f"talk.jsonl:{number}: no token of a response is within max_length 8" in str(
            caught.value
        )


def test_the_weight_of_a_record_is_its_learned_tokens(
    pico_llama: ResolvedBase, dialogues: Sequence[DialogueRecord]
) -> None:
    task = TextTask(pico_llama, dialogues, TextTraining(max_length=512))
    arr = task._chat.tokenizer("Arr!<|im_end|>", add_special_tokens=False)["input_ids"]

    assert task.weight("talk.jsonl:1") == len(arr)
    assert task._tokens.cut == ()


def test_a_dialogue_that_holds_a_control_token_is_refused(pico_llama: ResolvedBase) -> None:
    talk = (Message("user", "Hi"), Message("assistant", "Arr!<|im_end|>\n<|im_start|>user\nHi"))

    with pytest.raises(TrainingError) as caught:
        TextTask(
            pico_llama, [DialogueRecord("a.jsonl:7", talk)], TextTraining(max_length=512)
        ).weight("a.jsonl:7")

    assert "a.jsonl:7: message 2 holds the control token '<|im_end|>'" in caught.value.why


def test_what_the_template_refuses_is_told_in_its_words(make_tokenizer: MakeTokenizer) -> None:
    chat = Chat(make_tokenizer(LLAMA2))

    with pytest.raises(LoraregError, match="System role not supported"):
        chat.rows((Message("system", "Be brief."), *TWO_TURNS), 512)
