"""The floors: cli -> trainers -> weights -> registry; arrows point down only."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import lorareg

PACKAGE = Path(lorareg.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
ABOVE = {
    "registry": ("lorareg.weights", "lorareg.trainers", "lorareg.cli"),
    "weights": ("lorareg.trainers", "lorareg.cli"),
    "trainers": ("lorareg.cli",),
}
HEAVY = {
    "torch", "diffusers", "transformers", "peft", "accelerate", "dvc", "git", "matplotlib",
    "huggingface_hub", "tensorboard", "gguf", "PIL", "cv2", "onnxruntime", "ray",
}  # fmt: skip
LIGHT = [
    file
    for file in FILES
    if file.relative_to(PACKAGE).parts[0] in ("registry", "weights", "__init__.py")
    or file.relative_to(PACKAGE).as_posix() == "cli/__init__.py"
]
MAX_LINES = 320


def imports(nodes: list[ast.stmt] | ast.AST, *, inside_functions: bool) -> Iterator[str]:
    """Names of imported modules; ``from a import b`` may mean the module a.b."""
    for node in nodes if isinstance(nodes, list) else ast.iter_child_nodes(nodes):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif inside_functions or not _runs_later(node):
            yield from imports(node, inside_functions=inside_functions)


def _runs_later(node: ast.AST) -> bool:
    """Whether an import of a module does not run the node: functions, and types for checkers."""
    if isinstance(node, ast.If):
        return ast.unparse(node.test) == "TYPE_CHECKING"
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)


def shown(file: Path) -> str:
    return file.relative_to(PACKAGE).as_posix()


@pytest.mark.parametrize("floor", ABOVE)
def test_a_floor_does_not_import_the_floors_above_it(floor: str) -> None:
    upward = [
        f"{shown(file)} imports {name}"
        for file in (PACKAGE / floor).rglob("*.py")
        for name in imports(ast.parse(file.read_bytes()), inside_functions=True)
        if any(name == above or name.startswith(f"{above}.") for above in ABOVE[floor])
    ]

    assert upward == []


def test_no_module_below_the_trainers_loads_a_heavy_library_when_it_is_imported() -> None:
    heavy = [
        f"{shown(file)} imports {name}"
        for file in LIGHT
        for name in imports(ast.parse(file.read_bytes()), inside_functions=False)
        if name.partition(".")[0] in HEAVY
    ]

    assert heavy == []


def test_importing_the_registry_and_the_weights_loads_no_heavy_library() -> None:
    names = [
        ".".join(("lorareg", *file.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(
            ".__init__"
        )
        for file in LIGHT
    ]
    code = (
        "import importlib, sys\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        f"print(sorted({HEAVY!r} & sys.modules.keys()))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_nothing_here_can_unpickle() -> None:
    found = [
        f"{shown(file)} imports {name}"
        for file in FILES
        for name in imports(ast.parse(file.read_bytes()), inside_functions=True)
        if name.partition(".")[0] in ("pickle", "cPickle", "dill", "shelve", "marshal")
    ]

    assert found == []


def test_a_file_can_be_read_in_one_go() -> None:
    long = {shown(file): len(file.read_text("utf-8").splitlines()) for file in FILES}

    assert {name: lines for name, lines in long.items() if lines > MAX_LINES} == {}


def test_every_package_below_the_top_is_a_docstring_only() -> None:
    code = [
        shown(file)
        for file in FILES
        if file.name == "__init__.py" and file.parent != PACKAGE
        for statement in ast.parse(file.read_bytes()).body
        if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
    ]

    assert code == []
