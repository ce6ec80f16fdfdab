"""Is a state valid? Asked once for each state that a commit brings, answered from git's blobs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from lorareg.errors import LoraregError
from lorareg.registry import digest, yamlfile
from lorareg.registry.access import chain, ownership, policy, signing, statements
from lorareg.registry.access.chain import Link, Place, Problem
from lorareg.registry.access.ownership import CHANNELS, MANIFEST, Documents
from lorareg.registry.access.policy import Policy
from lorareg.registry.access.statements import POLICY_FILES, Statement
from lorareg.registry.git import trail
from lorareg.registry.git.command import call
from lorareg.registry.ids import AssetId
from lorareg.registry.memory import Memory
from lorareg.registry.workspace import Workspace

SIGNATURE = "signature.json"
POLICY_STATEMENT = "policy.signature.json"
RULED_BY = (MANIFEST, CHANNELS)  # files of an asset that rights depend on
YES, NO = "yes", "no"
MEMORY = "lorareg-authority.sqlite"


@dataclass(frozen=True)
class Rules:
    """A valid state of the policy: who may what, and whose keys are whose."""

    policy: Policy
    signers: str

    @cached_property
    def lines(self) -> dict[str, str]:
        """Person -> their lines of allowed_signers."""
        return _by_person(self.signers)


class _InvalidError(Exception):
    """A state that is not valid: which of its files, and why."""

    def __init__(self, file: str, why: str) -> None:
        super().__init__(f"{file} {why}")
        self.file = file
        self.why = why


class Judge:
    """Reads states out of git and decides which are valid.

    Whose key made a signature is remembered by content, so that it is asked once in a lifetime.

    Attributes:
        file: where it is remembered.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._root = workspace.root
        self._contents: dict[str, bytes] = {}
        self._rules: dict[str, Rules] = {}
        self.file = _own_file(workspace.root)
        self._memory = Memory(self.file, "signed", "question", "answer")
        self._learned: dict[str, str] = {}

    def read(self, blobs: Iterable[str]) -> None:
        """Have these blobs at hand, and no others: many are read as fast as one."""
        wanted = set(blobs)
        self._contents = {k: v for k, v in self._contents.items() if k in wanted}
        missing = wanted - self._contents.keys()
        self._contents.update(trail.blobs(self._root, missing, statements.MAX_BYTES))

    def verify_many(self, blobs: Iterable[str], signers: str) -> None:
        """Find out who made many signatures, several at a time.

        Args:
            blobs: of the statements.
            signers: blob of the allowed_signers whose keys to try.
        """
        asked: dict[str, tuple[Statement, str]] = {}
        with suppress(_InvalidError):
            lines = _by_person(self._text({signers: signers}, signers))
            for blob in blobs:
                with suppress(LoraregError, _InvalidError):
                    found = statements.parse(self._text({blob: blob}, blob), SIGNATURE)
                    theirs = lines.get(found.by, "")
                    asked[_question(found, theirs)] = found, theirs
        known = self._memory.recall(asked)
        unknown = [question for question in asked if question not in known]
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            answers = threads.map(lambda question: _holds(*asked[question]), unknown)
            self._learned |= dict(zip(unknown, answers, strict=True))
        self._learned |= known

    def remember(self) -> None:
        """Keep what was found out about signatures."""
        self._memory.remember(self._learned)
        self._learned = {}

    def rules(self, link: Link) -> Rules:
        """The policy as a valid state of it says."""
        if link.digest not in self._rules:
            document, signers = (self._text(link.blobs, name) for name in POLICY_FILES)
            parsed = policy.parse(yamlfile.parse(document, Path(policy.FILE)))
            self._rules[link.digest] = Rules(parsed, signers)
        return self._rules[link.digest]

    def policy(self, blobs: Mapping[str, str], before: Sequence[Link], commit: str) -> Place:
        """Where the policy stands after a commit that changed its files."""

        def decide() -> Link:
            statement, link = self._statement(blobs, POLICY_STATEMENT, statements.POLICY, commit)
            self._same_files(blobs, statement, POLICY_FILES)
            same, others = _split(before, link)
            if same and not others:
                return same
            judges = [self.rules(known) for known in others] or [self.rules(link)]
            for rules in judges:
                if statement.by not in rules.policy.maintainers:
                    names = ", ".join(sorted(rules.policy.maintainers))
                    raise _InvalidError(
                        POLICY_STATEMENT, f"{statement.by} signed, but only {names} may"
                    )
                self._signed(statement, rules, POLICY_STATEMENT)
            self.rules(link)  # one that cannot be read binds nobody
            return _joined(same or link, statement, others, POLICY_STATEMENT)

        if not blobs and not before:
            return Place()
        return _placed(decide, blobs, before, commit)

    def asset(
        self,
        asset: AssetId,
        blobs: Mapping[str, str],
        before: Sequence[Link],
        commit: str,
        rules: Sequence[Rules],
    ) -> Place:
        """Where an asset stands after a commit that changed its files, by the policy in force."""

        def decide() -> Link:
            statement, link = self._statement(blobs, SIGNATURE, str(asset), commit)
            self._same_files(blobs, statement, RULED_BY)
            same, others = _split(before, link)
            if same and not others:
                return same
            after = self.documents(link)
            for ruling in rules:
                for known in _or_none(others):
                    then = self.documents(known) if known else None
                    why = ownership.objection(ruling.policy, asset, then, after, statement.by)
                    if why:
                        raise _InvalidError(SIGNATURE, f"{statement.by} signed, but {why}")
                self._signed(statement, ruling, SIGNATURE)
            return _joined(same or link, statement, others, SIGNATURE)

        if not rules or not blobs:  # one that was removed keeps its owners
            return Place(commit, dict(blobs), tuple(before))
        return _placed(decide, blobs, before, commit)

    def owners(self, asset: AssetId, place: Place, rules: Sequence[Rules]) -> frozenset[str]:
        """Who may change an asset next: its owners and the maintainers."""
        found: list[frozenset[str]] = []
        for ruling in rules:
            for known in _or_none(place.links):
                then = self.documents(known) if known else None
                owners = ownership.owners(ruling.policy, asset, then)
                found.append(owners | ruling.policy.maintainers)
        return frozenset.intersection(*found) if found else frozenset()

    def _statement(
        self, blobs: Mapping[str, str], name: str, subject: str, commit: str
    ) -> tuple[Statement, Link]:
        if name not in blobs:
            raise _InvalidError(name, "is missing: nobody signed this state")
        text = self._text(blobs, name)
        try:
            statement = statements.parse(text, name)
        except LoraregError as error:
            raise _InvalidError(name, error.sentence) from error
        if statement.subject != subject:
            raise _InvalidError(name, f"was signed for {statement.subject}")
        ruled_by = POLICY_FILES if name == POLICY_STATEMENT else RULED_BY
        own = digest.of_bytes(text.encode())
        return statement, Link(
            digest=own,
            serial=statement.serial,
            by=statement.by,
            commit=commit,
            root=own,
            files=dict(statement.files),
            blobs={each: blobs[each] for each in ruled_by if each in blobs},
        )

    def _same_files(
        self, blobs: Mapping[str, str], statement: Statement, names: Sequence[str]
    ) -> None:
        for name in names:
            here = digest.of_bytes(self._content(blobs[name], name)) if name in blobs else None
            if here != statement.files.get(name):
                raise _InvalidError(name, f"is not what {statement.by} signed")

    def _signed(self, statement: Statement, rules: Rules, name: str) -> None:
        lines = rules.lines.get(statement.by, "")
        question = _question(statement, lines)
        known = self._learned.get(question) or self._memory.recall([question]).get(question)
        if known is None:
            known = self._learned[question] = _holds(statement, lines)
        if known != YES:
            raise _InvalidError(
                name, f"is not signed by a key of {statement.by} in allowed_signers"
            )

    def documents(self, link: Link) -> Documents:
        """What rights depend on in a valid state."""
        texts = {name: self._text(link.blobs, name) for name in link.blobs}
        return Documents.of(link.files, texts)

    def _text(self, blobs: Mapping[str, str], name: str) -> str:
        if name not in blobs:
            return ""
        try:
            return self._content(blobs[name], name).decode()
        except UnicodeDecodeError as error:
            raise _InvalidError(name, "is not UTF-8") from error

    def _content(self, blob: str, name: str) -> bytes:
        if blob not in self._contents:
            self._contents.update(trail.blobs(self._root, [blob], statements.MAX_BYTES))
        if blob not in self._contents:
            raise _InvalidError(name, f"is larger than {statements.MAX_BYTES} bytes")
        return self._contents[blob]


