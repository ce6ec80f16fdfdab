"""What may be done with an adapter, and by whose leave; and what is left of it in company."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any, Literal, get_args

from lorareg.registry import licenses
from lorareg.registry.fields import Text
from lorareg.registry.schema import Strict

Commercial = Literal["none", "images", "services", "resale"]
LEVELS: tuple[Commercial, ...] = get_args(Commercial)
"""From the narrowest to the widest; each allows what those before it allow."""
AUDIENCES = ("private", "team", "public")
"""Values of ``visibility``, from few people to all."""


class License(Strict):
    """Terms of the adapter itself: an SPDX or Hub licence id."""

    id: Text
    link: Text | None = None


class Scope(Strict):
    """What users may do with the adapter, beyond its licence."""

    commercial: Commercial = "none"
    derivatives: bool = True
    merge: bool = True
    credit: bool = True
    expires: datetime.date | None = None


class Consent(Strict):
    """A real person's agreement to the use of a likeness."""

    subject: Text
    record: Text
    covers: tuple[Text, ...] = ("image",)
    expires: datetime.date | None = None


@dataclass(frozen=True)
class Terms:
    """What all of several grantors allow together; the default allows everything.

    Law: ``meet`` is commutative, associative and idempotent, and never wider than either side.

    Attributes:
        onward: share-alike: licences that a merged file may be under; None is any, empty is that
            there is none and no such file may be made.
        licenses: of all grantors, by canonical id.
        unknown: licences, or grantors without one, of which nothing is known here.
        conditions: licences with rules of use that must be passed on.
        credits: whom to name.
    """

    commercial: Commercial = "resale"
    derivatives: bool = True
    merge: bool = True
    credit: bool = False
    expires: datetime.date | None = None
    onward: frozenset[str] | None = None
    licenses: frozenset[str] = frozenset()
    unknown: frozenset[str] = frozenset()
    conditions: frozenset[str] = frozenset()
    credits: frozenset[str] = frozenset()

    def meet(self, other: Terms) -> Terms:
        """The most restrictive of both, term by term."""
        return Terms(
            commercial=min(self.commercial, other.commercial, key=LEVELS.index),
            derivatives=self.derivatives and other.derivatives,
            merge=self.merge and other.merge,
            credit=self.credit or other.credit,
            expires=min((d for d in (self.expires, other.expires) if d), default=None),
            onward=_both(self.onward, other.onward),
            licenses=self.licenses | other.licenses,
            unknown=self.unknown | other.unknown,
            conditions=self.conditions | other.conditions,
            credits=self.credits | other.credits,
        )

    def document(self) -> dict[str, Any]:
        """JSON for a card, a recipe or a program."""
        return {
            "commercial": self.commercial,
            "derivatives": self.derivatives,
            "merge": self.merge,
            "credit": self.credit,
            "expires": self.expires.isoformat() if self.expires else None,
            "merged_file_license": None if self.onward is None else sorted(self.onward),
            "licenses": sorted(self.licenses),
            "unknown": sorted(self.unknown),
            "conditions": sorted(self.conditions),
            "credits": sorted(self.credits),
        }


def of_license(text: str) -> Terms:
    """What a licence allows; of one that is not known here, nothing is narrowed but it is named."""
    found = licenses.facts(text)
    if found is None:
        return Terms(unknown=frozenset({text}))
    name = licenses.canonical(text)
    return Terms(
        commercial="resale" if found.commercial else "none",
        derivatives=found.derivatives,
        merge=found.derivatives,
        credit=found.credit,
        onward=found.onward,
        licenses=frozenset({name}),
        conditions=frozenset({name} if found.has_conditions else ()),
    )


def of_scope(scope: Scope) -> Terms:
    """What an adapter's own scope allows."""
    return Terms(
        commercial=scope.commercial,
        derivatives=scope.derivatives,
        merge=scope.merge,
        credit=scope.credit,
        expires=scope.expires,
    )


def _both(one: frozenset[str] | None, other: frozenset[str] | None) -> frozenset[str] | None:
    if one is None or other is None:
        return other if one is None else one
    return one & other


def is_wider(visibility: str, other: str) -> bool:
    """Whether more people may see the one than the other.

    >>> is_wider("public", "private"), is_wider("team", "team")
    (True, False)
    """
    return AUDIENCES.index(visibility) > AUDIENCES.index(other)
