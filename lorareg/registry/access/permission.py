"""May the person who works here use an asset for this? Asked before every use, on this machine.

Always asked: is it revoked, have its scope or its consent expired. In a registry with a policy
also: is it public, or the person an owner, a maintainer, a user of the team, or somebody with a
grant for this use, this purpose and this day. Such a rule binds who goes through lorareg; the
bytes themselves are kept by the remotes' credentials and by the Hub's gate.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from lorareg.errors import LoraregError, listed
from lorareg.registry import lock
from lorareg.registry.access import authority, grants, policy, revocation, uses
from lorareg.registry.access.grants import Grant, Use
from lorareg.registry.access.policy import Policy
from lorareg.registry.access.revocation import Revocation, Stones
from lorareg.registry.access.uses import PURPOSE
from lorareg.registry.finding import Finding
from lorareg.registry.ids import RECIPE, AssetId
from lorareg.registry.lock import RecipeLock
from lorareg.registry.manifest import Manifest
from lorareg.registry.recipe import RecipeManifest
from lorareg.registry.revisions import released_manifest
from lorareg.registry.workspace import Workspace

VERBS = {
    "train": "train", "compose": "compose", "generate": "generate with", "pull": "pull",
    "export": "export", "publish": "publish",
}  # fmt: skip
HOW = "git's signing key or user.email"
State = tuple[AssetId, str | None]
"""An asset, and which release of it; None is what is checked out."""


@dataclass(frozen=True)
class Asker:
    """Who asks, in which registry, for what use, on which day."""

    workspace: Workspace
    use: Use
    today: datetime.date

    @cached_property
    def rules(self) -> Policy | None:
        """None in a registry of one."""
        return policy.load(self.workspace)

    @cached_property
    def person(self) -> str | None:
        """Their name in the policy; None if it does not know them."""
        return policy.me(self.workspace)

    @property
    def purpose(self) -> str:
        """What they say it is for; empty if they say nothing."""
        return os.environ.get(PURPOSE, "").strip()


def require(
    workspace: Workspace,
    asset: AssetId,
    use: Use,
    today: datetime.date | None = None,
    version: str | None = None,
) -> None:
    """Refuse a use that is not allowed; of a recipe, every member is asked about too.

    Raises:
        LoraregError: what is refused, why (who they are to lorareg), and whom to ask.
    """
    parts = _members(workspace, asset) if asset.kind == RECIPE else ()
    require_all(workspace, [(asset, version), *parts], use, today)


def require_all(
    workspace: Workspace,
    states: Sequence[State],
    use: Use,
    today: datetime.date | None = None,
    recipes: Sequence[State] = (),
) -> None:
    """Refuse a use that is not allowed for all of these; see ``check``.

    Raises:
        LoraregError: as ``require``.
    """
    stones = revocation.standing(workspace)
    for state in (*states, *recipes) if stones else ():
        if found := _revoked(workspace, state, stones, alone=state in recipes):
            raise found.error
    findings = _findings(Asker(workspace, use, today or datetime.date.today()), states, recipes)
    if not findings:
        return
    lines = [f"{each.what}: {each.detail}" for each in findings]
    names = dict.fromkeys(each.what for each in findings)
    raise LoraregError(
        f"you may not {VERBS[use]} {', '.join(names)}",
        why="\n" + listed(lines) if len(lines) > 1 else findings[0].detail,
        fix="; ".join(dict.fromkeys(each.fix for each in findings)),
    )


def check(
    workspace: Workspace,
    states: Sequence[State],
    use: Use,
    today: datetime.date | None = None,
    *,
    expiry: bool = True,
    recipes: Sequence[State] = (),
) -> list[Finding]:
    """What speaks against a use of these states, all of it at once; empty if nothing does.

    Args:
        workspace: the registry.
        states: of a composition: all of its members.
        use: what is to be done with them.
        today: the day on which terms must hold; by default the calendar's.
        expiry: whether expired terms are told; the checks of a composition tell them themselves.
        recipes: that named the members as they are now, whatever their locks pin.
    """
    asker = Asker(workspace, use, today or datetime.date.today())
    stones = revocation.standing(workspace)
    gone = (
        _revoked(workspace, state, stones, alone=state in recipes)
        for state in dict.fromkeys([*states, *recipes])
        if stones
    )
    found = [Finding(False, each.via[0], each.sentence, each.error.fix) for each in gone if each]
    return [*found, *_findings(asker, states, recipes, expiry=expiry)]


def _findings(
    asker: Asker, states: Sequence[State], recipes: Sequence[State], *, expiry: bool = True
) -> list[Finding]:
    """What terms, policy and grants say."""
    found: list[Finding] = []
    for asset, version in dict.fromkeys([*states, *recipes]):
        if not asker.workspace.folder(asset).manifest.is_file():
            continue
        if asker.use != "train":  # from an edit to its signature it is trained
            found += authority.unsigned(asker.workspace, asset)
        if expiry:
            shown = f"{asset}@{version}" if version else str(asset)
            found += _expired(shown, _manifest(asker.workspace, asset, version), asker.today)
        if asker.rules is not None:
            found += _not_for_them(asker, asker.rules, asker.workspace.load_asset(asset))
    return found


def require_pull(workspace: Workspace, asset: AssetId) -> None:
    """As ``require``; that a private asset's bytes come here is written down before they do."""
    require(workspace, asset, "pull")
    folder = workspace.folder(asset)
    known = lock.load(folder.lock) if folder.lock.is_file() else None
    is_private = workspace.load_asset(asset).visibility == "private"
    if is_private and known and not workspace.weights_match(folder, known):
        outputs = known.outputs.values()
        members = [uses.used(str(asset), out.tensors) for out in outputs if out.tensors]
        uses.record(workspace, "pull", asset, {"members": members})


