"""Whether people may do less or more than before: narrower breaks them, wider does not."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence

from lorareg.registry import rights, terms
from lorareg.registry.manifest import Manifest
from lorareg.registry.recipe import RecipeManifest
from lorareg.registry.releases.levels import Reason
from lorareg.registry.terms import Consent, Terms

NONE_GIVEN = "(none given)"  # how `rights` calls a grantor without a licence
FLAGS = ("derivatives", "merge")


def between(before: Sequence[Manifest], after: Sequence[Manifest]) -> Iterator[Reason]:
    """What changed in what all these adapters and their sources allow together.

    Args:
        before: the adapter itself, or every member of a recipe, as released.
        after: the same as they are now.
    """
    yield from compared(_allowed(before), _allowed(after))


def audience(
    before: Manifest | RecipeManifest, after: Manifest | RecipeManifest
) -> Iterator[Reason]:
    """Fewer or more people who may see it."""
    old, new = before.visibility, after.visibility
    if old != new:
        yield _step(terms.is_wider(old, new), f"visibility: {old} -> {new}")


def consent(before: Consent | None, after: Consent | None) -> Iterator[Reason]:
    """What a recorded agreement covers; when it ends is in the terms."""
    if before and after is None:
        yield Reason("major", f"consent of {before.subject} is no longer recorded")
    elif before and after and set(before.covers) != set(after.covers):
        lost = set(before.covers) - set(after.covers)
        shown = f"{', '.join(before.covers)} -> {', '.join(after.covers) or 'nothing'}"
        yield _step(bool(lost), f"consent.covers: {shown}")


def compared(before: Terms, after: Terms) -> Iterator[Reason]:
    """A line for each term that became narrower (major) or wider (minor)."""
    found = [*_use(before, after), *_time(before.expires, after.expires)]
    found += [*_onward(before.onward, after.onward), *_conditions(before, after)]
    found += _unknown(before.unknown, after.unknown)
    yield from found
    old, new = (", ".join(sorted(each.licenses)) or "none" for each in (before, after))
    if old != new and not found:
        yield Reason("minor", f"licences: {old} -> {new}, which ask for the same")


def _allowed(members: Sequence[Manifest]) -> Terms:
    grants = [grant for each in members for grant in rights.of_member(str(each.id), each)]
    ends = [each.consent.expires for each in members if each.consent and each.consent.expires]
    return rights.meet(grants).meet(Terms(expires=min(ends, default=None)))


def _step(is_narrower: bool, text: str) -> Reason:
    return (
        Reason("major", f"{text}, narrower") if is_narrower else Reason("minor", f"{text}, wider")
    )


def _use(before: Terms, after: Terms) -> Iterator[Reason]:
    old, new = (terms.LEVELS.index(each.commercial) for each in (before, after))
    if old != new:
        yield _step(new < old, f"commercial use: {before.commercial} -> {after.commercial}")
    for flag in FLAGS:
        was, now = getattr(before, flag), getattr(after, flag)
        if was != now:
            yield _step(was, f"{flag}: {'allowed' if was else 'not allowed'} before")
    if before.credit != after.credit:
        yield _step(after.credit, f"credit: {'must' if after.credit else 'need not'} be given")


def _time(before: datetime.date | None, after: datetime.date | None) -> Iterator[Reason]:
    if before != after:
        last = datetime.date.max
        yield _step((after or last) < (before or last), f"ends: {_day(before)} -> {_day(after)}")


def _day(date: datetime.date | None) -> str:
    return date.isoformat() if date else "never"


def _onward(before: frozenset[str] | None, after: frozenset[str] | None) -> Iterator[Reason]:
    if before != after:
        is_wider = after is None or (before is not None and after > before)
        shown = [", ".join(sorted(each)) or "none" if each is not None else "any"
                 for each in (before, after)]  # fmt: skip
        yield _step(not is_wider, f"share-alike licences: {shown[0]} -> {shown[1]}")


def _conditions(before: Terms, after: Terms) -> Iterator[Reason]:
    if more := after.conditions - before.conditions:
        yield _step(True, f"rules of use: those of {', '.join(sorted(more))} came")
    elif less := before.conditions - after.conditions:
        yield _step(False, f"rules of use: those of {', '.join(sorted(less))} went")


def _unknown(before: frozenset[str], after: frozenset[str]) -> Iterator[Reason]:
    came, went = after - before, before - after
    if named := sorted(each for each in came | went if not each.endswith(NONE_GIVEN)):
        why = f"licence: nothing is known here of {', '.join(named)}"
        yield Reason("major", f"{why}, so it may be narrower")
    elif came:
        yield _step(True, f"licence: {', '.join(sorted(came))}")
    elif went:
        yield _step(False, f"licence: no longer {', '.join(sorted(went))}")
