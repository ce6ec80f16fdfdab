"""What ``lorareg train`` refuses before anything is looked at."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.flows.conftest import lorareg

MANIFEST = (
    "schema: lorareg/1\nkind: {kind}\nname: {name}\ntask: text-generation\n"
    "base: {{model: builtin:smollm2}}\ndataset: {{path: data}}\n"
)


@pytest.fixture
def two(registry: Path) -> Path:
    """A registry with style/ink and tone/pirate."""
    for kind, name in (("style", "ink"), ("tone", "pirate")):
        folder = registry / "manifests" / kind / name
        folder.mkdir(parents=True)
        (folder / "manifest.yaml").write_text(MANIFEST.format(kind=kind, name=name))
    return registry


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "name adapters, or say --all or --kind"),
        (["style/ink", "--all"], "name adapters, or say --all or --kind"),
        (["style/ink", "--kind", "style"], "name adapters, or say --all or --kind"),
        (["--kind", "scene"], "there is no adapter of kind scene"),
        (["style/ink", "missing"], "there is no asset 'missing'"),
        (["style/ink", "--keep", "best"], "--keep best needs a --sweep"),
        (["--all", "--sweep", "lora.rank=4,8"], "one adapter"),
        (["ink", "pirate", "--sweep", "lora.rank=4,8"], "one adapter"),
        (["ink", "--sweep", "lora.rank=4,8", "--from-step", "10"], "no step to go back to"),
        (["--all", "--launch", "--num_processes 2"], "--launch trains one adapter"),
        (["ink", "--launch", "--cpu", "--executor", "ray"], "--launch trains one adapter"),
        (["ink", "--launch", "--cpu", "--jobs", "2"], "--launch trains one adapter"),
        (["ink", "--launch", "--cpu", "--skip-broken"], "--launch does not go together with"),
        (["ink", "--launch", "--num_processes '2"], "No closing quotation"),
        (["ink", "--launch", "--num_proc 2 --bogus"], "options that accelerate does not take"),
        (["ink", "--set", "dataset.waiver=x"], "--set dataset.waiver is refused"),
        (["ink", "--sweep", "dataset.waiver=x"], "--sweep dataset.waiver is refused"),
        (["ink", "--set", "lora.rank"], "--set 'lora.rank' is not KEY=VALUE"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_would(
    two: Path, arguments: list[str], words: str
) -> None:
    before = {path: path.read_bytes() for path in two.rglob("*") if path.is_file()}

    answer = lorareg(two, "train", *arguments)

    assert answer.code == 2
    assert words in answer.err
    assert "fix" in answer.err
    assert {path: path.read_bytes() for path in two.rglob("*") if path.is_file()} == before


def test_a_value_that_no_manifest_can_hold_is_not_written(two: Path) -> None:
    path = two / "manifests/style/ink/manifest.yaml"

    answer = lorareg(two, "train", "ink", "--set", "lora.rank=100000")

    assert answer.code == 2
    assert "lora.rank" in answer.err
    assert "correct the new value; nothing was written" in answer.err
    assert path.read_text() == MANIFEST.format(kind="style", name="ink")


def test_an_empty_registry_has_nothing_to_train(registry: Path) -> None:
    answer = lorareg(registry, "train", "--all")

    assert answer.code == 2
    assert "there is no adapter yet" in answer.err
