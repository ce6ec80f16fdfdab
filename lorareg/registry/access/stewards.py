"""Who decides about an asset: its owners and the maintainers; and what anybody is to it."""

from __future__ import annotations

from lorareg.errors import LoraregError
from lorareg.registry.access import grants, policy
from lorareg.registry.access.permission import known_as
from lorareg.registry.access.policy import Policy
from lorareg.registry.ids import AssetId
from lorareg.registry.workspace import Workspace


def role_of(workspace: Workspace, asset: AssetId, rules: Policy | None, person: str | None) -> str:
    """What a person is to an asset, by the policy and its grants: for ``access list``."""
    if rules is None:
        return "everything: the registry has no policy"
    if person is None:
        return "nobody the policy knows"
    owners = rules.owners(asset.kind, workspace.load_asset(asset).owners)
    roles = [
        word
        for word, people in (
            ("owner", owners), ("maintainer", rules.maintainers), ("user", rules.users),
        )
        if person in people
    ]  # fmt: skip
    roles += [f"grant for {g.purpose!r}" for g in grants.load(workspace, asset) if g.who == person]
    return f"{person}: {', '.join(roles) or 'no role'}"


def named(workspace: Workspace, asset: AssetId) -> frozenset[str] | None:
    """Owners and maintainers, who give grants and revoke; None without a policy: whoever asks."""
    rules = policy.load(workspace)
    if rules is None:
        return None
    return rules.owners(asset.kind, workspace.load_asset(asset).owners) | rules.maintainers


def require(workspace: Workspace, asset: AssetId, what: str) -> str:
    """The name of who works here, if they may decide about an asset.

    Raises:
        LoraregError: they are neither owner nor maintainer; ``what`` is what they wanted to do.
    """
    deciders = named(workspace, asset)
    if deciders is None:
        return _outside_of_a_policy(workspace)
    person = policy.me(workspace)
    if person in deciders and person is not None:
        return person
    raise LoraregError(
        f"you may not {what} {asset}",
        why=f"{known_as(person)}; owners and maintainers are {', '.join(sorted(deciders))}",
        fix="ask one of them",
    )


def _outside_of_a_policy(workspace: Workspace) -> str:
    """How a file names who works in a registry of one."""
    name = workspace.history.identity().partition("<")[0]
    letters = ["-" if each.isspace() else each for each in name.strip()]
    plain = "".join(each for each in letters if each.isascii() and (each.isalnum() or each in "-_"))
    return plain.strip("-_")[:64] or "owner"
