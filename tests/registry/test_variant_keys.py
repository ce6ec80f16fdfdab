"""Keys of a manifest about variants that exclude each other, and their place in its digest."""

from __future__ import annotations

from typing import Any

import pytest

from lorareg.errors import InvalidFileError
from lorareg.registry.manifest import ImageManifest, TextManifest, parse


def manifest(**keys: Any) -> ImageManifest | TextManifest:
    document = {
        "schema": "lorareg/1",
        "kind": "style",
        "name": "ink",
        "task": "text-to-image",
        "base": {"model": "builtin:avatar"},
        "dataset": {"path": "data/ink"},
    }
    return parse(document | keys, "manifest.yaml")


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"lora": {"use_dora": True, "init": "pissa"}}, "use_dora and init: pissa exclude each"),
        ({"lora": {"init": "pissa"}, "parent": "style/oil"}, "parent and lora.init: pissa exclude"),
        ({"train": {"text_encoder_learning_rate": 1e-5}}, "is for lora.text_encoder: true"),
        ({"train": {"optimizer": "prodigy"}}, "set learning_rate: 1.0"),
    ],
)
def test_keys_that_exclude_each_other_are_named_with_the_way_out(
    keys: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidFileError) as caught:
        manifest(**keys)

    assert said in caught.value.why


@pytest.mark.parametrize(
    "lora",
    [{"use_rslora": True}, {"use_dora": True}, {"init": "pissa"}, {"rank_pattern": {"*mid*": 4}}],
)
def test_a_variant_is_another_training_and_a_variant_left_out_is_none(
    lora: dict[str, Any],
) -> None:
    plain = {"use_rslora": False, "use_dora": False, "init": "kaiming", "rank_pattern": {}}

    assert manifest(lora=lora).config_digest() != manifest().config_digest()
    assert manifest(lora=plain).config_digest() == manifest().config_digest()
