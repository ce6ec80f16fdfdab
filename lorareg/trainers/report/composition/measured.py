"""The figures of ``lorareg compose evaluate``, read back for the report."""

from __future__ import annotations

from pathlib import Path

from lorareg.errors import LoraregError
from lorareg.registry.lock import BaseInput, load_json
from lorareg.registry.origin import Digest
from lorareg.registry.recipe import Method
from lorareg.registry.schema import Strict, check
from lorareg.weights.checks.run import written
from lorareg.weights.members import Composition


class Span(Strict):
    """An estimate and its interval."""

    value: float
    low: float
    high: float


class Line(Strict):
    """How one member fares; as ``trainers.evaluation.survival.Survival``."""

    ref: str
    records: int
    losses: dict[str, float]
    survival: Span | None
    attribution: Span | None
    tensors: Digest | None


class Measured(Strict):
    """The document that ``lorareg compose evaluate --out`` writes."""

    expression: str
    base: BaseInput
    method: Method
    survival: float | None
    members: tuple[Line, ...]


def read(file: Path, composition: Composition) -> Measured:
    """The figures in a file, which must be of this very composition.

    Raises:
        NotFoundError: there is no such file.
        InvalidFileError: it is no document of figures.
        LoraregError: it was measured on other members, weights or another base.
    """
    again = f"lorareg compose evaluate '{_expression(composition)}' --out {file.name}"
    found = check(Measured, load_json(file, file.name), file.name, fix=again)
    pins = [part.lock.outputs[part.file.name].tensors for part in composition.components]
    told = [
        (found.expression, _expression(composition), "weights"),
        (found.base.digest, composition.base.digest, "base"),
        (found.method, composition.method, "method"),
        ([line.tensors for line in found.members], pins, "tensors of the members"),
    ]
    others = [what for measured, wanted, what in told if measured != wanted]
    if others:
        raise LoraregError(
            f"{file.name} was measured on another composition",
            why=f"{' and '.join(others)} differ: it is of {found.expression}",
            fix=again,
        )
    return found


def _expression(composition: Composition) -> str:
    return "+".join(map(str, written(composition)))
