"""The nearest sum of a lower rank, and what it loses, known before a byte is written.

The sum of all parts is B A with B = Q_B L and A^T = Q_A R, so its SVD is that of the small L R^T:
the best delta of each rank (Eckart and Young), without the dense matrix and without the base.
Modules are worked on in parallel; what is kept of one between the passes is small (``Core``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from lorareg.errors import LoraregError
from lorareg.weights import parallel
from lorareg.weights.adapter import LoraAdapter, LoraLayer, refuse_dora
from lorareg.weights.algebra import modules
from lorareg.weights.core import Core, Truncate, decompose
from lorareg.weights.stack import stack

Indices = NDArray[np.intp]
VALUE = 4  # bytes of a float32, as files hold the factors
HEADER = 4096  # bytes of a header's own entries: digests, settings, what it was composed of
PER_MODULE = 400  # ... and of a module's, beside four times its name: offsets, shapes, patterns


@dataclass(frozen=True)
class Budget:
    """How much of the sum to keep; exactly one of the first three.

    Attributes:
        rank: of every module.
        energy: share of the squared norm, 0 to 1, wherever it costs least.
        max_size: bytes of the file, spent where they hold most.
        truncate: "optimal" has the least error of the sum; "fair" keeps a like share of each part.
    """

    rank: int | None = None
    energy: float | None = None
    max_size: int | None = None
    truncate: Truncate = "optimal"

    def __post_init__(self) -> None:
        if [self.rank, self.energy, self.max_size].count(None) != 2:
            raise LoraregError(
                "a compression needs one of rank, energy and max_size",
                fix="give one of --rank, --energy and --max-size",
            )


@dataclass(frozen=True)
class Compressed:
    """A compressed sum and what it lost.

    Attributes:
        adapter: scale 1; one rank if the budget was a rank, else each module its own.
        error: norm of what was lost over the norm of the sum.
        worst: the module that lost most of its own delta, and how much.
        retention: share of each part's squared norm within the kept directions.
        ranks: of each module, 0 where it was dropped.
        energy: share of the squared norm that was kept.
    """

    adapter: LoraAdapter
    error: float
    worst: tuple[str, float]
    retention: tuple[float, ...]
    ranks: Mapping[str, int]
    energy: float


def compress(
    parts: Sequence[LoraAdapter], budget: Budget, workers: int | None = None
) -> Compressed:
    """Sum up the parts, each at its strength already, and keep what the budget allows.

    Law: at a rank of sum r_i nothing is lost; with one part and "optimal" it is its truncated SVD.

    Raises:
        LoraregError: no part adapts a module, shapes differ, one is a DoRA, or ``max_size`` has no
            room for a single module.
    """
    names, cores = _cores(parts, budget.truncate, workers)
    ranks = _ranks(names, cores, budget)
    jobs = [(name, core, k) for name, core, k in zip(names, cores, ranks, strict=True) if k]
    padded = max(ranks) if budget.rank else 0
    build = partial(_build, parts, padded)
    layers = parallel.each(build, jobs, workers)
    lost = [core.lost[k] for core, k in zip(cores, ranks, strict=True)]
    errors = [_relative(x, core.lost[0]) for x, core in zip(lost, cores, strict=True)]
    worst = int(np.argmax(errors))
    error = _relative(sum(lost), sum(core.lost[0] for core in cores))
    return Compressed(
        LoraAdapter(dict(zip([job[0] for job in jobs], layers, strict=True))),
        error,
        (names[worst], errors[worst]),
        _retention(cores, ranks),
        dict(zip(names, ranks, strict=True)),
        1 - error**2,
    )


def errors_by_rank(
    parts: Sequence[LoraAdapter], truncate: Truncate = "optimal"
) -> list[tuple[int, float, int]]:
    """(rank, relative error, bytes of the file) for every rank up to that of the exact sum."""
    names, cores = _cores(parts, truncate, None)
    whole = sum(core.lost[0] for core in cores)
    found = []
    for rank in range(1, max(core.rank for core in cores) + 1):
        lost = sum(core.lost[min(rank, core.rank)] for core in cores)
        size = rank * sum(core.width for core in cores) * VALUE + _header(names)
        found.append((rank, _relative(lost, whole), size))
    return found


def _cores(
    parts: Sequence[LoraAdapter], truncate: Truncate, workers: int | None
) -> tuple[list[str], list[Core]]:
    refuse_dora(any(adapter.is_dora for adapter in parts))
    names = modules(parts)
    return names, parallel.each(
        lambda name: decompose(stack(name, parts), truncate), names, workers
    )


def _build(parts: Sequence[LoraAdapter], padded: int, job: tuple[str, Core, int]) -> LoraLayer:
    """The layer of a module at its rank, filled up with zeros to ``padded``."""
    name, core, rank = job
    left, right = core.halves(rank)
    missing = max(padded - rank, 0)
    if missing:
        left = np.pad(left, [(0, 0), (0, missing)])
        right = np.pad(right, [(0, missing), (0, 0)])
    return stack(name, parts).layer(left, right)


def _ranks(names: Sequence[str], cores: Sequence[Core], budget: Budget) -> list[int]:
    if budget.rank is not None:
        return [min(budget.rank, core.rank) for core in cores]
    order, owners = _by_worth(cores, budget.truncate)
    if budget.energy is not None:
        kept = np.concatenate([-np.diff(core.lost) for core in cores])[order].cumsum()
        wanted = min(budget.energy * sum(core.lost[0] for core in cores), kept[-1])
        count = int(np.searchsorted(kept, wanted)) + 1
    else:
        costs = np.concatenate([np.full(core.rank, core.width * VALUE) for core in cores])
        room = (budget.max_size or 0) - _header(names)
        count = int(np.searchsorted(costs[order].cumsum(), room, side="right"))
        if not count:
            raise LoraregError(
                f"max_size {budget.max_size} has no room for one module at rank 1",
                why=f"the header alone takes up to {_header(names)} bytes",
                fix=f"--max-size {_header(names) + int(costs.max())}",
            )
    return [int(n) for n in np.bincount(owners[order[:count]], minlength=len(cores))]


def _by_worth(cores: Sequence[Core], truncate: Truncate) -> tuple[Indices, Indices]:
    """Every direction of every module, best first by what it holds per byte, and its module."""
    wholes = np.sum([core.parts for core in cores], axis=0)
    worths = [core.worth(wholes, truncate) / core.width for core in cores]
    owners = np.concatenate([np.full(len(x), index) for index, x in enumerate(worths)])
    return np.argsort(-np.concatenate(worths), kind="stable"), owners


def _retention(cores: Sequence[Core], ranks: Sequence[int]) -> tuple[float, ...]:
    wholes = np.sum([core.parts for core in cores], axis=0)
    kept = np.sum([core.kept[:, k] for core, k in zip(cores, ranks, strict=True)], axis=0)
    return tuple(float(k / w) if w else 1.0 for k, w in zip(kept, wholes, strict=True))


def _header(names: Sequence[str]) -> int:
    return HEADER + sum(PER_MODULE + 4 * len(name) for name in names)


def _relative(lost: float, whole: float) -> float:
    return float(np.sqrt(lost / whole)) if whole else 0.0
