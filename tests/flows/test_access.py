"""A team uses its assets: grants, the Hub's gate, a refusal, a revocation."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lorareg.registry.access import grants, uses
from lorareg.registry.access.grants import Grant
from lorareg.registry.ids import AssetId
from lorareg.weights.adapter import LoraAdapter, LoraLayer
from tests.flows.conftest import Answer, lorareg
from tests.hubserver import HubServer
from tests.registry.access.team import ZHANGSAN, Team, build, copy, isolated
from tests.registry.family import Family

REPO = "studio/zhangsan"
YESTERDAY = datetime.date.today() - datetime.timedelta(days=1)
MODULE = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"


@pytest.fixture(autouse=True, scope="module")
def _git_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in isolated(tmp_path_factory.mktemp("home")).items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, _git_of_its_own: None) -> Team:
    """alice and bob own zhangsan, which has weights and a release, is private, and gated."""
    team = build(tmp_path_factory.mktemp("team"))
    team.replace("manifests/policy.yaml", "github: bob", "github: bob, hub: bob-hub")
    team.replace("manifests/policy.yaml", "github: carol-c", "github: carol-c, hub: studio")
    team.signed_policy("carol")
    folder = "manifests/character/zhangsan"
    text = (team.root / folder / "manifest.yaml").read_text()
    more = f"visibility: private\npublish: {{hub: {REPO}, gated: manual}}\n"
    team.write(f"{folder}/manifest.yaml", text + more)
    draw = np.random.default_rng(0)
    layer = LoraLayer(
        draw.normal(size=(4, 32)).astype("float32"), draw.normal(size=(32, 4)).astype("float32"), 4
    )
    Family(team.root).weights("character/zhangsan", LoraAdapter({MODULE: layer}))
    team.write(f"{folder}/.gitignore", "/weights\n")
    team.write(f"{folder}/README.md", "the card\n")
    team.signed_commit("alice", ZHANGSAN)
    team.git("tag", "-m", "release", "character/zhangsan@v1.0.0")
    return team


@pytest.fixture
def team(made: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Team:
    monkeypatch.setenv(uses.PURPOSE, "")  # what a command sets is taken back at the end
    return copy(made, tmp_path)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubServer]:
    """The gate as it is found: tom's grant is over, eve was let in by hand, mia and zoe wait."""
    server = HubServer(page_size=2)
    token = server.add_user("alice")
    server.add_organisation("studio", {"alice": "admin"})
    names = ("bob-hub", "mia-hub", "tom-hub", "eve", "zoe")
    tokens = {name: server.add_user(name) for name in names}
    server.add_repo(REPO, {"a.safetensors": b"weights"})
    with server.in_process(token, cache=tmp_path / "hub"):
        from huggingface_hub import HfApi

        HfApi().update_repo_settings(REPO, gated="manual")
        for name in ("tom-hub", "eve"):
            HfApi().grant_access(REPO, name)
    for name in ("mia-hub", "zoe"):
        ask(server, tokens[name])
    with server.in_process(token, cache=tmp_path / "hub"):
        yield server


def ask(server: HubServer, token: str) -> None:
    """Fill in the form in the browser, for which the client has no call."""
    with server.in_process(token):
        from huggingface_hub.utils import get_session

        get_session().post(
            f"{server.endpoint}/{REPO}/ask-access", headers={"authorization": f"Bearer {token}"}
        ).raise_for_status()


def at_the_gate(hub: HubServer, status: str) -> set[str]:
    found = hub.model(REPO).access
    return {user for user, access in found.items() if access.status == status}


def run(team: Team, person: str, *arguments: str) -> Answer:
    team.sit_down(person)
    return lorareg(team.root, *arguments)


def grant(team: Team, who: str, *options: str, by: str = "alice") -> Answer:
    command = ("access", "grant", "character/zhangsan", who, "--purpose", "game trailer")
    return run(team, by, *command, *options)


