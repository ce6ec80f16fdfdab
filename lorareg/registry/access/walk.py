"""Through the history from its first commit on: where every asset and the policy stand.

A branch carries a table of its own. At a merge a state must hold for every parent, whichever is
named first: who merges his own branch of the past would else choose the rules he is judged by.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from lorareg.registry.access import chain
from lorareg.registry.access.chain import Link, Place, Problem
from lorareg.registry.access.judge import POLICY_STATEMENT, RULED_BY, SIGNATURE, Judge
from lorareg.registry.access.statements import GOVERNED, POLICY, POLICY_FILES
from lorareg.registry.git import trail
from lorareg.registry.git.trail import Step
from lorareg.registry.ids import SLUG, AssetId

FOLDER = "manifests"
SIGNERS = POLICY_FILES[1]
STEPS = 500  # commits whose files are read at a time
Table = dict[str, Place]
Nowhere = Place()


class ForkedBeforeError(Exception):
    """A branch began before the place that the walk started from."""


def walk(
    root: Path, judge: Judge, revision: str, start: tuple[str, Table] | None = None
) -> Iterator[tuple[str, Table, frozenset[str]]]:
    """Yield each commit with the table of where everything stands, and what it changed.

    The table is the walk's own and goes on changing.

    Args:
        root: of the repository.
        judge: decides about each state.
        revision: the commit to arrive at.
        start: a commit in its history whose table is known; default is the beginning.

    Raises:
        ForkedBeforeError: a commit after ``start`` has a parent that is not.
    """
    graph = trail.graph(root, revision, start[0] if start else None)
    children = Counter(parent for _, *parents in graph for parent in parents)
    tables: dict[str, Table] = {start[0]: start[1]} if start else {}
    waiting: list[Step] = []
    for step in trail.steps(root, graph, FOLDER):
        waiting.append(step)
        if len(waiting) == STEPS:
            yield from _stride(judge, waiting, tables, children)
            waiting = []
    yield from _stride(judge, waiting, tables, children)


def _stride(
    judge: Judge, steps: Sequence[Step], tables: dict[str, Table], children: Counter[str]
) -> Iterator[tuple[str, Table, frozenset[str]]]:
    judge.read(_needed(steps, tables))
    _verify_ahead(judge, steps, tables)
    for step in steps:
        if any(parent not in tables for parent in step.parents):
            raise ForkedBeforeError
        parents = [tables[parent] for parent in step.parents]
        for parent in step.parents:
            children[parent] -= 1
        first = step.parents[0] if step.parents else ""
        is_last = not children[first]
        table = {} if not parents else parents[0] if is_last else dict(parents[0])
        touched = _advance(judge, step, table, parents or [table])
        tables[step.commit] = table
        for parent in step.parents:
            if not children[parent]:
                tables.pop(parent, None)
        yield step.commit, table, touched


def _verify_ahead(judge: Judge, steps: Sequence[Step], tables: Mapping[str, Table]) -> None:
    """Most signatures of a stride are by keys of its last allowed_signers, or of those before it.

    Whether they count is decided later: here only who made them is found out.
    """
    known = [table.get(POLICY, Nowhere).blobs.get(SIGNERS) for table in tables.values()]
    states: dict[str, None] = {}
    for step in steps:
        for edge in step.changes:
            for name, files in _changed(edge).items():
                if name == POLICY:
                    known.append(files.get(SIGNERS))
                elif blob := files.get(SIGNATURE):
                    states[blob] = None
    if newest := next((blob for blob in reversed(known) if blob), None):
        judge.verify_many(states, newest)


def _advance(judge: Judge, step: Step, table: Table, before: Sequence[Table]) -> frozenset[str]:
    """Bring a table from a commit's parents to the commit; returns what changed."""
    new = _changed(step.changes[0])
    touched = set(new)
    for other in before[1:]:
        touched |= {name for name in table.keys() | other.keys() if _differ(name, before)}
    for name in sorted(touched, key=lambda name: name != POLICY):  # an asset by the new policy
        blobs = _applied(table.get(name, Nowhere).blobs, new.get(name, {}))
        table[name] = _placed(judge, step.commit, name, blobs, table, before)
    return frozenset(touched)


def _placed(
    judge: Judge,
    commit: str,
    name: str,
    blobs: Mapping[str, str],
    table: Table,
    before: Sequence[Table],
) -> Place:
    places = [parent.get(name, Nowhere) for parent in before]
    links = chain.united(link for place in places for link in place.links)
    inherited = [place for place in places if place.blobs == blobs]
    if len(before) > 1 and inherited:
        bad = next((place.problem for place in inherited if place.problem), None)
        if bad or (len(links) == 1 and links == inherited[0].links):
            return Place(commit, blobs, links, bad)
    if name == POLICY:
        return judge.policy(blobs, links, commit)
    rules = [judge.rules(link) for link in table.get(POLICY, Nowhere).links]
    return judge.asset(AssetId.parse(name), blobs, links, commit, rules)


def _differ(name: str, tables: Sequence[Table]) -> bool:
    first = tables[0].get(name, Nowhere)
    return any(table.get(name, Nowhere) is not first for table in tables[1:])


def _applied(blobs: Mapping[str, str], changes: Mapping[str, str | None]) -> dict[str, str]:
    now = {**blobs, **changes}
    return {name: blob for name, blob in now.items() if blob is not None}


def _changed(paths: Mapping[str, str | None]) -> dict[str, dict[str, str | None]]:
    """Changes by asset; what is not governed by a signature is left out."""
    found: dict[str, dict[str, str | None]] = {}
    for path, blob in paths.items():
        match path.split("/")[1:]:
            case [name] if name in (*POLICY_FILES, POLICY_STATEMENT):
                found.setdefault(POLICY, {})[name] = blob
            case [kind, asset, name] if name in (*GOVERNED, SIGNATURE):
                if SLUG.fullmatch(kind) and SLUG.fullmatch(asset):
                    found.setdefault(f"{kind}/{asset}", {})[name] = blob
    return found


def _needed(steps: Sequence[Step], tables: Mapping[str, Table]) -> Iterator[str]:
    """Blobs that judging these commits will read."""
    ruling = {*RULED_BY, SIGNATURE, *POLICY_FILES, POLICY_STATEMENT}
    touched = {POLICY}
    for step in steps:
        for edge in step.changes:
            for subject, files in _changed(edge).items():
                touched.add(subject)
                yield from (blob for name, blob in files.items() if blob and name in ruling)
    for table in tables.values():
        for name in touched & table.keys():
            place = table[name]
            yield from (blob for link in place.links for blob in link.blobs.values())
            yield from (blob for each, blob in place.blobs.items() if each in ruling)


def unsigned_files(
    place: Place, digests: Mapping[str, str], link: Link, commit: str
) -> Problem | None:
    """The first governed file that is not what the valid state's signer signed."""
    here = {name: digests[blob] for name, blob in place.blobs.items() if name in GOVERNED}
    for name in sorted(here.keys() | link.files.keys()):
        if here.get(name) != link.files.get(name):
            missing = "is missing, though" if name not in here else "is not what"
            signed = "signed it" if name not in here else "signed"
            return Problem(commit, name, f"{missing} {link.by} {signed}")
    return None
