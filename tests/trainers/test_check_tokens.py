"""Captions counted as the base's text encoder will read them, fast and without torch."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, CLIPTokenizer

from lorareg.errors import InvalidFileError, NotFoundError
from lorareg.registry.bases import builtin
from lorareg.registry.bases.base import ResolvedBase
from lorareg.registry.memory import Memory
from lorareg.trainers.data.check.captions import check
from lorareg.trainers.data.check.tokens import TokenCounter, uncounted

AVATAR = ResolvedBase("builtin:avatar", None, "diffusers", builtin.avatar(), "base-sha256-v1:0")
LIMIT = 40  # tokens of builtin:avatar
COUNTER = TokenCounter.of(AVATAR, None)
REFERENCE = CLIPTokenizer.from_pretrained(builtin.avatar() / "tokenizer", local_files_only=True)
CAPTION = "mmira, portrait, grinning, winking, adventurer style, white background"
LOADED = "print(sorted({'tokenizers', 'transformers', 'torch'} & sys.modules.keys()))"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The tokenizer and configs of a base, to be changed."""
    home = tmp_path / "base"
    for part in ("tokenizer", "text_encoder"):
        keep = shutil.ignore_patterns("*.safetensors")
        shutil.copytree(builtin.avatar() / part, home / part, ignore=keep)
    return home


def counter(folder: Path, cache: Path | None = None) -> TokenCounter:
    return TokenCounter.of(replace(AVATAR, path=folder), cache)


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes), encoding="utf-8")


