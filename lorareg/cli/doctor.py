"""``lorareg doctor``: the machine, the libraries, the registry."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import typer

from lorareg.cli.root import out
from lorareg.cli.show import Json, as_json
from lorareg.errors import LoraregError
from lorareg.registry.finding import Finding
from lorareg.registry.workspace import Workspace

COLORS = {"ok  ": "green", "FAIL": "red", "note": "yellow"}
PACKAGES = ("torch", "diffusers", "transformers", "peft", "dvc", "huggingface_hub", "safetensors")


def doctor(json: Json = False) -> None:
    """Check the machine and the registry, and say what is missing. Exit status 1 if anything is."""
    findings = [*_registry(), *_libraries(), *_machine()]
    if json:
        as_json([vars(finding) for finding in findings])
    else:
        for finding in findings:
            mark = "ok  " if finding.ok else "FAIL" if finding.is_hard else "note"
            out.print(f"[{COLORS[mark]}]{mark}[/]", end=" ")
            out.print(f"{finding.what:<16} {finding.detail}", markup=False)
            if finding.fix:
                out.print(f"     fix: {finding.fix}", markup=False)
    if not all(finding.ok or not finding.is_hard for finding in findings):
        raise typer.Exit(1)


def _libraries() -> list[Finding]:
    found = [Finding(True, "python", platform.python_version())]
    for name in PACKAGES:
        try:
            found.append(Finding(True, name, version(name)))
        except PackageNotFoundError:
            found.append(Finding(False, name, f"not installed: pip install {name}"))
    return found


def _machine() -> list[Finding]:
    from lorareg.trainers.machine import runtime

    place = runtime.choose("auto", Path())
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    git = shutil.which("git")
    return [
        Finding(True, "device", f"{place.device}, precision auto is {place.dtype}"),
        Finding(True, "cores", f"{os.cpu_count()}, torch uses {place.threads} threads"),
        Finding(free > 1, "disk", f"{free:.1f} GB free here"),
        Finding(git is not None, "git", git or "not found: install git"),
    ]


def _registry() -> list[Finding]:
    from lorareg.registry.upkeep.diagnosis import diagnose

    try:
        workspace = Workspace.find()
    except LoraregError as error:
        if Path("manifests").is_dir():
            fix = "git checkout -- lorareg.yaml; if there never was one: lorareg init"
            return [Finding(False, "registry", "manifests/ is here, lorareg.yaml is not", fix)]
        return [Finding(True, "registry", f"none here ({error.fix})")]
    try:
        found = [Finding(True, "registry", workspace.settings.name)]
        remotes = ", ".join(f"{n} ({url})" for n, url in workspace.store.remotes().items())
        if remotes:
            found.append(Finding(True, "DVC remotes", remotes))
    except LoraregError as error:
        found = [Finding(False, "registry", error.sentence, error.fix)]
    return [*found, *diagnose(workspace), *_states(workspace)]


def _states(workspace: Workspace) -> Iterator[Finding]:
    """Assets whose files cannot be used as they are; stale and missing ones are no defect."""
    from lorareg.trainers.states import States

    fixes = {
        "modified": "lorareg pull {}, or train it again",
        "invalid": "lorareg verify {} says what to do",
    }
    try:
        for each in States(workspace).of(list(workspace.assets())):
            if fix := fixes.get(each.state):
                detail = f"{each.state}: {each.reasons[0]}"
                yield Finding(False, str(each.asset), detail, fix.format(each.asset))
    except LoraregError as error:
        yield Finding(False, "states", error.sentence, error.fix)
