"""``python -m lorareg.weights.unpickle FROM TO``: the tensors of a pickle, and nothing else of it.

A process of its own, so that whatever a hostile file makes of it ends with it. ``weights_only``
lets torch build tensors and containers, and call nothing.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from lorareg.errors import InvalidFileError

SECONDS = 600
MET = "unsupported"
"""In the line in which torch names what it did not build: a global, an operand."""


def convert(source: Path, target: Path) -> None:
    """Write the tensors of ``source`` as safetensors, in another process.

    Raises:
        InvalidFileError: it holds more than tensors, or is damaged.
    """
    command = [sys.executable, "-P", "-m", __name__, str(source), str(target)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=SECONDS, check=False,
            cwd=target.parent,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise _refused(source, f"it was not read in {SECONDS} seconds") from error
    if done.returncode != 0 or not target.is_file():
        said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        # torch says what it met in a line of its own, and ends with a link to its manual
        reason = next((line.strip() for line in said if MET in line.lower()), said[-1])
        raise _refused(source, reason[:300])


def main(source: str, target: str) -> None:
    """What the other process does."""
    import torch
    from safetensors.torch import save_file

    found = torch.load(source, map_location="cpu", weights_only=True)
    found = found.get("state_dict", found) if isinstance(found, dict) else found
    if not isinstance(found, dict):
        raise SystemExit(f"it holds a {type(found).__name__}, no tensors by name")
    odd = [str(key) for key, value in found.items() if not isinstance(value, torch.Tensor)]
    if odd or not found:
        raise SystemExit(f"not a tensor: {', '.join(odd[:5]) or 'it is empty'}")
    save_file(
        {str(key): value.detach().clone().contiguous() for key, value in found.items()}, target
    )


def _refused(source: Path, why: str) -> InvalidFileError:
    return InvalidFileError(
        f"{source.name} holds more than tensors, or is damaged",
        why=why,
        fix="ask for .safetensors; do not load this file anywhere",
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