def loaded_by_counting(cache: Path | None) -> str:
    """Which heavy libraries a new process has after counting one caption."""
    code = f"""
import sys
from pathlib import Path
from lorareg.registry.bases import builtin
from lorareg.registry.bases.base import ResolvedBase
from lorareg.trainers.data.check.tokens import TokenCounter
base = ResolvedBase("builtin:avatar", None, "diffusers", builtin.avatar(), "")
TokenCounter.of(base, {f"Path({str(cache)!r})" if cache else None}).count([{CAPTION!r}])
{LOADED}
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=80))
def test_counts_are_those_of_the_tokenizer_that_trains(caption: str) -> None:
    assert COUNTER.count([caption])[caption].tokens == len(REFERENCE(caption).input_ids)


@given(
    st.lists(st.sampled_from(["teal hair,", "张三", "smiling", "é", "x"]), min_size=10, max_size=40)
)
def test_what_is_kept_is_what_the_tokenizer_does_not_cut(words: list[str]) -> None:
    caption = " ".join(words)

    count = COUNTER.count([caption])[caption]
    read = REFERENCE(caption, truncation=True, max_length=LIMIT).input_ids[1:-1]
    kept = REFERENCE(caption[: count.kept]).input_ids[1:-1]

    assert (count.kept < len(caption)) == (count.tokens > LIMIT)
    assert len(read) - 3 < len(kept) <= len(read)  # a cut character loses its other bytes too
    assert kept[:-3] == read[: len(kept[:-3])]


def test_words_and_merges_without_a_tokenizer_file_count_the_same(folder: Path) -> None:
    (folder / "tokenizer" / "tokenizer.json").unlink()
    captions = [CAPTION, "张三 in a room's light 123", ""]

    assert counter(folder).count(captions) == COUNTER.count(captions)


def test_of_two_tokenizers_the_stricter_limit_and_the_larger_count_are_taken(folder: Path) -> None:
    second = folder / "tokenizer_2"
    shutil.copytree(folder / "tokenizer", second)
    edit(second / "tokenizer_config.json", model_max_length=12)
    document = json.loads((second / "tokenizer.json").read_text("utf-8"))
    document["model"]["merges"] = []
    (second / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")

    both = counter(folder)
    count = both.count([CAPTION])[CAPTION]

    assert both.limit == 12
    assert count.tokens > COUNTER.count([CAPTION])[CAPTION].tokens
    assert CAPTION[: count.kept].strip() == "mmira, port"


@pytest.mark.parametrize(("claimed", "limit"), [(10**30, 40), (None, 40), (24, 24)])
def test_a_tokenizer_that_claims_no_limit_has_its_text_encoders(
    folder: Path, claimed: int | None, limit: int
) -> None:
    edit(folder / "tokenizer" / "tokenizer_config.json", model_max_length=claimed)

    assert counter(folder).limit == limit


def test_without_any_limit_nothing_is_cut(folder: Path) -> None:
    edit(folder / "tokenizer" / "tokenizer_config.json", model_max_length=10**30)
    shutil.rmtree(folder / "text_encoder")
    caption = "cat " * 500

    found = counter(folder)

    assert found.limit is None
    assert found.count([caption])[caption].kept == len(caption)


def test_a_tokenizer_file_that_cuts_by_itself_is_not_obeyed(folder: Path) -> None:
    edit(
        folder / "tokenizer" / "tokenizer.json",
        truncation={"direction": "Right", "max_length": 5, "strategy": "LongestFirst", "stride": 0},
    )

    assert counter(folder).count([CAPTION]) == COUNTER.count([CAPTION])


def test_a_single_file_takes_the_tokenizer_of_its_config_folder(folder: Path) -> None:
    checkpoint = replace(AVATAR, layout="checkpoint", path=folder / "model.safetensors")

    with_config = TokenCounter.of(replace(checkpoint, config=folder), None)
    with pytest.raises(NotFoundError) as caught:
        TokenCounter.of(checkpoint, None)

    assert with_config.count([CAPTION]) == COUNTER.count([CAPTION])
    note = uncounted(caught.value)
    assert (note.code, note.severity) == ("caption-uncounted", "note")
    assert "base.config" in note.fix


def test_a_language_model_counts_with_the_tokenizer_in_its_folder(
    pico_llama: ResolvedBase, pico_gguf: tuple[ResolvedBase, object]
) -> None:
    own = AutoTokenizer.from_pretrained(pico_llama.path)

    counts = TokenCounter.of(pico_llama, None).count(["Arr, matey"])

    assert counts["Arr, matey"].tokens == len(own("Arr, matey").input_ids)
    with pytest.raises(NotFoundError, match="no tokenizer"):
        TokenCounter.of(pico_gguf[0], None)


@pytest.mark.parametrize("content", ["", "{}", "not json", '{"model": 7}', "\udcff"])
@pytest.mark.parametrize("name", ["tokenizer.json", "vocab.json", "merges.txt"])
def test_a_damaged_tokenizer_is_a_note_and_not_a_crash(
    folder: Path, tmp_path: Path, name: str, content: str
) -> None:
    (folder / "tokenizer" / "tokenizer.json").unlink()
    (folder / "tokenizer" / name).write_text(content, encoding="utf-8", errors="surrogateescape")
    (tmp_path / "metadata.csv").write_text("a.png,cat\n")

    found = check(tmp_path, ["a.png"], counter=counter(folder))

    if name == "merges.txt" and not content:  # a tokenizer of single letters
        assert found.tokens == {"a.png": 5}
        return
    assert found.tokens == {}
    assert [(f.code, f.severity) for f in found.findings] == [("caption-uncounted", "note")]


def test_a_caption_that_is_too_long_is_named_with_the_words_that_are_lost(tmp_path: Path) -> None:
    long = f"{CAPTION}, {CAPTION}, {CAPTION}, glass tubes"
    (tmp_path / "metadata.csv").write_text(f'a.png,"{long}"\nb.png,"{CAPTION}"\n')

    found = check(tmp_path, ["a.png", "b.png"], counter=COUNTER)

    # Its words are there three times, of which a note tells.
    finding, repeated = sorted(found.findings, key=lambda each: each.severity, reverse=True)
    assert (repeated.code, repeated.severity) == ("caption-repeats", "note")
    assert (finding.code, finding.severity) == ("caption-too-long", "warning")
    assert finding.files == ("a.png",)
    assert finding.why.startswith(f"{found.tokens['a.png']} tokens, the base reads 40; ")
    kept = COUNTER.count([long])[long].kept
    assert finding.why.endswith(f"it never sees {long[kept:].strip()[:60] + '...'!r}")
    assert 0 < kept < len(long)
    assert found.limit == LIMIT
    assert found.tokens["b.png"] == len(REFERENCE(CAPTION).input_ids)


def test_counts_are_remembered_for_the_tokenizer_they_were_made_with(
    folder: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache" / "tokens.sqlite"
    first = counter(folder, cache).count([CAPTION, "cat"])
    with sqlite3.connect(cache) as database:
        known = f"%{first[CAPTION]}"
        ((key,),) = database.execute("select caption from tokens where counts like ?", [known])
    Memory(cache, "tokens", "caption", "counts").remember({key: "7 7"})

    remembered = counter(folder, cache).count([CAPTION, "cat"])
    edit(folder / "text_encoder" / "config.json", max_position_embeddings=20)
    other = counter(folder, cache).count([CAPTION, "cat"])

    assert remembered[CAPTION].tokens == 7
    assert remembered["cat"] == first["cat"]
    assert other[CAPTION].tokens == first[CAPTION].tokens


@pytest.mark.parametrize("content", [b"", b"no database", b"SQLite format 3\0" + b"\0" * 200])
def test_a_damaged_cache_costs_time_only(tmp_path: Path, content: bytes) -> None:
    cache = tmp_path / "tokens.sqlite"
    cache.write_bytes(content)

    for _ in range(2):
        assert TokenCounter.of(AVATAR, cache).count([CAPTION]) == COUNTER.count([CAPTION])


def test_known_captions_are_counted_without_loading_a_tokenizer(tmp_path: Path) -> None:
    cache = tmp_path / "tokens.sqlite"
    TokenCounter.of(AVATAR, cache).count([CAPTION])

    assert loaded_by_counting(cache) == "[]"


def test_counting_anew_loads_no_torch() -> None:
    assert loaded_by_counting(None) == "['tokenizers']"


def test_an_error_of_the_tokenizer_library_becomes_one_for_people(folder: Path) -> None:
    (folder / "tokenizer" / "tokenizer.json").write_text("{}")

    with pytest.raises(InvalidFileError, match="cannot be loaded") as caught:
        counter(folder).count(["cat"])

    assert caught.value.fix
