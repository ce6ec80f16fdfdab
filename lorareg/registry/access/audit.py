"""``lorareg policy check``: everything about rights that can be wrong, all at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lorareg.errors import LoraregError
from lorareg.registry.access import authority, codeowners, policy, statements
from lorareg.registry.access.judge import POLICY_STATEMENT
from lorareg.registry.access.policy import Policy
from lorareg.registry.access.statements import GOVERNED, POLICY, POLICY_FILES
from lorareg.registry.access.walk import FOLDER
from lorareg.registry.finding import Finding
from lorareg.registry.git import trail
from lorareg.registry.ids import AssetId
from lorareg.registry.workspace import Workspace


@dataclass(frozen=True)
class Unsigned:
    """Something that nobody who may has signed as it is.

    Attributes:
        subject: ``kind/name``, or ``policy``.
        since: the commit of its last valid state; None where there is none.
        why: in a few words.
        paths: its governed files, from the top of the registry.
    """

    subject: str
    since: str | None
    why: str
    paths: tuple[str, ...]


def check(workspace: Workspace, base: str | None = None) -> dict[str, list[Finding]]:
    """Findings by what they are about: ``policy``, and each asset.

    Args:
        workspace: the registry.
        base: look only at assets that HEAD changed since it left this revision.
    """
    try:
        rules = policy.load(workspace)
    except LoraregError as error:
        return {POLICY: [Finding(False, policy.FILE, error.sentence, error.fix)]}
    if rules is None:
        detail = "is missing: everybody with push rights may change everything"
        found = [Finding(False, policy.FILE, detail, "lorareg policy init")]
        return {POLICY: [*found, *authority.policy_findings(workspace)]}
    report = {POLICY: [*authority.policy_findings(workspace), *_rules(workspace, rules)]}
    for asset in _assets(workspace, base):
        signed = [each for each in authority.check(workspace, asset) if each.what == authority.WHAT]
        report[str(asset)] = [*signed, *_owners(workspace, rules, asset)]
    return report


def unsigned(workspace: Workspace, subjects: Sequence[str]) -> Iterator[Unsigned]:
    """What has to be looked at and signed, of the policy and these assets."""
    found = authority.ledger(workspace)
    for subject in subjects:
        names = POLICY_FILES if subject == POLICY else GOVERNED
        folder = FOLDER if subject == POLICY else f"{FOLDER}/{subject}"
        here = statements.digests(workspace.root / folder, names)
        place = found.place(subject)
        link = place.links[0] if place.links else None
        if place.problem:
            why = f"{place.problem.file} {place.problem.why}"
        elif link is None:
            why = "nobody signed it yet"
        elif len(place.links) > 1:
            why = "a merge joined states that were signed apart"
        elif link.files != here:
            why = f"changed on disk since {link.by} signed it"
        else:
            continue
        paths = tuple(f"{folder}/{name}" for name in names)
        yield Unsigned(subject, link.commit if link else None, why, paths)


def _rules(workspace: Workspace, rules: Policy) -> Iterator[Finding]:
    yield from codeowners.findings(workspace, rules)
    keys = policy.keys(policy.signers(workspace))
    for person in sorted(rules.people.keys() - {name for name, _ in keys}):
        detail = f"has no key in {policy.SIGNERS}, so cannot sign"
        fix = f"lorareg policy add {person} --key {person}.pub"
        hard = rules.maintainers <= {person}
        yield Finding(False, f"people.{person}", detail, fix, is_hard=hard)
    for person in sorted({name for name, _ in keys} - rules.people.keys()):
        detail = f"has a key in {policy.SIGNERS}, but is not in people"
        yield Finding(False, person, detail, f"lorareg policy remove {person}", is_hard=False)
    if not rules.channels:
        detail = "none is protected: every owner moves stable"
        fix = f"add channels: {{stable: [NAME]}} to {policy.FILE}, then lorareg policy apply"
        yield Finding(False, "channels", detail, fix, is_hard=False)


def _assets(workspace: Workspace, base: str | None) -> list[AssetId]:
    if base is None:
        return list(workspace.assets())
    revision = workspace.history.resolve(base)
    changed = trail.changed_since(workspace.root, revision, FOLDER)
    touched = {"/".join(name.split("/")[1:3]) for name in changed}
    if touched & {*POLICY_FILES, POLICY_STATEMENT}:
        return list(workspace.assets())
    return [asset for asset in workspace.assets() if str(asset) in touched]


def _owners(workspace: Workspace, rules: Policy, asset: AssetId) -> Iterator[Finding]:
    try:
        named = workspace.load_asset(asset).owners
    except LoraregError as error:
        yield Finding(False, "manifest.yaml", error.sentence, error.fix)
        return
    unknown = [each for each in named if not _is_known(rules, each)]
    if unknown:
        detail = f"neither people nor groups of the policy: {', '.join(unknown)}"
        fix = f"lorareg policy add {unknown[0].removeprefix('group:')} --key FILE.pub, or correct "
        yield Finding(False, "owners", detail, fix + f"{FOLDER}/{asset}/manifest.yaml")


def _is_known(rules: Policy, entry: str) -> bool:
    group = entry.removeprefix("group:")
    known = rules.people.keys() if group == entry else {*rules.groups, policy.EVERYONE}
    return group in known
