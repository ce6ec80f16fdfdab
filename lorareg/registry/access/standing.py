"""Who works here, and may they sign? Asked before anything is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lorareg.errors import LoraregError, listed
from lorareg.registry import digest
from lorareg.registry.access import authority, ownership, policy, signing
from lorareg.registry.access.chain import Link, Place
from lorareg.registry.access.judge import Rules
from lorareg.registry.access.ledger import Ledger
from lorareg.registry.access.ownership import Documents
from lorareg.registry.access.statements import POLICY
from lorareg.registry.ids import AssetId
from lorareg.registry.workspace import Workspace


@dataclass(frozen=True)
class Signatory:
    """Who signs.

    Attributes:
        person: in the policy.
        key: theirs.
    """

    person: str
    key: signing.Key

    @property
    def how(self) -> str:
        """How it is known who works here."""
        return "the key of git config user.signingKey"


NOBODY = Signatory("", signing.Key(Path(), ""))


@dataclass(frozen=True)
class Standing:
    """What binds who is about to sign.

    Attributes:
        workspace: the registry.
        rules: the policy in force in HEAD; before the first one was signed, that on disk.
        ledger: of HEAD; None before the first commit.
    """

    workspace: Workspace
    rules: Sequence[Rules]
    ledger: Ledger | None

    @classmethod
    def of(cls, workspace: Workspace) -> Standing:
        """How things are.

        Raises:
            LoraregError: policy.yaml was removed.
        """
        ledger = authority.ledger(workspace) if workspace.history.head() else None
        rules = ledger.rules() if ledger else []
        here = policy.load(workspace)
        if here is None:
            raise LoraregError(
                f"{policy.FILE} is missing, but this registry has a policy",
                why="whoever removed it could not turn it off by that",
                fix=f"git log -- {policy.FILE}, then git checkout COMMIT~ -- manifests/policy.yaml "
                "manifests/allowed_signers; a maintainer runs: lorareg policy sign",
            )
        return cls(workspace, rules or [Rules(here, policy.signers(workspace))], ledger)

    def place(self, subject: str) -> Place:
        """Where an asset or the policy stands in HEAD."""
        return self.ledger.place(subject) if self.ledger else Place()

    def links(self, subject: str) -> tuple[Link, ...]:
        """The last valid state in HEAD."""
        return self.place(subject).links

    def is_signed(self, subject: str, files: Mapping[str, str], statement: Path) -> bool:
        """Whether files on disk, and the statement beside them, are the valid state of HEAD."""
        place = self.place(subject)
        return (
            place.problem is None
            and len(place.links) == 1
            and place.links[0].files == files
            and statement.is_file()
            and digest.of_file(statement) == place.links[0].digest
        )

    def signatory(self) -> Signatory:
        """Who works here.

        Raises:
            LoraregError: git signs with no SSH key, or with one that the policy gives to nobody.
        """
        key = signing.key(self.workspace.root)
        names = [
            {name for name, public in policy.keys(rule.signers) if public == key.public}
            & rule.policy.people.keys()
            for rule in self.rules
        ]
        found = sorted(set.intersection(*names))
        if found:
            return Signatory(found[0], key)
        maintainers = ", ".join(sorted(self.rules[0].policy.maintainers))
        raise LoraregError(
            "the policy does not know your key",
            why=f"{signing.fingerprint(key.public)} (git config user.signingKey) is not in "
            f"{policy.SIGNERS}",
            fix=f"ask a maintainer ({maintainers}): lorareg policy add YOU --key YOUR.pub; or sign "
            "with the key that is there: git config user.signingKey FILE.pub",
        )

    def maintainer(self) -> Signatory:
        """Who works here, if they may change the policy; raises as ``signatory``."""
        who = self.signatory()
        names = frozenset.intersection(*(rule.policy.maintainers for rule in self.rules))
        if who.person in names:
            return who
        raise LoraregError(
            f"you may not change the policy: its maintainers are {', '.join(sorted(names))}",
            why=f"you are {who.person} by {who.how}",
            fix="ask one of them; nothing was written",
        )

    def refuse_objections(self, states: Mapping[AssetId, Documents], who: Signatory) -> None:
        """Go on only if a person may bring these assets into these states; names them all."""
        objections = {
            asset: why
            for asset, after in states.items()
            if (why := self._objection(asset, after, who.person))
        }
        if objections:
            each = [f"{asset}: {why}" for asset, why in objections.items()]
            names = ", ".join(map(str, list(objections)[:3])) + (" ..." if len(each) > 3 else "")
            raise LoraregError(
                f"you may not change {names}",
                why=f"you are {who.person} by {who.how}\n{listed(each)}",
                fix="ask one of them to do it or to add you; nothing was written",
            )

    def refuse_unreviewed(self, subjects: Sequence[str], is_reviewed: bool) -> None:
        """Go on only if HEAD holds nothing that nobody who may has signed."""
        bad = {name: self.place(name) for name in subjects}
        bad = {name: place for name, place in bad.items() if place.problem and place.links}
        if not bad or is_reviewed:
            return
        each = [
            f"{name}: {place.problem.file} {place.problem.why} (commit {place.problem.commit[:10]})"
            for name, place in bad.items()
            if place.problem
        ]
        names = " ".join(name for name in bad if name != POLICY)
        raise LoraregError(
            f"{', '.join(bad)} was changed by somebody who did not sign",
            why="your signature would cover that too\n" + listed(each),
            fix=f"look at the changes, then sign or restore them: lorareg policy sign {names}",
        )

    def _objection(self, asset: AssetId, after: Documents, person: str) -> str | None:
        for rule in self.rules:
            for link in self.links(str(asset)) or [None]:
                then = self.ledger.judge.documents(link) if self.ledger and link else None
                if why := ownership.objection(rule.policy, asset, then, after, person):
                    return why
        return None
