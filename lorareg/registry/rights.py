"""What the members of a composition, their data and their base allow together.

Every grantor (an adapter's scope, its licence, each source of its data, its base) has terms of its
own; the most restrictive of each wins. A composition at run time changes no file: it is allowed
where a merged file is not.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce

from lorareg.registry import licenses, terms
from lorareg.registry.finding import Finding
from lorareg.registry.manifest import Manifest
from lorareg.registry.sources import Source
from lorareg.registry.terms import LEVELS, Terms

USES = {"text-to-image": ("image", "picture"), "text-generation": ("text", "dialogue")}


@dataclass(frozen=True)
class Grant:
    """One grantor's terms.

    Attributes:
        who: "style/ink", "source Lorelei of style/ink", "base builtin:avatar".
        license: as it was written, if these are the terms of one.
        is_scope: whether it is what an adapter's owners say beyond its licence.
    """

    who: str
    terms: Terms
    license: str = ""
    is_scope: bool = False

    @property
    def shown(self) -> str:
        """With its licence, for sentences."""
        return f"{self.who} ({self.license})" if self.license else self.who


def of_member(name: str, manifest: Manifest) -> list[Grant]:
    """What an adapter's scope and licence and the sources of its data say."""
    scope = terms.of_scope(manifest.scope)
    written = manifest.license.id if manifest.license else ""
    credit = f"{name}{_by(', '.join(manifest.owners))}"
    line = frozenset({f"{credit}, {written}" if written else credit} if scope.credit else ())
    grants = [
        Grant(name, replace(scope, credits=line), is_scope=True),
        _licensed(name, written, credit),
    ]
    sources = manifest.dataset_.sources if manifest.dataset_ else ()
    if origin := manifest.origin:
        whose = _by(origin.author or "") + (f" ({origin.url})" if origin.url else "")
        grants.append(_licensed(f"origin of {name}", origin.license or "", f"{origin.file}{whose}"))
    return grants + [_source(name, source) for source in sources]


def of_base(model: str, license_: str | None) -> Grant:
    """What the base's licence says; None is that it is not known."""
    return _licensed(f"base {model}", license_ or "", f"base {model}")


def meet(grants: Sequence[Grant]) -> Terms:
    """The terms of the composition."""
    return reduce(Terms.meet, (grant.terms for grant in grants), Terms())


def check(grants: Sequence[Grant], *, merged: bool, today: datetime.date) -> list[Finding]:
    """What speaks against the composition, or against merging it.

    Args:
        grants: of all members and the base.
        merged: whether a merged file is wanted; otherwise what only forbids one is a remark.
        today: terms that ended before it are over.
    """
    every = dict.fromkeys(grants)  # two members of one base name it once
    found = [*_expired(every, today), *_unmergeable(every, merged), *_share_alike(every, merged)]
    return [*found, *_overclaimed(every), *_unknown(every)]


def consent(name: str, manifest: Manifest, today: datetime.date) -> Iterator[Finding]:
    """Whether a member's recorded consent covers this use and has not ended."""
    given, what = manifest.consent, f"consent in {name}"
    if given is None:
        if manifest.dataset_ and manifest.dataset_.contains_personal_data:
            yield Finding(
                False,
                what,
                "its dataset holds personal data and no consent is recorded",
                f"write consent: {{subject: ..., record: ...}} into manifests/{manifest.id}",
                is_hard=False,
            )
        return
    use = USES[manifest.task]
    fix = f"leave {name} out, or obtain it and write it into its manifest"
    if not {word.casefold().removesuffix("s") for word in given.covers} & set(use):
        covers = ", ".join(given.covers) or "nothing"
        detail = f"{given.subject} agreed to {covers}, not to {use[0]} ({given.record})"
        yield Finding(False, what, detail, fix)
    elif given.expires and given.expires < today:
        detail = f"that of {given.subject} expired on {given.expires} ({given.record})"
        yield Finding(False, what, detail, fix)
    else:
        until = f" until {given.expires}" if given.expires else ""
        yield Finding(True, what, f"{given.subject}{until} ({given.record})")


