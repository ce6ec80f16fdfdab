from __future__ import annotations

import subprocess

import pytest

from lorareg.errors import IntegrityError
from lorareg.registry import destinations
from tests.registry.access.team import Team

CONFIG = "[core]\n    remote = storage\n"


def remotes(team: Team, **urls: str) -> None:
    """Settings of DVC as a commit brings them."""
    each = [f"['remote \"{name}\"']\n    url = {url}\n" for name, url in urls.items()]
    team.write(".dvc/config", CONFIG + "".join(each))
    team.plain_commit()


def refusal(team: Team) -> IntegrityError | None:
    try:
        destinations.confirm(team.workspace)
    except IntegrityError as error:
        return error
    return None


def test_another_address_of_a_known_remote_is_a_question_and_its_answer_can_be_pasted(
    team: Team,
) -> None:
    remotes(team, storage="s3://team/lora")
    destinations.remember(team.workspace)
    remotes(team, storage="s3://mallory/lora")
    destinations.remember(team.workspace)

    asked = refusal(team)

    assert asked
    assert "remote storage: s3://team/lora -> s3://mallory/lora" in asked.why
    subprocess.run(asked.fix.rpartition("right: ")[2], shell=True, cwd=team.root, check=True)
    assert refusal(team) is None


@pytest.mark.parametrize("visibility", ["private", "team"])
def test_so_is_another_remote_for_a_visibility(team: Team, visibility: str) -> None:
    remotes(team, storage="s3://team/lora", vault="s3://vault/lora")
    settings = f"schema: lorareg/1\nname: team\nremotes: {{{visibility}: vault}}\n"
    team.write("lorareg.yaml", settings)
    destinations.confirm(team.workspace)
    team.write("lorareg.yaml", settings.replace("vault", "storage"))

    asked = refusal(team)

    assert asked
    assert f"remote of what is {visibility}: vault -> storage" in asked.why


def test_a_visibility_that_loses_its_remote_goes_to_the_default_one_and_is_asked_too(
    team: Team,
) -> None:
    remotes(team, storage="s3://team/lora", vault="s3://vault/lora")
    team.write("lorareg.yaml", "schema: lorareg/1\nname: t\nremotes: {private: vault}\n")
    destinations.confirm(team.workspace)
    team.write("lorareg.yaml", "schema: lorareg/1\nname: t\n")

    asked = refusal(team)

    assert asked
    assert "remote of what is private: vault -> storage" in asked.why


def test_a_new_remote_is_taken_as_it_is(team: Team) -> None:
    remotes(team, storage="s3://team/lora")
    destinations.confirm(team.workspace)
    remotes(team, storage="s3://team/lora", vault="s3://vault/lora")

    assert refusal(team) is None
