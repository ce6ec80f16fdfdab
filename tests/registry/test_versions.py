"""Which state of an adapter a reference means, and that its bytes are the lock's."""

from __future__ import annotations

import pytest

from lorareg.registry.versions import within


@pytest.mark.parametrize(
    ("wanted", "inside", "outside"),
    [
        ("^1.2", ["v1.2.0", "v1.9.3"], ["v1.1.9", "v2.0.0"]),
        ("^1", ["v1.0.0", "v1.9.3"], ["v0.9.0", "v2.0.0"]),
        ("^0.2", ["v0.2.0", "v0.2.9"], ["v0.1.0", "v0.3.0", "v1.0.0"]),
        ("^0.0.3", ["v0.0.3"], ["v0.0.2", "v0.0.4", "v0.1.0"]),
        ("^0", ["v0.0.1", "v0.9.0"], ["v1.0.0"]),
        ("~1.2", ["v1.2.0", "v1.2.7"], ["v1.3.0", "v1.1.0"]),
        ("~1.2.3", ["v1.2.3", "v1.2.9"], ["v1.2.2", "v1.3.0"]),
        ("~1", ["v1.0.0", "v1.9.0"], ["v2.0.0"]),
    ],
)
def test_a_range_holds_the_releases_that_change_nothing_it_relies_on(
    wanted: str, inside: list[str], outside: list[str]
) -> None:
    assert [within(version, wanted) for version in inside] == [True] * len(inside)
    assert [within(version, wanted) for version in outside] == [False] * len(outside)
