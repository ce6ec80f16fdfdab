from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lorareg.trainers.report.heatmap import draw
from lorareg.weights import conflict
from tests.weights.planted import SMALL, sharing


def heat(path: Path) -> float:
    """How little green there is, from pale yellow to dark red."""
    return -float(np.mean(np.asarray(Image.open(path).convert("RGB"), dtype=float)[..., 1]))


def test_the_more_is_shared_the_redder_the_map(tmp_path: Path) -> None:
    found = [
        heat(draw(tmp_path / f"{share}.png", conflict.examine(parts, ["a", "b"])))
        for share in (0.0, 0.125, 1.0)
        for parts in [sharing(SMALL, [8, 8], share)]
    ]

    assert found[0] < found[1] < found[2]


@pytest.mark.parametrize("count", [1, 2, 4])
def test_any_number_of_members_can_be_drawn(tmp_path: Path, count: int) -> None:
    names = [f"style/{number}" for number in range(count)]
    found = conflict.examine(sharing(SMALL, [4] * count, 0.3), names)

    path = draw(tmp_path / "map.png", found)

    with Image.open(path) as picture:
        assert picture.format == "PNG"
