"""The Hugging Face Hub: the only module that talks to it.

Tokens come from the environment or the client's own store and are never printed or written.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from lorareg.errors import ExternalToolError, NotFoundError

WANTED = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja"]
TIMEOUT = 10.0  # seconds
PICKLES = ["*.bin", "*.ckpt", "*.pt", "*.pth", "*.pkl", "*.msgpack", "*.h5"]


def resolve(model: str, revision: str | None) -> str:
    """Turn a branch or tag (default: the main branch) into the 40-hex commit it points to."""
    if revision and re.fullmatch(r"[0-9a-f]{40}", revision):
        return revision
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    try:
        return str(HfApi().model_info(model, revision=revision, timeout=TIMEOUT).sha)
    except (HTTPError, OSError) as error:
        raise _unreachable(model, error) from error


def snapshot(model: str, revision: str | None, *, fetch: bool = True) -> Path:
    """Folder of a model at a commit, downloaded if the client's cache does not hold it.

    Raises:
        NotFoundError: no commit is pinned.
        ExternalToolError: it is not in the cache and the Hub cannot be reached, or refuses.
    """
    if revision is None:
        raise NotFoundError(
            f"base {model!r} has no revision",
            why="a branch moves, so a lock cannot be made on it",
            fix="set base.revision to the 40-hex commit; lorareg new pins it for you",
        )
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import (  # type: ignore[attr-defined]
        HTTPError,
        LocalEntryNotFoundError,
    )

    wanted: Any = {"revision": revision, "allow_patterns": WANTED, "ignore_patterns": PICKLES}
    try:
        return Path(snapshot_download(model, local_files_only=True, **wanted))
    except LocalEntryNotFoundError as error:
        if not fetch:
            raise NotFoundError(f"base {model!r} is not in the Hub client's cache here") from error
    try:
        # Asked first because the download itself retries an unreachable Hub for half a minute.
        HfApi().model_info(model, revision=revision, timeout=TIMEOUT)
        return Path(snapshot_download(model, **wanted))
    except (HTTPError, OSError) as error:
        raise _unreachable(model, error) from error


def _unreachable(model: str, error: Exception) -> ExternalToolError:
    return ExternalToolError(
        f"cannot fetch {model!r} from the Hugging Face Hub",
        why=str(error).strip().splitlines()[0][:300]
        if str(error).strip()
        else type(error).__name__,
        fix="check the name and the network; for a gated model log in with `hf auth login`; "
        "or set base.model to a local folder",
    )