def _joined(link: Link, statement: Statement, before: Sequence[Link], name: str) -> Link:
    """The new link of a chain, if it follows every valid state before it."""
    for known in before:
        if why := chain.successor(known, statement.serial, statement.previous):
            raise _InvalidError(name, why)
    if not before:
        return link
    line = link.line.union(*(known.line | {known.digest} for known in before))
    return replace(link, line=line, root=before[0].root)


def _split(before: Sequence[Link], link: Link) -> tuple[Link | None, list[Link]]:
    """The valid state that a statement already is, if it is one, and those it must follow."""
    same = next((known for known in before if known.digest == link.digest), None)
    return same, [known for known in before if known.digest != link.digest]


def _placed(
    decide: Callable[[], Link], blobs: Mapping[str, str], before: Sequence[Link], commit: str
) -> Place:
    try:
        return Place(commit, dict(blobs), (decide(),))
    except _InvalidError as error:
        problem = Problem(commit, error.file, error.why)
    except LoraregError as error:
        problem = Problem(commit, Path(policy.FILE).name, error.sentence)
    return Place(commit, dict(blobs), tuple(before), problem)


def _or_none(links: Sequence[Link]) -> Sequence[Link | None]:
    """The states to follow; where there are none, None stands for the beginning."""
    return links or [None]


def _by_person(signers: str) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    for line in signers.splitlines():
        if not line.lstrip().startswith("#"):
            for person in line.strip().split(" ")[0].split(","):
                found.setdefault(person, []).append(line)
    return {person: "\n".join(lines) + "\n" for person, lines in found.items()}


def _own_file(root: Path) -> Path:
    """In git's own folder: whatever lies in the checkout, ignored or not, may come by a commit."""
    if (root / ".git").is_dir():
        return root / ".git" / MEMORY
    return root / call(root, ["rev-parse", "--git-path", MEMORY]).must_succeed().line


def _question(statement: Statement, lines: str) -> str:
    """A signature, and the keys it could be by: the answer never changes."""
    payload = statement.payload().decode()
    return digest.of_json([payload, statement.signature, statement.by, lines])


def _holds(statement: Statement, lines: str) -> str:
    signed = statement.payload(), statement.signature
    return YES if lines and signing.is_by(statement.by, *signed, lines) else NO