def expired_grant(team: Team, who: str) -> None:
    new = Grant(
        who=who, hub=f"{who}-hub", purpose="game trailer", until=YESTERDAY, by="bob", on=YESTERDAY
    )
    grants.write(team.workspace, ZHANGSAN, grants.given(team.workspace, ZHANGSAN, new))
    team.signed_commit("bob", ZHANGSAN)


def test_the_gate_on_the_hub_is_kept_equal_to_the_grants(team: Team, hub: HubServer) -> None:
    expired_grant(team, "tom")
    assert grant(team, "mia", "--hub", "mia-hub", "--until", "2099-01-01").code == 0

    before = run(team, "alice", "access", "diff", "character/zhangsan", "--json")
    dry = run(team, "alice", "access", "sync", "character/zhangsan", "--dry-run")
    assert at_the_gate(hub, "accepted") == {"tom-hub", "eve"}
    done = run(team, "alice", "access", "sync", "character/zhangsan")
    after = run(team, "alice", "access", "diff", "character/zhangsan", "--json")

    assert (before.code, dry.code, done.code, after.code) == (1, 0, 0, 0)
    assert [each["user"] for each in before.json["admit"]] == ["bob-hub", "mia-hub"]
    assert {each["user"]: each["why"] for each in before.json["reject"]} == {
        "eve": "has no grant",
        "tom-hub": f"the grant expired on {YESTERDAY}",
    }
    assert "to turn away  tom-hub" in dry.out
    assert "waits  zoe  has no grant; an owner decides" in done.out
    assert at_the_gate(hub, "accepted") == {"bob-hub", "mia-hub"}
    assert at_the_gate(hub, "rejected") == {"eve", "tom-hub"}
    assert at_the_gate(hub, "pending") == {"zoe"}
    assert (after.json["admit"], after.json["reject"], after.json["waiting"]) == ([], [], ["zoe"])


def test_a_gate_that_is_equal_is_left_alone(team: Team, hub: HubServer) -> None:
    run(team, "alice", "access", "sync", "character/zhangsan")
    before = hub.calls()

    again = run(team, "alice", "access", "sync", "character/zhangsan")

    assert hub.calls() == before
    assert f"the gate of {REPO} is equal to the grants" in again.out


def test_who_loses_the_grant_is_turned_away_and_who_gets_a_new_one_is_let_in_again(
    team: Team, hub: HubServer
) -> None:
    grant(team, "mia", "--hub", "mia-hub")
    run(team, "alice", "access", "sync", "character/zhangsan")

    taken = run(team, "bob", "access", "revoke", "character/zhangsan", "mia")
    run(team, "alice", "access", "sync", "character/zhangsan")
    assert taken.code == 0
    assert "mia-hub" in at_the_gate(hub, "rejected")

    grant(team, "mia", "--hub", "mia-hub")
    run(team, "alice", "access", "sync", "character/zhangsan")
    assert "mia-hub" in at_the_gate(hub, "accepted")


def test_one_name_that_the_hub_does_not_know_holds_nobody_else_up(
    team: Team, hub: HubServer
) -> None:
    grant(team, "ann", "--hub", "nobody")
    grant(team, "mia", "--hub", "mia-hub")

    done = run(team, "alice", "access", "sync", "character/zhangsan")

    assert done.code == 2
    assert "is not yet equal to the grants" in done.err
    assert "nobody" in done.err
    assert at_the_gate(hub, "accepted") == {"bob-hub", "mia-hub"}
    assert at_the_gate(hub, "rejected") == {"eve", "tom-hub"}


@pytest.mark.parametrize(("gated", "words"), [("auto", "lets in whoever asks"), (False, "is off")])
def test_a_gate_that_owners_do_not_open_is_not_synced(
    team: Team, hub: HubServer, gated: str | bool, words: str
) -> None:
    hub.model(REPO).gated = gated  # type: ignore[assignment]

    done = run(team, "alice", "access", "diff", "character/zhangsan")

    assert done.code == 2
    assert words in done.err


