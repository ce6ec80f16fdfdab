"""Dialogues as a model reads them: the tokenizer's own chat template, and which tokens to learn.

Training on another text than the one the model sees at inference is the commonest silent fault of
text adapters. So a dialogue is rendered by the template the tokenizer brings, and the responses are
found in that very text: what ``add_generation_prompt`` renders before a response is the prompt,
what follows up to the end-of-turn token is learned. A tokenizer without a template gets
``lorareg/plain-v1``. The lock records which, with its digest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2

from lorareg.errors import LoraregError
from lorareg.registry import digest
from lorareg.trainers.data.dialogue_rows import Message
from lorareg.trainers.data.dialogues import DialogueRecord
from lorareg.trainers.text.chat_template import template_of

SYSTEM_ELSEWHERE = (
    "where the template takes no system message, put its words into the first message of the user; "
    "else "
)
EXAMPLE = (Message("user", "a"), Message("assistant", "b"))


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

    def shortened(self, length: int) -> TokenRow:
        """What is left of the beginning."""
        if len(self.ids) <= length:
            return self
        return TokenRow(self.ids[:length], tuple(p for p in self.learned if p < length), cut=True)


class Chat:
    """A tokenizer with its chat template.

    Attributes:
        tokenizer: a fast tokenizer of transformers.
        template: the Jinja text that is rendered, any date in it pinned.
        template_source: "tokenizer" or "lorareg/plain-v1".
        template_digest: of ``template``, for the lock.
        ending: what ends a response where the template leaves that to the next turn: GLM's own
            writes nothing behind an answer, and ``<|user|>`` is what the model stops at.
        end_of_turn: the token a response ends with; None: it ends with none, and the model is not
            taught to stop.
        stop_ids: tokens that end a response when generating: ``end_of_turn`` and the tokenizer's
            own end of text.
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
        self.template, self.template_source = template_of(tokenizer)
        self.template_digest = digest.of_bytes(self.template.encode())
        added = tokenizer.added_tokens_decoder.values()
        marks = {str(token) for token in added if token.special} | {*tokenizer.all_special_tokens}
        self._marks = tuple(sorted(mark for mark in marks if mark.strip()))
        self.ending = ""
        self.ending = self._find_ending()
        self.end_of_turn = self._find_end_of_turn()
        self.stop_ids = sorted({tokenizer.eos_token_id, self.end_of_turn} - {None})

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """Tokens up to where the assistant's reply begins."""
        text = self._render(messages, prompt=True)
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def rows(self, messages: Sequence[Message], max_length: int) -> list[TokenRow]:
        """Tokens of a dialogue with its responses marked: one sequence, or one for each response.

        Raises:
            LoraregError: a message holds a control token, or the template refuses the dialogue.
        """
        self._refuse_marks(messages)
        return [self._tokens(text, spans, max_length) for text, spans in self._marked(messages)]

    def sequences(self, record: DialogueRecord, max_length: int) -> list[TokenRow]:
        """Every response of a dialogue marked; of a pair the chosen answer, then the rejected one.

        Raises:
            LoraregError: as ``rows``.
        """
        if record.rejected:
            pair = (record.messages, record.rejected)
            return [self.answer(messages, max_length) for messages in pair]
        return self.rows(record.messages, max_length)

    def answer(self, messages: Sequence[Message], max_length: int) -> TokenRow:
        """Tokens of a dialogue of which only the last response is marked.

        Raises:
            LoraregError: a message holds a control token, or the template refuses the dialogue.
        """
        self._refuse_marks(messages)
        prompt, through = self._response(messages)
        return self._tokens(through, [self._span(prompt, through)], max_length)

    def _refuse_marks(self, messages: Sequence[Message]) -> None:
        for number, message in enumerate(messages, start=1):
            if found := next((mark for mark in self._marks if mark in message.content), None):
                raise LoraregError(
                    f"message {number} holds the control token {found!r}",
                    fix="take the token out of the text, or delete the row",
                )

    def _marked(self, messages: Sequence[Message]) -> list[tuple[str, list[tuple[int, int]]]]:
        """The rendered dialogue and the character spans of its responses.

        Some templates render an earlier turn otherwise than the last one: Qwen3 drops the thoughts
        of past answers, gpt-oss ends only the last answer with its return token. No single text
        then holds every response as it is generated, and each response gets a text of its own,
        that ends with it.
        """
        whole = self._render(messages) + self.ending
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
        for number, message in enumerate(messages, start=1):
            if message.role == "assistant":
                yield self._response(messages[:number])

    def _response(self, messages: Sequence[Message]) -> tuple[str, str]:
        """The text up to where the last message begins, and up to where it ends."""
        prompt = self._render(messages[:-1], prompt=True)
        through = self._render(messages)
        if not through.startswith(prompt) or len(through) == len(prompt):
            raise LoraregError(
                "the chat template rewrites the prompt once there is an answer, so the "
                f"answer cannot be told from it: ...{prompt[-40:]!r} does not begin "
                f"...{through[-80:]!r}",
                fix=(SYSTEM_ELSEWHERE if messages[0].role == "system" else "")
                + "take a base, or a chat_template.jinja beside its tokenizer, that keeps it",
            )
        return prompt, through + self.ending

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
            raise LoraregError(
                f"the chat template refuses it: {error}",
                fix=f"{SYSTEM_ELSEWHERE}correct or delete the row",
            ) from error
        return str(text)

    def _find_ending(self) -> str:
        """The mark that follows a response if, and only if, a turn of the user does."""
        _, through = self._response(EXAMPLE)
        if through.rstrip().endswith(self._marks):
            return ""
        rest = self._render([*EXAMPLE, Message("user", "c")]).removeprefix(through)
        found = (mark for mark in self._marks if rest.startswith(mark))
        return max((mark for mark in found if mark != self.tokenizer.bos_token), default="")

    def _find_end_of_turn(self) -> int | None:
        """The token this template ends a response with; None if it ends it with none."""
        (text, spans), *_ = self._marked(EXAMPLE)
        row = self._tokens(text, spans, len(text))
        last = row.ids[row.learned[-1]] if row.learned else None
        is_mark = last is not None and self.tokenizer.convert_ids_to_tokens(last) in self._marks
        return last if is_mark else None
