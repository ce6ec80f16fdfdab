"""Signing states: ``signature.json`` says who stands for the files of an asset's folder.

The statement is in a file, not in a commit, so that a rebase or a forge's squash merge does not
lose it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from lorareg.registry import lock
from lorareg.registry.access import ownership, signing
from lorareg.registry.access.ownership import Documents
from lorareg.registry.access.statements import (
    GOVERNED,
    MAX_BYTES,
    POLICY,
    POLICY_FILES,
    POLICY_SIGNATURE,
    Statement,
    digests,
)
from lorareg.registry.files import read_utf8
from lorareg.registry.ids import AssetId
from lorareg.registry.workspace import Workspace

if TYPE_CHECKING:
    from lorareg.registry.access.chain import Link
    from lorareg.registry.access.standing import Signatory

WRITERS = 8  # files at a time: most of the time is waiting for the disk


def commit(
    workspace: Workspace, assets: Sequence[AssetId], message: str, paths: Sequence[Path] = ()
) -> str | None:
    """Commit the folders of assets, signed where the registry has a policy.

    Args:
        workspace: the registry.
        assets: whose folders.
        message: of the commit.
        paths: files beside the folders, such as the pointers of datasets.

    Returns:
        The commit, or None when nothing had changed.

    Raises:
        LoraregError: who works here may not change one of them; nothing was written.
    """
    written = sign(workspace, assets)
    folders = [workspace.folder(asset).path for asset in assets]
    return workspace.history.commit([*folders, *paths, *written], message)


def refuse(workspace: Workspace, assets: Sequence[AssetId]) -> None:
    """Go on only if who works here may sign the folders as they are; raises as ``commit``."""
    _due(workspace, assets, is_reviewed=False)


def sign(
    workspace: Workspace, assets: Sequence[AssetId], *, is_reviewed: bool = False
) -> list[Path]:
    """Write the statements that are due, and commit nothing; raises as ``commit``.

    Args:
        workspace: the registry.
        assets: whose folders.
        is_reviewed: whether somebody has looked at what HEAD holds beyond the last valid state;
            otherwise nothing is signed on top of what nobody signed.

    Returns:
        The files that were written; none in a registry without a policy.
    """
    due, who = _due(workspace, assets, is_reviewed)
    following = {}
    for asset, links in due.items():
        folder = workspace.folder(asset)
        files = digests(folder.path, GOVERNED)
        following[folder.signature] = _following(str(asset), files, links)
    _save(following, who)
    return list(following)


def commit_policy(
    workspace: Workspace,
    message: str,
    paths: Sequence[Path] = (),
    *,
    is_reviewed: bool = False,
) -> str | None:
    """Commit policy.yaml and allowed_signers, signed, with files beside them.

    Raises:
        LoraregError: as ``sign_policy``.
    """
    from lorareg.registry.access import authority

    sign_policy(workspace, is_reviewed=is_reviewed)
    known = [workspace.root / POLICY_SIGNATURE]
    known += [workspace.manifests / name for name in POLICY_FILES]
    made = workspace.history.commit([*known, *paths], message)
    authority.pin(workspace)
    return made


def sign_policy(workspace: Workspace, *, is_reviewed: bool = False) -> None:
    """Write the policy's next statement if it is due, and commit nothing.

    Raises:
        LoraregError: who works here is no maintainer of the state before, or HEAD holds what nobody
            signed; nothing was written.
    """
    from lorareg.registry.access.standing import Standing

    standing = Standing.of(workspace)
    file = workspace.root / POLICY_SIGNATURE
    files = digests(workspace.manifests, POLICY_FILES)
    if standing.is_signed(POLICY, files, file):
        return
    standing.refuse_unreviewed([POLICY], is_reviewed)
    who = standing.maintainer()
    _save({file: _following(POLICY, files, standing.links(POLICY))}, who)


def _due(
    workspace: Workspace, assets: Sequence[AssetId], is_reviewed: bool
) -> tuple[dict[AssetId, tuple[Link, ...]], Signatory]:
    """The assets whose folder is not what was signed last, with the states to follow."""
    from lorareg.registry.access import authority
    from lorareg.registry.access.standing import NOBODY, Standing

    if not authority.is_enforced(workspace):
        return {}, NOBODY
    standing = Standing.of(workspace)
    states = {}
    for asset in assets:
        if authority.is_linked(workspace, asset):
            authority.require(workspace, asset)
        folder = workspace.folder(asset)
        files = digests(folder.path, GOVERNED)
        if not standing.is_signed(str(asset), files, folder.signature):
            states[asset] = _documents(folder.path, files)
    if not states:
        return {}, NOBODY
    standing.refuse_unreviewed([str(asset) for asset in states], is_reviewed)
    who = standing.signatory()
    standing.refuse_objections(states, who)
    return {asset: standing.links(str(asset)) for asset in states}, who


def _documents(folder: Path, files: Mapping[str, str]) -> Documents:
    """What rights depend on, from the working tree."""
    names = [name for name in (ownership.MANIFEST, ownership.CHANNELS) if name in files]
    texts = {name: read_utf8(folder / name, max_bytes=MAX_BYTES) for name in names}
    return Documents.of(files, texts)


def _following(subject: str, files: Mapping[str, str], links: Sequence[Link]) -> Statement:
    """The unsigned statement that comes after the last valid states."""
    newest = max(links, key=lambda link: link.serial, default=None)
    # Of two branches only one can be named: the number is no longer the very next one then.
    step = 1 if len(links) < 2 else 2
    return Statement(
        subject=subject,
        serial=newest.serial + step if newest else 1,
        previous=newest.digest if newest else None,
        files=dict(files),
        by="",
    )


def _save(statements: Mapping[Path, Statement], who: Signatory) -> None:
    """Sign all of them, then write them: a key that stays locked leaves nothing half signed."""
    plain = [each.model_copy(update={"by": who.person}) for each in statements.values()]
    made = signing.sign_many(who.key, [each.payload() for each in plain]) if plain else []
    signed = [
        each.model_copy(update={"signature": signature})
        for each, signature in zip(plain, made, strict=True)
    ]
    with ThreadPoolExecutor(WRITERS) as threads:
        list(threads.map(lock.save, statements, signed))