def test_grants_are_given_by_owners_and_maintainers_alone(team: Team, hub: HubServer) -> None:
    refused = grant(team, "mia", "--hub", "mia-hub", by="dora")
    gate = run(team, "dora", "access", "sync", "character/zhangsan")

    assert (refused.code, gate.code) == (2, 2)
    assert "owners and maintainers are alice, bob, carol" in refused.err
    assert team.git("status", "--porcelain") == ""
    assert at_the_gate(hub, "accepted") == {"tom-hub", "eve"}
    assert grant(team, "mia", "--hub", "mia-hub", by="carol").code == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "nobody could recognise mia"),
        (("--hub", "mia-hub", "--until", str(YESTERDAY)), f"{YESTERDAY} is over"),
        (("--hub", "mia-hub", "--scope", "sell"), "scope"),
    ],
)
def test_a_grant_that_could_never_hold_is_not_written(
    team: Team, options: tuple[str, ...], words: str
) -> None:
    refused = grant(team, "mia", *options)

    assert refused.code == 2
    assert words in refused.err
    assert team.git("status", "--porcelain") == ""


def test_everybody_can_look_up_who_may(team: Team) -> None:
    grant(team, "dora", "--scope", "generate", "--until", "2099-01-01")

    told = run(team, "dora", "access", "list", "character/zhangsan")
    (document,) = run(team, "dora", "access", "list", "character/zhangsan", "--json").json

    assert "owners: alice, bob" in told.out
    assert "dora for 'game trailer', only to generate, until 2099-01-01" in told.out
    assert "you are dora: user, grant for 'game trailer'" in told.out
    assert document["grants"][0]["holds"] is True
    assert document["visibility"] == "private"


def test_a_use_is_allowed_for_its_purpose_and_written_down(team: Team) -> None:
    export = ("export", "character/zhangsan", "--format", "snippet", "--out", "use.py")
    without = run(team, "dora", *export)
    grant(team, "dora", "--scope", "export")
    silent = run(team, "dora", *export)
    said = run(team, "dora", "--purpose", "game trailer", *export)
    check = run(team, "dora", "access", "uses", "--check")
    (entry,) = run(team, "dora", "access", "uses", "character/zhangsan", "--json").json

    assert (without.code, silent.code, said.code, check.code) == (2, 2, 0, 0)
    assert "ask alice, bob: lorareg access grant character/zhangsan dora" in without.err
    assert "lorareg --purpose 'game trailer' COMMAND" in silent.err
    assert (entry["who"], entry["use"]) == ("dora", "export")
    assert (entry["purpose"], entry["out"]) == ("game trailer", "use.py")
    assert entry["members"][0]["tensors"].startswith("tensors-sha256-v1:")
    assert str(team.root) not in json.dumps(entry)


def test_a_log_that_somebody_edited_is_found_out(team: Team) -> None:
    run(team, "alice", "export", "character/zhangsan", "--format", "snippet")
    file = team.root / ".lorareg" / uses.FILE
    file.write_bytes(file.read_bytes().replace(b'"alice"', b'"bobby"'))

    check = run(team, "alice", "access", "uses", "--check")

    assert check.code == 1
    assert "was changed" in check.out


def test_a_composition_is_refused_for_every_member_that_is_not_allowed(team: Team) -> None:
    checked = run(team, "dora", "compose", "check", "character/zhangsan:1", "--json")
    refused = run(team, "dora", "compose", "character/zhangsan:1", "--as", "mix")

    assert (checked.code, refused.code) == (1, 2)
    finding = checked.json["findings"][0]
    assert (finding["ok"], finding["what"]) == (False, "character/zhangsan")
    assert "lorareg knows you as dora" in refused.err
    assert not (team.root / "manifests/recipe/mix").exists()


