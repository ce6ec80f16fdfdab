"""Taking back what is on the Hub: nothing is deleted, but nobody else sees it any more."""

from __future__ import annotations

from lorareg.registry.publishing import repos


def withdraw(repo: str) -> bool:
    """Make a repository private; returns whether others could see it before.

    Copies that people have downloaded stay with them.
    """
    found = repos.look(repo)
    if found is None or found.private:
        return False
    repos.set_access(repo, private=True, gated=found.gated)
    return True
