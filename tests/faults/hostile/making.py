"""How the registry comes to be: the commands of lorareg, with three people and their keys."""

from __future__ import annotations

import shutil
from pathlib import Path

from lorareg.registry import setup
from lorareg.registry.access import policy, signatures, uses
from lorareg.registry.access.revocation import Tombstone, Tombstones, save
from lorareg.registry.releases import release
from tests.faults.hostile.place import DUO, GONE, INK, WASH, Place
from tests.registry.releases.team import INK as STROKES
from tests.registry.releases.team import OTHER, THIRD, allowed, git, introduce, relock
from tests.weights.composed import Shelf

POLICY = """\
schema: lorareg/1
people:
  alice: {mail: alice@example.org, github: alice, hub: alice}
  bob: {mail: bob@example.org}
  carol: {mail: carol@example.org}
groups: {inkers: [alice]}
roles: {maintainer: [carol, alice]}
kinds: {style: ["group:inkers"], recipe: [alice]}
channels: {stable: [alice]}
"""


def build(top: Path) -> Place:
    """Three styles, one of them revoked, two releases with channels, a recipe, and a remote."""
    place = Place(top)
    keys = top.parent / "keys"
    keys.mkdir(parents=True)
    setup.init(place.root, None)
    introduce(place.root, keys, "alice")
    _remotes(place)
    shelf = Shelf(place.root)
    (place.root / "data/wash").mkdir(parents=True)
    (place.root / "data/wash/a.txt").write_text("wash\n")
    shelf.add(str(INK), STROKES, trigger="zzink", owners=["alice"], title={"en": "Ink"})
    shelf.add(str(WASH), OTHER, trigger="zzwash", owners=["alice"])
    shelf.add(str(GONE), THIRD, trigger="zzgone", owners=["alice"])
    for asset in (INK, WASH, GONE):
        relock(place.root, asset)
    (place.root / policy.FILE).write_text(POLICY)
    (place.root / policy.SIGNERS).write_text(allowed(keys, "alice", "bob", "carol"))
    workspace = place.workspace
    signatures.commit_policy(workspace, "Policy")
    _must(place, "push")
    release.make(workspace, INK, None, print)
    place.path("manifest.yaml").write_text(
        place.path("manifest.yaml").read_text().replace('"Ink"', '"Ink of old"')
    )
    signatures.commit(workspace, [INK], "A title")
    release.make(workspace, INK, None, print)
    _must(place, "compose", "style/ink@v1.0.0:0.5+style/wash:0.5", "--as", "duo")
    _must(place, "promote", "style/ink@v1.0.0", "--channel", "stable")
    _must(
        place, "promote", "style/ink@v1.0.1", "--channel", "canary", "--share", "5%",
        "--allow", "qa", "--guard", "face_sim>=0.8",
    )  # fmt: skip
    _must(place, "access", "grant", "style/ink", "bob", "--purpose", "trailer")
    stone = Tombstone(reason="the consent ended", by="alice", on="2026-01-02")  # type: ignore[arg-type]
    save(workspace, Tombstones(asset=str(GONE), revocations=(stone,)))
    for number in range(4):
        uses.record(workspace, "generate", INK, {"out": f"{number}.png"})
    signatures.commit(workspace, [INK, WASH, GONE, DUO], "All of it")
    _must(place, "push")
    shutil.rmtree(place.root / ".git/hooks", ignore_errors=True)
    # a copy is elsewhere, and so is its storage: let it remember its own
    git(place.root, "config", "--remove-section", "lorareg-remote.storage")
    git(place.root, "gc", "-q")
    return place


def _remotes(place: Place) -> None:
    """Both are named relative to the registry, so that a copy has its own."""
    git(place.top, "init", "-q", "--bare", "-b", "main", "origin.git")
    git(place.root, "branch", "-M", "main")
    git(place.root, "remote", "add", "origin", "../origin.git")
    shutil.rmtree(place.top / "origin.git/hooks", ignore_errors=True)
    git(place.root, "add", "--all")
    git(place.root, "commit", "-qm", "start")


def _must(place: Place, *arguments: str) -> None:
    answer = place.run(*arguments)
    assert answer.code == 0, answer
