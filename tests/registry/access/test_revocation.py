from __future__ import annotations

import datetime
import json
from pathlib import Path

import pytest

from lorareg.errors import InvalidFileError, LoraregError, NotFoundError
from lorareg.registry.access import permission, revocation, statements, tombstones, uses
from lorareg.registry.access.downstream import Downstream
from lorareg.registry.access.grants import Use
from lorareg.registry.access.revocation import Lifted, Tombstone
from lorareg.registry.ids import AssetId
from lorareg.registry.lock import ParentInput
from tests.registry.access.team import INK as TEAMS_INK
from tests.registry.access.team import ZHANGSAN as TEAMS_ZHANGSAN
from tests.registry.access.team import Team
from tests.registry.family import GOLDEN_LOCK, Family, git, tensors

ZHANGSAN = AssetId("character", "zhangsan")
OLDER = AssetId("character", "zhangsan-older")
OLDEST = AssetId("character", "zhangsan-oldest")
MIX = AssetId("recipe", "mix")
TODAY = datetime.date(2026, 11, 22)


@pytest.fixture
def family(registry: Path) -> Family:
    """zhangsan v1.0.0 (a) and v1.1.0 (b), checked out (c); ink (d), which is nobody's child."""
    git(registry, "init", "--quiet", "--initial-branch=main")
    git(registry, "config", "user.name", "Alice")
    git(registry, "config", "user.email", "alice@example.org")
    (registry / ".gitignore").write_text("/.lorareg/\n")
    family = Family(registry)
    for name in ("character/zhangsan", "style/ink"):
        family.write(name)
    family.lock("style/ink", "d")
    family.lock("character/zhangsan", "a")
    family.commit("character/zhangsan@v1.0.0", "style/ink@v1.0.0")
    family.lock("character/zhangsan", "b")
    family.commit("character/zhangsan@v1.1.0")
    family.lock("character/zhangsan", "c")
    return family


def child(family: Family, name: str, letter: str, parent: str, of: str) -> None:
    family.write(name, parent=parent)
    family.lock(name, letter, ParentInput(ref=parent, tensors=tensors(of)))


def recipe(family: Family, name: str, members: dict[str, str], merged: str | None = None) -> None:
    """A recipe of refs, each with the letter of its weights."""
    base = json.loads(GOLDEN_LOCK.read_text(encoding="utf-8"))["inputs"]["base"]
    out = {"bytes": 1, "sha256": "sha256:" + "1" * 64, "tensors": tensors(merged or "0")}
    document = {
        "schema": "lorareg/lock/1", "asset": f"recipe/{name}", "task": "text-to-image",
        "base": base, "fingerprint": f"recipe-sha256-v1:{name.encode().hex():0<64}",
        "outputs": {"m.safetensors": out} if merged else {},
        "members": [
            {"ref": ref, "weight": 1.0, "commit": None, "file": "w.safetensors",
             "sha256": "sha256:" + "2" * 64, "tensors": tensors(letter)}
            for ref, letter in members.items()
        ],
    }  # fmt: skip
    folder = family.root / "manifests/recipe" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "lock.json").write_text(json.dumps(document))
    parts = "".join(f"  - {{ref: {ref}, weight: 1.0}}\n" for ref in members)
    (folder / "manifest.yaml").write_text(
        f"schema: lorareg/1\nkind: recipe\nname: {name}\nparts:\n{parts}"
    )


def revoke(
    family: Family, version: str | None = None, asset: AssetId = ZHANGSAN, reason: str = "consent"
) -> Downstream:
    stone, found = tombstones.planned(family.workspace, asset, version, reason, "alice")
    assert tombstones.entomb(family.workspace, asset, stone)
    return found


def is_revoked(family: Family, asset: AssetId | str, version: str | None = None) -> bool:
    asset = AssetId.parse(asset) if isinstance(asset, str) else asset
    return revocation.revoked(family.workspace, asset, version) is not None


