"""How a base reads words: its tokenizers, from the files on this disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lorareg.errors import InvalidFileError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

COMMON = 0.9  # of the vocabulary, by number
FOLDERS = ("tokenizer", "tokenizer_2", "tokenizer_3")
# How CLIP cuts text before its merges. Source: openai/CLIP, simple_tokenizer.py.
CLIP_PIECES = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


@dataclass(frozen=True)
class Reader:
    """One tokenizer of a base."""

    tokenizer: Tokenizer

    def read(self, text: str) -> tuple[str, ...]:
        """The tokens that a text is read as, without marks of start and end."""
        return tuple(self.tokenizer.encode(text, add_special_tokens=False).tokens)

    def is_common(self, text: str) -> bool:
        """Whether every word of a text is a token of its own, and not one of the rarest tenth.

        Merges are learned in the order of frequency, so a token's number tells how common it is:
        in CLIP ``cat`` is 2,368 and ``sks`` 48,136 of 49,408.
        """
        found = self.tokenizer.encode(text, add_special_tokens=False).ids
        rare = COMMON * self.tokenizer.get_vocab_size()
        return 0 < len(found) == len(text.split()) and max(found) < rare


def readers(layout: str, home: Path | None) -> list[Reader]:
    """A reader for each tokenizer of a base; none if its files hold none.

    Args:
        layout: of the base ("diffusers", "checkpoint", "transformers", "gguf").
        home: its folder, or that of a checkpoint's configs.

    Raises:
        InvalidFileError: a tokenizer that cannot be loaded.
    """
    if home is None or not home.is_dir():
        return []
    places = [home] if layout == "transformers" else [home / name for name in FOLDERS]
    found = [tokenizer for place in places if (tokenizer := _load(place))]
    for tokenizer in found:
        tokenizer.no_truncation()
        tokenizer.no_padding()
    return [Reader(tokenizer) for tokenizer in found]


def _load(folder: Path) -> Tokenizer | None:
    """One file, or words and merges as CLIP's first releases have them."""
    whole, words, merges = (
        folder / name for name in ("tokenizer.json", "vocab.json", "merges.txt")
    )
    if not whole.is_file() and not (words.is_file() and merges.is_file()):
        return None
    from tokenizers import Tokenizer

    with loading(folder):
        return Tokenizer.from_file(str(whole)) if whole.is_file() else _clip(words, merges)


@contextmanager
def loading(folder: Path) -> Iterator[None]:
    """Within the block, whatever a tokenizer's library says of a damaged file names the folder.

    Raises:
        InvalidFileError: the library failed; it raises nothing more special than Exception.
    """
    try:
        yield
    except Exception as error:
        if type(error) not in (Exception, ValueError, OSError, KeyError, TypeError):
            raise
        raise InvalidFileError(
            f"the tokenizer in {folder.parent.name}/{folder.name}/ cannot be loaded",
            why=str(error).partition("\n")[0],
            fix="fetch the base again",
        ) from error


def _clip(words: Path, merges: Path) -> Tokenizer:
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    model = models.BPE.from_file(
        str(words), str(merges), end_of_word_suffix="</w>", unk_token="<|endoftext|>"
    )
    found = Tokenizer(model)
    found.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    found.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(CLIP_PIECES), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    return found
