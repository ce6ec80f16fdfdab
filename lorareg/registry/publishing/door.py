"""The client of the Hub: what its errors mean, and patience with it.

Tokens come from ``HF_TOKEN`` or from what ``hf auth login`` stored; no word that leaves here holds
one. ``HF_ENDPOINT`` is the client's own setting.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from lorareg.errors import ExternalToolError, LoraregError, NotFoundError

TRIES = 5
PATIENCE = 60.0  # seconds; a Hub that asks for more is said so
BUSY = (429, 500, 502, 503, 504)
Result = TypeVar("Result")


class MovedError(LoraregError):
    """Somebody else committed since the repository was looked at."""


def patiently(ask: Callable[[], Result]) -> Result:
    """Ask again while the Hub is busy, as late as it wants, but no later than ``PATIENCE``."""
    from huggingface_hub.errors import HfHubHTTPError

    for attempt in range(TRIES):
        try:
            return ask()
        except HfHubHTTPError as error:
            wait = _wanted_wait(error, attempt)
            if error.response.status_code not in BUSY or attempt == TRIES - 1 or wait > PATIENCE:
                raise
        time.sleep(wait)
    raise AssertionError("the last attempt returns or raises")


@contextmanager
def door(repo: str, doing: str) -> Iterator[None]:
    """Say what the client's errors mean, without a token in it.

    Args:
        repo: repository, or what else is asked for.
        doing: "write to", for sentences.
    """
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        raise ExternalToolError(
            f"{repo} is behind a gate",
            why=words(error),
            fix=f"ask for access on its page ({repo}), then log in as that user: hf auth login",
        ) from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise NotFoundError(
            f"the Hub has no such thing in {repo}, or shows it to others only",
            why=words(error),
            fix="correct the name or the version, or log in: hf auth login",
        ) from error
    except errors.HfHubHTTPError as error:
        raise _refused(repo, doing, error) from error
    except errors.HFValidationError as error:
        raise LoraregError(f"{repo} is no name on the Hub", why=words(error)) from error
    except (
        errors.HTTPError,  # type: ignore[attr-defined]
        errors.XetDownloadError,
        errors.EntryNotFoundError,
        OSError,
        RuntimeError,  # hf_xet's own, when it cannot upload
    ) as error:
        raise ExternalToolError(
            f"cannot {doing} {repo}",
            why=words(error),
            fix="check the network and HF_ENDPOINT, then run the same command again",
        ) from error


def words(error: Exception) -> str:
    """An error in one line; a token in it is blotted out."""
    from huggingface_hub import get_token

    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("For more information check")]
    text = " ".join(lines[:3])[:300] or type(error).__name__
    token = get_token()
    return text.replace(token, "***") if token else text


@contextmanager
def bars_for_people() -> Iterator[None]:
    """Let the client draw its progress bars on a terminal only; a file would hold every redraw."""
    from huggingface_hub.utils import (  # type: ignore[attr-defined]
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    if sys.stderr.isatty() or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def _refused(repo: str, doing: str, error: Exception) -> LoraregError:
    status = getattr(getattr(error, "response", None), "status_code", 0)
    if status == 412:
        fix = "run the same command again: it starts from what is there now"
        return MovedError(f"somebody else committed to {repo}", why=words(error), fix=fix)
    what = f"the Hub does not let you {doing} {repo}"
    if status in (401, 403):
        fix = "log in with a token that may write there: hf auth login; or set HF_TOKEN"
    elif status in BUSY:
        what, fix = f"the Hub is too busy to {doing} {repo}", "run the same command again later"
    else:
        fix = "run the same command again; what is done already stays done"
    return ExternalToolError(what, why=words(error), fix=fix)


def _wanted_wait(error: Exception, attempt: int) -> float:
    told = getattr(getattr(error, "response", None), "headers", {}).get("retry-after", "")
    return float(told) if told.isdecimal() else 0.5 * 2**attempt
