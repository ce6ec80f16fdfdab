"""Which number of a version steps up, and that the reason is said."""

from __future__ import annotations

import datetime
import typing
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from lorareg.registry.manifest import ImageManifest, TextManifest
from lorareg.registry.recipe import RecipeManifest
from lorareg.registry.releases import bump, rules
from lorareg.registry.releases.bump import Snapshot
from lorareg.registry.releases.levels import LEVELS, following
from lorareg.registry.terms import AUDIENCES
from lorareg.registry.terms import LEVELS as COMMERCIAL
from tests.registry.releases.snapshots import FILE, adapter, composition

OTHER = "tensors-sha256-v1:" + "1" * 64
TREE = "tree-sha256-v1:" + "2" * 64
FINGER = "fingerprint-sha256-v1:" + "3" * 64
BASE = "base-sha256-v1:" + "4" * 64

KEYS = [
    ("major", {"trigger": "zzz"}, "trigger: zzhangsan -> zzz"),
    ("major", {"trigger": ...}, "trigger: zzhangsan -> none"),
    ("major", {"lora/targets": "all-linear"}, "lora.targets: attention -> all-linear"),
    ("major", {"lora/text_encoder": True}, "lora.text_encoder: false -> true"),
    ("major", {"lora/use_dora": True}, "lora.use_dora: none -> true"),
    ("major", {"visibility": "private"}, "visibility: team -> private, narrower"),
    ("minor", {"visibility": "public"}, "visibility: team -> public, wider"),
    ("major", {"scope/commercial": "none"}, "commercial use: images -> none, narrower"),
    ("minor", {"scope/commercial": "resale"}, "commercial use: images -> resale, wider"),
    ("major", {"scope/merge": False}, "merge: allowed before, narrower"),
    ("major", {"scope/expires": "2029-12-31"}, "ends: 2030-01-01 -> 2029-12-31, narrower"),
    ("minor", {"scope/expires": ...}, "ends: 2030-01-01 -> never, wider"),
    ("major", {"license/id": "CC-BY-NC-4.0"}, "commercial use: images -> none, narrower"),
    ("major", {"license/id": "Our own"}, "nothing is known here of character/zhangsan (Our own)"),
    ("major", {"license": ...}, "licence: character/zhangsan (none given), narrower"),
    ("minor", {"license/id": "Apache-2.0"}, "cc-by-4.0 -> apache-2.0, which ask for the same"),
    ("major", {"license/id": "CC-BY-SA-4.0"}, "share-alike licences: any -> cc-by-sa-4.0"),
    ("major", {"license/id": "openrail"}, "rules of use: those of openrail came, narrower"),
    ("patch", {"license/link": "https://example.org"}, "license.link: none -> https://example.org"),
    ("major", {"dataset/sources": [{"title": "Film", "license": "CC-BY-NC-4.0"}]}, "narrower"),
    ("patch", {"dataset/sources": [{"title": "Film", "license": "CC-BY-4.0"}]}, "dataset.sources"),
    ("patch", {"consent": {"subject": "Zhang", "record": "1"}}, "consent: none -> subject Zhang"),
    ("minor", {"lora/rank": 8}, "lora.rank: 16 -> 8"),
    ("minor", {"train/learning_rate": 0.001}, "train.learning_rate: 0.0001 -> 0.001"),
    ("minor", {"train/seed": 7}, "train.seed: 42 -> 7"),
    ("patch", {"train/save_steps": 7}, "train.save_steps: 100 -> 7"),
    ("patch", {"title/zh": "李四"}, "title.zh: 张三 -> 李四"),
    ("patch", {"description": "x " * 90}, "description: none -> x x"),
    ("patch", {"owners": ["bob"]}, "owners: alice -> bob"),
    ("patch", {"weight/default": 0.8}, "weight.default: 1 -> 0.8"),
    ("patch", {"sample/prompts": ["a"]}, "sample.prompts: none -> a"),
    ("patch", {"dataset/path": "data/moved"}, "dataset.path: data/char_zhangsan -> data/moved"),
]


@pytest.mark.parametrize(("level", "keys", "says"), KEYS)
def test_a_key_of_a_manifest_steps_up_what_it_breaks(
    level: str, keys: dict[str, Any], says: str
) -> None:
    found = bump.decide(adapter(), adapter(keys))

    assert found
    assert found.level == level, found
    assert says in found.reasons[0].text


