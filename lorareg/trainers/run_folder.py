"""Where a run keeps checkpoints, metrics and samples."""

from __future__ import annotations

from pathlib import Path

from lorareg.registry.ids import AssetId
from lorareg.registry.workspace import Workspace

HEX = 16  # characters of the fingerprint in its name


def run_folder(workspace: Workspace, asset: AssetId, fingerprint: str) -> Path:
    """The folder of the run with these inputs: the same inputs find the same run again."""
    return workspace.runs(asset) / fingerprint.partition(":")[2][:HEX]
