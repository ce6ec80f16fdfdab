from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorareg.registry import terms
from lorareg.registry.terms import LEVELS, Scope, Terms

NAMES = st.frozensets(st.sampled_from(["mit", "cc-by-4.0", "gpl-3.0"]))
TERMS = st.builds(
    Terms,
    commercial=st.sampled_from(LEVELS),
    derivatives=st.booleans(),
    merge=st.booleans(),
    credit=st.booleans(),
    expires=st.none() | st.dates(),
    onward=st.none() | NAMES,
    licenses=NAMES,
    unknown=NAMES,
    conditions=NAMES,
    credits=NAMES,
)


def is_within(one: Terms, other: Terms) -> bool:
    """Whether ``one`` allows nothing that ``other`` does not, and asks for all that it asks for."""
    far = datetime.date.max
    return (
        LEVELS.index(one.commercial) <= LEVELS.index(other.commercial)
        and (other.derivatives or not one.derivatives)
        and (other.merge or not one.merge)
        and (one.credit or not other.credit)
        and (one.expires or far) <= (other.expires or far)
        and (other.onward is None or (one.onward is not None and one.onward <= other.onward))
        and one.licenses >= other.licenses
        and one.unknown >= other.unknown
        and one.conditions >= other.conditions
        and one.credits >= other.credits
    )


@given(TERMS, TERMS)
def test_the_meet_is_the_same_either_way_round(one: Terms, other: Terms) -> None:
    assert one.meet(other) == other.meet(one)


@given(TERMS, TERMS, TERMS)
def test_the_meet_does_not_depend_on_how_members_are_grouped(a: Terms, b: Terms, c: Terms) -> None:
    assert a.meet(b).meet(c) == a.meet(b.meet(c))


@given(TERMS)
def test_terms_meet_themselves_and_the_widest_ones_as_they_are(one: Terms) -> None:
    assert one.meet(one) == one
    assert one.meet(Terms()) == one


@given(TERMS, TERMS)
def test_the_meet_is_never_wider_than_a_member(one: Terms, other: Terms) -> None:
    both = one.meet(other)

    assert is_within(both, one)
    assert is_within(both, other)


@given(TERMS, TERMS, TERMS)
def test_the_meet_is_the_widest_that_is_within_both(a: Terms, b: Terms, c: Terms) -> None:
    if is_within(c, a) and is_within(c, b):
        assert is_within(c, a.meet(b))


def test_a_licence_that_is_not_known_narrows_nothing_but_is_named() -> None:
    assert terms.of_license("house rules") == Terms(unknown=frozenset({"house rules"}))


@pytest.mark.parametrize(
    ("license_", "commercial", "merge"),
    [("MIT", "resale", True), ("CC-BY-NC-4.0", "none", True), ("CC-BY-ND-4.0", "resale", False)],
)
def test_a_licence_sets_the_commercial_use_and_the_merging(
    license_: str, commercial: str, merge: bool
) -> None:
    found = terms.of_license(license_)

    assert (found.commercial, found.merge) == (commercial, merge)


def test_a_scope_is_taken_as_it_is() -> None:
    day = datetime.date(2027, 12, 31)

    found = terms.of_scope(Scope(commercial="images", merge=False, expires=day))

    assert (found.commercial, found.merge, found.expires) == ("images", False, day)
    assert found.document()["expires"] == "2027-12-31"
