"""An adapter as it is checked out or as it was released: which state is meant, and its bytes."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lorareg.errors import IntegrityError, LoraregError, NotFoundError
from lorareg.registry import recipe, yamlfile
from lorareg.registry.access import policy, revocation
from lorareg.registry.files import replaced_atomically
from lorareg.registry.ids import VERSION, AssetId, Ref
from lorareg.registry.lock import Lock, RecipeLock
from lorareg.registry.manifest import ImageManifest, TextManifest
from lorareg.registry.recipe import RecipeManifest
from lorareg.registry.releases import ledger
from lorareg.registry.revisions import lock_at, manifest_at, text_at
from lorareg.registry.sharing import receiving
from lorareg.registry.workspace import Workspace

Number = tuple[int, int, int]


class Held(Protocol):
    """A state whose lock promises weights: of an adapter, or of a recipe with a merged file."""

    @property
    def asset(self) -> AssetId: ...  # noqa: D102
    @property
    def version(self) -> str | None: ...  # noqa: D102
    @property
    def lock(self) -> Lock | RecipeLock: ...  # noqa: D102
    @property
    def ref(self) -> str: ...  # noqa: D102


@dataclass(frozen=True)
class State:
    """One state of an adapter.

    Attributes:
        version: ``v1.2.0`` of a release; None is what is checked out.
        commit: where its lock is, 40 hex digits; None before the first commit.
    """

    asset: AssetId
    version: str | None
    manifest: ImageManifest | TextManifest
    lock: Lock
    commit: str | None

    @property
    def ref(self) -> str:
        """``kind/name`` or ``kind/name@v1.2.0``."""
        return f"{self.asset}@{self.version}" if self.version else str(self.asset)


def find(
    workspace: Workspace, ref: Ref, subject: str | None = None, groups: Sequence[str] = ()
) -> State:
    """The state that a reference means now; of a range, the newest release in it.

    What is built and kept must not depend on where a channel points today: it names ``fixed(ref)``.

    Args:
        workspace: the registry.
        ref: as people type it.
        subject: who asks for a channel, for its gray release.
        groups: that the subject is in.

    Raises:
        NotFoundError: no such adapter or release, or one that was not trained.
        LoraregError: no such channel, or it points to a release that was revoked.
        IntegrityError: the tag of the release was moved.
    """
    asset = workspace.find_asset(ref, any_version=True)
    version = version_of(workspace, asset, ref, subject, groups)
    if version is None:
        wanted, found = workspace.load_manifest(asset), workspace.load_lock(asset)
        commit = workspace.history.head()
    else:
        commit = ledger.commit_of(workspace, asset, version)
        wanted, here = manifest_at(workspace, asset, commit), lock_at(workspace, asset, commit)
        found = here if isinstance(here, Lock) else None
    if found is None:
        raise NotFoundError(f"{asset} is not trained yet", fix=f"lorareg train {asset}")
    return State(asset, version, wanted, found, commit)


def recipe_of(workspace: Workspace, asset: AssetId, ref: Ref) -> RecipeManifest:
    """The manifest of a recipe in the state that a reference means; raises as ``find``."""
    version, file = version_of(workspace, asset, ref), workspace.folder(asset).manifest
    if version is None:
        return recipe.load(file, asset)
    text = text_at(workspace, file, ledger.commit_of(workspace, asset, version))
    return recipe.check_document(yamlfile.parse(text, file), asset)


def version_of(
    workspace: Workspace,
    asset: AssetId,
    ref: Ref,
    subject: str | None = None,
    groups: Sequence[str] = (),
) -> str | None:
    """The release that a reference means now; None is what is checked out. Raises as ``find``."""
    if ref.channel is None:
        return _newest(workspace, asset, ref) if ref.range else ref.version
    from lorareg.registry.releases import served

    return served.choose(workspace, asset, ref.channel, subject, groups).version


def fixed(ref: Ref) -> Ref:
    """The same reference, unless it is one that cannot be built again.

    Raises:
        LoraregError: a channel, which moves.
    """
    if ref.channel is None:
        return ref
    path = str(ref).partition("@")[0]
    raise LoraregError(
        f"{ref}: a channel moves, so what is built from it could not be built again",
        fix=f"name a release or a range of them: {path}@v1.0.0, {path}@^1.0",
    )


def releases(workspace: Workspace, asset: AssetId) -> list[str]:
    """All releases of an asset, oldest first: ``v1.0.0``, ``v1.1.0`` ..."""
    names = [tag.partition("@")[2] for tag in workspace.history.tags(f"{asset}@v*")]
    return sorted((name for name in names if VERSION.fullmatch(name)), key=number)


def recorded(workspace: Workspace, asset: AssetId) -> list[str]:
    """As ``releases``; in a team without tags that no ledger knows: anybody makes those."""
    found = releases(workspace, asset)
    if not found or not (workspace.root / policy.FILE).is_file():
        return found
    known = ledger.load(workspace, asset)
    return [version for version in found if known.entry(version)]


def within(version: str, wanted: str) -> bool:
    """Whether a release lies in a range: ``^1.2`` below 2.0.0, ``~1.2`` below 1.3.0.

    Below 1.0.0 the second number counts as the first does above (semver.org, npm's caret).

    >>> within("v1.9.0", "^1.2"), within("v2.0.0", "^1.2"), within("v0.3.0", "^0.2")
    (True, False, False)
    """
    given = [int(part) for part in re.findall(r"\d+", wanted)]
    low, found = (*given, 0, 0)[:3], number(version)
    fixed = (
        min(2, len(given))
        if wanted.startswith("~")
        else next((place for place, part in enumerate(given, 1) if part), len(given))
    )
    return found >= low and found[:fixed] == low[:fixed]


def weights(workspace: Workspace, state: Held) -> Path:
    """The folder that holds the very weights which the lock of a state promises.

    Those of a release that is not checked out are fetched once and kept by content.

    Raises:
        NotFoundError: they are not here, or cannot be had.
        IntegrityError: what is here are other bytes.
    """
    folder = workspace.folder(state.asset)
    if workspace.weights_match(folder, state.lock):
        return folder.weights
    if state.version is None:
        missing = [name for name in state.lock.outputs if not (folder.weights / name).is_file()]
        if missing:
            raise NotFoundError(
                f"the weights of {state.asset} are not here", fix=f"lorareg pull {state.asset}"
            )
        raise IntegrityError(
            f"{state.asset}: the files in weights/ do not match its lock",
            why="the lock says "
            + ", ".join(f"{name} {output.sha256}" for name, output in state.lock.outputs.items()),
            fix=f"restore them: lorareg pull {state.asset}, or train again",
        )
    return _fetched(workspace, state)


def _fetched(workspace: Workspace, state: Held) -> Path:
    revocation.refuse(workspace, state.asset, state.version)
    kept = workspace.cache / "releases" / state.lock.fingerprint.rpartition(":")[2]
    if workspace.holds(kept, state.lock):
        return kept
    with workspace.history.worktree(f"{state.asset}@{state.version}") as top:
        there = Workspace(top)
        there.store.borrow(workspace.store)
        receiving.fetch_weights(there, state.asset)
        found = there.folder(state.asset).weights
        if not workspace.holds(found, state.lock):
            raise IntegrityError(
                f"the bytes of {state.ref} are not those of its lock",
                why="weights.dvc and lock.json of that release name different files",
                fix=f"compose another release: {state.asset}@v1.0.0",
            )
        kept.mkdir(parents=True, exist_ok=True)
        for name in state.lock.outputs:
            with (found / name).open("rb") as source, replaced_atomically(kept / name) as copy:
                shutil.copyfileobj(source, copy)
    return kept


def _newest(workspace: Workspace, asset: AssetId, ref: Ref) -> str:
    known = recorded(workspace, asset)
    fitting = [version for version in known if within(version, ref.range or "")]
    if not fitting:
        raise NotFoundError(
            f"no release of {asset} lies in {ref.range}",
            why="there are " + (", ".join(known) or "none"),
            fix="git fetch --tags; or name what is checked out: " + str(asset),
        )
    return fitting[-1]


def number(version: str) -> Number:
    """Version numbers as they are ordered."""
    first, second, third = (int(part) for part in re.findall(r"\d+", version))
    return first, second, third