def test_what_nobody_revoked_is_not(family: Family) -> None:
    assert not is_revoked(family, ZHANGSAN)
    assert not is_revoked(family, ZHANGSAN, "v1.0.0")


def test_an_asset_is_revoked_with_all_it_ever_was_and_will_be(family: Family) -> None:
    revoke(family)
    family.lock("character/zhangsan", "e")  # trained again since
    family.commit("character/zhangsan@v2.0.0")

    assert is_revoked(family, ZHANGSAN)
    assert all(is_revoked(family, ZHANGSAN, each) for each in ("v1.0.0", "v1.1.0", "v2.0.0"))
    assert not is_revoked(family, "style/ink")


def test_the_refusal_says_why_since_when_by_whom_and_by_what_way(family: Family) -> None:
    child(family, str(OLDER), "e", "character/zhangsan@v1.1.0", "b")
    recipe(family, "mix", {"style/ink": "d", str(OLDER): "e"})
    revoke(family, reason="consent withdrawn")

    with pytest.raises(LoraregError) as refused:
        revocation.refuse(family.workspace, MIX)

    today = datetime.date.today()
    assert refused.value.what == (
        "recipe/mix comes from character/zhangsan@v1.1.0, which is revoked"
    )
    assert refused.value.why == (
        f"character/zhangsan was revoked on {today} by alice: consent withdrawn "
        "(recipe/mix <- character/zhangsan-older <- character/zhangsan@v1.1.0)"
    )


def test_of_one_release_the_others_may_be_used_on(family: Family) -> None:
    revoke(family, "v1.0.0")

    assert is_revoked(family, ZHANGSAN, "v1.0.0")
    assert not is_revoked(family, ZHANGSAN, "v1.1.0")
    assert not is_revoked(family, ZHANGSAN)


def test_the_weights_of_a_revoked_release_are_revoked_under_any_version_and_name(
    family: Family,
) -> None:
    family.write("character/copy")
    family.lock("character/copy", "a")
    family.lock("character/zhangsan", "a")
    family.commit("character/zhangsan@v1.2.0")  # the card changed, the weights are those of v1.0.0

    revoke(family, "v1.0.0")

    assert is_revoked(family, ZHANGSAN, "v1.2.0")
    assert is_revoked(family, ZHANGSAN)
    assert is_revoked(family, "character/copy")
    assert not is_revoked(family, ZHANGSAN, "v1.1.0")


def test_a_child_of_a_child_is_revoked_and_a_child_of_another_release_is_not(
    family: Family,
) -> None:
    child(family, str(OLDER), "e", "character/zhangsan@v1.0.0", "a")
    child(family, str(OLDEST), "f", str(OLDER), "e")
    child(family, "character/other", "0", "character/zhangsan@v1.1.0", "b")

    found = revoke(family, "v1.0.0")

    assert is_revoked(family, OLDER)
    assert is_revoked(family, OLDEST)
    assert not is_revoked(family, "character/other")
    assert found.adapters == (str(OLDER), str(OLDEST))


@pytest.mark.parametrize("merged", [None, "e"])
@pytest.mark.parametrize(("version", "is_hit"), [("v1.0.0", True), ("v1.1.0", False)])
def test_a_recipe_is_revoked_with_the_release_that_it_pins(
    family: Family, merged: str | None, version: str, is_hit: bool
) -> None:
    recipe(family, "mix", {"style/ink@v1.0.0": "d", "character/zhangsan@v1.0.0": "a"}, merged)

    found = revoke(family, version)

    assert is_revoked(family, MIX) == is_hit
    assert found.recipes == (("recipe/mix",) if is_hit else ())


def test_what_was_trained_from_a_merged_file_is_revoked_with_its_members(family: Family) -> None:
    recipe(family, "mix", {"character/zhangsan@v1.0.0": "a"}, merged="e")
    family.write("style/imported-merge")
    family.lock("style/imported-merge", "e")

    found = revoke(family, "v1.0.0")

    assert found.adapters == ("style/imported-merge",)


