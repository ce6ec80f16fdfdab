"""Which files of a repository on the Hub are taken, and which never are."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorareg.errors import IntegrityError, InvalidFileError, LoraregError
from lorareg.registry.publishing.repos import Remote, RemoteFile
from lorareg.weights.hub_files import MAX_WEIGHTS, Fetcher, choose


def repository(*names: str, size: int = 8) -> Remote:
    files = {name: RemoteFile(size, "0" * 40, "0" * 64) for name in names}
    return Remote("artist/ink", "4" * 40, False, False, files, {})


@pytest.mark.parametrize(
    ("names", "taken"),
    [
        (["ink.safetensors", "README.md", "old.ckpt"], ["ink.safetensors"]),
        (["pytorch_lora_weights.safetensors", "b.safetensors"],
         ["pytorch_lora_weights.safetensors"]),
        (["adapter_model.safetensors", "adapter_config.json", "adapter_model.bin"],
         ["adapter_model.safetensors", "adapter_config.json"]),
        (["ink.safetensors", "checkpoint-500/ink.safetensors"], ["ink.safetensors"]),
    ],
)  # fmt: skip
def test_the_adapter_is_found_among_other_files(names: list[str], taken: list[str]) -> None:
    assert choose(repository(*names)) == taken


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["adapter_model.bin", "a/b.pt"], r"refused: a/b\.pt, adapter_model\.bin"),
        (["a.safetensors", "b.safetensors"], "several adapters"),
        (["README.md", "checkpoint-500/ink.safetensors"], "no adapter"),
    ],
)
def test_what_is_not_one_adapter_is_refused(names: list[str], words: str) -> None:
    with pytest.raises(InvalidFileError, match=words):
        choose(repository(*names))


@pytest.mark.parametrize("name", ["../x.safetensors", "/etc/x.safetensors", ".x", "a/b.json"])
def test_a_name_that_leads_elsewhere_is_never_fetched(name: str, tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="promises a file"):
        Fetcher(repository(name), tmp_path).file(name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "size"), [("ink.safetensors", MAX_WEIGHTS + 1), ("lock.json", 5_000_000)]
)
def test_what_is_too_large_is_not_fetched(name: str, size: int, tmp_path: Path) -> None:
    with pytest.raises(LoraregError, match="too large"):
        Fetcher(repository(name, size=size), tmp_path).file(name)
    assert not list(tmp_path.iterdir())
