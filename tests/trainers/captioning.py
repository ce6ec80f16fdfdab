"""``lorareg data caption`` as people run it, on folders of plain pictures."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from PIL import Image
from typer.testing import CliRunner

from lorareg.cli.caption import caption
from lorareg.cli.root import Root

RED, BLUE, GREEN, GREY = (250, 20, 20), (20, 20, 250), (20, 250, 20), (128, 128, 128)

app = typer.Typer(cls=Root, pretty_exceptions_enable=False)
app.command("caption")(caption)


@app.callback()
def _with_commands() -> None:
    """A group, as lorareg is."""


@dataclass(frozen=True)
class Answer:
    """What the command said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def run_caption(*arguments: str | Path) -> Answer:
    result = CliRunner().invoke(app, ["caption", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Answer(result.exit_code, result.stdout, result.stderr)


def make_pictures(folder: Path, colours: Sequence[tuple[int, int, int]]) -> Path:
    """One plain picture a colour: 00.png, 01.png, ..."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, colour in enumerate(colours):
        Image.new("RGB", (20, 20), colour).save(folder / f"{number:02}.png")
    return folder


def write_captions(folder: Path, captions: dict[str, str]) -> None:
    with (folder / "metadata.csv").open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerows([("file_name", "text"), *captions.items()])


def captions_of(folder: Path) -> dict[str, str]:
    with (folder / "metadata.csv").open(encoding="utf-8", newline="") as stream:
        return {row["file_name"]: row["text"] for row in csv.DictReader(stream)}


if __name__ == "__main__":
    sys.exit(app())