LOCKED = [
    ("major", {"inputs/base/model": "org/other"}, "base model: builtin:avatar -> org/other"),
    ("major", {"inputs/base/revision": "a" * 40}, "base revision: none -> aaaa"),
    ("major", {"inputs/base/digest": BASE}, "base builtin:avatar has other weights"),
    (
        "minor",
        {"inputs/dataset/digest": TREE, "inputs/dataset/records": 30, "fingerprint": FINGER},
        "data: 24 records, tree-sha256-v1:eeeeeeeeeee -> 30 records, tree-sha256-v1:22",
    ),
    ("minor", {"inputs/trainer": "2", "fingerprint": FINGER}, "trainer: version 1 -> 2"),
    ("minor", {"fingerprint": FINGER}, "fingerprint: fingerprint-sha256-v1:70c2"),
    ("minor", {f"outputs/{FILE}/tensors": OTHER}, f"weights/{FILE}: other tensors"),
    ("patch", {f"outputs/{FILE}/sha256": "sha256:" + "9" * 64}, "other header, equal tensors"),
    ("patch", {"result/seconds": 1.0}, "lock: made again, with equal weights"),
]


@pytest.mark.parametrize(("level", "locked", "says"), LOCKED)
def test_what_the_lock_promises_steps_up_what_it_breaks(
    level: str, locked: dict[str, Any], says: str
) -> None:
    found = bump.decide(adapter(), adapter(locked=locked))

    assert found
    assert found.level == level, found
    assert says in found.reasons[0].text


def test_weights_under_another_name_break_those_who_load_them_by_it() -> None:
    output = {"bytes": 1, "sha256": "sha256:" + "a" * 64, "tensors": OTHER}

    found = bump.decide(adapter(), adapter(locked={"outputs": {"other.safetensors": output}}))

    assert found
    assert [str(reason) for reason in found.reasons] == [
        f"major: weights/{FILE} is gone: who loads it by name finds nothing",
        "minor: weights/other.safetensors is new",
    ]


def test_consent_that_is_no_longer_recorded_or_for_another_person_is_major() -> None:
    given = {"consent": {"subject": "Zhang", "record": "1", "covers": ["image", "text"]}}
    other = {"consent": given["consent"] | {"subject": "Li"}}
    fewer = {"consent": given["consent"] | {"covers": ["image"]}}
    sooner = {"consent": given["consent"] | {"expires": "2026-01-01"}}

    levels = {
        name: (found := bump.decide(adapter(given), adapter(keys))) and found.level
        for name, keys in {"gone": {}, "other": other, "fewer": fewer, "sooner": sooner}.items()
    }

    assert levels == dict.fromkeys(("gone", "other", "fewer", "sooner"), "major")


MEMBERS = [
    ("minor", {"members/1/weight": 0.5}, {}, "member style/ink: 0.7 -> 0.5"),
    ("minor", {"members/1/blocks": {"down": 0.5}}, {}, "member style/ink: 0.7 -> 0.7 {down 0.5}"),
    ("minor", {"members/1/tensors": OTHER}, {}, "member style/ink -> style/ink, other weights"),
    ("patch", {"members/1/ref": "style/ink@v1.0.0"}, {}, "style/ink@v1.0.0, equal weights"),
    ("minor", {"method": {"method": {"name": "ties"}}}, {"method": "ties"}, "method.name"),
    ("major", {"base/digest": BASE}, {}, "base builtin:avatar has other weights"),
    ("minor", {}, {"negative_prompt": "blur"}, "negative_prompt: none -> blur"),
    ("patch", {}, {"guards": {"min_retention": 0.5}}, "guards.min_retention: none -> 0.5"),
    ("patch", {}, {"title": {"en": "Hero"}}, "title.en: none -> Hero"),
    ("major", {}, {"visibility": "private"}, "visibility: team -> private, narrower"),
]


@pytest.mark.parametrize(("level", "locked", "keys", "says"), MEMBERS)
def test_a_recipe_steps_up_with_its_members(
    level: str, locked: dict[str, Any], keys: dict[str, Any], says: str
) -> None:
    found = bump.decide(composition(), composition(keys, locked))

    assert found
    assert found.level == level, found
    assert any(says in reason.text for reason in found.reasons)


def test_a_recipe_is_major_when_a_trigger_or_a_right_of_its_members_is_lost() -> None:
    same = {"name": "ink", "kind": "style"}
    triggered, closed = {**same, "trigger": "other"}, {**same, "trigger": "ink"}

    lost = bump.decide(composition(), composition(members=({}, triggered)))
    narrowed = bump.decide(
        composition(), composition(members=({"scope/commercial": "none"}, closed))
    )

    assert lost
    assert [str(each) for each in lost.reasons] == [
        "major: trigger ink is gone",
        "minor: trigger other is new",
    ]
    assert narrowed
    assert str(narrowed.reasons[0]) == "major: commercial use: images -> none, narrower"


