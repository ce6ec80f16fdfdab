"""What stands against a release, all of it at once: bytes, terms, people, keys."""

from __future__ import annotations

import datetime
from collections.abc import Iterator

from lorareg.errors import LoraregError, listed
from lorareg.registry import licenses, lock, rights
from lorareg.registry.access import authority, policy, revocation, signing
from lorareg.registry.finding import Finding
from lorareg.registry.ids import AssetId, Ref
from lorareg.registry.lock import Lock, RecipeLock
from lorareg.registry.manifest import Manifest
from lorareg.registry.recipe import RecipeManifest
from lorareg.registry.releases import standing
from lorareg.registry.revisions import manifest_at, released_manifest
from lorareg.registry.workspace import Workspace

Wanted = Manifest | RecipeManifest


def require(workspace: Workspace, asset: AssetId) -> None:
    """Refuse what cannot be released.

    Raises:
        LoraregError: it lists every problem, and what to do about each.
    """
    found = problems(workspace, asset)
    if not found:
        return
    if len(found) == 1:
        (only,) = found
        what = f"{asset} cannot be released: {only.what}"
        raise LoraregError(what, why=only.detail, fix=only.fix)
    raise LoraregError(
        f"{asset} cannot be released: {len(found)} problems",
        why="\n" + listed([f"{each.what}: {each.detail}" for each in found], limit=100),
        fix="\n" + listed(list(dict.fromkeys(e.fix for e in found if e.fix)), limit=100),
    )


def problems(workspace: Workspace, asset: AssetId) -> list[Finding]:
    """Every problem; empty if it can be released."""
    found = [*_people(workspace, asset)]
    file = workspace.folder(asset).lock
    try:
        wanted = workspace.load_asset(asset)
        known = lock.load(file) if file.is_file() else None
    except LoraregError as error:
        return [*found, _refusal("its files", error)]
    if known is None:
        return [*found, Finding(False, "lock.json", "there is none", f"lorareg train {asset}")]
    if known.asset != str(asset):
        detail = f"it is that of {known.asset}"
        return [*found, Finding(False, "lock.json", detail, f"lorareg train {asset}")]
    found += _stale(workspace, asset, wanted, known)
    found += _bytes(workspace, asset, wanted, known)
    try:
        members = members_of(workspace, wanted, known)
    except LoraregError as error:
        return [*found, _refusal("members", error)]
    found += _terms(
        workspace, members, merged=isinstance(known, RecipeLock) and bool(known.outputs)
    )
    found += _revoked(workspace, asset)
    return found


def members_of(
    workspace: Workspace, wanted: Wanted, known: Lock | RecipeLock, *, past: bool = False
) -> dict[str, Manifest]:
    """Those whose terms hold: the adapter itself, or each member of a recipe as it is pinned.

    Args:
        workspace: the registry.
        wanted: the manifest of the asset.
        known: its lock.
        past: whether this is an earlier state: members without a version are then as they were
            when the lock was made, else as they are now.
    """
    if isinstance(wanted, Manifest):
        return {str(wanted.id): wanted}
    found: dict[str, Manifest] = {}
    for member in known.members if isinstance(known, RecipeLock) else ():
        ref = Ref.parse(member.ref)
        asset = AssetId.parse(member.ref.partition("@")[0])
        if ref.version:
            found[member.ref] = released_manifest(workspace, asset, ref.version)
        elif past and member.commit:
            found[member.ref] = manifest_at(workspace, asset, member.commit)
        else:
            found[member.ref] = workspace.load_manifest(asset)
    return found