def test_releases_of_everything_downstream_are_named_at_their_tags(family: Family) -> None:
    child(family, str(OLDER), "e", "character/zhangsan@v1.1.0", "b")
    recipe(family, "mix", {"character/zhangsan@v1.1.0": "b"})
    family.commit(f"{OLDER}@v1.0.0", "recipe/mix@v1.0.0", "style/ink@v1.1.0")
    child(family, str(OLDER), "f", "style/ink@v1.0.0", "d")  # since then of another parent
    family.commit()

    found = revoke(family)

    assert found.releases == (
        "character/zhangsan-older@v1.0.0", "character/zhangsan@v1.0.0",
        "character/zhangsan@v1.1.0", "recipe/mix@v1.0.0",
    )  # fmt: skip
    assert found.adapters == ()
    assert is_revoked(family, OLDER, "v1.0.0")
    assert not is_revoked(family, OLDER)


def test_exports_of_this_clone_are_named_and_known_again_when_they_are_imported(
    family: Family,
) -> None:
    sha256 = "sha256:" + "9" * 64
    details = {"members": [uses.used("character/zhangsan@v1.0.0", tensors("a"))]}
    uses.record(family.workspace, "export", "x", details | {"out": "zh.gguf", "sha256": sha256})
    uses.record(family.workspace, "generate", "x", details | {"out": "picture.png"})
    family.write("style/from-a-file")
    document = json.loads(GOLDEN_LOCK.read_text(encoding="utf-8"))
    origin = {"file": "zh.gguf", "form": "kohya", "sha256": sha256}
    document["inputs"] = {
        "base": document["inputs"]["base"], "origin": origin, "header": {}, "importer": "1"
    }  # fmt: skip
    document |= {"asset": "style/from-a-file"}
    document = {key: document[key] for key in document if key not in ("environment", "result")}
    (family.root / "manifests/style/from-a-file/lock.json").write_text(json.dumps(document))

    found = revoke(family, "v1.0.0")

    assert [(each.out, each.who) for each in found.exports] == [("zh.gguf", "alice@example.org")]
    assert found.adapters == ("style/from-a-file",)
    assert is_revoked(family, "style/from-a-file")


def test_repositories_on_the_hub_are_named(family: Family) -> None:
    recipe(family, "mix", {"character/zhangsan@v1.0.0": "a"})
    manifest = family.root / "manifests/recipe/mix/manifest.yaml"
    manifest.write_text(manifest.read_text() + "publish: {hub: studio/mix, gated: manual}\n")

    assert revoke(family).hub == ("studio/mix",)


def test_a_recipe_that_is_revoked_leaves_its_members_alone(family: Family) -> None:
    recipe(family, "mix", {"character/zhangsan@v1.0.0": "a"}, merged="e")

    revoke(family, asset=MIX)

    assert is_revoked(family, MIX)
    assert not is_revoked(family, ZHANGSAN, "v1.0.0")


def test_a_recipe_that_is_composed_anew_without_the_revoked_member_may_be_used(
    family: Family,
) -> None:
    recipe(family, "mix", {"character/zhangsan@v1.0.0": "a"})
    revoke(family, "v1.0.0")
    members = [(AssetId("style", "ink"), None)]

    assert permission.check(
        family.workspace, members, "compose", TODAY, recipes=[(MIX, None)]
    ) == []  # fmt: skip
    revoke(family, asset=MIX)
    (finding,) = permission.check(
        family.workspace, members, "compose", TODAY, recipes=[(MIX, None)]
    )
    assert finding.what == "recipe/mix"


@pytest.mark.parametrize("use", ["train", "compose", "generate", "pull", "export", "publish"])
def test_no_use_of_it_is_allowed(family: Family, use: Use) -> None:
    child(family, str(OLDER), "e", "character/zhangsan@v1.1.0", "b")
    revoke(family)

    with pytest.raises(LoraregError, match="is revoked"):
        permission.require(family.workspace, ZHANGSAN, use)
    with pytest.raises(LoraregError, match="comes from character/zhangsan@v1.1.0"):
        permission.require(family.workspace, OLDER, use)


