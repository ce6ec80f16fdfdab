"""What may be done with an adapter, and by whose leave."""

from __future__ import annotations

import datetime
from typing import Literal

from lorareg.registry.fields import Text
from lorareg.registry.schema import Strict

AUDIENCES = ("private", "team", "public")
"""Values of ``visibility``, from few people to all."""


class License(Strict):
    """Terms of the adapter itself: an SPDX or Hub licence id."""

    id: Text
    link: Text | None = None


class Scope(Strict):
    """What users may do with the adapter, beyond its licence."""

    commercial: Literal["none", "images", "services", "resale"] = "none"
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


def is_wider(visibility: str, other: str) -> bool:
    """Whether more people may see the one than the other.

    >>> is_wider("public", "private"), is_wider("team", "team")
    (True, False)
    """
    return AUDIENCES.index(visibility) > AUDIENCES.index(other)
