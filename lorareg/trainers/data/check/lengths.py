"""Dialogues in tokens, as training will see them: rendered by the chat template of the base."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lorareg.errors import LoraregError
from lorareg.registry.base import ResolvedBase
from lorareg.trainers.data.check.findings import Finding
from lorareg.trainers.data.dialogue_rows import Message
from lorareg.trainers.data.dialogues import DialogueRecord

if TYPE_CHECKING:
    from lorareg.trainers.chat import Chat, TokenRow

Encode = Callable[[Sequence[Message], int], "list[TokenRow]"]
Stage = Callable[[str, int, int], None]
DTYPES = ("float32", "bfloat16", "float16")  # in which a GGUF may have been unpacked


@dataclass
class Measured:
    """Tokens of each record's longest sequence, before any is cut off; and what is wrong."""

    tokens: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def chat(base: ResolvedBase, cache: Path) -> Chat:
    """The tokenizer and chat template of a base; its weights are not read.

    Args:
        base: a language model.
        cache: of the registry; a tokenizer that training took out of a GGUF before loads ten
            times faster from there.

    Raises:
        InvalidFileError: there is no tokenizer that works without running code of the base.
        LoraregError: its chat template cannot be used.
    """
    from lorareg.trainers.chat import Chat
    from lorareg.trainers.language_model import dequantized_home, load_tokenizer
    from lorareg.trainers.tasks.base import Runtime

    if base.layout == "gguf":
        homes = (dequantized_home(base, Runtime("cpu", dtype, 1, cache)) for dtype in DTYPES)
        if home := next((home for home in homes if home.is_dir()), None):
            base = replace(base, layout="transformers", path=home)
    return Chat(load_tokenizer(base))


def measure(
    records: Sequence[DialogueRecord], encode: Encode | None, max_length: int, stage: Stage
) -> Measured:
    """Count tokens, and find the dialogues that lose some at ``max_length``.

    Args:
        records: dialogues.
        encode: ``Chat.rows``; None counts nothing.
        max_length: tokens of a sequence that training keeps.
        stage: told how many dialogues are done.
    """
    found = Measured()
    if encode is None:
        return found
    for number, record in enumerate(records, start=1):
        try:
            sequences = encode(record.messages, sys.maxsize)
        except LoraregError as error:
            fix = "take the token out of the text, or delete the row"
            found.findings.append(
                Finding("refused-by-template", "error", (record.id,), error.what, fix)
            )
            continue
        found.tokens[record.id] = max((len(each.ids) for each in sequences), default=0)
        if lost := _lost(record.id, sequences, max_length):
            found.findings.append(lost)
        stage("counting tokens", number, len(records))
    return found


def _lost(record: str, sequences: Sequence[TokenRow], max_length: int) -> Finding | None:
    """What a dialogue loses; None if nothing."""
    longest = max((len(each.ids) for each in sequences), default=0)
    to_learn = sum(len(each.learned) for each in sequences)
    kept = sum(position < max_length for each in sequences for position in each.learned)
    if not kept:
        why = f"no token of a response is within max_length {max_length}: it has {longest} tokens"
        fix = "raise train.max_length, shorten what stands before the response, or delete the row"
        return Finding("truncated-to-nothing", "error", (record,), why, fix)
    if longest <= max_length:
        return None
    cut = to_learn - kept
    why = (
        f"{longest} tokens, of which max_length {max_length} keeps the first; "
        f"{cut} of {to_learn} tokens of its responses are lost"
    )
    return Finding("truncated", "warning", (record,), why, "raise train.max_length, or split it")
