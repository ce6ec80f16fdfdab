"""What a Hub holds after a fault, and what a stranger sees of it."""

from __future__ import annotations

import json

from tests.hub.protocol import Ask
from tests.hubserver import HubServer

WEIGHTS = "pytorch_lora_weights.safetensors"
WHOLE = {"lorareg.json", "lock.json", "README.md", WEIGHTS}


def content(hub: HubServer, name: str) -> dict[str, str]:
    """A repository, without dates and so without the ids of its commits."""
    repo = hub.model(name)
    return {
        "hub access": f"private: {repo.private}, gated: {repo.gated}",
        "hub commits": str(len(repo.commits)),
        "hub tags": str({tag: commit == repo.head.sha for tag, commit in repo.tags.items()}),
        **{f"hub {path}": str(file.sha256 or file.data) for path, file in repo.head.files.items()},
    }


def seen_by_a_stranger(hub: HubServer, name: str) -> list[str]:
    """What somebody without a token finds of a gated repository that is not complete."""
    status, body = _asked(hub, f"/api/models/{name}")
    if status != 200:
        return []
    told = json.loads(body)
    wrong = [f"{file} is missing" for file in WHOLE - {e["rfilename"] for e in told["siblings"]}]
    if told["gated"] != "manual":
        wrong.append(f"gated: {told['gated']}")
    if hub.model(name).tags != {"v1.0.0": told["sha"]}:
        wrong.append(f"tags: {hub.model(name).tags}")
    if _asked(hub, f"/{name}/resolve/main/{WEIGHTS}")[0] < 400:
        wrong.append("weights come without a grant")
    return wrong


def _asked(hub: HubServer, path: str) -> tuple[int, bytes]:
    """The answer to somebody without a token; faults are for others."""
    faults, hub.faults = hub.faults, []
    try:
        answer = hub.answer(Ask.read("GET", path, {}, b""))
    finally:
        hub.faults = faults
    return answer.status, answer.body
