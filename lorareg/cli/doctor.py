"""``lorareg doctor``: the machine, the libraries, the registry."""

from __future__ import annotations

import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import typer

from lorareg.cli.root import out
from lorareg.cli.show import Json, as_json
from lorareg.errors import LoraregError
from lorareg.registry.finding import Finding
from lorareg.registry.workspace import Workspace

PACKAGES = ("torch", "diffusers", "transformers", "peft", "dvc", "huggingface_hub", "safetensors")


def doctor(json: Json = False) -> None:
    """Check the machine and the registry, and say what is missing. Exit status 1 if anything is."""
    findings = [*_libraries(), *_machine(), *_registry()]
    if json:
        as_json([vars(finding) for finding in findings])
    else:
        for finding in findings:
            mark = "[green]ok  [/]" if finding.ok else "[red]FAIL[/]"
            out.print(f"{mark} {finding.what:<16}", end=" ")
            out.print(finding.detail, markup=False)
    if not all(finding.ok for finding in findings):
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
    try:
        workspace = Workspace.find()
    except LoraregError as error:
        return [Finding(True, "registry", f"none here ({error.fix})")]
    found = []
    try:
        found.append(Finding(True, "registry", workspace.settings.name))
        found.append(Finding(True, "git identity", workspace.history.identity()))
        remotes = ", ".join(f"{n} ({url})" for n, url in workspace.store.remotes().items())
        found.append(Finding(bool(remotes), "DVC remotes", remotes or "none: lorareg init"))
    except LoraregError as error:
        found.append(Finding(False, "registry", f"{error.what}. {error.fix}"))
    return found
