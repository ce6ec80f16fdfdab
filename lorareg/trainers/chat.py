"""Dialogues as a model reads them: the tokenizer's own chat template, and which tokens to learn.

Training on another text than the one the model sees at inference is the commonest silent fault of
text adapters. So a dialogue is rendered by the template the tokenizer brings, and the responses are
found in that very text: what ``add_generation_prompt`` renders before a response is the prompt,
what follows up to the end-of-turn token is learned. A tokenizer without a template gets
``lorareg/plain-v1``. The lock records which, with its digest.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import jinja2

from lorareg.errors import LoraregError
from lorareg.registry import digest
from lorareg.trainers.data.dialogue_rows import Message

PLAIN_NAME = "lorareg/plain-v1"
# Frozen: an adapter trained with it must be prompted with it. A change gets the name plain-v2.
PLAIN_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] + '\n\n' }}"
    "{% elif message['role'] == 'user' %}{{ '### User:\n' + message['content'] + '\n\n' }}"
    "{% else %}{{ '### Assistant:\n' + message['content'] + eos_token + '\n\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Assistant:\n' }}{% endif %}"
)
# Llama 3 writes today's date into the system message; two runs of one lock would then differ by
# the day. This is the day its template falls back to when no clock is there.
PINNED_DATE = date(2024, 7, 26)
DATE_CALL = re.compile(r"""strftime_now\(\s*(?P<quote>["'])(?P<format>[^"']*)(?P=quote)\s*\)""")


@dataclass(frozen=True)
class TokenRow:
    """A sequence to learn from.

    Attributes:
        ids: token ids, at most max_length.
        learned: positions in ``ids`` of the tokens to predict; position 0 is never among them.
        cut: whether the text was longer than max_length.
    """

    ids: tuple[int, ...]
    learned: tuple[int, ...]
    cut: bool


class Chat:
    """A tokenizer with its chat template.

    Attributes:
        tokenizer: a fast tokenizer of transformers.
        template: the Jinja text that is rendered, any date in it pinned.
        template_source: "tokenizer" or "lorareg/plain-v1".
        template_digest: of ``template``, for the lock.
        stop_ids: tokens that end a response when generating.
    """

    def __init__(self, tokenizer: Any) -> None:
        """Read the template of a tokenizer.

        Raises:
            LoraregError: it has no offsets, no template and no end-of-text token to do without
                one, or a template that reads the clock in a way that cannot be pinned.
        """
        if not tokenizer.is_fast:
            raise LoraregError(
                "the tokenizer of the base cannot say which characters a token covers",
                why="it is a slow (pure Python) one; loss on responses only needs offsets",
                fix="convert it: AutoTokenizer.from_pretrained(base).save_pretrained(base), or "
                "take a base with a tokenizer.json",
            )
        self.tokenizer = tokenizer
        own = tokenizer.get_chat_template() if tokenizer.chat_template else None
        self.template_source = "tokenizer" if own else PLAIN_NAME
        self.template = _pinned(own) if own else _plain_for(tokenizer)
        self.template_digest = digest.of_bytes(self.template.encode())
        added = tokenizer.added_tokens_decoder.values()
        marks = {str(token) for token in added if token.special} | {*tokenizer.all_special_tokens}
        self._marks = tuple(sorted(mark for mark in marks if mark.strip()))
        self.stop_ids = self._find_stop_ids()

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """Tokens up to where the assistant's reply begins."""
        text = self._render(messages, prompt=True)
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def rows(self, messages: Sequence[Message], max_length: int) -> list[TokenRow]:
        """Tokens of a dialogue with its responses marked: one sequence, or one for each response.

        Raises:
            LoraregError: a message holds a control token, or the template refuses the dialogue.
        """
        for number, message in enumerate(messages, start=1):
            if found := next((mark for mark in self._marks if mark in message.content), None):
                raise LoraregError(f"message {number} holds the control token {found!r}")
        return [self._tokens(text, spans, max_length) for text, spans in self._marked(messages)]

    def _marked(self, messages: Sequence[Message]) -> list[tuple[str, list[tuple[int, int]]]]:
        """The rendered dialogue and the character spans of its responses.

        Some templates render an earlier turn otherwise than the last one: Qwen3 drops the thoughts
        of past answers, gpt-oss ends only the last answer with its return token. No single text
        then holds every response as it is generated, and each response gets a text of its own,
        that ends with it.
        """
        whole = self._render(messages)
        spans = []
        for prompt, through in self._responses(messages):
            if not whole.startswith(through):
                break
            spans.append(self._span(prompt, through))
        else:
            return [(whole, spans)]
        return [
            (through, [self._span(prompt, through)])
            for prompt, through in self._responses(messages)
        ]

    def _responses(self, messages: Sequence[Message]) -> Iterator[tuple[str, str]]:
        """For each response: the text up to where it begins, the text up to where it ends."""
        for number, message in enumerate(messages):
            if message.role != "assistant":
                continue
            prompt = self._render(messages[:number], prompt=True)
            through = self._render(messages[: number + 1])
            if not through.startswith(prompt) or len(through) == len(prompt):
                raise LoraregError(
                    "the chat template rewrites the prompt once there is an answer, so the "
                    f"answer cannot be told from it: ...{prompt[-40:]!r} does not begin "
                    f"...{through[-80:]!r}"
                )
            yield prompt, through

    def _span(self, prompt: str, through: str) -> tuple[int, int]:
        """Where the response is: up to its end-of-turn token, without the line end after that."""
        stripped = through.rstrip()
        ends = len(stripped) > len(prompt) and stripped.endswith(self._marks)
        return len(prompt), len(stripped) if ends else len(through)

    def _tokens(self, text: str, spans: list[tuple[int, int]], max_length: int) -> TokenRow:
        """A token is learned if it lies inside a response.

        One that begins in the prompt (a merged line end) is not: it is never generated, since the
        prompt is tokenized without the response then.
        """
        coded = self.tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        ids = coded["input_ids"]
        learned = tuple(
            position
            for position, (start, end) in enumerate(coded["offset_mapping"][:max_length])
            if position and end > start and any(a <= start and end <= b for a, b in spans)
        )
        return TokenRow(tuple(ids[:max_length]), learned, len(ids) > max_length)

    def _render(self, messages: Sequence[Message], *, prompt: bool = False) -> str:
        try:
            text = self.tokenizer.apply_chat_template(
                [{"role": message.role, "content": message.content} for message in messages],
                chat_template=self.template,
                add_generation_prompt=prompt,
                tokenize=False,
            )
        except (jinja2.TemplateError, TypeError) as error:
            raise LoraregError(f"the chat template refuses it: {error}") from error
        return str(text)

    def _find_stop_ids(self) -> list[int]:
        """The tokenizer's end of text, and the token this template ends a response with."""
        found = {self.tokenizer.eos_token_id} - {None}
        example = [Message("user", "a"), Message("assistant", "b")]
        for text, spans in self._marked(example):
            row = self._tokens(text, spans, len(text))
            last = row.ids[row.learned[-1]] if row.learned else None
            if last is not None and self.tokenizer.convert_ids_to_tokens(last) in self._marks:
                found.add(last)
        return sorted(found)


def _plain_for(tokenizer: Any) -> str:
    if tokenizer.eos_token is None:
        raise LoraregError(
            "the tokenizer of the base has neither a chat template nor an end-of-text token",
            why="the model could not be taught where a response ends",
            fix="take an instruct model as base.model, or put a chat_template.jinja beside its "
            "tokenizer.json",
        )
    return PLAIN_TEMPLATE


def _pinned(template: str) -> str:
    """The template with every date it asks for written out.

    transformers hands templates a clock, ``strftime_now``, and lets no caller replace it, so the
    calls themselves are replaced.
    """
    pinned = DATE_CALL.sub(lambda call: repr(PINNED_DATE.strftime(call["format"])), template)
    if re.search(r"strftime_now\s*\(", pinned):
        raise LoraregError(
            "the chat template of the base reads the clock in a way that cannot be pinned",
            why="strftime_now(...) with something else than a plain text; the same run tomorrow "
            "would train on other words",
            fix="write the date into the base's chat_template.jinja",
        )
    return pinned
