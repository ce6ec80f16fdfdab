"""Tensors kept by content: latents and text embeddings, computed once for all runs.

A key is the digest of everything the value depends on, so an entry can never be stale; the cache
lives outside of the dataset and may be deleted at any time. Entries are held in safetensors shards
whose headers are the index: there is no second file that could disagree with them. A shard is named
by the digest of its bytes; a damaged one is noticed and made again. With a ``DigestCache`` that
remembers, a shard is hashed once and then only asked for its size and times, as git does.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import safe_open

from lorareg.errors import InvalidFileError
from lorareg.registry import tensors
from lorareg.registry.digest import DigestCache, of_file, of_json
from lorareg.registry.header import read_header
from lorareg.trainers.tensor_bytes import raw_tensor

# Values are flushed together, but soon: a kill loses no more than this.
SHARD_ENTRIES = 1024
SHARD_SECONDS = 20.0


def key(*parts: object) -> str:
    """Name of an entry: digest of everything its value depends on."""
    return of_json([str(part) for part in parts]).removeprefix("sha256:")


class TensorCache:
    """A folder of shards, read through memory maps.

    Args:
        folder: one folder for each kind of value.
        fields: names of the tensors that make up one value ("mean", "logvar").
        digests: remembers which shards are whole; by default all that are used are hashed again.
    """

    def __init__(
        self, folder: Path, fields: Sequence[str], digests: DigestCache | None = None
    ) -> None:
        self._folder = folder
        self._fields = tuple(fields)
        self._digests = digests or DigestCache(None)
        self._shard_of = self._index()

    def missing(self, keys: Sequence[str]) -> list[str]:
        """The keys that have no value yet, each once, in order."""
        return [name for name in dict.fromkeys(keys) if name not in self._shard_of]

    def fill(
        self,
        keys: Sequence[str],
        compute: Callable[[str], Mapping[str, torch.Tensor]],
        advance: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        """Compute the missing values and keep them.

        One at a time, since a value computed within a batch can differ in its last bit with the
        batch it was in, and a run must not depend on what the cache held before.

        Args:
            keys: all that will be asked for.
            compute: value of one key, a map of field -> tensor.
            advance: told (done, total); what it raises ends the work, and what is done is kept.
        """
        self._drop_damaged(keys)
        missing = self.missing(keys)
        pending: dict[str, Mapping[str, torch.Tensor]] = {}
        flushed = time.monotonic()
        try:
            for done, name in enumerate(missing, start=1):
                pending[name] = compute(name)
                advance(done, len(missing))
                if len(pending) >= SHARD_ENTRIES or time.monotonic() - flushed > SHARD_SECONDS:
                    self._flush(pending)
                    pending, flushed = {}, time.monotonic()
        finally:
            if pending:
                self._flush(pending)

    def get(self, keys: Sequence[str]) -> list[dict[str, torch.Tensor]]:
        """Values of the keys, which must be there: views of memory maps, read when they are used.

        So a dataset that is larger than the memory can be trained on; 2,000 pictures of 512 x 512
        pixels are 260 MB in the maps and less than 10 MB besides.
        """
        found: dict[str, dict[str, torch.Tensor]] = {}
        by_shard: dict[Path, list[str]] = {}
        for name in dict.fromkeys(keys):
            by_shard.setdefault(self._shard_of[name], []).append(name)
        for shard, names in by_shard.items():
            with safe_open(shard, framework="pt") as stream:
                for name in names:
                    found[name] = {f: stream.get_tensor(f"{name}.{f}") for f in self._fields}
        return [found[name] for name in keys]

    def _index(self) -> dict[str, Path]:
        index = {}
        for shard in sorted(self._folder.glob("*.safetensors")):
            try:
                names = {entry.name for entry in read_header(shard).tensors}
            except InvalidFileError:
                shard.unlink(missing_ok=True)  # a damaged shard costs time, never correctness
                continue
            for name in names:
                entry, _, field = name.rpartition(".")
                if field == self._fields[0] and all(f"{entry}.{f}" in names for f in self._fields):
                    index[entry] = shard
        return index

    def _drop_damaged(self, keys: Sequence[str]) -> None:
        """Forget the shards of these keys whose bytes are not the ones that were written."""
        used = {self._shard_of[name] for name in keys if name in self._shard_of}
        found = self._digests.digests({shard.name: shard for shard in sorted(used)})
        for shard in used:
            if shard.name != _named_by(found[shard.name]):
                shard.unlink(missing_ok=True)
                self._shard_of = {n: s for n, s in self._shard_of.items() if s != shard}

    def _flush(self, values: Mapping[str, Mapping[str, torch.Tensor]]) -> None:
        unnamed = self._folder / f".{uuid.uuid4().hex}.part"
        raw = {
            f"{name}.{field}": raw_tensor(value[field])
            for name, value in values.items()
            for field in self._fields
        }
        tensors.write(unnamed, raw, {})
        shard = self._folder / _named_by(of_file(unnamed))
        unnamed.replace(shard)
        self._shard_of.update(dict.fromkeys(values, shard))


def _named_by(digest: str) -> str:
    return f"{digest.removeprefix('sha256:')}.safetensors"
