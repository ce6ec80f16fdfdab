"""Is what is checked out what its owners signed? The answer of the whole chain, not of one file.

Every state of an asset is judged by the owners of its last valid state and by the policy in force,
which is the last one that its own maintainers signed; the first policy is trusted on first use and
remembered in this clone's git settings. Nothing here depends on who made a commit.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from lorareg.errors import IntegrityError, LoraregError
from lorareg.registry.access import policy, statements
from lorareg.registry.access.chain import Link, Place
from lorareg.registry.access.judge import SIGNATURE
from lorareg.registry.access.ledger import Ledger, at_commit
from lorareg.registry.access.statements import POLICY
from lorareg.registry.finding import Finding
from lorareg.registry.git import trail
from lorareg.registry.git.command import call
from lorareg.registry.git.history import History
from lorareg.registry.ids import AssetId
from lorareg.registry.workspace import Workspace

PIN = "lorareg.policyRoot"
WHAT = "signature"
Stamp = tuple[int, int]


@dataclass
class _Seen:
    """What this process knows of a registry, as long as its HEAD does not move."""

    stamp: Stamp | None
    head: str | None
    is_enforced: bool | None = None
    root: str | None = None
    ledger: Ledger | None = None


_seen: WeakKeyDictionary[Workspace, _Seen] = WeakKeyDictionary()


def check(workspace: Workspace, asset: AssetId) -> list[Finding]:
    """Findings on the state of an asset in HEAD; none in a registry without a policy."""
    if not is_enforced(workspace):
        return []
    try:
        found = ledger(workspace)
        broken = [finding for finding in policy_findings(workspace) if not finding.ok]
        if is_linked(workspace, asset):
            return [*broken, _link_finding(asset)]
        return [*broken, _finding(found, asset)]
    except LoraregError as error:
        return [Finding(False, WHAT, error.sentence, error.fix)]


def require(workspace: Workspace, asset: AssetId) -> None:
    """Go on only with an asset whose state in HEAD is what those who may have signed.

    Raises:
        IntegrityError: it is not, or the policy is not; it names the file, the signer and the fix.
    """
    bad = [finding for finding in check(workspace, asset) if not finding.ok and finding.is_hard]
    if bad:
        raise IntegrityError(
            f"{asset}: nobody who may has signed what is checked out",
            why="; ".join(f"{finding.what}: {finding.detail}" for finding in bad),
            fix=bad[0].fix,
        )
    pin(workspace)


def unsigned(workspace: Workspace, asset: AssetId) -> list[Finding]:
    """What speaks against using an asset as HEAD has it; nothing about one that is not in HEAD yet.

    Somebody who pulled what he may not have pulled, or pulled by git, has it checked out.
    """
    if not is_enforced(workspace) or _look(workspace).head is None:
        return []
    place = ledger(workspace).place(str(asset))
    if not place.blobs and not place.links and not is_linked(workspace, asset):
        return []
    bad = [found for found in check(workspace, asset) if not found.ok and found.is_hard]
    return [
        Finding(
            False,
            str(asset),
            f"nobody who may has signed what is checked out: {found.what}: {found.detail}",
            found.fix,
        )
        for found in bad
    ]


def refuse_unsigned(workspace: Workspace, asset: AssetId) -> None:
    """Go on unless HEAD has an asset in a state that nobody who may has signed; as ``require``."""
    if unsigned(workspace, asset):
        require(workspace, asset)


def is_linked(workspace: Workspace, asset: AssetId) -> bool:
    """Whether the folder is a link: its files are others than those that git has there."""
    place = workspace.manifests
    return any(each.is_symlink() for each in (place, place / asset.kind, place / str(asset)))


def policy_findings(workspace: Workspace) -> list[Finding]:
    """Findings on the policy in HEAD and on its root; none in a registry without a policy."""
    if not is_enforced(workspace):
        return []
    try:
        place = ledger(workspace).place(POLICY)
    except LoraregError as error:
        return [Finding(False, policy.FILE, error.sentence, error.fix)]
    trusted = pinned(workspace)
    if trusted and not place.links:
        detail = f"{_short(trusted)}, which this clone trusts, is not in this history"
        return [Finding(False, "policy root", detail, "ask a maintainer which history is right")]
    roots = [_root_finding(workspace, link) for link in place.links[:1]]
    return [_policy_finding(place), *roots]


def is_enforced(workspace: Workspace) -> bool:
    """Whether this registry has a policy, or had one: removing the file turns nothing off."""
    if (workspace.root / policy.FILE).is_file():
        return True
    seen = _look(workspace)
    if seen.is_enforced is None:
        seen.is_enforced = _had_a_policy(workspace, seen.head)
    return seen.is_enforced


def owners_at(workspace: Workspace, asset: AssetId, commit: str) -> frozenset[str]:
    """Who might change an asset as of a commit: its owners and the maintainers.

    Args:
        workspace: the registry.
        asset: which; before it existed, those who might add it.
        commit: any revision.
    """
    judge = ledger(workspace).judge
    rules, place = at_commit(workspace, ledger(workspace), workspace.history.resolve(commit), asset)
    return judge.owners(asset, place, [judge.rules(link) for link in rules.links])


def last_valid(workspace: Workspace, subject: str) -> tuple[Link, ...]:
    """The last valid state of an asset or the policy in HEAD; several after an unsigned merge."""
    return ledger(workspace).place(subject).links


def pinned(workspace: Workspace) -> str | None:
    """Digest of the policy's first statement that this clone trusts."""
    seen = _look(workspace)
    seen.root = seen.root or call(workspace.root, ["config", "--get", PIN]).line or None
    return seen.root


