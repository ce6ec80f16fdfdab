"""Who is let into a gated repository. Nobody can ask through an API: that takes the browser."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lorareg.errors import LoraregError
from lorareg.registry.publishing.door import door, patiently


@dataclass(frozen=True)
class Request:
    """Somebody who asked, or was let in unasked.

    Attributes:
        id: the Hub's name for the request.
        user: name on the Hub; None where the repository hides them.
        fields: what was filled into the form.
    """

    id: str
    user: str | None
    since: datetime.datetime
    fields: Mapping[str, Any] = field(default_factory=dict)


def pending(repo: str) -> list[Request]:
    """Who waits for an answer."""
    return _listed(repo, "list_pending_access_requests")


def accepted(repo: str) -> list[Request]:
    """Who may download."""
    return _listed(repo, "list_accepted_access_requests")


def rejected(repo: str) -> list[Request]:
    """Who was turned away."""
    return _listed(repo, "list_rejected_access_requests")


def grant(repo: str, user: str) -> bool:
    """Let somebody in, whether or not he asked; returns whether he was outside.

    Raises:
        ExternalToolError: the Hub knows no such user, or the repository is not gated.
    """
    from huggingface_hub import HfApi

    if user in _users(accepted(repo)):
        return False
    asked = user in _users(pending(repo)) | _users(rejected(repo))
    let_in = HfApi().accept_access_request if asked else HfApi().grant_access
    with door(repo, f"let {user} into"):
        patiently(lambda: let_in(repo, user))
    return True


def reject(repo: str, user: str, reason: str | None = None) -> bool:
    """Keep somebody out who asked or was in; returns whether he was not out already.

    Raises:
        LoraregError: he never asked and was never let in.
    """
    from huggingface_hub import HfApi

    if user in _users(rejected(repo)):
        return False
    if user not in _users(accepted(repo)) | _users(pending(repo)):
        raise LoraregError(
            f"{user} has no access to {repo}",
            why="he is neither accepted nor waiting",
            fix="lorareg access diff shows who is",
        )
    with door(repo, f"keep {user} out of"):
        patiently(lambda: HfApi().reject_access_request(repo, user, rejection_reason=reason))
    return True


def _listed(repo: str, method: str) -> list[Request]:
    from huggingface_hub import HfApi

    ask: Callable[[str], Iterable[Any]] = getattr(HfApi(), method)
    with door(repo, "see who asks for access to"):
        found = patiently(lambda: list(ask(repo)))
    return [Request(one.request_id, one.username, one.timestamp, one.fields or {}) for one in found]


def _users(requests: list[Request]) -> set[str]:
    return {each.user for each in requests if each.user}
