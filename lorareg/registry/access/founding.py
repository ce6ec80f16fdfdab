"""The first policy of a registry, its CODEOWNERS, its CI file and the first signatures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lorareg.errors import LoraregError, NotFoundError
from lorareg.registry import digest
from lorareg.registry.access import (
    authority,
    codeowners,
    people,
    policy,
    signatures,
    signing,
    statements,
)
from lorareg.registry.access.people import Entry
from lorareg.registry.access.standing import Standing
from lorareg.registry.files import as_before_if_refused, write_atomically
from lorareg.registry.git.command import call
from lorareg.registry.ids import AssetId
from lorareg.registry.workspace import Workspace

CI = ".github/workflows/lorareg.yml"
WORKFLOW = """\
# Who signed what, checked on every change. Make this check required for the protected branch.
name: lorareg
on:
  pull_request:
  push:
    branches: [{branch}]
permissions:
  contents: read
jobs:
  policy:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
        with:
          fetch-depth: 0  # rights are traced back to the first policy
      - uses: actions/setup-python@v5
        with:
          python-version: "3.12"
      - run: pip install lorareg
      - run: git config {pin} {root}  # the policy that this registry began with
      - run: lorareg policy check
      - if: vars.LORAREG_PULL == 'true'  # set it where the runner may read the DVC remotes
        run: lorareg pull --no-git && lorareg verify --quick
"""


def found(workspace: Workspace, entry: Entry) -> str | None:
    """Write and sign the first policy, sign what is there, and commit all of it at once.

    Where there is a policy, only what is missing beside it is written.

    Returns:
        The commit; None when nothing had changed.

    Raises:
        LoraregError: there was a policy before, or who works here cannot sign.
    """
    workspace.history.identity()
    if not (workspace.root / policy.FILE).is_file():
        if authority.is_enforced(workspace):
            raise LoraregError(
                f"{policy.FILE} was removed; a registry gets its first policy once",
                fix=f"git log -- {policy.FILE}, then git checkout COMMIT~ -- {policy.FILE}",
            )
        people.start(workspace, entry)
    written = _sign_what_is_committed(workspace)
    signatures.sign_policy(workspace)
    beside = [_codeowners(workspace), _workflow(workspace)]
    return signatures.commit_policy(workspace, "Found the policy", [*written, *beside])


def change(
    workspace: Workspace,
    message: str,
    entry: Entry | None = None,
    gone: tuple[str, str | None] | None = None,
) -> str | None:
    """Edit the policy, sign it, and commit it with the CODEOWNERS that follow from it.

    Args:
        workspace: the registry.
        message: of the commit.
        entry: who is to be entered.
        gone: who is to be taken out; with a key, only that key.

    Returns:
        The commit; None when nothing had changed.

    Raises:
        LoraregError: it would not be valid, or who works here is no maintainer; nothing was
            written.
    """
    if policy.load(workspace) is None:
        raise NotFoundError("this registry has no policy", fix="lorareg policy init")
    standing = Standing.of(workspace)
    if entry or gone:
        standing.maintainer()
        standing.refuse_unreviewed([statements.POLICY], is_reviewed=False)
    # after a refusal, say of a locked key, the policy is as it was
    with as_before_if_refused(workspace.root / policy.FILE, workspace.root / policy.SIGNERS):
        if entry:
            people.add(workspace, entry)
        if gone:
            people.remove(workspace, *gone)
        signatures.sign_policy(workspace)
    return signatures.commit_policy(workspace, message, [_codeowners(workspace)])


def use_key(workspace: Workspace, file: Path) -> signing.Key:
    """Let git sign with a key in this clone."""
    public = people.public_key(file)
    call(workspace.root, ["config", "gpg.format", "ssh"]).must_succeed()
    call(workspace.root, ["config", "user.signingKey", str(file.absolute())]).must_succeed()
    return signing.Key(file.absolute(), public)


def _sign_what_is_committed(workspace: Workspace) -> Sequence[Path]:
    """Statements of the assets that nobody is working on; the others are signed when pushed."""
    if workspace.history.head() is None:
        return []
    if authority.is_enforced(workspace) and authority.last_valid(workspace, statements.POLICY):
        return []
    changed = {path.parts[1:3] for path in workspace.history.changed([workspace.manifests])}
    ready = [asset for asset in workspace.assets() if (asset.kind, asset.name) not in changed]
    return signatures.sign(workspace, ready, is_reviewed=True)


def _codeowners(workspace: Workspace) -> Path:
    rules = policy.load(workspace)
    file = workspace.root / codeowners.CODEOWNERS
    if rules is not None:
        text = codeowners.text(workspace, rules)
        if not file.is_file() or file.read_bytes() != text.encode():
            write_atomically(file, text)
    return file


def _workflow(workspace: Workspace) -> Path:
    file = workspace.root / CI
    if not file.is_file():
        root = authority.pinned(workspace)
        root = root or digest.of_file(workspace.root / statements.POLICY_SIGNATURE)
        branch = workspace.history.branch() or "main"
        text = WORKFLOW.format(branch=branch, pin=authority.PIN, root=root)
        write_atomically(file, text)
    return file


def sign(workspace: Workspace, subjects: Sequence[str]) -> list[str]:
    """Sign what was looked at: the policy first, since it judges the rest; returns the commits."""
    made = []
    if statements.POLICY in subjects:
        made.append(
            signatures.commit_policy(
                workspace, "Sign the policy", [_codeowners(workspace)], is_reviewed=True
            )
        )
    assets = [AssetId.parse(name) for name in subjects if name != statements.POLICY]
    if assets:
        written = signatures.sign(workspace, assets, is_reviewed=True)
        folders = [workspace.folder(asset).path for asset in assets]
        names = ", ".join(map(str, assets))
        made.append(workspace.history.commit([*folders, *written], f"Sign {names}"))
    return [commit for commit in made if commit]
