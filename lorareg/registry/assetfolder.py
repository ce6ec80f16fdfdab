"""Every path of one asset: all of it is in one folder, so that two people never conflict."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lorareg.registry.ids import AssetId


@dataclass(frozen=True)
class AssetFolder:
    """Every path of one asset."""

    id: AssetId
    path: Path

    @property
    def manifest(self) -> Path:
        """Intent, written by people."""
        return self.path / "manifest.yaml"

    @property
    def lock(self) -> Path:
        """Facts, written by the tool."""
        return self.path / "lock.json"

    @property
    def dataset(self) -> Path:
        """Digest of every file and caption of the dataset that was trained on."""
        return self.path / "dataset.json"

    @property
    def weights(self) -> Path:
        """The bytes."""
        return self.path / "weights"

    @property
    def pointer(self) -> Path:
        """DVC's name for the bytes."""
        return self.path / "weights.dvc"

    @property
    def card(self) -> Path:
        """The model card that git hosts render."""
        return self.path / "README.md"

    @property
    def preview(self) -> Path:
        """One picture of what the adapter does."""
        return self.path / "preview.png"

    @property
    def sheet(self) -> Path:
        """One picture of what it was trained on."""
        return self.path / "dataset.png"

    @property
    def channels(self) -> Path:
        """Pointers to releases: stable, canary."""
        return self.path / "channels.yaml"

    @property
    def releases(self) -> Path:
        """The ledger of what was released."""
        return self.path / "releases.json"

    @property
    def grants(self) -> Path:
        """Who else may use it, for what and until when."""
        return self.path / "grants.yaml"

    @property
    def revoked(self) -> Path:
        """The tombstone."""
        return self.path / "revoked.json"

    @property
    def signature(self) -> Path:
        """Who stands for the state of this folder."""
        return self.path / "signature.json"

    @property
    def attestations(self) -> Path:
        """Who made it again, a file each."""
        return self.path / "attestations"