def _people(workspace: Workspace, asset: AssetId) -> Iterator[Finding]:
    history = workspace.history
    if history.branch() is None:
        yield Finding(False, "branch", "HEAD is detached", "git switch main")
    try:
        history.identity()
        key = signing.key(workspace.root)
    except LoraregError as error:
        yield _refusal("signature", error)
        return
    rules = policy.load(workspace)
    if rules is None:
        return
    person = policy.me(workspace)
    ask = f"ask a maintainer: {', '.join(sorted(rules.maintainers))}"
    if person is None:
        yield Finding(False, "you", "the policy does not know your key or your mail", ask)
        return
    may = authority.owners_at(workspace, asset, "HEAD") if history.head() else rules.maintainers
    if person not in may:
        detail = f"{person} is no owner of {asset}: {', '.join(sorted(may))}"
        yield Finding(False, "you", detail, "ask one of them to release it, or to add you")
    if (person, key.public) not in policy.keys(policy.signers(workspace)):
        detail = f"the key that git signs with is not one of {person}'s in {policy.SIGNERS}"
        yield Finding(False, "key", detail, ask)


def _stale(
    workspace: Workspace, asset: AssetId, wanted: Wanted, known: Lock | RecipeLock
) -> Iterator[Finding]:
    again = f"lorareg train {asset}"
    try:
        if isinstance(wanted, RecipeManifest) and isinstance(known, RecipeLock):
            again = f"lorareg compose upgrade {asset}"
            changed = list(standing.of_recipe(workspace, wanted, known))
            lost = (standing.of_member(workspace, member) for member in known.members)
            changed += [why for why in lost if why]
        elif isinstance(wanted, Manifest) and isinstance(known, Lock):
            changed = list(standing.of_adapter(workspace, wanted, known))
        else:
            changed = ["manifest and lock differ in whether it is a recipe"]
    except LoraregError as error:
        yield _refusal("its inputs", error)
        return
    for line in changed:
        yield Finding(False, "stale", line, again)


def _bytes(
    workspace: Workspace, asset: AssetId, wanted: Wanted, known: Lock | RecipeLock
) -> Iterator[Finding]:
    """Weights that are the lock's, and a place that they can go to."""
    folder = workspace.folder(asset)
    if not known.outputs:
        return
    here = {path.name for path in folder.weights.iterdir()} if folder.weights.is_dir() else set()
    if not here:
        yield Finding(False, "weights", "they are not here", f"lorareg pull {asset}")
    elif here != known.outputs.keys() or not workspace.weights_match(folder, known):
        fix = f"lorareg pull {asset}, or train again"
        yield Finding(False, "weights", "they are not the ones of the lock", fix)
    store = workspace.store
    remote = workspace.settings.remotes.get(wanted.visibility) or store.default_remote()
    if remote is None or remote not in store.remotes():
        detail = f"DVC has no remote for visibility {wanted.visibility}"
        yield Finding(False, "storage", detail, "dvc remote add -d storage FOLDER_OR_URL")


def _terms(
    workspace: Workspace, members: dict[str, Manifest], *, merged: bool
) -> Iterator[Finding]:
    today = datetime.date.today()
    grants = [grant for name, each in members.items() for grant in rights.of_member(name, each)]
    judged = [*rights.check(grants, merged=merged, today=today)]
    for name, each in members.items():
        judged += rights.consent(name, each, today)
    yield from (finding for finding in judged if not finding.ok and finding.is_hard)
    rules = policy.load(workspace)
    accepted = {licenses.canonical(each) for each in rules.licenses} if rules else set()
    for name, each in members.items() if accepted else ():
        given = each.license.id if each.license else ""
        if licenses.canonical(given) not in accepted:
            detail = f"{name} is under {given or 'none'}, the policy accepts "
            detail += ", ".join(rules.licenses if rules else ())
            yield Finding(False, "licence", detail, f"set license.id in manifests/{each.id}")


def _revoked(workspace: Workspace, asset: AssetId) -> Iterator[Finding]:
    found = revocation.revoked(workspace, asset)
    if found:
        yield Finding(False, "revoked", found.stone.reason, f"ask {found.stone.by}")


def _refusal(what: str, error: LoraregError) -> Finding:
    return Finding(False, what, error.sentence, error.fix)
