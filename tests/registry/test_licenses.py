from __future__ import annotations

import pytest

from lorareg.registry import licenses


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("CC BY 4.0", "cc-by-4.0"), ("cc-by-4.0", "cc-by-4.0"), ("CC0 1.0", "cc0-1.0"),
        ("Apache License, Version 2.0", "apache-2.0"), ("The MIT License", "mit"),
        ("GPL-3.0-or-later", "gpl-3.0"), ("openrail++", "openrail++"),
    ],
)  # fmt: skip
def test_a_licence_is_known_however_it_is_written(written: str, canonical: str) -> None:
    assert licenses.canonical(written) == canonical
    assert licenses.facts(written) is not None


@pytest.mark.parametrize(
    ("name", "commercial", "derivatives", "share_alike"),
    [
        ("MIT", True, True, False), ("CC-BY-4.0", True, True, False),
        ("CC-BY-NC-4.0", False, True, False), ("CC-BY-ND-4.0", True, False, False),
        ("CC-BY-NC-ND-3.0", False, False, False), ("CC-BY-SA-4.0", True, True, True),
        ("CC-BY-NC-SA-4.0", False, True, True), ("GPL-3.0-only", True, True, True),
        ("creativeml-openrail-m", True, True, False),
        ("flux-1-dev-non-commercial-license", False, True, False),
    ],
)  # fmt: skip
def test_what_a_licence_says(
    name: str, commercial: bool, derivatives: bool, share_alike: bool
) -> None:
    found = licenses.facts(name)

    assert found
    assert (found.commercial, found.derivatives) == (commercial, derivatives)
    assert (found.onward is not None) == share_alike


@pytest.mark.parametrize("name", ["free for personal use", "other", "", "cc-by-9.9", "proprietary"])
def test_what_is_not_in_the_table_is_not_guessed(name: str) -> None:
    assert licenses.facts(name) is None


def test_share_alike_goes_on_to_itself_and_to_later_versions_only() -> None:
    def onward(name: str) -> frozenset[str]:
        found = licenses.facts(name)
        assert found
        assert found.onward
        return found.onward

    assert onward("CC-BY-SA-3.0") == {"cc-by-sa-3.0", "cc-by-sa-4.0"}
    assert onward("CC-BY-SA-4.0") & onward("CC-BY-SA-3.0") == {"cc-by-sa-4.0"}
    assert onward("CC-BY-SA-4.0") & onward("GPL-3.0") == {"gpl-3.0"}
    assert not onward("CC-BY-SA-4.0") & onward("CC-BY-NC-SA-4.0")
    assert not onward("GPL-2.0-only") & onward("GPL-3.0")


def test_every_licence_that_something_may_go_on_to_is_known() -> None:
    goals = {goal for goals in licenses.ONWARD.values() for goal in goals}

    assert all(licenses.facts(goal) for goal in goals)
