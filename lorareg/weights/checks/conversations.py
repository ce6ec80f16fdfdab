"""Whether language-model adapters were taught to speak in the same form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from lorareg.errors import LoraregError
from lorareg.registry import lock
from lorareg.registry.finding import Finding
from lorareg.registry.lock import Inputs
from lorareg.registry.workspace import Workspace
from lorareg.weights.members import Component

UNKNOWN = "none recorded"
LETTERS = 60  # of a system prompt, in a sentence


def check(workspace: Workspace, components: Sequence[Component]) -> list[Finding]:
    """Chat templates must agree; system prompts and scripts of the answers had better.

    What a dataset's system prompts and scripts are stands in ``dataset.json``, written when the
    adapter was trained; an older one has neither, and nothing is said about it.
    """
    found = list(_templates(components))
    learned = {part.state.ref: _statistics(workspace, part) for part in components}
    for (one, first), (other, second) in combinations(learned.items(), 2):
        found += _prompts(one, first, other, second)
        found += _scripts(one, first, other, second)
    return found


def _templates(components: Sequence[Component]) -> Iterator[Finding]:
    digests: dict[str, list[str]] = {}
    for part in components:
        inputs = part.lock.inputs
        template = (isinstance(inputs, Inputs) and inputs.chat_template) or {}
        digests.setdefault(template.get("digest", UNKNOWN), []).append(part.state.ref)
    if len(digests) > 1 and (imported := digests.pop(UNKNOWN, None)):
        yield Finding(
            False,
            "chat template",
            f"nobody knows with which one {', '.join(imported)} was taught: it was imported",
            "compare its replies alone and composed: lorareg generate EXPR --grid",
            is_hard=False,
        )
    if len(digests) == 1:
        yield Finding(True, "chat template", next(iter(digests)))
        return
    shown = "; ".join(f"{', '.join(names)}: {digest}" for digest, names in digests.items())
    yield Finding(
        False,
        "chat template",
        f"members were taught with different ones, and only one can be used: {shown}",
        "train them again on a base with one chat template",
    )


def _prompts(
    one: str, first: Mapping[str, Any], other: str, second: Mapping[str, Any]
) -> Iterator[Finding]:
    own, theirs = _names(first, "system_prompts"), _names(second, "system_prompts")
    if own and theirs and not own & theirs:
        yield Finding(
            False,
            "system prompts",
            f"{one} was taught with {_cut(own)} and {other} with {_cut(theirs)}",
            "use a system prompt that says both, or train both with the same one",
            is_hard=False,
        )


def _scripts(
    one: str, first: Mapping[str, Any], other: str, second: Mapping[str, Any]
) -> Iterator[Finding]:
    own, theirs = _names(first, "scripts"), _names(second, "scripts")
    if own and theirs and not own & theirs:
        yield Finding(
            False,
            "languages",
            f"{one} answers in {', '.join(sorted(own))} and {other} in "
            f"{', '.join(sorted(theirs))}: the composition may mix them",
            "say in the prompt which language the answer is to be in",
            is_hard=False,
        )


def _statistics(workspace: Workspace, part: Component) -> Mapping[str, Any]:
    """Those of ``dataset.json`` if it belongs to the member's lock; else none."""
    inputs = part.lock.inputs
    if not isinstance(inputs, Inputs):
        return {}  # it was imported
    try:
        return lock.load_index(workspace.folder(part.asset).dataset, inputs).statistics
    except LoraregError:
        return {}


def _names(statistics: Mapping[str, Any], key: str) -> set[str]:
    return {str(name) for name, _ in statistics.get(key, ())}


def _cut(texts: set[str]) -> str:
    first = min(texts)
    shown = first if len(first) <= LETTERS else first[:LETTERS] + "..."
    return repr(shown) + (f" and {len(texts) - 1} others" if len(texts) > 1 else "")
