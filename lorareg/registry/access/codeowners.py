"""``CODEOWNERS``: the policy in the words of git hosts, which ask these people for a review.

GitHub, GitLab and Gitea read one file at the top; of its rules the last that fits a path counts.
Source: https://docs.github.com/repositories/managing-your-repositorys-settings-and-features/
customizing-your-repository/about-code-owners
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lorareg.errors import LoraregError
from lorareg.registry import yamlfile
from lorareg.registry.access import ownership
from lorareg.registry.access.ownership import Documents
from lorareg.registry.access.policy import ANY_KIND, FILE, Policy
from lorareg.registry.files import read_own
from lorareg.registry.finding import Finding
from lorareg.registry.ids import AssetId
from lorareg.registry.workspace import Workspace

CODEOWNERS = "CODEOWNERS"
APPLY = "lorareg policy apply"
MAX_BYTES = 3_000_000  # GitHub ignores a larger file
HEAD = f"""\
# Who reviews what, written from {FILE} and the owners in manifests: {APPLY}
# The last rule that fits a path counts. People are asked by their names on the git host.
"""
OF_MAINTAINERS = (
    "/CODEOWNERS",
    "/lorareg.yaml",
    "/.dvc/",
    "/.github/",
    "/manifests/policy.yaml",
    "/manifests/policy.signature.json",
    "/manifests/allowed_signers",
)


@dataclass(frozen=True)
class Rule:
    """One line: a path and the people who are asked."""

    path: str
    people: frozenset[str]


def rules(workspace: Workspace, policy: Policy) -> Iterator[Rule]:
    """Every rule, from the general to the particular."""
    maintainers = policy.maintainers
    yield Rule("*", maintainers)
    yield Rule("/data/", policy.users | maintainers)
    anybody = policy.creators(ANY_KIND) | maintainers
    yield Rule("/manifests/", anybody)
    for kind in sorted(policy.kinds.keys() - {ANY_KIND}):
        yield Rule(f"/manifests/{kind}/", policy.creators(kind) | maintainers)
    for asset in workspace.assets():
        found = _documents(workspace, asset)
        owners = policy.owners(asset.kind, found.owners) | maintainers
        yield Rule(f"/manifests/{asset}/", owners)
        promoters = [policy.promoters(channel) for channel in sorted(found.channels)]
        if protected := [each for each in promoters if each is not None]:
            moving = frozenset[str]().union(*protected) or maintainers
            yield Rule(f"/manifests/{asset}/channels.yaml", moving)
            # Whoever moves a channel signs the folder's new state.
            yield Rule(f"/manifests/{asset}/signature.json", owners | moving)
    for path in OF_MAINTAINERS:
        yield Rule(path, maintainers)


def text(workspace: Workspace, policy: Policy) -> str:
    """The file, the same for the same policy and manifests."""
    lines = []
    for rule in rules(workspace, policy):
        names = _forge_names(policy, rule.people) or _forge_names(policy, policy.maintainers)
        if names:  # a rule without names would ask nobody
            lines.append(" ".join([rule.path, *names]))
    return HEAD + "\n".join(lines) + "\n"


def findings(workspace: Workspace, policy: Policy) -> list[Finding]:
    """Whether the file is what policy and manifests say, and whom it cannot name."""
    found = [_up_to_date(workspace, policy)]
    asked = frozenset[str]().union(*(rule.people for rule in rules(workspace, policy)))
    for person in sorted(asked):
        if policy.people[person].github is None:
            found.append(
                Finding(
                    False,
                    f"people.{person}",
                    f"owns something, but has no name on the git host: {CODEOWNERS} leaves "
                    f"{person} out",
                    f"lorareg policy add {person} --github NAME",
                    is_hard=False,
                )
            )
    return found


def _up_to_date(workspace: Workspace, policy: Policy) -> Finding:
    file = workspace.root / CODEOWNERS
    if not file.is_file():
        return Finding(False, CODEOWNERS, "there is none", APPLY)
    wanted = text(workspace, policy)
    if len(wanted) > MAX_BYTES:
        detail = f"{len(wanted)} bytes; GitHub reads {MAX_BYTES} at most"
        return Finding(False, CODEOWNERS, detail, "let groups own kinds, not single assets")
    if read_own(file, max_bytes=2 * MAX_BYTES) != wanted:
        return Finding(False, CODEOWNERS, "is not what policy and manifests say", APPLY)
    return Finding(True, CODEOWNERS, "is what policy and manifests say")


def _forge_names(policy: Policy, people: Iterable[str]) -> list[str]:
    names = {policy.people[person].github for person in people}
    return sorted(f"@{name}" for name in names if name)


def _documents(workspace: Workspace, asset: AssetId) -> Documents:
    folder = workspace.folder(asset)
    texts = {}
    for name, path in (
        (ownership.MANIFEST, folder.manifest),
        (ownership.CHANNELS, folder.channels),
    ):
        try:
            texts[name] = read_own(path, max_bytes=yamlfile.MAX_BYTES)
        except LoraregError:
            continue  # a broken one is named by the check of the asset
    return Documents.of({}, texts)