def pin(workspace: Workspace) -> str | None:
    """Trust the policy's first statement from now on, unless one is trusted already.

    Returns:
        What to tell the person, once; None when nothing changed.
    """
    if pinned(workspace) or not is_enforced(workspace):
        return None
    links = ledger(workspace).place(POLICY).links
    if len(links) != 1:
        return None
    call(workspace.root, ["config", PIN, links[0].root]).must_succeed()
    return (
        f"this clone trusts the policy that begins with {_short(links[0].root)}; compare it with "
        "a teammate's: lorareg policy show"
    )


def ledger(workspace: Workspace) -> Ledger:
    """Where everything stands in HEAD.

    Raises:
        LoraregError: there is no commit yet, or the clone is shallow.
    """
    seen = _look(workspace)
    if seen.head is None:
        raise LoraregError("there is no commit yet", fix="lorareg policy init makes the first one")
    if seen.ledger is None:
        seen.ledger = Ledger.open(workspace, seen.head)
    return seen.ledger


def _look(workspace: Workspace) -> _Seen:
    seen, stamp = _seen.get(workspace), _stamp(workspace)
    if seen is None or stamp is None or stamp != seen.stamp:
        head = workspace.history.head()
        if seen is None or head != seen.head:
            seen = _Seen(stamp, head)
        seen.stamp = stamp
        _seen[workspace] = seen
    return seen


def _stamp(workspace: Workspace) -> Stamp | None:
    """Changes whenever HEAD moves: git writes a line about it. None where git keeps no such log."""
    try:
        stat = os.stat(workspace.root / ".git" / "logs" / "HEAD")
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size


def _had_a_policy(workspace: Workspace, head: str | None) -> bool:
    if head is None:
        return False
    statement = f":(literal){statements.POLICY_SIGNATURE}"
    if call(workspace.root, ["rev-list", "--max-count=1", head, "--", statement]).line:
        return True
    return pinned(workspace) is not None and not _is_before_the_policy(workspace.history)


def _link_finding(asset: AssetId) -> Finding:
    fix = f"look where it comes from (git log -- manifests/{asset} manifests/{asset.kind}), then "
    fix += f"git checkout COMMIT~ -- manifests/{asset}"
    return Finding(False, WHAT, f"manifests/{asset} is a link: nobody signs what it leads to", fix)


def _finding(found: Ledger, asset: AssetId) -> Finding:
    place = found.place(str(asset))
    fix = f"look at it (git log --patch -- manifests/{asset}); to restore it or stand for it, "
    fix += f"an owner runs: lorareg policy sign {asset}"
    if not found.place(POLICY).links:
        return Finding(False, WHAT, "the policy itself is not signed", "lorareg policy sign")
    if place.problem:
        where = f"{place.problem.file} {place.problem.why}"
        return Finding(False, WHAT, f"{where} (commit {place.problem.commit[:10]})", fix)
    if not place.links:
        return Finding(False, WHAT, f"{SIGNATURE} is missing: nobody signed this state", fix)
    if not place.blobs:
        signer = place.links[0].by
        return Finding(False, WHAT, f"git has none of the files that {signer} signed", fix)
    if len(place.links) > 1:
        names = ", ".join(link.by for link in place.links)
        return Finding(False, WHAT, f"a merge joined states of {names}; nobody signed it", fix)
    link = place.links[0]
    return Finding(True, WHAT, f"by {link.by}, serial {link.serial}")


def _policy_finding(place: Place) -> Finding:
    fix = "look at it (git log --patch -- manifests/policy.yaml manifests/allowed_signers); to "
    fix += "restore it or stand for it, a maintainer runs: lorareg policy sign"
    if place.problem:
        problem = place.problem
        where = f"{problem.file} {problem.why} (commit {problem.commit[:10]})"
        return Finding(False, policy.FILE, where, fix)
    if not place.links:
        return Finding(False, policy.FILE, "nobody signed it", "lorareg policy sign")
    if len(place.links) > 1:
        names = ", ".join(f"{link.by} (serial {link.serial})" for link in place.links)
        return Finding(False, policy.FILE, f"a merge joined two policies: {names}", fix)
    link = place.links[0]
    return Finding(True, policy.FILE, f"signed by {link.by}, serial {link.serial}")


def _root_finding(workspace: Workspace, link: Link) -> Finding:
    trusted = pinned(workspace)
    if trusted in (None, link.root):
        return Finding(True, "policy root", _short(link.root))
    return Finding(
        False,
        "policy root",
        f"is {_short(link.root)}, this clone trusts {_short(trusted or '')}: history was rewritten",
        f"ask a maintainer; if it is right: git config {PIN} {link.root}",
    )


def _is_before_the_policy(history: History) -> bool:
    """Whether HEAD is an old commit, checked out to look at: the policy came after it."""
    command = ["rev-list", "--all", "--max-count=1", "--", statements.POLICY_SIGNATURE]
    newest, head = call(history.root, command).line, history.head()
    return bool(newest and head) and trail.is_ancestor(history.root, head or "", newest)


def _short(digest: str) -> str:
    return digest.partition(":")[2][:16]