def _licensed(who: str, written: str, credit: str) -> Grant:
    if not written:
        return Grant(who, Terms(unknown=frozenset({f"{who} (none given)"})))
    found = terms.of_license(written)
    unknown = frozenset(f"{who} ({each})" for each in found.unknown)
    line = frozenset({f"{credit}, {written}"} if found.credit else ())
    return Grant(who, replace(found, unknown=unknown, credits=line), written)


def _source(name: str, source: Source) -> Grant:
    link = f" ({source.url})" if source.url else ""
    changes = f"; {source.changes}" if source.changes else ""
    author = _by(source.author or "")
    grant = _licensed(f"source {source.title} of {name}", source.license, "")
    line = f"{source.title}{author}{link}, {source.license}{changes}"
    return replace(
        grant, terms=replace(grant.terms, credits=frozenset({line} if grant.terms.credit else ()))
    )


def _by(names: str) -> str:
    return f" by {names}" if names else ""


def _expired(grants: dict[Grant, None], today: datetime.date) -> Iterator[Finding]:
    for grant in grants:
        if grant.terms.expires and grant.terms.expires < today:
            yield Finding(
                False,
                f"scope of {grant.who}",
                f"it expired on {grant.terms.expires}",
                f"leave {grant.who} out, or have scope.expires in its manifest renewed",
            )


def _unmergeable(grants: dict[Grant, None], merged: bool) -> Iterator[Finding]:
    closed = [g for g in grants if not (g.terms.merge and g.terms.derivatives)]
    if closed:
        names = ", ".join(grant.shown for grant in closed)
        if merged:
            why = f"{names} may not go into merged weights: no derivatives, or scope.merge: false"
            yield Finding(False, "merging", why, "leave --output out: the recipe is allowed")
        else:
            yield Finding(True, "merging", f"only as a recipe: {names} may not be merged")


def _share_alike(grants: dict[Grant, None], merged: bool) -> Iterator[Finding]:
    bound = [grant for grant in grants if grant.terms.onward is not None]
    if not bound:
        return
    names = ", ".join(grant.shown for grant in bound)
    allowed = sorted(meet(bound).onward or ())
    usable = [name for name in allowed if not any(_withholds(g.terms, name) for g in grants)]
    if usable:
        yield Finding(True, "share-alike", f"a merged file must be under {' or '.join(usable)}")
        return
    why = f"no licence satisfies all of {names}"
    if allowed:
        against = [g.shown for g in grants if any(_withholds(g.terms, name) for name in allowed)]
        why = f"{names}: a merged file must be under {' or '.join(allowed)}, which gives what is "
        why += f"kept back by {', '.join(against)}"
    if merged:
        yield Finding(False, "share-alike", why, "leave --output out: the recipe is allowed")
    else:
        yield Finding(True, "share-alike", f"only as a recipe: {why}")


def _withholds(own: Terms, target: str) -> bool:
    """Whether terms keep back what a licence would give to everybody."""
    given = licenses.facts(target)
    free = given is not None and given.commercial
    return not own.derivatives or own.expires is not None or (free and own.commercial != LEVELS[-1])


def _overclaimed(grants: dict[Grant, None]) -> Iterator[Finding]:
    """Adapters whose scope allows more than their licence or the sources of their data."""
    for scope in (grant for grant in grants if grant.is_scope):
        tied = [
            other.shown
            for other in grants
            if (other.who == scope.who or other.who.endswith(f" of {scope.who}"))
            and LEVELS.index(other.terms.commercial) < LEVELS.index(scope.terms.commercial)
        ]
        if tied:
            yield Finding(
                False,
                f"scope of {scope.who}",
                f"it allows {scope.terms.commercial}, but not so {', '.join(tied)}; the narrower "
                "holds",
                f"set scope.commercial in its manifest to {LEVELS[0]}",
                is_hard=False,
            )


def _unknown(grants: dict[Grant, None]) -> Iterator[Finding]:
    unknown = sorted({each for grant in grants for each in grant.terms.unknown})
    if unknown:
        yield Finding(
            False,
            "licences",
            f"nothing is known here of {'; '.join(unknown)}",
            "read them, and write an SPDX or Hub id into license: of the manifest or its sources",
            is_hard=False,
        )
