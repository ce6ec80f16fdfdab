"""A small CLIPTokenizer: byte-pair pieces learned from captions and plain English words."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

LENGTH = 40
"""Tokens of a prompt: a full caption needs about 28, a trigger word cut into pieces a few more."""
VOCABULARY = 2048
START, END = "<|startoftext|>", "<|endoftext|>"
_WORD_END = "</w>"
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
"""CLIP's own split. Source: https://github.com/openai/CLIP, simple_tokenizer.py."""


def learn(texts: Iterable[str], size: int = VOCABULARY) -> tuple[dict[str, int], list[str]]:
    """Learn (vocabulary, merges) from texts.

    All 256 bytes are in the vocabulary with and without the end-of-word mark, as in CLIP, so that
    any word in any script is cut into known pieces and none becomes a bare unknown token.
    """
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix=_WORD_END))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    merged = size - 2 * len(alphabet) - 2
    trainer = trainers.BpeTrainer(
        vocab_size=len(alphabet) + max(merged, 0) + 64,
        initial_alphabet=alphabet,
        end_of_word_suffix=_WORD_END,
        show_progress=False,
    )
    tokenizer.train_from_iterator((text.lower() for text in texts), trainer)
    learned = json.loads(tokenizer.to_str())["model"]["merges"]
    pairs = [pair if isinstance(pair, list) else pair.split(" ") for pair in learned]
    pieces = alphabet + [letter + _WORD_END for letter in alphabet]
    merges = []
    for left, right in pairs:
        if len(pieces) == size - 2:
            break
        merges.append(f"{left} {right}")
        pieces.append(left + right)
    pieces = list(dict.fromkeys(pieces)) + [START, END]
    return {piece: index for index, piece in enumerate(pieces)}, merges


def build(vocabulary: dict[str, int], merges: list[str]) -> CLIPTokenizer:
    """The tokenizer of the pipeline; padded with the end token to `LENGTH`."""
    from transformers import CLIPTokenizer

    pairs = [tuple(merge.split(" ")) for merge in merges]
    return CLIPTokenizer(vocab=vocabulary, merges=pairs, model_max_length=LENGTH)


def save(vocabulary: dict[str, int], merges: list[str], folder: Path) -> None:
    """Write `vocab.json`, `merges.txt` (transformers 4) and `tokenizer.json` (transformers 5)."""
    folder.mkdir(parents=True, exist_ok=True)
    build(vocabulary, merges).save_pretrained(folder)
    text = json.dumps(vocabulary, ensure_ascii=False, indent=0)
    (folder / "vocab.json").write_text(text + "\n", encoding="utf-8")
    lines = ["#version: 0.2", *merges]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def read(folder: Path) -> tuple[dict[str, int], list[str]]:
    """Vocabulary and merges as `save` wrote them."""
    vocabulary = json.loads((folder / "vocab.json").read_text("utf-8"))
    merges = (folder / "merges.txt").read_text("utf-8").splitlines()[1:]
    return vocabulary, merges


def load(folder: Path) -> CLIPTokenizer:
    """Read what `save` wrote."""
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(folder)
