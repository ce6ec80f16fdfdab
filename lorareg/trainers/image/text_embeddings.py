"""What the denoiser is told of captions: from the cache, or from text encoders that learn too.

Encoders are loaded one at a time, and only where the cache lacks something; with a warm cache none
is. An encoder that gets adapters stays in memory, and reads its captions anew in every step.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import torch

from lorareg.registry.digest import DigestCache, of_bytes
from lorareg.trainers.cache import TensorCache, key
from lorareg.trainers.core.task import Runtime
from lorareg.trainers.image.families.family import Fields, Reader
from lorareg.trainers.image.pipelines import DiffusionBase

Progress = Callable[[str, int, int], None]
Kept = Mapping[str, Fields]
"""By caption: the fields of one encoder, without an axis of rows."""


@dataclass(frozen=True)
class LiveEncoder:
    """A text encoder in memory, and captions in its tokens.

    Attributes:
        tokens: caption -> ids and attention mask, each (1, length).
    """

    reader: Reader
    model: Any
    tokens: Mapping[str, tuple[torch.Tensor, torch.Tensor]]

    def read(self, texts: Sequence[str], device: str) -> dict[str, torch.Tensor]:
        """Its fields for captions as it is now, differentiable."""
        ids, masks = zip(*(self.tokens[text] for text in texts), strict=True)
        return self.reader.read(self.model, torch.cat(ids).to(device), torch.cat(masks).to(device))


@dataclass
class TextEmbeddings:
    """The captions of a run, as each text encoder of the base reads them.

    Attributes:
        zero_empty: whether the empty caption is all zeros, as SDXL's guidance starts from.
        kept: by encoder that is frozen.
        live: by encoder that learns.
    """

    device: str
    dtype: torch.dtype
    zero_empty: bool
    kept: dict[str, Kept] = field(default_factory=dict)
    live: dict[str, LiveEncoder] = field(default_factory=dict)

    def batch(self, texts: Sequence[str]) -> dict[str, Fields]:
        """What the denoiser is told of some captions, by encoder."""
        found = {
            part: {name: torch.stack([values[text][name] for text in texts]) for name in one}
            for part, values in self.kept.items()
            for one in (values[texts[0]],)
        }
        found |= {part: encoder.read(texts, self.device) for part, encoder in self.live.items()}
        empty = torch.tensor([self.zero_empty and not text for text in texts])
        return {
            part: {name: self._ready(value, empty) for name, value in fields.items()}
            for part, fields in found.items()
        }

    def _ready(self, value: torch.Tensor, empty: torch.Tensor) -> torch.Tensor:
        value = value.to(self.device, self.dtype)
        if not empty.any():
            return value
        rows = empty.to(self.device).reshape(-1, *[1] * (value.ndim - 1))
        return value.masked_fill(rows, 0.0)


@dataclass
class CaptionReader:
    """Reads captions with the text encoders of a base.

    Args:
        digests: cache of file digests.
        progress: told ("encoding captions", done, total) while the cache fills.
    """

    base: DiffusionBase
    runtime: Runtime
    digests: DigestCache
    progress: Progress

    def read(self, texts: Collection[str], learning: Collection[str] = ()) -> TextEmbeddings:
        """Every caption that will be asked for, read by every encoder.

        Args:
            texts: captions.
            learning: encoders that stay in memory, because they get adapters.
        """
        dtype = getattr(torch, self.runtime.dtype)
        zero = self.base.has_zero_unconditional
        found = TextEmbeddings(self.runtime.device, dtype, zero)
        for reader in self.base.readers:
            if reader.encoder in learning:
                found.live[reader.encoder] = self.live(reader, texts)
            else:
                found.kept[reader.encoder] = self.kept(reader, texts)
        return found

    def live(self, reader: Reader, texts: Collection[str]) -> LiveEncoder:
        """One encoder on the device, with the captions in its tokens."""
        tokenizer, model = self.base.text_part(reader, getattr(torch, self.runtime.dtype))
        tokens = {text: reader.tokens(tokenizer, [text]) for text in sorted(texts)}
        return LiveEncoder(reader, model.to(self.runtime.device), tokens)

    def kept(self, reader: Reader, texts: Collection[str]) -> dict[str, Fields]:
        """The fields of one frozen encoder, by caption, through the cache."""
        dtype = self._dtype(reader)
        parts = self.base.part_digest((reader.encoder, reader.tokenizer), self.digests)
        how = (reader, parts, dtype, self._makers())
        keys = {text: key("text", of_bytes(text.encode()), *how) for text in sorted(texts)}
        by_key = {name: text for text, name in keys.items()}
        cache = TensorCache(self.runtime.cache / "texts", reader.fields, self.digests)
        loaded: list[tuple[Any, Any]] = []

        def encode(name: str) -> Fields:
            if not loaded:
                tokenizer, model = self.base.text_part(reader, dtype)
                loaded.append((tokenizer, model.to(self.runtime.device)))
            return self._encode(reader, *loaded[0], by_key[name])

        cache.fill(
            list(keys.values()),
            encode,
            lambda done, total: self.progress("encoding captions", done, total),
        )
        if loaded:
            loaded.clear()
            gc.collect()  # a pipeline refers to itself: without this T5 would stay for a while
        return dict(zip(keys, cache.get(list(keys.values())), strict=True))

    def _encode(self, reader: Reader, tokenizer: Any, model: Any, text: str) -> Fields:
        ids, mask = (part.to(self.runtime.device) for part in reader.tokens(tokenizer, [text]))
        with torch.no_grad():
            found = reader.read(model, ids, mask)
        return {name: value[0].cpu() for name, value in found.items()}

    def _dtype(self, reader: Reader) -> torch.dtype:
        """CLIP in full precision; T5, which is forty times as large, in that of the run."""
        return torch.float32 if reader.is_clip else getattr(torch, self.runtime.dtype)

    def _makers(self) -> str:
        """What else can change the last bit of a value: libraries and device."""
        device = torch.device(self.runtime.device).type
        return f"torch {torch.__version__} transformers {version('transformers')} {device}"
