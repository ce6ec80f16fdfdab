"""The gate of a repository on the Hub, kept equal to the grants of its asset.

Let in are, exactly: who has a valid grant and a Hub name, and the people of the policy with a Hub
name who may use the asset. Whoever waits without a grant is shown and left for an owner to decide.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass

from lorareg.errors import ExternalToolError, LoraregError, listed
from lorareg.registry import publication
from lorareg.registry.access import grants, policy
from lorareg.registry.ids import AssetId
from lorareg.registry.publishing import gate, repos
from lorareg.registry.workspace import Workspace


@dataclass(frozen=True)
class Person:
    """Somebody at the gate, and why."""

    user: str
    why: str


@dataclass(frozen=True)
class Drift:
    """How a gate differs from the grants.

    Attributes:
        repo: on the Hub.
        admit: who may use it and is not in; some of them have asked.
        reject: who is in and may not, or no longer.
        waiting: who asks and has no grant; nothing is done about them.
        inside: who is in and may.
    """

    repo: str
    admit: tuple[Person, ...]
    reject: tuple[Person, ...]
    waiting: tuple[str, ...]
    inside: tuple[str, ...]

    @property
    def is_none(self) -> bool:
        """Whether the gate is equal to the grants."""
        return not (self.admit or self.reject)


def drift(workspace: Workspace, asset: AssetId, today: datetime.date | None = None) -> Drift:
    """Compare the Hub's gate with the grants.

    Raises:
        LoraregError: the asset is not published, or not behind a gate that owners open.
        ExternalToolError: the Hub cannot be reached, or refuses.
    """
    repo = publication.repo_of(workspace, asset)
    if repo is None:
        raise LoraregError(
            f"{asset} is not published",
            why="its manifest has no publish block",
            fix=f"publish: {{hub: NAMESPACE/{asset.name}, gated: manual}} in its manifest.yaml",
        )
    _refuse_other_gates(repo)
    day = today or datetime.date.today()
    may = _may(workspace, asset, day)
    owner = repo.partition("/")[0]  # is always let in, and not listed
    inside = {each.user for each in gate.accepted(repo) if each.user}
    waiting = {each.user for each in gate.pending(repo) if each.user}
    outside = sorted(may.keys() - inside - {owner})
    return Drift(
        repo,
        tuple(Person(user, may[user] + " (has asked)" * (user in waiting)) for user in outside),
        tuple(
            Person(user, _why_not(workspace, asset, user, day))
            for user in sorted(inside - may.keys() - {owner})
        ),
        tuple(sorted(waiting - may.keys())),
        tuple(sorted(inside & may.keys())),
    )


def sync(found: Drift) -> None:
    """Let in and turn away until the gate is equal to the grants; may be repeated.

    Raises:
        ExternalToolError: the Hub refused some of it, which it names; the rest is done.
    """
    problems = []
    for person in (*found.reject, *found.admit):
        act = gate.reject if person in found.reject else gate.grant
        try:
            act(found.repo, person.user)
        except LoraregError as error:
            problems.append(f"{person.user}: {error.sentence}")
    if problems:
        raise ExternalToolError(
            f"the gate of {found.repo} is not yet equal to the grants",
            why="\n" + listed(problems),
            fix="correct the Hub names in grants.yaml and policy.yaml, then sync again",
        )


def _refuse_other_gates(repo: str) -> None:
    found = repos.must_look(repo)
    if found.gated == "manual":
        return
    why = "the Hub lets in whoever asks" if found.gated else "whoever may see it may download it"
    raise LoraregError(
        f"{repo} has no gate that owners open",
        why=f"its gate is {found.gated or 'off'}: {why}",
        fix="set publish.gated: manual in the manifest, then lorareg publish",
    )


def _may(workspace: Workspace, asset: AssetId, today: datetime.date) -> dict[str, str]:
    """Hub name -> why; people of the policy first, then grants."""
    found = dict(_people(workspace, asset))
    rules = policy.load(workspace)
    for grant in grants.load(workspace, asset):
        human = rules.people.get(grant.who) if rules else None
        user = grant.hub or (human.hub if human else None)
        if user and grant.holds(today):
            until = f" until {grant.until}" if grant.until else ""
            found.setdefault(user, f"{grant.who}: grant for {grant.purpose!r}{until}")
    return found


def _people(workspace: Workspace, asset: AssetId) -> Iterator[tuple[str, str]]:
    rules = policy.load(workspace)
    if rules is None:
        return
    manifest = workspace.load_asset(asset)
    may = rules.owners(asset.kind, manifest.owners) | rules.maintainers
    if manifest.visibility != "private":
        may |= rules.users
    for name in sorted(may):
        if user := rules.people[name].hub:
            yield user, f"{name}: may use it by the policy"


def _why_not(workspace: Workspace, asset: AssetId, user: str, today: datetime.date) -> str:
    rules = policy.load(workspace)
    hubs = {name: human.hub for name, human in rules.people.items()} if rules else {}
    over = [
        grant.until
        for grant in grants.load(workspace, asset)
        if user in (grant.hub, hubs.get(grant.who)) and grant.until and not grant.holds(today)
    ]
    return f"the grant expired on {max(over)}" if over else "has no grant"
