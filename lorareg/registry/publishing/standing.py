"""How far a release has come on the Hub: what is there already, and what is in the way."""

from __future__ import annotations

import re

from lorareg.errors import IntegrityError, LoraregError
from lorareg.registry.publication import Gate
from lorareg.registry.publishing import collection, files, repos
from lorareg.registry.publishing.files import MARKER, Marker, Package
from lorareg.registry.publishing.repos import Remote
from lorareg.registry.publishing.subject import Subject
from lorareg.registry.workspace import Workspace


def steps(
    workspace: Workspace, wanted: Subject, package: Package, there: Remote | None
) -> list[str]:
    """What is still to be done, in order.

    Raises:
        LoraregError: the repository is not ours to fill, or holds a newer release.
        IntegrityError: this version is there with other files.
    """
    steps = []
    if there is None:
        steps.append(f"create {wanted.repo}, private")
    if there is None or not is_up(wanted, package, there):
        steps.append(f"upload {len(package.files)} files ({package.size} bytes) in one commit")
    if there is None or wanted.version not in there.tags:
        steps.append(f"tag it {wanted.version}")
    if there is None or (there.private, there.gated) != access(wanted):
        private, gated = access(wanted)
        opening = "keep it private" if private else f"make it public, gated: {gated or 'no'}"
        steps.append(opening)
    settings = workspace.settings.hub
    title = settings.collection if settings and wanted.is_public else None
    if settings and title and not collection.is_collected(settings.namespace, title, wanted.repo):
        steps.append(f"add it to the collection {title!r}")
    return steps


def access(wanted: Subject) -> tuple[bool, Gate]:
    """Whether the repository is to be private, and its gate."""
    return not wanted.is_public, wanted.gated if wanted.is_public else False


def is_up(wanted: Subject, package: Package, there: Remote) -> bool:
    """Whether the version is there, complete.

    Raises:
        IntegrityError: it is there with other files.
        LoraregError: the repository is not ours to fill.
    """
    if wanted.version not in there.tags:
        refuse_others(wanted, there)
        return False
    tagged = repos.must_look(wanted.repo, there.tags[wanted.version])
    if not package.is_in(tagged):
        refuse_others(wanted, there)
        raise IntegrityError(
            f"{wanted.version} in {wanted.repo} is something else than {wanted.ref}",
            why="the files under that tag are not those of the release, and a release never moves",
            fix=f"release again, or choose another place: publish.hub in manifests/{wanted.asset}/"
            "manifest.yaml",
        )
    return True


def holds(package: Package, there: Remote) -> bool:
    """Whether the newest state of a repository is this release."""
    return package.is_in(there) and marker(there) == package.marker


def marker(there: Remote) -> Marker | None:
    """What a repository says it holds, if lorareg filled it."""
    if MARKER not in there.files:
        return None
    text = repos.read(there.id, MARKER, there.commit, max_bytes=files.MAX_BYTES)
    return files.read_marker(text, there.id)


def refuse_others(wanted: Subject, there: Remote) -> Marker | None:
    """Refuse a repository that holds something else; returns what of ours it holds."""
    if there.is_empty:
        return None
    found = marker(there)
    if found is None or found.asset != str(wanted.asset):
        raise LoraregError(
            f"{wanted.repo} holds something else",
            why=f"it is the repository of {found.asset}" if found else "others filled it",
            fix=f"choose another place: publish.hub in manifests/{wanted.asset}/manifest.yaml",
        )
    if _number(found.version) > _number(wanted.version):
        raise LoraregError(
            f"{wanted.repo} holds {found.version} already",
            why=f"{wanted.version} is older, and would take its place on the main branch",
            fix="publish the newest release; older ones can be had from the registry",
        )
    return found


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))
