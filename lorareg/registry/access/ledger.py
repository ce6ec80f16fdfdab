"""Where everything stands at HEAD, remembered: a second look costs a few milliseconds.

Rows beside what ``Judge`` remembers: one for each asset at the commit that was looked at last, and
one for each state that ever was, by commit. Both can be made again from git.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from lorareg.errors import LoraregError
from lorareg.registry import digest
from lorareg.registry.access import chain
from lorareg.registry.access.chain import Place
from lorareg.registry.access.judge import POLICY_STATEMENT, SIGNATURE, Judge, Rules
from lorareg.registry.access.statements import GOVERNED, POLICY, POLICY_FILES
from lorareg.registry.access.walk import FOLDER, ForkedBeforeError, Table, unsigned_files, walk
from lorareg.registry.git import trail
from lorareg.registry.git.command import call
from lorareg.registry.git.history import MAX_BYTES
from lorareg.registry.ids import AssetId
from lorareg.registry.memory import Memory
from lorareg.registry.workspace import Workspace

HEAD = "HEAD"
NAMES = "names"
NEAREST = 400  # commits in which a row is looked for before the history is read again
FEW = 3  # assets that are looked up one by one; who asks for more gets all


class Ledger:
    """The verified state of every asset at one commit.

    Attributes:
        commit: 40 hex digits.
        judge: who decided.
    """

    def __init__(self, workspace: Workspace, commit: str) -> None:
        self.commit = commit
        self.judge = Judge(workspace)
        self._root = workspace.root
        self._now = Memory(self.judge.file, "now", "subject", "place")
        self._then = Memory(self.judge.file, "past", "state", "place")
        self._shas = Memory(self.judge.file, "blobs", "blob", "sha256")
        self._known: Table = {}
        self._has_all = False

    @classmethod
    def open(cls, workspace: Workspace, commit: str) -> Ledger:
        """The ledger at a commit, brought up to date from where it was left.

        Raises:
            LoraregError: the clone is shallow, so the chain has no beginning.
        """
        ledger = cls(workspace, commit)
        if ledger._now.recall([HEAD]).get(HEAD) != commit:
            ledger._catch_up()
        return ledger

    def place(self, subject: str) -> Place:
        """Where an asset or the policy stands."""
        if subject not in self._known and not self._has_all:
            self._read([subject] if len(self._known) < FEW else self._names())
        return self._known.get(subject, Place())

    def rules(self) -> list[Rules]:
        """The policy in force: its last valid state; of an open fork, every branch's."""
        return [self.judge.rules(link) for link in self.place(POLICY).links]

    def at(self, subject: str, paths: Iterable[str]) -> Place | None:
        """Where something stood at this commit, by its row of the nearest commit that has one.

        Merges are looked at too: one that changes no file may still have joined two states.
        """
        command = ["rev-list", "--topo-order", "--full-history", "--parents", f"-n{NEAREST}"]
        found = call(self._root, [*command, self.commit, "--", *paths]).must_succeed()
        commits = [line.split()[0] for line in found.text.splitlines()]
        rows = self._then.recall([f"{commit}:{subject}" for commit in commits])
        nearest = next((row for c in commits if (row := rows.get(f"{c}:{subject}"))), None)
        return chain.parse(nearest) if nearest else None if commits else Place()

    def _names(self) -> list[str]:
        text = self._now.recall([NAMES]).get(NAMES, "")
        self._has_all = True
        return text.split()

    def _read(self, names: Iterable[str]) -> None:
        found = self._now.recall([*names])
        self._known |= {name: chain.parse(text) for name, text in found.items()}

    def _catch_up(self) -> None:
        start = self._now.recall([HEAD]).get(HEAD)
        try:
            if start and trail.is_ancestor(self._root, start, self.commit):
                self._read(self._names())
                self._walk((start, self._known))
                return
        except ForkedBeforeError:
            pass
        self._has_all = False
        self._known = {}
        self._walk(None)

    def _walk(self, start: tuple[str, Table] | None) -> None:
        if trail.is_shallow(self._root):
            raise LoraregError(
                "the history is cut off, so nobody's rights can be traced to their beginning",
                why="this is a shallow clone",
                fix="git fetch --unshallow",
            )
        touched: set[str] = set()
        past: dict[str, str] = {}
        table: Table = start[1] if start else {}
        for commit, table, changed in walk(self._root, self.judge, self.commit, start):
            touched |= changed
            for name in changed:
                past[f"{commit}:{name}"] = chain.dump(table[name], with_line=False)
        self._compare(table, touched)
        self._known, self._has_all = table, True
        self._then.remember(past)
        self.judge.remember()
        gone = set(self._now.recall([NAMES]).get(NAMES, "").split()) - table.keys()
        rows = dict.fromkeys(gone, chain.dump(Place()))  # of another branch
        rows |= {name: chain.dump(table[name]) for name in touched if name in table}
        self._now.remember(rows | {HEAD: self.commit, NAMES: " ".join(table)})

    def _compare(self, table: Table, names: Iterable[str]) -> None:
        """Every governed file, beside those that rights depend on, with what was signed."""
        valid = {name: table[name] for name in names if name in table and name != POLICY}
        valid = {n: p for n, p in valid.items() if p.blobs and not p.problem and len(p.links) == 1}
        shas = self._digests(
            {blob for place in valid.values() for n, blob in place.blobs.items() if n in GOVERNED}
        )
        for name, place in valid.items():
            problem = unsigned_files(place, shas, place.links[0], place.commit)
            table[name] = replace(place, problem=problem)

    def _digests(self, blobs: set[str]) -> dict[str, str]:
        known = self._shas.recall(blobs)
        read = trail.blobs(self._root, blobs - known.keys(), MAX_BYTES)
        learned = {blob: digest.of_bytes(data) for blob, data in read}
        self._shas.remember(learned)
        return dict.fromkeys(blobs, "too large") | known | learned


def at_commit(workspace: Workspace, head: Ledger, commit: str, asset: AssetId) -> list[Place]:
    """Where the policy and an asset stood as of any commit.

    Args:
        workspace: the registry.
        head: the ledger of HEAD, whose rows say it for every commit before.
        commit: 40 hex digits.
        asset: which.
    """
    if not trail.is_ancestor(workspace.root, commit, head.commit):
        return _walked_to(workspace.root, head.judge, commit, [POLICY, str(asset)])
    then = Ledger(workspace, commit)
    mine = [f"{FOLDER}/{asset}/{name}" for name in (*GOVERNED, SIGNATURE)]
    paths = {POLICY: [f"{FOLDER}/{name}" for name in (*POLICY_FILES, POLICY_STATEMENT)]}
    paths[str(asset)] = mine
    found = [then.at(subject, each) for subject, each in paths.items()]
    known = [place for place in found if place is not None]
    if len(known) == len(found):
        return known
    return _walked_to(workspace.root, head.judge, commit, list(paths))


def _walked_to(root: Path, judge: Judge, commit: str, subjects: list[str]) -> list[Place]:
    """The same for a commit that is not in the history of HEAD, or long before it."""
    table: Table = {}
    for _, here, _ in walk(root, judge, commit):
        table = here
    return [table.get(subject, Place()) for subject in subjects]