def test_training_from_a_revoked_parent_is_refused(family: Family) -> None:
    family.write(str(OLDER), parent="character/zhangsan@v1.0.0")
    revoke(family, "v1.0.0")
    wanted = family.workspace.load_manifest(OLDER)

    with pytest.raises(LoraregError, match="character/zhangsan@v1.0.0 is revoked"):
        permission.require_training(family.workspace, wanted)


def test_what_is_lifted_may_be_used_again_and_stays_on_record(family: Family) -> None:
    child(family, str(OLDER), "e", "character/zhangsan@v1.1.0", "b")
    revoke(family)
    lifted = Lifted(reason="a new contract", by="alice", on=TODAY)

    assert tombstones.lift(family.workspace, ZHANGSAN, None, lifted)

    assert not is_revoked(family, ZHANGSAN)
    assert not is_revoked(family, OLDER)
    (stone,) = revocation.load(family.workspace, ZHANGSAN).revocations
    assert (stone.reason, stone.lifted) == ("consent", lifted)


def test_what_is_not_revoked_cannot_be_lifted(family: Family) -> None:
    revoke(family, "v1.0.0")
    lifted = Lifted(reason="x", by="alice", on=TODAY)

    with pytest.raises(NotFoundError) as refused:
        tombstones.lift(family.workspace, ZHANGSAN, "v1.1.0", lifted)

    assert refused.value.why == "there is one of character/zhangsan@v1.0.0"


def test_it_is_not_revoked_twice(family: Family) -> None:
    revoke(family)

    with pytest.raises(LoraregError, match="character/zhangsan is revoked already"):
        tombstones.planned(family.workspace, ZHANGSAN, "v1.0.0", "x", "alice")


def test_a_release_that_is_not_there_cannot_be_revoked(family: Family) -> None:
    with pytest.raises(NotFoundError, match=r"v9\.0\.0"):
        tombstones.planned(family.workspace, ZHANGSAN, "v9.0.0", "x", "alice")


@pytest.mark.parametrize(
    "text",
    ["", "{}", '{"schema": "lorareg/1", "asset": "style/ink", "revocations": []}', "[1", "\\ud800"],
)
def test_a_tombstone_that_cannot_be_read_lets_nothing_be_used(family: Family, text: str) -> None:
    (family.root / "manifests/character/zhangsan/revoked.json").write_text(text)

    with pytest.raises(InvalidFileError, match=r"character/zhangsan/revoked\.json"):
        permission.require(family.workspace, AssetId("style", "ink"), "generate")


def test_an_owner_s_tombstone_is_signed_and_a_stranger_s_is_not_written(team: Team) -> None:
    stone = Tombstone(reason="consent withdrawn", by="dora", on=TODAY)
    with pytest.raises(LoraregError, match="you may not change character/zhangsan"):
        tombstones.entomb(team.sit_down("dora"), TEAMS_ZHANGSAN, stone)
    assert not (team.root / "manifests/character/zhangsan/revoked.json").exists()

    by_alice = stone.model_copy(update={"by": "alice"})
    assert tombstones.entomb(team.sit_down("alice"), TEAMS_ZHANGSAN, by_alice)

    text = (team.root / "manifests/character/zhangsan/signature.json").read_text()
    statement = statements.parse(text, "signature.json")
    assert "revoked.json" in statement.files
    assert statement.by == "alice"
    assert team.git("status", "--porcelain") == ""


def test_a_stranger_cannot_lift_it(team: Team) -> None:
    stone = Tombstone(reason="consent withdrawn", by="bob", on=TODAY)
    tombstones.entomb(team.sit_down("bob"), TEAMS_INK, stone)
    before = (team.root / "manifests/style/ink/revoked.json").read_text()

    lifted = Lifted(reason="x", by="alice", on=TODAY)
    with pytest.raises(LoraregError, match="you may not change style/ink"):
        tombstones.lift(team.sit_down("alice"), TEAMS_INK, None, lifted)

    assert (team.root / "manifests/style/ink/revoked.json").read_text() == before
