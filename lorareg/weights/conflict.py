"""Whether the members of a composition will hurt each other, told from their factors alone.

A member's change of a module reads some directions of its input and writes some of its output.
Where another member reads and writes the same ones, they meet: ``overlap`` is the share of the
one's change, by energy, that lies in the other's directions. Two that know nothing of each other
overlap by chance, by rank / width, which is a lot in a narrow layer; so every share comes with it.

The overlap of inputs is what a hard projection would delete (NP-LoRA). Cosine alone is nearly
blind: of two members that share 30 % of their directions it says 0.01.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from lorareg.weights.adapter import Array, LoraAdapter, LoraLayer, flat, refuse_dora
from lorareg.weights.blocks import blocks

Sums = NDArray[np.float64]
NEGLIGIBLE = 1e-5  # of a module's largest singular value: float32 noise, and rows of padding
COMMON_START = 0.1  # mean squared cosine of rows of equal number; 0.01 by chance at width 100


@dataclass(frozen=True)
class Overlap:
    """How much of one member's change lies in the directions of another.

    Attributes:
        share: of its energy, 0 to 1.
        chance: what independent members of these ranks and widths would have.
    """

    share: float = 0.0
    chance: float = 0.0

    @property
    def times(self) -> float:
        """The share in units of chance."""
        return self.share / self.chance if self.chance else 0.0


@dataclass(frozen=True)
class Meeting:
    """Two members in some modules that both adapt.

    Attributes:
        energies: squared norm of either change.
        product: inner product of the two.
        input: of the one that overlaps more, in the directions they read.
        output: the same in the directions they write.
    """

    energies: tuple[float, float]
    product: float
    input: Overlap
    output: Overlap

    @property
    def cosine(self) -> float:
        """Between the two changes in these modules."""
        size = float(np.sqrt(self.energies[0] * self.energies[1]))
        return self.product / size if size else 0.0

    @property
    def ratio(self) -> float:
        """Norm of the first over norm of the second; infinite if the second is nothing."""
        one, other = self.energies
        return float(np.sqrt(one / other)) if other else float("inf")

    @property
    def amplification(self) -> float:
        """Norm of the sum over the norm it would have if the two were orthogonal."""
        apart = sum(self.energies)
        return float(np.sqrt(max(apart + 2 * self.product, 0.0) / apart)) if apart else 1.0


@dataclass(frozen=True)
class Pair:
    """Two members, by their place in the composition.

    Attributes:
        whole: over all modules that both adapt.
        blocks: block -> the same there.
        cosine: over everything, modules of one member included.
        coverage: modules of both over modules of either (Jaccard).
        has_common_start: whether their ``down`` factors began as the same random numbers, as those
            of equal seed and rank do; then an overlap of inputs says nothing.
    """

    one: int
    other: int
    whole: Meeting
    blocks: Mapping[str, Meeting]
    cosine: float
    coverage: float
    has_common_start: bool


@dataclass(frozen=True)
class Conflicts:
    """All pairs of a composition.

    Attributes:
        names: of the members.
        blocks: in the order of the signal.
        amplification: norm of the sum over the norm it would have if all were orthogonal; above 1
            members push the same way.
        norms: of each member's change, by block.
    """

    names: tuple[str, ...]
    blocks: tuple[str, ...]
    pairs: tuple[Pair, ...]
    amplification: float
    norms: tuple[Mapping[str, float], ...]


@dataclass(frozen=True)
class _Change:
    """A module's change as left (out, k), values (k,) and right (in, k): its thin SVD."""

    left: Array
    values: Array
    right: Array

    @property
    def energy(self) -> float:
        return float(np.sum(np.square(self.values, dtype=np.float64)))


@dataclass(frozen=True)
class _Tally:
    """Sums over modules of what one pair does there; overlaps as (energy, energy by chance)."""

    energies: Sums
    product: float
    inputs: Sums
    outputs: Sums

    def __add__(self, other: _Tally) -> _Tally:
        return _Tally(
            self.energies + other.energies,
            self.product + other.product,
            self.inputs + other.inputs,
            self.outputs + other.outputs,
        )

    @property
    def meeting(self) -> Meeting:
        one, other = (float(energy) for energy in self.energies)
        return Meeting(
            (one, other), self.product, self._more(self.inputs), self._more(self.outputs)
        )

    def _more(self, sums: Sums) -> Overlap:
        """Of the one in the other and the other in the one, the larger share."""
        both = [
            Overlap(min(float(found / energy), 1.0), float(chance / energy))
            for (found, chance), energy in zip(sums, self.energies, strict=True)
            if energy
        ]
        return max(both, key=lambda overlap: overlap.share, default=Overlap())


