"""A gray release as a team lives it: promote, ask, roll out, break, roll back."""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lorareg as library
from lorareg.errors import LoraregError, NotFoundError
from lorareg.registry import digest, recipe, versions
from lorareg.registry.access import revocation
from lorareg.registry.access.revocation import Tombstone, Tombstones
from lorareg.registry.expression import Expression
from lorareg.registry.ids import Ref
from lorareg.registry.lock import Member
from lorareg.weights import members, proof
from tests.flows.conftest import Answer, lorareg
from tests.registry.releases.released import FILE, ZHANGSAN, Released, build, copy

STABLE = "character/zhangsan@stable"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Released]:
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GIT_CONFIG_GLOBAL", str(home / "gitconfig"))
        patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
        registry = build(home / "registry")
        registry.write(
            "stable: v1.2.0\ncanary: {version: v1.3.0, share: 5%, salt: s1, allow: [qa]}\n"
        )
        registry.commit("channels")
        yield registry


@pytest.fixture
def here(made: Released, tmp_path: Path) -> Released:
    """v1.2.0 is stable, v1.3.0 (checked out) rolls out to 5 % and to qa."""
    return copy(made, tmp_path / "registry")


def run(here: Released, command: str) -> Answer:
    return lorareg(here.root, *command.split())


def metrics(here: Released, **values: float) -> str:
    file = here.root / ".lorareg" / "metrics.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(values))
    return ".lorareg/metrics.json"


def revoke(here: Released, version: str) -> None:
    stone = Tombstone(
        versions=(version,), reason="consent", by="alice", on=datetime.date(2026, 11, 22)
    )
    revocation.save(here.workspace, Tombstones(asset=str(ZHANGSAN), revocations=(stone,)))


def asked(here: Released, *options: str) -> Any:
    return lorareg(here.root, "resolve", STABLE, "--json", *options).json


def test_a_story_from_the_first_promotion_to_the_rollback(here: Released) -> None:
    style = "style/ink"
    assert run(here, f"promote {style}@v1.0.0 --channel stable").code == 0
    started = run(here, "promote ink@v1.1.0 --channel canary --share 5% --guard face_sim>=0.82")
    assert started.out == "style/ink: canary nothing -> v1.1.0 at 5%\n"
    status = run(here, f"rollout status {style} --json").json["channels"]
    assert [(each["channel"], each["next"]) for each in status] == [
        ("stable", None),
        ("canary", "25%"),
    ]

    good = metrics(here, face_sim=0.9)
    step = run(here, f"rollout step {style} --metrics {good}")
    assert "canary v1.1.0 at 5% -> v1.1.0 at 25%" in step.out
    bad = metrics(here, face_sim=0.5)
    breach = run(here, f"rollout step {style} --metrics {bad} --json")

    assert breach.code == 1
    assert breach.json["after"] is None
    assert breach.json["guards"] == [
        {"guard": "face_sim>=0.82", "holds": False, "value": 0.5, "threshold": 0.82,
         "detail": "face_sim is 0.5"}
    ]  # fmt: skip
    assert run(here, f"resolve {style}@stable").out == "style/ink@v1.0.0\n"
    assert run(here, f"promote {style}@v1.3.0 --channel stable").code == 0
    assert run(here, f"rollback {style} --channel stable").out == (
        "style/ink: stable v1.3.0 -> v1.0.0\n"
    )


def test_an_answer_says_what_where_and_why(here: Released) -> None:
    allowed, other = asked(here, "--group", "qa"), asked(here, "--subject", "player-123")

    folder = here.root / "manifests" / "character" / "zhangsan"
    assert allowed["version"] == "v1.3.0"
    assert allowed["why"] == "qa is on the allow-list of canary"
    assert allowed["weights"] == str(folder / "weights")
    assert other == {
        "asset": "character/zhangsan",
        "version": "v1.2.0",
        "channel": "stable",
        "why": "bucket 7313 is outside of the 5% of canary",
        "bucket": 7313,
        "commit": here.git("rev-parse", "character/zhangsan@v1.2.0^{commit}"),
        "lock": other["lock"],
        "weights": None,
    }
    text = here.git("show", "character/zhangsan@v1.2.0:manifests/character/zhangsan/lock.json")
    assert other["lock"] == digest.of_bytes((text + "\n").encode())


def test_asking_again_is_fast_and_sees_every_change_of_the_file(here: Released) -> None:
    registry = library.open(here.root)
    registry.resolve(STABLE, subject="player-0")

    start = time.perf_counter()
    versions_ = {registry.resolve(STABLE, subject=f"player-{n}").choice.version for n in range(50)}
    each = (time.perf_counter() - start) / 50
    here.write("stable: v1.0.0\n")

    assert versions_ <= {"v1.2.0", "v1.3.0"}
    assert each < 0.05
    assert registry.resolve(STABLE, subject="player-0").ref == "character/zhangsan@v1.0.0"


