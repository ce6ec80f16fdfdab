from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lorareg.errors import InvalidFileError
from lorareg.registry.bases import builtin, tokenizer

TEXTS = ["zzhangsan", "lorelei style", "It's 3 o'clock", "张三", "  TWO  spaces ", ""]


def test_words_and_merges_read_as_the_one_file_does(tmp_path: Path) -> None:
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    for name in ("vocab.json", "merges.txt"):
        shutil.copyfile(builtin.avatar() / "tokenizer" / name, folder / name)

    (whole,) = tokenizer.readers("diffusers", builtin.avatar())
    (pieces,) = tokenizer.readers("diffusers", tmp_path)

    assert [pieces.read(text) for text in TEXTS] == [whole.read(text) for text in TEXTS]


def test_a_base_without_a_tokenizer_has_no_reader(tmp_path: Path) -> None:
    assert tokenizer.readers("diffusers", tmp_path) == []
    assert tokenizer.readers("gguf", tmp_path / "model.gguf") == []
    assert tokenizer.readers("checkpoint", None) == []


def test_a_damaged_tokenizer_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")

    with pytest.raises(InvalidFileError, match="cannot be loaded"):
        tokenizer.readers("transformers", tmp_path)
