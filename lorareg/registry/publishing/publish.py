"""Publishing a release: private first, complete next, open last, and then read back.

Every step looks before it acts, so that a publish that was cut short anywhere is finished by
running it again, and nobody outside ever sees a part of it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from lorareg.errors import IntegrityError, LoraregError
from lorareg.registry import versions
from lorareg.registry.access import revocation, uses
from lorareg.registry.ids import AssetId
from lorareg.registry.publication import STRICTNESS, Gate
from lorareg.registry.publishing import (
    collection,
    files,
    objections,
    repos,
    standing,
    subject,
    withdraw,
)
from lorareg.registry.publishing.door import MovedError
from lorareg.registry.publishing.files import Package
from lorareg.registry.publishing.repos import Remote
from lorareg.registry.publishing.subject import Subject
from lorareg.registry.tensors import tensor_digest
from lorareg.registry.workspace import Workspace

Say = Callable[[str], None]
RACES = 5  # how often somebody else may commit before us


@dataclass(frozen=True)
class Published:
    """What is on the Hub now, or with ``dry_run`` would be.

    Attributes:
        commit: on the Hub; None if it is not up.
        steps: what was done, or would be; empty if everything was up already.
        size: bytes of all files.
        verified: weights files that were read back and compared with the lock.
    """

    asset: str
    version: str
    repo: str
    commit: str | None
    private: bool
    gated: Gate
    files: tuple[str, ...]
    size: int
    steps: tuple[str, ...]
    verified: tuple[str, ...] = ()


def publish(
    workspace: Workspace, wanted: Subject, say: Say, *, dry_run: bool = False, verify: bool = True
) -> Published:
    """Bring a release to its repository on the Hub.

    Args:
        workspace: the registry.
        wanted: the release.
        say: told every step.
        dry_run: only look what there is to do.
        verify: whether weights are read back although there was nothing to do.

    Raises:
        LoraregError: it may not be published; nothing was sent.
        IntegrityError: the repository holds something else under this version, or gave back other
            bytes than were sent; then it is private again.
        ExternalToolError: the Hub refuses or cannot be reached; run it again.
    """
    objections.refuse(workspace, wanted)
    workspace.scratch.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="publish-", dir=workspace.scratch) as folder:
        package = files.gather(workspace, wanted, Path(folder))
        there = repos.look(wanted.repo)
        steps = standing.steps(workspace, wanted, package, there)
        done: tuple[str, ...] = ()
        if not dry_run:
            there = _carry_out(workspace, wanted, package, say) if steps else there
            if there and (steps or verify):
                done = _read_back(wanted, package, there, Path(folder), say)
        size = package.size
    commit = there.tags.get(wanted.version) if there else None
    return Published(
        asset=str(wanted.asset),
        version=wanted.version,
        repo=wanted.repo,
        commit=commit,
        private=not wanted.is_public,
        gated=wanted.gated,
        files=tuple(sorted(package.files)),
        size=size,
        steps=tuple(steps),
        verified=done,
    )


def publish_released(
    workspace: Workspace, assets: Iterable[AssetId], say: Say, *, dry_run: bool = False
) -> list[Published]:
    """Publish the newest release of every asset whose manifest has a ``publish`` block.

    Assets without a release, and what is revoked, are left alone. Raises as ``publish``, after the
    others had their turn.
    """
    found: list[Published] = []
    refused: list[LoraregError] = []
    for asset in assets:
        known = versions.releases(workspace, asset)
        if not known or workspace.load_asset(asset).publish is None:
            continue
        try:
            if revocation.revoked(workspace, asset, known[-1]):
                say(f"{asset}@{known[-1]} is revoked: not published")
                continue
            wanted = subject.of(workspace, asset, known[-1])
            found.append(publish(workspace, wanted, say, dry_run=dry_run, verify=False))
        except LoraregError as error:
            refused.append(error)
    if len(refused) == 1:
        raise refused[0]
    if refused:
        raise LoraregError(
            f"{len(refused)} releases were not published",
            why="; ".join(error.sentence for error in refused),
            fix="lorareg publish REF tells more of each; the others are up",
        )
    return found


def _carry_out(workspace: Workspace, wanted: Subject, package: Package, say: Say) -> Remote:
    """All steps that are not done yet; each may be repeated."""
    repo, version = wanted.repo, wanted.version
    there = repos.look(repo)
    if there is None:
        repos.create(repo)
        say(f"{repo} is there, private")
        there = repos.must_look(repo)
    there = _tightened(wanted, there)
    if version not in there.tags:
        commit = _committed(wanted, package, there, say)
        repos.tag(repo, version, commit)
        say(f"tagged {version}")
        there = repos.must_look(repo)
    if not standing.is_up(wanted, package, there):
        raise IntegrityError(f"{version} in {repo} is not what was sent", fix="run it again")
    private, gated = standing.access(wanted)
    if (there.private, there.gated) != (private, gated):
        repos.set_access(repo, private=private, gated=gated)
        say(f"{repo} is {'private' if private else 'public'}, gated: {gated or 'no'}")
    settings = workspace.settings.hub
    if not private and settings and settings.collection:
        slug = collection.collect(settings.namespace, settings.collection, repo)
        say(f"in the collection {slug}")
    details = {"out": repo, "version": version, "commit": there.tags[version]}
    uses.record(workspace, "publish", wanted.ref, details)
    return repos.must_look(repo)


def _tightened(wanted: Subject, there: Remote) -> Remote:
    """Before anything new goes up: a repository that is more open than it is to be is closed."""
    private, gated = standing.access(wanted)
    looser = private and not there.private
    ungated = not there.private and STRICTNESS.index(there.gated) < STRICTNESS.index(gated)
    if not (looser or ungated):
        return there
    repos.set_access(wanted.repo, private=private or there.private, gated=gated)
    return repos.must_look(wanted.repo)


def _committed(wanted: Subject, package: Package, there: Remote, say: Say) -> str:
    """The commit that holds the release, made unless it is there.

    Raises:
        LoraregError: others changed our files meanwhile, or do not stop committing.
    """
    if standing.holds(package, there):
        return there.commit
    before = standing.refuse_others(wanted, there)
    ours = {*package.files, *(before.files if before else ())}
    for _ in range(RACES):
        gone = sorted(path for path in ours - package.files.keys() if path in there.files)
        try:
            made = repos.commit(
                wanted.repo, package.files, gone, title=wanted.ref, parent=there.commit
            )
        except MovedError as error:
            now = repos.must_look(wanted.repo)
            if standing.holds(package, now):
                return now.commit
            touched = [p for p in sorted(ours) if there.files.get(p) != now.files.get(p)]
            if touched:
                raise LoraregError(
                    f"somebody else changed {', '.join(touched)} in {wanted.repo}",
                    why=f"commit {now.commit[:10]} came between; nothing of it was overwritten",
                    fix=f"look at it, then run again: lorareg publish {wanted.ref}",
                ) from error
            say(f"somebody else committed {now.commit[:10]} to {wanted.repo}: on top of that")
            there = now
        else:
            say(f"uploaded {len(package.files)} files, {package.size} bytes, as {made[:10]}")
            return made
    raise LoraregError(
        f"others do not stop committing to {wanted.repo}",
        why=f"{RACES} times something else was there first",
        fix=f"lorareg publish {wanted.ref}",
    )


def _read_back(
    wanted: Subject, package: Package, there: Remote, folder: Path, say: Say
) -> tuple[str, ...]:
    """Download the weights and compare them with what was sent and with the lock.

    Raises:
        IntegrityError: other bytes came back; the repository is private again.
    """
    commit = there.tags[wanted.version]
    wrong = []
    for name in package.weights:
        found = repos.download(wanted.repo, name, commit, folder / "back")
        tensors = tensor_digest(found) if found.suffix == ".safetensors" else None
        promised = wanted.lock.outputs[name].tensors
        if files.sha256(found) != package.marker.files[name] or tensors != promised:
            wrong.append(name)
    if wrong:
        withdraw.withdraw(wanted.repo)
        raise IntegrityError(
            f"{', '.join(wrong)} came back from {wanted.repo} with other bytes",
            why=f"the lock of {wanted.ref} promises others; the repository is private again",
            fix=f"delete it on the Hub, then: lorareg publish {wanted.ref}",
        )
    say(f"read back and verified {len(package.weights)} files")
    return package.weights
