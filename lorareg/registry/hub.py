"""The Hugging Face Hub: the only module that talks to it.

Tokens come from the environment or the client's own store and are never printed or written.
"""

from __future__ import annotations

import glob
import re
from pathlib import Path

from lorareg.errors import ExternalToolError, InvalidFileError, NotFoundError
from lorareg.registry.bases.modelfiles import DIFFUSERS, has_weights, is_complete, select

TIMEOUT = 10.0  # seconds


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
        InvalidFileError: it holds no weights in safetensors.
        ExternalToolError: it is not in the cache and the Hub cannot be reached, or refuses.
    """
    if revision is None:
        raise NotFoundError(
            f"base {model!r} has no revision",
            why="it is no folder or file here, and on the Hub a branch moves: it cannot be locked",
            fix="set base.revision to a 40-hex commit (lorareg new pins it), or correct base.model",
        )
    from huggingface_hub import HfApi, snapshot_download, try_to_load_from_cache
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    for name in (DIFFUSERS, "config.json"):
        known = try_to_load_from_cache(model, name, revision=revision)
        if isinstance(known, str) and is_complete(Path(known).parent):
            return Path(known).parent
    if not fetch:
        raise NotFoundError(
            f"base {model!r} is not in the Hub client's cache here",
            fix=f"fetch it: hf download {model} --revision {revision}",
        )
    try:
        info = HfApi().model_info(model, revision=revision, timeout=TIMEOUT)
        wanted = select(file.rfilename for file in info.siblings or ())
        if not has_weights(wanted):
            raise InvalidFileError(
                f"base {model!r} has no .safetensors weights on the Hub",
                why="weights in .bin or .ckpt can run code when loaded and are refused",
                fix="choose a repository with safetensors, or set base.model to a converted folder",
            )
        patterns = [glob.escape(name) for name in wanted]
        return Path(snapshot_download(model, revision=revision, allow_patterns=patterns))
    except (HTTPError, OSError) as error:
        raise _unreachable(model, error) from error


def _unreachable(model: str, error: Exception) -> ExternalToolError:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return ExternalToolError(
        f"cannot fetch {model!r} from the Hugging Face Hub",
        why=" ".join(lines[:2])[:300] or type(error).__name__,
        fix="check the name and the network; for a gated model log in with `hf auth login`; "
        "or set base.model to a local folder",
    )
