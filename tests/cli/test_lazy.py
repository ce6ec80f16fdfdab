"""A command's module is imported when it is called, and nothing of the help is lost."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from lorareg.cli.app import COMMANDS, app


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_of_the_table_is_there(name: str) -> None:
    module, _, attribute = COMMANDS[name].partition(":")

    assert hasattr(importlib.import_module(f"lorareg.cli.{module}"), attribute)
    assert get_command(app).commands[name].name == name  # type: ignore[attr-defined]


def test_the_help_names_every_command_in_the_order_of_the_table() -> None:
    shown = CliRunner().invoke(app, ["--help"]).output

    places = [shown.index(f"│ {name} ") for name in COMMANDS]
    assert places == sorted(places)


def test_a_mistyped_command_is_corrected_without_importing_the_others() -> None:
    code = (
        "import sys; from lorareg.cli.app import app\n"
        "try: app(['stauts'])\n"
        "except SystemExit: pass\n"
        "print([name for name in sys.modules if name.startswith('lorareg.registry')])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "Did you mean 'status'" in done.stderr
    assert done.stdout.strip() == "[]"
