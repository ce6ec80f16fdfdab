"""Words of a card's front matter that need no quotes are written as YAML's own writer does."""

from __future__ import annotations

import io

from hypothesis import example, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from lorareg.registry import card

WORDS = st.one_of(
    st.sampled_from(["cc-by-4.0", "mit", "zzhang", "yes", "No", "null", "1e3", "0x1", "-", "a: b"]),
    st.text(alphabet="abnoyNY019._/-: #'é", min_size=1, max_size=12),
)


@settings(derandomize=True, max_examples=150, deadline=None)
@given(WORDS, st.lists(WORDS, min_size=1, max_size=3))
@example("mit", ["lora", "lorareg", "character"])
@example("OFF", ["y"])
def test_front_matter_is_what_a_yaml_writer_makes(word: str, tags: list[str]) -> None:
    front: dict[str, str | list[str]] = {"license": word, "tags": tags}
    stream = io.StringIO()
    YAML().dump(front, stream)

    assert card._yaml(front) == stream.getvalue()
    assert YAML(typ="safe").load(card._yaml(front)) == front