def test_a_card_alone_is_a_patch_and_is_not_said_beside_what_weighs_more() -> None:
    before, after = {"README.md": "sha256:1"}, {"README.md": "sha256:2", "preview.png": "sha256:3"}

    alone = bump.decide(adapter(card=before), adapter(card=after))
    beside = bump.decide(adapter(card=before), adapter({"trigger": "z"}, card=after))

    assert alone
    assert [str(each) for each in alone.reasons] == [
        "patch: card: README.md",
        "patch: card: preview.png",
    ]
    assert beside
    assert [each.level for each in beside.reasons] == ["major"]


INDEPENDENT = [
    (level, keys)
    for level, keys, _ in KEYS
    if next(iter(keys)).partition("/")[0] not in ("scope", "license", "dataset", "consent")
]
edits = st.lists(st.sampled_from(INDEPENDENT), unique_by=lambda edit: next(iter(edit[1])))


def edited(chosen: list[tuple[str, dict[str, Any]]]) -> Snapshot:
    return adapter({key: value for _, keys in chosen for key, value in keys.items()})


@given(edits)
def test_what_equals_a_release_is_no_release(chosen: list[tuple[str, dict[str, Any]]]) -> None:
    assert bump.decide(edited(chosen), edited(chosen)) is None


@given(edits.filter(bool))
def test_several_changes_step_up_as_the_weightiest_of_them(
    chosen: list[tuple[str, dict[str, Any]]],
) -> None:
    found = bump.decide(adapter(), edited(chosen))

    assert found
    assert found.level == max((level for level, _ in chosen), key=LEVELS.index)
    assert [LEVELS.index(each.level) for each in found.reasons] == sorted(
        (LEVELS.index(each.level) for each in found.reasons), reverse=True
    )


rights = st.fixed_dictionaries(
    {
        "visibility": st.sampled_from(AUDIENCES),
        "scope/commercial": st.sampled_from(COMMERCIAL),
        "scope/derivatives": st.booleans(),
        "scope/merge": st.booleans(),
        "scope/credit": st.booleans(),
        "scope/expires": st.sampled_from([..., "2029-01-01", "2031-01-01"]),
        "license/id": st.sampled_from(["CC0-1.0", "CC-BY-4.0", "CC-BY-NC-4.0", "CC-BY-SA-4.0"]),
    }
)


@given(rights, rights)
def test_what_is_wider_one_way_is_narrower_the_other_way(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    there, back = (bump.decide(adapter(a), adapter(b)) for a, b in ((one, other), (other, one)))

    assert (there is None) == (back is None)
    if there and back:
        levels = {there.level, back.level}
        assert "major" in levels or levels == {"patch"} or _only_says(there, "the same")


def _only_says(found: bump.Bump, words: str) -> bool:
    return all(words in each.text for each in found.reasons if each.level == "minor")


def keys_of(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, info in model.model_fields.items():
        key = f"{prefix}{info.alias or name}"
        yield key
        for block in blocks(info.annotation):
            yield from keys_of(block, f"{key}.")


def blocks(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in typing.get_args(annotation):
        yield from blocks(inner)


@pytest.mark.parametrize("model", [ImageManifest, TextManifest, RecipeManifest])
def test_every_key_of_a_manifest_has_a_rule(model: type[BaseModel]) -> None:
    without = [key for key in keys_of(model) if not any(
        key == known or key.startswith(f"{known}.") for known in rules.KEYS
    )]  # fmt: skip

    assert without == []


@given(st.tuples(*[st.integers(0, 50)] * 3), st.sampled_from(LEVELS))
def test_the_next_version_is_later_and_resets_the_smaller_numbers(
    numbers: tuple[int, int, int], level: Any
) -> None:
    version = "v" + ".".join(map(str, numbers))

    stepped = tuple(int(part) for part in following(version, level)[1:].split("."))

    assert stepped > numbers
    place = 2 - LEVELS.index(level)
    assert stepped[:place] == numbers[:place]
    assert set(stepped[place + 1 :]) <= {0}


def test_a_date_that_has_no_end_is_later_than_any() -> None:
    late = datetime.date.max.replace(year=9998).isoformat()

    found = bump.decide(adapter({"scope/expires": late}), adapter({"scope/expires": ...}))

    assert found
    assert found.level == "minor"
