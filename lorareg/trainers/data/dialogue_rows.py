"""One row of a dialogue dataset in any of four shapes -> messages.

=================================  ===========================================================
shape (who uses it)                row
=================================  ===========================================================
instruction (alpaca)               ``{"instruction": ..., "input": ..., "output": ...}``
prompt/completion                  ``{"prompt": ..., "completion": ...}``
messages (OpenAI, TRL)             ``{"messages": [{"role": "user", "content": ...}, ...]}``
conversations (ShareGPT)           ``{"conversations": [{"from": "human", "value": ...}, ...]}``
=================================  ===========================================================

Whatever the shape, a dialogue is one system message at most, at its head, then user and assistant
in turn, the last word the assistant's. This is the order every chat template takes: those of
Llama 2, Mistral and Gemma refuse two user messages in a row. Other keys (``id``, ``source``) are
ignored, but for those that carry words the model would have to see (``history``, ``tools``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

SHAPES = (
    "{instruction, input, output}, {prompt, completion}, "
    "{messages: [{role, content}]} or {conversations: [{from, value}]}; "
    "of preferences {prompt, chosen, rejected}"
)
ROLES = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
}
REWRITE = 'write it as {"messages": [{"role": "user", "content": ...}, ...]}'
AS_TEXT = "write it as text in quotes, or delete the row"
NAMED = 8  # keys of an unknown shape that are named
UNREAD = ("history", "tools", "functions", "images", "audios", "videos")


class RowError(ValueError):
    """Why a row cannot be used, in one line; the reader adds file and line.

    Attributes:
        code: the kind of problem: "unknown-shape", "duplicate-key", "no-response", "wrong-order"
            or, of pairs, "no-preference".
        fix: what to do, where that depends on more than the code.
    """

    def __init__(self, reason: str, code: str = "unknown-shape", *, fix: str | None = None) -> None:
        super().__init__(reason)
        self.code = code
        self.fix = fix


@dataclass(frozen=True)
class Message:
    """What one side says.

    Attributes:
        role: "system", "user" or "assistant".
        content: its words, never blank.
    """

    role: str
    content: str


def unambiguous(pairs: Iterable[tuple[str, object]]) -> dict[str, object]:
    """An object of a row, for ``json``'s ``object_pairs_hook``.

    Raises:
        RowError: a key is there twice; ``json`` would keep the last and say nothing.
    """
    value: dict[str, object] = {}
    for key, part in pairs:
        if key in value:
            reason = f"{named_key(key)} is there twice; one of them would be lost"
            raise RowError(reason, "duplicate-key")
        value[key] = part
    return value


def named_key(key: str) -> str:
    """A key as messages may show it: a name is shown, what may be a person's data is not.

    >>> named_key("output"), named_key("13812345678")
    ("key 'output'", 'a key of 11 characters')
    """
    if re.fullmatch("[A-Za-z_][A-Za-z0-9_]{0,30}", key):
        return f"key {key!r}"
    return f"a key of {len(key)} characters"


def read_row(value: object) -> tuple[Message, ...]:
    """Turn a parsed JSON row into messages.

    >>> read_row({"prompt": "Hi", "completion": "Arr!"})[1]
    Message(role='assistant', content='Arr!')

    Raises:
        RowError: the row has none of the four shapes, or says nothing, or out of turn.
    """
    row = object_of(value)
    if "messages" in row:
        messages = _from_list(row["messages"], "messages", "role", "content")
    elif "conversations" in row:
        messages = _from_list(row["conversations"], "conversations", "from", "value")
    elif "instruction" in row:
        messages = [_asked(row, "instruction"), _said(row, "output")]
    elif "prompt" in row:
        messages = [_asked(row, "prompt"), _said(row, "completion")]
    else:
        raise RowError(f"unknown shape, {_keys(row)}; known are {SHAPES}")
    return dialogue(row, messages)


def object_of(row: object) -> dict[str, object]:
    """The row as an object.

    Raises:
        RowError: it is none, or words would be lost that the model has to see.
    """
    if not isinstance(row, dict):
        raise RowError(f"a row is an object {SHAPES}, not {_named(row)}")
    if unread := [key for key in UNREAD if row.get(key)]:
        raise RowError(f"{unread[0]!r} is not read", fix="put every turn into messages, as text")
    return row


def messages_of(turns: object, name: str) -> list[Message]:
    """A list of messages in either spelling: role and content, or from and value."""
    sharegpt = isinstance(turns, list) and any(isinstance(t, dict) and "from" in t for t in turns)
    return _from_list(turns, name, *(("from", "value") if sharegpt else ("role", "content")))


def prompt_of(row: dict[str, object]) -> list[Message]:
    """What is said before the answers of a row, wherever its shape keeps it; empty if nowhere."""
    for name in ("messages", "conversations", "prompt"):
        if isinstance(row.get(name), list):
            return messages_of(row[name], name)
    question = next((name for name in ("instruction", "prompt", "question") if name in row), None)
    return [_asked(row, question)] if question else []


def dialogue(row: dict[str, object], messages: Sequence[Message]) -> tuple[Message, ...]:
    """The messages with the row's system message at their head, in an order that templates take.

    Raises:
        RowError: someone speaks out of turn, or the assistant not at all.
    """
    if messages and messages[0].role != "system" and _says(row.get("system")):
        messages = [Message("system", _text(row["system"], "system")), *messages]
    _check_turns(messages)
    return tuple(messages)


def _asked(row: dict[str, object], key: str) -> Message:
    asked = _text(row[key], key)
    if _says(row.get("input")) and key == "instruction":
        asked = f"{asked}\n{_text(row['input'], 'input')}"
    return Message("user", asked)


def _said(row: dict[str, object], key: str) -> Message:
    if row.get(key) is None:
        raise RowError(f"no response: {key!r} is missing", "no-response")
    return Message("assistant", _text(row[key], key, "no-response"))


def _from_list(turns: object, name: str, who: str, what: str) -> list[Message]:
    if not isinstance(turns, list):
        raise RowError(f"{name} is a list, not {_named(turns)}")
    messages = []
    for number, turn in enumerate(turns, start=1):
        place = f"{name} {number}"
        if not isinstance(turn, dict) or who not in turn or what not in turn:
            raise RowError(f"{place} is not {{{who}, {what}}}")
        role = turn[who]
        if not isinstance(role, str) or role not in ROLES:
            known = "system, user, assistant" if who == "role" else "system, human, gpt"
            raise RowError(
                f"{place}: {who} is an unknown role, not one of {known}",
                fix=f"let {who} be one of {known}, or delete the row",
            )
        blank = "no-response" if ROLES[role] == "assistant" else "unknown-shape"
        messages.append(Message(ROLES[role], _text(turn[what], f"{place}: {what}", blank)))
    return messages


def _check_turns(messages: Sequence[Message]) -> None:
    roles = [message.role for message in messages]
    spoken = roles[1:] if roles[:1] == ["system"] else roles
    if "assistant" not in spoken:
        raise RowError("no response: nothing here is said by the assistant", "no-response")
    if spoken[0] != "user":
        raise RowError(f"wrong order: the {spoken[0]} speaks first, the user should", "wrong-order")
    for before, after in zip(spoken, spoken[1:], strict=False):
        if after == "system":
            raise RowError("wrong order: a system message stands only at the head", "wrong-order")
        if before == after:
            raise RowError(
                f"wrong order: two {before} messages in a row, which many chat templates refuse; "
                "join them into one",
                "wrong-order",
            )
    if spoken[-1] != "assistant":
        raise RowError("no response to the last user message; drop it or answer it", "no-response")


def _text(value: object, name: str, blank: str = "unknown-shape") -> str:
    if not isinstance(value, str):
        raise RowError(f"{name} is {_named(value)}, not text", fix=AS_TEXT)
    if not value.strip():
        fix = None if blank == "no-response" else "fill it in, or delete the row"
        raise RowError(f"{name} is empty", blank, fix=fix)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise RowError(
            f"{name} holds half of a surrogate pair, which is no character",
            fix="correct the text from its source: half of an emoji was cut off",
        ) from None
    return value


def _keys(row: Mapping[str, object]) -> str:
    keys = ", ".join(named_key(key) for key in list(row)[:NAMED])
    more = f" and {len(row) - NAMED} more" if len(row) > NAMED else ""
    return f"{keys}{more}" if keys else "no keys"


def _says(value: object) -> bool:
    """An optional part may be absent, null or blank; all three mean: not there."""
    return not (value is None or (isinstance(value, str) and not value.strip()))


def _named(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "a truth value"}
    return "null" if value is None else names.get(type(value), "a number")