def require_training(workspace: Workspace, wanted: Manifest) -> None:
    """Refuse to train an adapter, or to start from its parent, without leave; as ``require``."""
    states: list[State] = [(wanted.id, None)]
    if wanted.parent:
        name, _, version = wanted.parent.partition("@")
        states.append((AssetId.parse(name), version or None))
    require_all(workspace, states, "train")


def _revoked(
    workspace: Workspace, state: State, stones: Stones, *, alone: bool
) -> Revocation | None:
    if alone:
        return revocation.own(workspace, *state)
    return revocation.revoked(workspace, *state, stones)


def _members(workspace: Workspace, asset: AssetId) -> Iterator[State]:
    path = workspace.folder(asset).lock
    known = lock.load(path) if path.is_file() else None
    for member in known.members if isinstance(known, RecipeLock) else ():
        name, _, version = member.ref.partition("@")
        yield AssetId.parse(name), version or None


def _manifest(
    workspace: Workspace, asset: AssetId, version: str | None
) -> Manifest | RecipeManifest:
    """Its terms in that state; of a recipe, which has none of its own, those of today."""
    if version is None or asset.kind == RECIPE:
        return workspace.load_asset(asset)
    return released_manifest(workspace, asset, version)


def _expired(
    shown: str, manifest: Manifest | RecipeManifest, today: datetime.date
) -> Iterator[Finding]:
    if not isinstance(manifest, Manifest):
        return
    consent = manifest.consent
    dates = [("its scope", "scope.expires", manifest.scope.expires)]
    if consent:
        who = f"the consent of {consent.subject} ({consent.record})"
        dates.append((who, "consent.expires", consent.expires))
    for what, key, date in dates:
        if date and date < today:
            fix = f"have it renewed, and {key} in manifests/{manifest.id}/manifest.yaml with it"
            yield Finding(False, shown, f"{what} expired on {date}", fix)


def _not_for_them(
    asker: Asker, rules: Policy, manifest: Manifest | RecipeManifest
) -> Iterator[Finding]:
    """By the manifest of today, also for a release: who may use it is decided now."""
    asset = manifest.id
    if manifest.visibility == "public" and asker.use != "publish":
        return
    owners = rules.owners(asset.kind, manifest.owners)
    may = owners | rules.maintainers
    if manifest.visibility == "team" and asker.use != "publish":
        may |= rules.users
    if asker.person in may:
        return
    given = [g for g in grants.load(asker.workspace, asset) if g.who == asker.person]
    why_not = _why_not(asker, given)
    if why_not is None:
        return
    detail = f"{_whose(asker, manifest)}, and {known_as(asker.person)}{why_not[0]}"
    yield Finding(
        False, str(asset), detail, why_not[1] or _whom_to_ask(asker, rules, asset, owners)
    )


def _why_not(asker: Asker, given: Sequence[Grant]) -> tuple[str, str] | None:
    """Why no grant allows it, and what helps if that is not another grant; None if one does."""
    if asker.person is None:
        return "", ""
    if not given:
        return ", without a grant", ""
    valid = [grant for grant in given if grant.holds(asker.today)]
    if not valid:
        last = max(grant.until for grant in given if grant.until)
        return f", with a grant that expired on {last}", ""
    fitting = [grant for grant in valid if grant.covers(asker.use)]
    if not fitting:
        allowed = sorted({use for grant in valid for use in grant.scope or grants.UNSAID})
        return f", with a grant for other uses: {', '.join(allowed)}", ""
    if any(grant.is_for(asker.purpose) for grant in fitting):
        return None
    purposes = ", ".join(repr(grant.purpose) for grant in fitting)
    said = f"not {asker.purpose!r}" if asker.purpose else "and no purpose was said"
    say = f"if that is what it is for, say so: lorareg --purpose {fitting[0].purpose!r} COMMAND"
    return f", with a grant for {purposes}, {said}", say


def _whose(asker: Asker, manifest: Manifest | RecipeManifest) -> str:
    """Whom this use is left to."""
    if asker.use == "publish":
        return "only its owners and maintainers publish it"
    if manifest.visibility == "private":
        return "it is private to its owners and maintainers"
    return "it is for the users of the team"


def known_as(person: str | None) -> str:
    """Who somebody is to lorareg, and how it knows."""
    if person is None:
        return f"lorareg does not know you: {HOW} is that of nobody in the policy"
    return f"lorareg knows you as {person} (by {HOW})"


def _whom_to_ask(asker: Asker, rules: Policy, asset: AssetId, owners: frozenset[str]) -> str:
    names = ", ".join(sorted(owners or rules.maintainers))
    scope = f" --scope {asker.use}" if asker.use == "publish" else ""
    purpose = asker.purpose or "WHAT FOR"
    order = f"lorareg access grant {asset} {asker.person or 'YOU'} --purpose {purpose!r}{scope}"
    if asker.person is None:
        people = ", ".join(sorted(rules.maintainers))
        return f"ask {people} to add you to {policy.FILE}, then {names}: {order}"
    return f"ask {names}: {order}"