def examine(parts: Sequence[LoraAdapter], names: Sequence[str]) -> Conflicts:
    """Measure every pair of members.

    Args:
        parts: each at its strength (``algebra.at``).
        names: how each is called.

    Raises:
        LoraregError: one of several is a DoRA, whose change depends on the base.
    """
    refuse_dora(len(parts) > 1 and any(part.is_dora for part in parts))
    where = blocks({name for part in parts for name in part.layers})
    changes = [{name: _change(layer) for name, layer in part.layers.items()} for part in parts]
    pairs = tuple(
        _pair(one, other, parts, changes, where)
        for one, other in combinations(range(len(parts)), 2)
    )
    apart = sum(change.energy for part in changes for change in part.values())
    together = apart + 2 * sum(pair.whole.product for pair in pairs)
    amplification = float(np.sqrt(max(together, 0.0) / apart)) if apart else 1.0
    order = tuple(dict.fromkeys(where.values()))
    return Conflicts(
        tuple(names), order, pairs, amplification, tuple(_norms(part, where) for part in changes)
    )


def _change(layer: LoraLayer) -> _Change:
    """Thin SVD of a module's change out of two QRs: no dense matrix."""
    right, r_right = np.linalg.qr(flat(layer.down).T)
    left, r_left = np.linalg.qr(flat(layer.up))
    u, values, v = np.linalg.svd(np.float32(layer.scale) * (r_left @ r_right.T))
    rank = int(np.sum(values > NEGLIGIBLE * values[0]))
    return _Change(left @ u[:, :rank], values[:rank], right @ v[:rank].T)


def _pair(
    one: int,
    other: int,
    parts: Sequence[LoraAdapter],
    changes: Sequence[Mapping[str, _Change]],
    where: Mapping[str, str],
) -> Pair:
    first, second = changes[one], changes[other]
    shared = [name for name in where if name in first and name in second]
    tallies: dict[str, _Tally] = {}
    for name in shared:
        tally = _tally(first[name], second[name])
        before = tallies.get(where[name])
        tallies[where[name]] = before + tally if before else tally
    nothing = _Tally(np.zeros(2), 0.0, np.zeros((2, 2)), np.zeros((2, 2)))
    whole = reduce(_Tally.__add__, tallies.values(), nothing).meeting
    sizes = [sum(change.energy for change in part.values()) for part in (first, second)]
    norm = float(np.sqrt(sizes[0] * sizes[1]))
    return Pair(
        one,
        other,
        whole,
        {block: tally.meeting for block, tally in tallies.items()},
        whole.product / norm if norm else 0.0,
        len(shared) / (len(first.keys() | second.keys()) or 1),
        _has_common_start([(parts[one].layers[n], parts[other].layers[n]) for n in shared]),
    )


def _tally(one: _Change, other: _Change) -> _Tally:
    lefts = one.left.T @ other.left
    rights = one.right.T @ other.right
    first, second = one.values[:, None], other.values[None, :]
    inputs = [
        (np.sum((first * rights) ** 2), one.energy * other.values.size / len(other.right)),
        (np.sum((rights * second) ** 2), other.energy * one.values.size / len(one.right)),
    ]
    outputs = [
        (np.sum((first * lefts) ** 2), one.energy * other.values.size / len(other.left)),
        (np.sum((lefts * second) ** 2), other.energy * one.values.size / len(one.left)),
    ]
    product = float(np.sum((first * lefts).astype(np.float64) * (rights * second)))
    return _Tally(
        np.array([one.energy, other.energy]), product, np.array(inputs), np.array(outputs)
    )


def _has_common_start(shared: Sequence[tuple[LoraLayer, LoraLayer]]) -> bool:
    """Whether rows of equal number of ``down`` resemble each other and others do not."""
    same, cross = [], []
    for one, other in shared:
        if one.rank != other.rank or one.rank < 2:
            continue
        squares = (_directions(one) @ _directions(other).T) ** 2
        own = float(np.trace(squares)) / one.rank
        same.append(own)
        cross.append((float(squares.sum()) / one.rank - own) / (one.rank - 1))
    return bool(same) and float(np.mean(same)) > max(COMMON_START, 5 * float(np.mean(cross)))


def _directions(layer: LoraLayer) -> Array:
    down = flat(layer.down)
    lengths = np.linalg.norm(down, axis=1, keepdims=True)
    return (down / np.where(lengths > 0, lengths, np.float32(1))).astype(np.float32, copy=False)


def _norms(changes: Mapping[str, _Change], where: Mapping[str, str]) -> dict[str, float]:
    energies: dict[str, float] = {}
    for name, change in changes.items():
        energies[where[name]] = energies.get(where[name], 0.0) + change.energy
    return {block: float(np.sqrt(energy)) for block, energy in energies.items()}
