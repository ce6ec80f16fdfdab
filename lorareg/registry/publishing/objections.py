"""What speaks against publishing a release: all of it at once, before anything leaves."""

from __future__ import annotations

import datetime
from collections.abc import Iterator

from lorareg.errors import LoraregError, listed
from lorareg.registry import licenses, lineage, rights
from lorareg.registry.access import authority, permission, policy
from lorareg.registry.access.policy import Policy
from lorareg.registry.bases import license as base_license
from lorareg.registry.bases.base import public_name
from lorareg.registry.ids import AssetId, Ref
from lorareg.registry.lock import Lock, RecipeLock
from lorareg.registry.manifest import Manifest
from lorareg.registry.publication import STRICTNESS
from lorareg.registry.publishing.subject import Subject
from lorareg.registry.releases import tags
from lorareg.registry.revisions import released_manifest
from lorareg.registry.rights import Grant
from lorareg.registry.terms import AUDIENCES, LEVELS, is_wider
from lorareg.registry.workspace import Workspace


def refuse(workspace: Workspace, subject: Subject, today: datetime.date | None = None) -> None:
    """Refuse what may not be published.

    Raises:
        LoraregError: it names every objection.
    """
    now = today or datetime.date.today()
    permission.require(workspace, subject.asset, "publish", now, subject.version)
    found = list(dict.fromkeys(objections(workspace, subject, now)))
    if found:
        raise LoraregError(
            f"{subject.ref} may not be published",
            why="\n" + listed(found),
            fix=f"mend manifests/{subject.asset}/manifest.yaml, release it and publish that; "
            "nothing was sent",
        )


def objections(workspace: Workspace, subject: Subject, today: datetime.date) -> Iterator[str]:
    """Reasons, each a sentence. Terms of the release and those of today must both allow it."""
    yield from _audience(subject)
    rules = policy.load(workspace)
    yield from _unsigned(workspace, subject)
    manifest, known = subject.manifest, subject.lock
    if isinstance(manifest, Manifest) and isinstance(known, Lock):
        for state in (manifest, subject.today):
            if isinstance(state, Manifest):
                yield from _licensed(str(subject.asset), state, rules)
                yield from _personal(str(subject.asset), state, today)
                yield from _hidden(workspace, subject, state, known)
        yield from _borrowed(workspace, manifest, known)
    elif isinstance(known, RecipeLock):
        yield from _members(workspace, subject, known, rules, today)


def _audience(subject: Subject) -> Iterator[str]:
    shown = subject.today.visibility
    if shown == "private":
        yield "visibility: private, so it never leaves the registry"
    elif subject.gated and shown != "public":
        yield (
            f"publish.gated is for a public repository, and it is visibility: {shown}: that one is "
            "private on the Hub, for members of its namespace"
        )
    if AUDIENCES.index(subject.manifest.visibility) < AUDIENCES.index(shown):
        yield (
            f"{subject.version} was released as {subject.manifest.visibility}, which is narrower "
            f"than {shown}"
        )


def _unsigned(workspace: Workspace, subject: Subject) -> Iterator[str]:
    """The release must be the one that was signed, and the manifest that sends it somewhere too."""
    mine = f"release {subject.version}"
    found = [each for each in tags.check(workspace, subject.asset) if each.what == mine]
    for finding in (*found, *authority.check(workspace, subject.asset)):
        if not finding.ok and finding.is_hard:
            yield f"{finding.what}: {finding.detail}"


def _licensed(name: str, manifest: Manifest, rules: Policy | None) -> Iterator[str]:
    if manifest.license is None:
        yield f"{name} has no license"
        return
    accepted = [licenses.canonical(each) for each in (rules.licenses if rules else ())]
    if accepted and licenses.canonical(manifest.license.id) not in accepted:
        yield (
            f"{name} is under {manifest.license.id}; {policy.FILE} accepts "
            f"{', '.join(rules.licenses if rules else ())}"
        )


