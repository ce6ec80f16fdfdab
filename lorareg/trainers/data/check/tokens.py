"""Captions in tokens of the base's own tokenizer, without torch, and remembered on disk.

A text encoder reads a fixed number of tokens (77 for CLIP, its start and end included) and what is
behind them is cut off without a word. Where a base has T5 beside CLIP, T5 reads the whole caption.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorareg.errors import LoraregError, NotFoundError
from lorareg.registry.bases.base import ResolvedBase
from lorareg.registry.bases.tokenizer import loading
from lorareg.registry.digest import of_bytes, of_file, of_tree
from lorareg.registry.lock import load_json
from lorareg.registry.memory import Memory
from lorareg.trainers.data.check.findings import Finding

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TOKENIZERS = ("tokenizer", "tokenizer_2", "tokenizer_3")
# Of the bases with T5: its tokenizer, and how much the pipeline has it read.
T5 = {"StableDiffusion3Pipeline": ("tokenizer_3", 256), "FluxPipeline": ("tokenizer_2", 512)}
FILES = (
    "tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json",
)  # fmt: skip
NO_LIMIT = 1_000_000  # tokenizers without a limit claim one of 10^30
BATCH = 1000


@dataclass(frozen=True)
class Count:
    """A caption as a text encoder reads it.

    Attributes:
        tokens: all of them, with the marks of start and end.
        kept: characters of the caption up to the first one that is cut off.
    """

    tokens: int
    kept: int

    def __str__(self) -> str:
        return f"{self.tokens} {self.kept}"

    @classmethod
    def parse(cls, text: str) -> Count:
        """The count that ``str`` wrote."""
        tokens, kept = text.split()
        return cls(int(tokens), int(kept))


class TokenCounter:
    """Counts captions in tokens of a base's tokenizer.

    Of SDXL's two tokenizers it takes the larger count and the stricter limit. Counts are kept in a
    SQLite file by caption and tokenizer.
    """

    def __init__(self, folders: Sequence[Path], limit: int | None, cache: Path | None) -> None:
        self.limit = limit
        self._folders = folders
        self._memory = Memory(cache, "tokens", "caption", "counts")

    @classmethod
    def of(cls, base: ResolvedBase, cache: Path | None) -> TokenCounter:
        """The counter of a base; nothing heavy is read yet.

        Args:
            base: a text-to-image base, or a language model in a transformers folder.
            cache: SQLite file that remembers counts, or None.

        Raises:
            NotFoundError: the base's files hold no tokenizer.
            InvalidFileError: its configs are damaged.
        """
        home = base.config if base.layout == "checkpoint" else base.path
        if base.layout == "transformers":
            folders = [base.path] if (base.path / "tokenizer.json").is_file() else []
        else:
            folders = [home / part for part in TOKENIZERS if home and _has_tokenizer(home / part)]
        if home is None or not folders:
            raise _no_tokenizer(base)
        t5, most = T5.get(str(_config(home / "model_index.json").get("_class_name")), ("", 0))
        if most and home / t5 in folders:
            folders, limits = [home / t5], [most]
        else:
            limits = []
        limits += [limit for folder in folders for limit in _limits(home, folder)]
        return cls(folders, min(limits, default=None), cache)

    def count(self, captions: Collection[str]) -> dict[str, Count]:
        """Each caption's count.

        Raises:
            InvalidFileError: the tokenizer cannot be loaded.
        """
        keys = {text: of_bytes(f"{self._digest}\0{text}".encode()) for text in captions}
        known = {key: Count.parse(text) for key, text in self._memory.recall(keys.values()).items()}
        missing = [text for text, key in keys.items() if key not in known]
        learned: dict[str, Count] = {}
        for start in range(0, len(missing), BATCH):
            some = missing[start : start + BATCH]
            learned |= zip((keys[text] for text in some), self._encode(some), strict=True)
        self._memory.remember({key: str(count) for key, count in learned.items()})
        return {text: learned.get(key) or known[key] for text, key in keys.items()}

    def _encode(self, texts: Sequence[str]) -> list[Count]:
        counts: list[list[Count]] = []
        for tokenizer in self._tokenizers:
            room = self._room(tokenizer)
            coded = tokenizer.encode_batch(list(texts), add_special_tokens=False)
            marks = tokenizer.num_special_tokens_to_add(False)
            counts.append(
                [
                    Count(
                        len(c.ids) + marks, c.offsets[room][0] if len(c.ids) > room else len(text)
                    )
                    for c, text in zip(coded, texts, strict=True)
                ]
            )
        return [
            Count(max(each.tokens for each in some), min(each.kept for each in some))
            for some in zip(*counts, strict=True)
        ]

    def _room(self, tokenizer: Tokenizer) -> int:
        """Tokens of a caption that are read, start and end not counted."""
        limit = NO_LIMIT if self.limit is None else self.limit
        return max(0, limit - tokenizer.num_special_tokens_to_add(False))

    @cached_property
    def _tokenizers(self) -> Sequence[Tokenizer]:
        return [_load(folder) for folder in self._folders]

    @cached_property
    def _digest(self) -> str:
        """Of the tokenizers' files and the limit: what a count depends on."""
        files = {
            f"{number}/{name}": of_file(folder / name)
            for number, folder in enumerate(self._folders)
            for name in FILES
            if (folder / name).is_file()
        }
        return of_tree(files | {"limit": str(self.limit)})


def uncounted(error: LoraregError) -> Finding:
    """The note that captions could not be counted."""
    return Finding(
        "caption-uncounted",
        "note",
        (),
        f"captions are not counted in tokens: {error.what}" + (f"; {error.why}" * bool(error.why)),
        error.fix,
    )


def _load(folder: Path) -> Tokenizer:
    """A tokenizer from its one file, or from words and merges as CLIP's first releases have it."""
    with loading(folder):
        if (folder / "tokenizer.json").is_file():
            from tokenizers import Tokenizer

            found = Tokenizer.from_file(str(folder / "tokenizer.json"))
        else:
            from transformers import CLIPTokenizer

            found = CLIPTokenizer.from_pretrained(folder, local_files_only=True).backend_tokenizer
    found.no_truncation()
    found.no_padding()
    return found


def _limits(home: Path, folder: Path) -> Iterator[int]:
    """Tokens that the tokenizer, and the text encoder beside it, say they read."""
    own = _config(folder / "tokenizer_config.json").get("model_max_length")
    encoder = home / folder.name.replace("tokenizer", "text_encoder") / "config.json"
    if folder == home:
        encoder = home / "config.json"
    for limit in (own, _config(encoder).get("max_position_embeddings")):
        if isinstance(limit, int) and 0 < limit < NO_LIMIT:
            yield limit


def _config(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        return {}
    found = load_json(path, f"{path.parent.name}/{path.name}")
    return found if isinstance(found, dict) else {}


def _has_tokenizer(folder: Path) -> bool:
    return (folder / "tokenizer.json").is_file() or (
        (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file()
    )


def _no_tokenizer(base: ResolvedBase) -> NotFoundError:
    if base.layout == "checkpoint":
        why = "a single-file checkpoint holds weights only"
        fix = "set base.config to a folder with the configs of this model in diffusers layout"
    else:
        why = "there is neither tokenizer.json, nor vocab.json with merges.txt"
        fix = "fetch the base again, or name a model folder that has one"
    return NotFoundError(f"base {base.model!r} has no tokenizer on this disk", why=why, fix=fix)
