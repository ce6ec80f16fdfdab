"""The chat template of a base as it is used: its own with the clock pinned, or ``plain-v1``."""

from __future__ import annotations

import re
from datetime import date
from typing import Any

from lorareg.errors import LoraregError

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


def template_of(tokenizer: Any) -> tuple[str, str]:
    """The template to render with, and where it is from: "tokenizer" or "lorareg/plain-v1".

    Raises:
        LoraregError: there is none and no end-of-text token to do without one, or it reads the
            clock in a way that cannot be pinned.
    """
    own = tokenizer.get_chat_template() if tokenizer.chat_template else None
    if own:
        return _pinned(own), "tokenizer"
    if tokenizer.eos_token is None:
        raise LoraregError(
            "the tokenizer of the base has neither a chat template nor an end-of-text token",
            why="the model could not be taught where a response ends",
            fix="take an instruct model as base.model, or put a chat_template.jinja beside its "
            "tokenizer.json",
        )
    return PLAIN_TEMPLATE, PLAIN_NAME


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
