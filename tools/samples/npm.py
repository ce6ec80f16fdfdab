"""The door to Node: pinned npm packages, and DiceBear drawings as SVG."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lorareg.errors import ExternalToolError, NotFoundError
from tools.samples.picture import Drawing, Picture

HERE = Path(__file__).parent


def check_versions(modules: Path) -> None:
    """Refuse npm packages that are missing or of another version than the pinned one.

    Raises:
        NotFoundError: naming every package that is not as ``package.json`` pins it.
    """
    pinned: dict[str, str] = json.loads((HERE / "package.json").read_text())["dependencies"]
    found = {name: installed_version(modules, name) for name in pinned}
    wrong = [
        f"{name}: {found[name] or 'missing'}, not {version}"
        for name, version in pinned.items()
        if found[name] != version
    ]
    if wrong:
        raise NotFoundError(
            f"{modules} does not hold the pinned npm packages",
            why="; ".join(wrong),
            fix="npm ci --prefix tools/samples",
        )


def installed_version(modules: Path, name: str) -> str | None:
    """The version of an installed npm package, or nothing where it is missing."""
    about = modules / name / "package.json"
    return json.loads(about.read_text())["version"] if about.is_file() else None


def read_json(modules: Path, path: str) -> Any:
    """The JSON document at ``path`` inside the installed packages."""
    return json.loads((modules / path).read_text(encoding="utf-8"))


def draw(drawings: Sequence[Drawing], modules: Path) -> list[Picture]:
    """Draw every drawing with DiceBear, in one run of Node.

    Raises:
        ExternalToolError: when Node is missing or refuses a drawing.
    """
    request = json.dumps([{"style": item.style, "options": item.options} for item in drawings])
    command = ["node", str(HERE / "draw.mjs"), str(modules)]
    try:
        done = subprocess.run(command, input=request, capture_output=True, text=True, check=True)
    except FileNotFoundError as error:
        raise ExternalToolError("Node is not installed", fix="install Node 20 or later") from error
    except subprocess.CalledProcessError as error:
        raise ExternalToolError("DiceBear refused a drawing", why=error.stderr.strip()) from error
    svgs = [drawn["svg"] for drawn in json.loads(done.stdout)]
    return [Picture(svg, item.caption) for svg, item in zip(svgs, drawings, strict=True)]
