from __future__ import annotations

from pathlib import Path

import pytest

from lorareg.registry.bases import builtin
from lorareg.registry.bases import license as base_license


def test_the_built_in_bases_have_one() -> None:
    assert base_license.of("builtin:avatar", builtin.avatar()) == "cc-by-4.0"
    assert base_license.of("builtin:smollm2", None) == "Apache-2.0"


@pytest.mark.parametrize(
    ("card", "found"),
    [
        ("---\nlicense: openrail++\ntags: [a]\n---\n# Model\n", "openrail++"),
        ("---\nlicense: other\nlicense_name: flux-1-dev-non-commercial-license\n---\n",
         "flux-1-dev-non-commercial-license"),
        ("---\nlicense: other\n---\n", None),
        ("---\nlicense: unknown\n---\n", None),
        ("# no front matter\n", None),
        ("---\n{: [\n---\n", None),
    ],
)  # fmt: skip
def test_a_folders_card_tells_it(tmp_path: Path, card: str, found: str | None) -> None:
    (tmp_path / "README.md").write_text(card)

    assert base_license.of("folder", tmp_path) == found


def test_a_base_that_says_nothing_has_none(tmp_path: Path) -> None:
    assert base_license.of("folder", tmp_path) is None
