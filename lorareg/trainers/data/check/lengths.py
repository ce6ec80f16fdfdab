"""Dialogues in tokens, as training will see them: rendered by the chat template of the base."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lorareg.errors import LoraregError
from lorareg.registry.bases.base import ResolvedBase
from lorareg.trainers.data.check.findings import Finding
from lorareg.trainers.data.dialogues import DialogueRecord

if TYPE_CHECKING:
    from lorareg.trainers.text.chat import Chat, TokenRow

Encode = Callable[[DialogueRecord, int], "list[TokenRow]"]
Stage = Callable[[str, int, int], None]
DTYPES = ("float32", "bfloat16", "float16")  # in which a GGUF may have been unpacked


@dataclass(frozen=True)
class Limit:
    """How long a sequence may be, and what becomes of longer ones: "cut", "drop" or "error"."""

    max_length: int
    overlong: str = "cut"


@dataclass
class Measured:
    """Tokens of each record's longest sequence, before any is cut off; and what is wrong.

    Attributes:
        left_out: records that training drops.
    """

    tokens: dict[str, int] = field(default_factory=dict)
    left_out: set[str] = field(default_factory=set)
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
    from lorareg.trainers.core.task import Runtime
    from lorareg.trainers.text.chat import Chat
    from lorareg.trainers.text.language_model import dequantized_home, load_tokenizer

    if base.layout == "gguf":
        homes = (dequantized_home(base, Runtime("cpu", dtype, 1, cache)) for dtype in DTYPES)
        if home := next((home for home in homes if home.is_dir()), None):
            base = replace(base, layout="transformers", path=home)
    return Chat(load_tokenizer(base))


def measure(
    records: Sequence[DialogueRecord], encode: Encode | None, limit: Limit, stage: Stage
) -> Measured:
    """Count tokens, and find the dialogues that are longer than the limit.

    Args:
        records: dialogues.
        encode: ``Chat.sequences``; None counts nothing.
        limit: of a sequence.
        stage: told how many dialogues are done.
    """
    found = Measured()
    if encode is None:
        return found
    for number, record in enumerate(records, start=1):
        try:
            sequences = encode(record, sys.maxsize)
        except LoraregError as error:
            found.findings.append(
                Finding("refused-by-template", "error", (record.id,), error.what, error.fix)
            )
            continue
        longest = found.tokens[record.id] = max(len(each.ids) for each in sequences)
        if longest > limit.max_length and limit.overlong != "cut":
            found.findings.append(_too_long(record.id, longest, limit))
            if limit.overlong == "drop":
                found.left_out.add(record.id)
        elif lost := _lost(record, sequences, limit.max_length):
            found.findings.append(lost)
        stage("counting tokens", number, len(records))
    return found


def _too_long(record: str, longest: int, limit: Limit) -> Finding:
    why = f"{longest} tokens, more than max_length {limit.max_length}"
    fix = "raise train.max_length, or split it"
    if limit.overlong == "drop":
        return Finding("left-out", "warning", (record,), f"{why}: left out of training", fix)
    return Finding("too-long", "error", (record,), why, fix)


def _lost(record: DialogueRecord, sequences: Sequence[TokenRow], max_length: int) -> Finding | None:
    """What a dialogue loses; None if nothing."""
    longest = max(len(each.ids) for each in sequences)
    to_learn = sum(len(each.learned) for each in sequences)
    kept = [len(each.shortened(max_length).learned) for each in sequences]
    if not (all(kept) if record.rejected else any(kept)):
        why = f"no token of a response is within max_length {max_length}: it has {longest} tokens"
        fix = "raise train.max_length, shorten what stands before the response, or delete the row"
        return Finding("truncated-to-nothing", "error", (record.id,), why, fix)
    if longest <= max_length:
        return None
    why = (
        f"{longest} tokens, of which max_length {max_length} keeps the first; "
        f"{to_learn - sum(kept)} of {to_learn} tokens of its responses are lost"
    )
    fix = "raise train.max_length, or split it"
    return Finding("truncated", "warning", (record.id,), why, fix)
