"""Training one adapter on several devices: ``accelerate launch`` runs the command in each."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

import typer

from lorareg.errors import LoraregError
from lorareg.trainers.runs.orders import Order


def train_together(order: Order, options: str, json: bool) -> None:
    """Hand one adapter to the launcher; what it prints goes to our own stdout.

    Args:
        order: for the adapter.
        options: of ``accelerate launch``, as on its command line.
        json: print one JSON document.

    Raises:
        LoraregError: a process would change the manifest, and so would all others; or options
            that cannot be read.
        typer.Exit: the exit status, if it is not 0.
    """
    if order.skip_broken:
        raise LoraregError(
            "--launch does not go together with --skip-broken",
            why="every process would write into the manifest",
            fix=f"first: lorareg data check {order.asset}, and list what is broken in dataset.skip",
        )
    # Imported late: torch and its friends take seconds.
    from lorareg.trainers.machine.launch import launch

    words = ["train", order.asset, *_words(order.options), *(["--json"] if json else [])]
    try:
        said = shlex.split(options)
    except ValueError as error:
        raise LoraregError(
            f"--launch {options!r} cannot be read",
            why=str(error),
            fix="--launch '--num_processes 2'",
        ) from error
    status = launch(words, said)
    if status:
        raise typer.Exit(status)


def _words(options: Mapping[str, Any]) -> list[str]:
    """Options of this command, as each process is to get them."""
    words = [f"--{name}" for name in ("restart", "force") if options.get(name)]
    for name, key in (("--from", "parent"), ("--from-step", "from_step")):
        if options.get(key) is not None:
            words += [name, str(options[key])]
    return words
