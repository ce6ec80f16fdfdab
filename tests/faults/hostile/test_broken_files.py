"""Whatever a file has become, a command answers in three lines, soon, and touches nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.faults.hostile.damage import DAMAGES
from tests.faults.hostile.place import COMMANDS, REPEATS, Counts, copy, dice

FILES = {
    "manifest.yaml": ("show style/ink", "status", "verify"),
    "lock.json": ("show style/ink", "verify", "compose style/ink:0.5+style/wash:0.5 --dry-run"),
    "dataset.json": ("verify", "diff style/ink@v1.0.0 style/ink"),
    "weights.dvc": ("verify", "push --dry-run", "pull"),
    "weights/pytorch_lora_weights.safetensors": ("verify", "status", "push"),
    "channels.yaml": ("resolve style/ink@stable", "rollout status style/ink", "verify"),
    "releases.json": ("verify", "show style/ink@v1.0.0", "release style/ink"),
    "grants.yaml": ("access list", "pull", "verify"),
    "signature.json": ("verify", "policy check", "log style/ink"),
    "/manifests/style/gone/revoked.json": ("list", "pull", "verify"),
    "/manifests/recipe/duo/lock.json": ("compose verify recipe/duo", "verify", "status"),
    "/manifests/recipe/duo/manifest.yaml": ("compose upgrade recipe/duo", "show recipe/duo"),
    "/manifests/policy.yaml": ("policy check", "pull", "push"),
    "/manifests/allowed_signers": ("policy check", "verify", "policy show"),
    "/manifests/policy.signature.json": ("policy check", "verify", "push"),
    "/data/wash.dvc": ("push --dry-run", "pull", "status"),
    "/lorareg.yaml": ("list", "push", "pull"),
    "/.dvc/config": ("pull", "push", "gc --remote storage"),
    "/.lorareg/uses.jsonl": ("access uses", "access uses --check", "pull"),
    "/.lorareg/cache/catalog.json": ("list", "search ink"),
    "/.lorareg/cache/states.sqlite": ("status",),
    "/.lorareg/cache/shown.sqlite": ("show style/ink", "show style/ink --json"),
    "/.lorareg/cache/digests.sqlite": ("verify --quick", "status"),
    "/.git/lorareg-authority.sqlite": ("policy check", "verify"),
    "/.git/lorareg-uses.json": ("access uses --check", "pull"),
    "/.git/HEAD": ("list", "status", "push"),
    "/.git/packed-refs": ("verify", "show style/ink@v1.0.0"),
}
SHORT = 2  # cases a file where nothing else is asked for


@pytest.mark.parametrize("name", FILES)
def test_a_broken_file_is_named_and_nothing_hangs(
    name: str, template: Path, tmp_path: Path
) -> None:
    seed, random = dice(name)
    counts = Counts(name, seed)
    damages = [random.choice(DAMAGES) for _ in range(max(SHORT, REPEATS))]
    for number, damage in enumerate(damages):
        place = copy(template, tmp_path / str(number))
        file = place.path(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        damage(random, file, place.outside)
        counts.cases += 1
        # its readers first, since a command that writes may mend it
        chosen = [random.choice(FILES[name]).split(), random.choice(COMMANDS)]
        for command in chosen:
            counts.attempt(place, f"{name} {damage.__name__} (case {number})", command)
        shutil.rmtree(place.top)
    counts.report()