def test_a_revoked_release_is_refused_and_nothing_takes_its_place(here: Released) -> None:
    registry = library.open(here.root)
    assert registry.resolve(STABLE).choice.version == "v1.2.0"

    revoke(here, "v1.2.0")

    with pytest.raises(LoraregError, match="is revoked"):
        registry.resolve(STABLE)
    with pytest.raises(LoraregError, match="is revoked"):
        registry[STABLE]
    assert run(here, f"resolve {STABLE}").code == 2
    assert registry.resolve(STABLE, groups=["qa"]).choice.version == "v1.3.0"


def test_a_release_whose_tag_is_not_here_is_named(here: Released) -> None:
    here.git("tag", "--delete", "character/zhangsan@v1.2.0")

    with pytest.raises(NotFoundError, match=r"zhangsan@v1\.2\.0"):
        library.open(here.root).resolve(STABLE)


def test_stage_tags_of_gto_mean_nothing(here: Released) -> None:
    here.git("tag", "--annotate", "-m", "gto", "character/zhangsan#stable#1", "HEAD")

    assert library.open(here.root).resolve(STABLE).choice.version == "v1.2.0"


def test_python_opens_what_a_channel_points_to(here: Released) -> None:
    registry = library.open(here.root)

    adapter = registry["zhangsan@canary"]

    assert adapter.state.ref == "character/zhangsan@v1.3.0"
    assert (adapter.weights / FILE).read_text() == "character/zhangsan v1.3.0"
    assert registry[registry.resolve(STABLE, groups=["qa"]).ref].state == adapter.state


def test_who_composes_a_channel_gets_the_release_it_points_to_now(here: Released) -> None:
    typed = Expression.parse("character/zhangsan@canary:0.5")

    used = members.resolve(here.workspace, typed)
    kept = members.parts_of(here.workspace, typed)

    assert used.expression == "character/zhangsan@v1.3.0:0.5"
    assert [part.ref for part in kept] == ["character/zhangsan@v1.3.0"]


def test_what_is_kept_never_depends_on_a_channel(here: Released) -> None:
    part = recipe.RecipePart(ref="character/zhangsan@canary", weight=1.0)
    wanted = recipe.RecipeManifest.of("mix", (part,))
    pinned = Member(
        ref="character/zhangsan@canary", weight=1.0, commit=None, file=FILE,
        sha256=f"sha256:{'0' * 64}", tensors=f"tensors-sha256-v1:{'0' * 64}",
    )  # fmt: skip

    with pytest.raises(LoraregError, match="could not be built again"):
        members.of_recipe(here.workspace, wanted)
    assert "could not be built again" in proof.pin(here.workspace, pinned).detail
    assert run(here, "reproduce character/zhangsan@stable").code == 2


def test_a_subject_can_be_named_where_a_state_is_looked_for(here: Released) -> None:
    ref = Ref.parse(STABLE)

    found = [
        versions.find(here.workspace, ref).version,
        versions.find(here.workspace, ref, groups=["qa"]).version,
        versions.find(here.workspace, ref, subject="player-123").version,
    ]

    assert found == ["v1.2.0", "v1.3.0", "v1.2.0"]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("promote zhangsan --channel stable", "names no release"),
        ("promote zhangsan@v1.0.0 --channel Stable", "is not a slug"),
        ("promote zhangsan@v1.0.0 --channel canary --share 5", "no share"),
        ("promote zhangsan@v1.0.0 --channel canary --guard face_sim", "is no guard"),
        ("rollback zhangsan", "what is to be taken back?"),
        ("rollback zhangsan@v1.0.0 --channel stable", "names a release"),
        ("rollout step zhangsan --channel stable", "stable does not roll out"),
        ("rollout step zhangsan --metrics nowhere.json", "no metrics in nowhere.json"),
        ("resolve zhangsan", "names no channel"),
        ("resolve zhangsan@beta", "has no channel beta"),
        ("resolve nobody@stable", "there is no asset"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_to_do(
    here: Released, command: str, said: str
) -> None:
    answer = run(here, command)

    assert answer.code == 2
    assert said in answer.err
    assert "fix" in answer.err
    assert here.git("status", "--short") == ""


def test_a_release_that_is_promoted_by_a_channels_name_is_the_one_it_points_to(
    here: Released,
) -> None:
    answer = run(here, "promote zhangsan@canary --channel stable --json").json

    assert (answer["after"], answer["before"]) == ("v1.3.0", "v1.2.0")
    assert here.read() == "stable: v1.3.0\n"