def _personal(name: str, manifest: Manifest, today: datetime.date) -> Iterator[str]:
    if manifest.scope.expires and manifest.scope.expires < today:
        yield f"the scope of {name} expired on {manifest.scope.expires}"
    for finding in rights.consent(name, manifest, today):
        if not finding.ok:
            yield f"{finding.what}: {finding.detail}"


def _hidden(
    workspace: Workspace, subject: Subject, manifest: Manifest, known: Lock
) -> Iterator[str]:
    if hidden := lineage.hidden_ancestors(workspace, manifest, known):
        yield f"{subject.asset} is {manifest.visibility}, but descends from {', '.join(hidden)}"


def _borrowed(workspace: Workspace, manifest: Manifest, known: Lock) -> Iterator[str]:
    """Terms of what it was made from: its parents, the sources of its data, its base."""
    name = str(manifest.id)
    own = rights.of_member(name, manifest)
    grants = [grant for grant in own if grant.who != name]
    grants.append(_base(manifest))
    for parent in lineage.ancestors(workspace, known):
        grants += [] if parent.file else _of_parent(workspace, parent.ref)
    for grant in grants:
        yield from _against(grant, manifest)


def _against(grant: Grant, manifest: Manifest) -> Iterator[str]:
    terms, mine = grant.terms, manifest.license.id if manifest.license else ""
    if not terms.derivatives:
        yield f"{grant.shown} allows nothing that is made from it"
    if terms.onward is not None and mine and licenses.canonical(mine) not in terms.onward:
        allowed = " or ".join(sorted(terms.onward))
        yield f"{grant.shown} asks for {allowed} of what is made from it, not {mine}"
    if LEVELS.index(terms.commercial) < LEVELS.index(manifest.scope.commercial):
        yield (
            f"scope.commercial: {manifest.scope.commercial} is more than {grant.shown} allows: "
            f"{terms.commercial}"
        )


def _of_parent(workspace: Workspace, ref: str) -> list[Grant]:
    """Terms of a parent as it was used, if it is known here."""
    named = Ref.parse(ref)
    asset = AssetId.parse(ref.partition("@")[0])
    if not workspace.folder(asset).manifest.is_file():
        return []
    if named.version:
        parent: Manifest = released_manifest(workspace, asset, named.version)
    else:
        parent = workspace.load_manifest(asset)
    return rights.of_member(str(asset), parent)


def _base(manifest: Manifest) -> Grant:
    model = public_name(manifest.base)
    return rights.of_base(model, base_license.of(manifest.base.model, None))


def _past_a_gate(subject: Subject, known: RecipeLock, member: Manifest) -> Iterator[str]:
    """A merged file gives away its members: whoever is kept from them must be kept from it."""
    gate = member.publish.gated if member.publish else False
    if (
        known.outputs
        and subject.is_public
        and STRICTNESS.index(subject.gated) < STRICTNESS.index(gate)
    ):
        yield (
            f"its member {member.id} is behind a gate, and is in the merged file: "
            f"publish: {{gated: {gate}}} for it too"
        )


def _members(
    workspace: Workspace,
    subject: Subject,
    known: RecipeLock,
    rules: Policy | None,
    today: datetime.date,
) -> Iterator[str]:
    """A recipe tells of its members, and a merged file holds them."""
    grants: list[Grant] = []
    for member in known.members:
        name, _, version = member.ref.partition("@")
        asset = AssetId.parse(name)
        if not version:
            yield f"its member {name} is no release: compose it of {name}@v1.0.0"
            terms: Manifest = workspace.load_manifest(asset)
        else:
            terms = released_manifest(workspace, asset, version)
        now = workspace.load_manifest(asset)
        if is_wider(subject.today.visibility, now.visibility):
            yield f"its member {name} is {now.visibility}, and it is {subject.today.visibility}"
        yield from _past_a_gate(subject, known, now)
        yield from _licensed(member.ref, terms, rules)
        yield from _personal(member.ref, terms, today)
        grants += [*rights.of_member(member.ref, terms), _base(terms)]
    for finding in rights.check(grants, merged=bool(known.outputs), today=today):
        if not finding.ok and finding.is_hard:
            yield f"{finding.what}: {finding.detail}"
