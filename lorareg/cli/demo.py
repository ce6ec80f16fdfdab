"""``lorareg demo``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from lorareg.cli.root import err, out
from lorareg.cli.show import Json, as_json, table
from lorareg.cli.watch import RunWatcher


def demo(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="A new folder.")] = Path(
        "lorareg-demo"
    ),
    json: Json = False,
) -> None:
    """Show the whole job on a real model: train, compose, share, reproduce. Takes minutes, offline.

    A character and a style are trained on builtin:avatar, composed, drawn, pushed, cloned as a
    teammate would, and one of them is trained again there.
    """
    started = time.monotonic()
    err.print("loading libraries")
    from lorareg.trainers.demo import give

    with RunWatcher("training") as watcher:

        def say(command: str) -> None:
            watcher.headline(f"$ {command}")

        tour = give(folder, say, watcher)
    minutes = (time.monotonic() - started) / 60
    if json:
        as_json({"root": str(tour.root), "picture": str(tour.picture), "rows": tour.rows})
    else:
        table(("what", "digest or figure", "verdict"), tour.rows)
        out.print(f"picture: {tour.picture}")
        out.print(f"{minutes:.1f} minutes; look around in {tour.root}")
    if not tour.went_well:
        raise typer.Exit(1)
