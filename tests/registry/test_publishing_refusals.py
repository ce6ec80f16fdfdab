"""What may not be published, and why: all reasons at once, before anything is sent."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest

from lorareg.errors import LoraregError
from lorareg.registry.publishing.objections import objections
from tests.registry.published import NAME, REPO, VERSION, Press

EXPIRED = {"subject": "Zhang San", "record": "x", "covers": ["image"], "expires": "2020-01-01"}
CASES: dict[str, tuple[dict[str, Any], str]] = {
    "private": ({"visibility": "private"}, "never leaves the registry"),
    "gated for a team": (
        {"visibility": "team", "publish": {"hub": REPO, "gated": "manual"}},
        "is for a public repository",
    ),
    "no licence": ({"license": None}, "has no license"),
    "consent for other uses": (
        {"consent": {"subject": "Zhang San", "record": "x", "covers": ["voice"]}},
        "agreed to voice, not to image",
    ),
    "personal data": (
        {"consent": None, "dataset": {"path": "data/x", "contains_personal_data": True}},
        "holds personal data and no consent",
    ),
    "a share-alike source": (
        {"dataset": {"path": "data/x", "sources": [{"title": "A", "license": "CC-BY-SA-4.0"}]}},
        "asks for cc-by-sa-4.0 or gpl-3.0 of what is made from it, not CC-BY-4.0",
    ),
    "a source for non-commercial use": (
        {
            "scope": {"commercial": "resale"},
            "dataset": {"path": "d", "sources": [{"title": "A", "license": "CC-BY-NC-4.0"}]},
        },
        "is more than source A of character/zhangsan",
    ),
}


@pytest.fixture
def press(registry: Path) -> Press:
    return Press.make(registry)


def refused(press: Press, ref: str = NAME) -> LoraregError:
    """The refusal; nothing but questions went to the Hub."""
    with pytest.raises(LoraregError) as caught:
        press.publish(ref)
    assert press.hub.log == []
    return caught.value


@pytest.mark.parametrize("case", CASES)
def test_it_is_refused_with_the_reason(press: Press, case: str) -> None:
    keys, words = CASES[case]
    press.add()
    press.set(**keys)
    press.release()

    assert words in refused(press).why


def test_every_reason_is_named_at_once(press: Press) -> None:
    press.add()
    press.set(visibility="private", license=None)
    press.release()

    why = refused(press).why
    assert "never leaves" in why
    assert "has no license" in why


@pytest.mark.parametrize(
    "keys", [{"scope": {"expires": "2020-01-01"}}, {"consent": EXPIRED}], ids=["scope", "consent"]
)
def test_what_has_expired_is_refused(press: Press, keys: dict[str, Any]) -> None:
    press.add()
    press.set(**keys)
    press.release()

    error = refused(press)
    assert "expired on 2020-01-01" in error.why


def test_a_release_is_refused_for_what_its_manifest_says_today(press: Press) -> None:
    press.add()
    press.release()
    press.set(visibility="private")

    assert "never leaves the registry" in refused(press).why


def test_a_release_for_the_team_is_not_public_because_the_adapter_is_now(press: Press) -> None:
    press.add()
    press.set(visibility="team")
    press.release()
    press.set(visibility="public")

    assert "narrower than public" in refused(press).why


def test_a_child_of_what_fewer_may_see_is_refused(press: Press) -> None:
    press.add("style/secret", visibility="team")
    press.add()
    lock = press.folder() / "lock.json"
    document = json.loads(lock.read_text(encoding="utf-8"))
    document["inputs"]["parent"] = {
        "ref": "style/secret", "tensors": "tensors-sha256-v1:" + "c" * 64,
    }  # fmt: skip
    lock.write_text(json.dumps(document), encoding="utf-8")
    press.release()

    assert "descends from style/secret (team)" in refused(press).why


def test_a_child_of_what_allows_no_derivatives_is_refused(press: Press) -> None:
    press.add("style/closed", scope={"derivatives": False})
    press.add()
    lock = press.folder() / "lock.json"
    document = json.loads(lock.read_text(encoding="utf-8"))
    document["inputs"]["parent"] = {
        "ref": "style/closed", "tensors": "tensors-sha256-v1:" + "c" * 64,
    }  # fmt: skip
    lock.write_text(json.dumps(document), encoding="utf-8")
    press.release()

    assert "style/closed allows nothing that is made from it" in refused(press).why


def test_what_is_not_meant_for_the_hub_stays_here(press: Press) -> None:
    press.add(publish=None)
    press.release()

    error = refused(press)
    assert "no publish block" in error.why
    assert "publish: {hub: NAMESPACE/zhangsan" in error.fix


def test_a_place_comes_from_the_namespace_of_the_registry(press: Press) -> None:
    press.add(publish={})
    press.release()
    assert "hub: {namespace:" in refused(press).fix

    (press.shelf.root / "lorareg.yaml").write_text(
        "schema: lorareg/1\nname: scratch\nhub: {namespace: studio}\n", encoding="utf-8"
    )

    assert press.publish().repo == REPO


def test_a_channel_is_no_release(press: Press) -> None:
    press.add()
    press.release()

    assert "a channel moves" in str(refused(press, f"{NAME}@stable"))


def test_a_version_that_does_not_exist_is_named_with_those_that_do(press: Press) -> None:
    press.add()
    press.release()

    assert VERSION in refused(press, f"{NAME}@v9.0.0").why


POLICY = """\
schema: lorareg/1
people: {alice: {mail: alice@example.org}}
roles: {maintainer: [alice]}
licenses: [CC0-1.0]
"""


def test_in_a_registry_with_a_policy_a_tag_that_anybody_could_make_is_no_release(
    press: Press,
) -> None:
    press.add()
    (press.shelf.root / "manifests/policy.yaml").write_text(POLICY, encoding="utf-8")
    press.release()

    assert "whoever may push could make a tag of that name" in refused(press).why


def test_in_a_registry_with_a_policy_the_release_must_be_signed_and_its_licence_accepted(
    press: Press,
) -> None:
    press.add()
    press.release()
    subject = press.subject()
    (press.shelf.root / "manifests/policy.yaml").write_text(POLICY, encoding="utf-8")

    why = "\n".join(objections(press.workspace, subject, datetime.date(2026, 11, 22)))

    assert f"release {VERSION}: the tag is not signed" in why
    assert "is under CC-BY-4.0; manifests/policy.yaml accepts CC0-1.0" in why


def test_what_was_revoked_is_refused(press: Press) -> None:
    press.add()
    press.release()
    stone = {"reason": "they asked for it", "by": "alice", "on": "2026-01-01"}
    document = {"schema": "lorareg/1", "asset": NAME, "revocations": [stone]}
    (press.folder() / "revoked.json").write_text(json.dumps(document), encoding="utf-8")

    assert "they asked for it" in refused(press).why
