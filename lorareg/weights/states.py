"""The weights of two states of an asset, wherever they are, compared."""

from __future__ import annotations

from lorareg.errors import NotFoundError
from lorareg.registry import versions
from lorareg.registry.states import State
from lorareg.registry.workspace import Workspace
from lorareg.weights import difference
from lorareg.weights.adapter import LoraAdapter
from lorareg.weights.difference import Difference
from lorareg.weights.members import WEIGHTS_FILE, read_file


def compare(workspace: Workspace, before: State, after: State) -> Difference:
    """How the weights of two states differ; of recipes, those of their merged files.

    Raises:
        NotFoundError: a state has no weights, or they are not here and cannot be had.
        IntegrityError: they are not those of the lock.
        LoraregError: the states belong to different bases.
    """
    return difference.compare(_read(workspace, before), _read(workspace, after))


def _read(workspace: Workspace, state: State) -> LoraAdapter:
    name = WEIGHTS_FILE[state.task]
    if name not in state.lock.outputs:
        raise NotFoundError(
            f"{state.ref} has no {name}",
            why="it is composed when it is used",
            fix=f"lorareg compose {state.ref} --as NAME --output exact writes one",
        )
    return read_file(state.task, versions.weights(workspace, state) / name)