def test_a_revocation_says_what_it_concerns_before_it_is_made(team: Team) -> None:
    run(team, "alice", "compose", "character/zhangsan:1", "--as", "mix")
    revoke = ("revoke", "character/zhangsan", "--reason", "consent withdrawn")

    dry = run(team, "alice", *revoke, "--dry-run")
    unsure = run(team, "alice", *revoke)
    program = run(team, "alice", *revoke, "--json")
    stranger = run(team, "dora", *revoke, "--yes")

    assert (dry.code, unsure.code, program.code, stranger.code) == (0, 1, 2, 2)
    for line in ("recipe  recipe/mix", "release  character/zhangsan@v1.0.0", f"on the Hub  {REPO}"):
        assert line in dry.out
    assert not team.workspace.folder(ZHANGSAN).revoked.exists()


def test_what_is_revoked_is_refused_everywhere_with_its_reason(team: Team, hub: HubServer) -> None:
    run(team, "alice", "compose", "character/zhangsan:1", "--as", "mix")
    done = run(
        team, "alice", "revoke", "character/zhangsan", "--reason", "consent withdrawn",
        "--yes", "--withdraw", "--json",
    )  # fmt: skip

    assert done.code == 0
    assert done.json["downstream"]["recipes"] == ["recipe/mix"]
    assert done.json["withdrawn"] == [REPO]
    assert hub.model(REPO).private
    for command in (
        ("export", "character/zhangsan", "--format", "snippet"),
        ("export", "recipe/mix", "--format", "snippet"),
        ("compose", "character/zhangsan:1", "--as", "other"),
        ("compose", "recipe/mix:1", "--as", "other"),
        ("generate", "recipe/mix", "--prompt", "x"),
        ("train", "character/zhangsan"),
        ("pull", "character/zhangsan"),
    ):
        refused = run(team, "alice", *command)
        assert refused.code == 2, command
        assert "consent withdrawn" in refused.err, command


def test_what_is_revoked_is_shown_so_wherever_it_is_looked_at(team: Team) -> None:
    run(team, "alice", "compose", "character/zhangsan:1", "--as", "mix")
    run(team, "alice", "revoke", "character/zhangsan", "--reason", "consent withdrawn", "--yes")

    listed = {row["asset"]: row["revoked"] for row in run(team, "bob", "list", "--json").json}
    states = run(team, "bob", "status", "character/zhangsan", "--json").json
    shown = run(team, "bob", "show", "recipe/mix")
    verified = run(team, "bob", "verify", "character/zhangsan", "--json").json

    assert "consent withdrawn" in listed["character/zhangsan"]
    assert "consent withdrawn" in listed["recipe/mix"]
    assert listed["style/ink"] is None
    assert states[0]["state"] == "revoked"
    assert "recipe/mix <- character/zhangsan" in shown.out
    assert [f["ok"] for f in verified["character/zhangsan"] if f["what"] == "revoked.json"] == [
        False
    ]
    card = (team.root / "manifests/character/zhangsan/README.md").read_text()
    assert "**Revoked** (all versions)" in card


def test_what_an_owner_lifts_may_be_used_again(team: Team) -> None:
    run(team, "alice", "revoke", "character/zhangsan", "--reason", "a mistake", "--yes")
    lift = ("revoke", "character/zhangsan", "--undo", "--reason", "it was another zhangsan")

    stranger, owner = run(team, "dora", *lift), run(team, "bob", *lift)
    used = run(team, "alice", "export", "character/zhangsan", "--format", "snippet")

    assert (stranger.code, owner.code, used.code) == (2, 0, 0)
    (stone,) = json.loads(team.workspace.folder(ZHANGSAN).revoked.read_text())["revocations"]
    assert (stone["reason"], stone["lifted"]["by"]) == ("a mistake", "bob")


def test_a_registry_of_one_asks_nobody(team: Team) -> None:
    for name in ("policy.yaml", "allowed_signers"):
        (team.root / "manifests" / name).unlink()

    used = run(team, "mallory", "export", "character/zhangsan", "--format", "snippet")
    listed = run(team, "mallory", "access", "list", "character/zhangsan")

    assert (used.code, listed.code) == (0, 0)
    assert "you are everything: the registry has no policy" in listed.out
    assert AssetId("style", "ink") in team.workspace.assets()
