"""What came of training an adapter again: the verdict, and a statement of it to be signed."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

from lorareg.registry.attestation import Statement, Verdict, promised
from lorareg.registry.ids import AssetId
from lorareg.registry.lock import TrainedLock
from lorareg.registry.runfacts import Environment


@dataclass(frozen=True)
class Reproduction:
    """What came of training again.

    Attributes:
        verdict: "identical" files, "identical tensors" in other files, "close" deltas, "differs".
        reasons: the differing inputs, or else what differs between the two environments.
        difference: |new - old| / |old| of the deltas; None where inputs differ and nothing ran.
        outputs: file -> (digest in the lock, digest now).
        known: the lock that was compared with.
        environment: what it was trained on again; None where nothing ran.
        commit: that was checked out.
        version: of a release.
    """

    asset: AssetId
    verdict: Verdict
    reasons: tuple[str, ...]
    difference: float | None
    outputs: dict[str, tuple[str, str]]
    known: TrainedLock
    environment: Environment | None = None
    commit: str = ""
    version: str | None = None

    @property
    def first_input(self) -> str | None:
        """The first input that differs; None if all are those of the lock."""
        return self.reasons[0] if self.environment is None and self.reasons else None

    def document(self) -> dict[str, Any]:
        """For JSON."""
        ran_on = self.environment.model_dump(mode="json") if self.environment else None
        return {
            "asset": str(self.asset),
            "version": self.version,
            "commit": self.commit,
            "fingerprint": self.known.fingerprint,
            "verdict": self.verdict,
            "first_differing_input": self.first_input,
            "reasons": list(self.reasons),
            "difference": self.difference,
            "outputs": self.outputs,
            "environment": ran_on,
        }

    def statement(self, by: str) -> Statement:
        """What ``by`` can sign."""
        return Statement(
            asset=str(self.asset),
            version=self.version,
            commit=self.commit,
            fingerprint=self.known.fingerprint,
            outputs=promised(self.known),
            verdict=self.verdict,
            environment=self.environment,
            differences=self.reasons,
            by=by,
            date=datetime.datetime.now(datetime.UTC).date(),
        )
