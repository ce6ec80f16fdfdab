"""Commands whose module is imported when they are called: a start costs what it uses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from importlib import import_module
from typing import Any

import typer
from typer.main import get_group


class Commands(MutableMapping[str, Any]):
    """Command name -> command; the names are known, a command is made when it is asked for.

    Args:
        table: command name -> ``module:attribute`` below ``lorareg.cli``; the attribute is a
            function, or a ``Typer`` with commands of its own. In the order of the help.
        made: commands that are there already.
    """

    def __init__(self, table: Mapping[str, str], made: Mapping[str, Any]) -> None:
        self._table = dict(table)
        self._made = dict(made)

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = _command(name, self._table[name])
        return self._made[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._made[name] = command

    def __delitem__(self, name: str) -> None:
        self._table.pop(name, None)
        self._made.pop(name, None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._table | self._made)

    def __len__(self) -> int:
        return len(self._table | self._made)

    def __contains__(self, name: object) -> bool:
        return name in self._table or name in self._made


def _command(name: str, place: str) -> Any:
    module, _, attribute = place.partition(":")
    found = getattr(import_module(f"lorareg.cli.{module}"), attribute)
    alone = typer.Typer(add_completion=False)
    if isinstance(found, typer.Typer):
        alone.add_typer(found, name=name)
    else:
        alone.command(name)(found)
    return get_group(alone).commands[name]
