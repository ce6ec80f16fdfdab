"""One door to all methods; whatever the method, the result has the canonical form of a sum."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from lorareg.errors import LoraregError
from lorareg.registry.recipe import Method
from lorareg.weights.adapter import LoraAdapter, refuse_dora
from lorareg.weights.algebra import weighted_sum
from lorareg.weights.merging import dare, projection, ties, tsv

Parts = Sequence[LoraAdapter]


def merge(parts: Parts, names: Sequence[str], method: Method) -> LoraAdapter:
    """Put the parts, each at its strength already, together.

    Args:
        parts: adapters of one base.
        names: the parts' references, as the recipe has them.
        method: of the recipe.

    Returns:
        Scale folded in, one rank of at most sum r_i, alpha = rank.

    Raises:
        LoraregError: no part adapts a module, shapes differ, one is a DoRA; for "np", another
            number of parts than two, or none of that name to protect.
    """
    refuse_dora(any(adapter.is_dora for adapter in parts))
    return weighted_sum([(part, 1.0) for part in _METHODS[method.name](parts, names, method)])


def _sum(parts: Parts, names: Sequence[str], method: Method) -> Parts:
    return parts


def _ties(parts: Parts, names: Sequence[str], method: Method) -> Parts:
    return [ties.merge(parts, method.keep)]


def _tsv(parts: Parts, names: Sequence[str], method: Method) -> Parts:
    return [tsv.merge(parts)]


def _dare(parts: Parts, names: Sequence[str], method: Method) -> Parts:
    return [
        dare.drop(part, method.keep, f"{method.seed}/{name}")
        for part, name in zip(parts, names, strict=True)
    ]


def _np(parts: Parts, names: Sequence[str], method: Method) -> Parts:
    if len(parts) != 2 or list(names).count(method.protect or "") != 1:
        raise LoraregError(
            f"method np puts two parts together, one of them protected: {', '.join(names)}",
            why=f"protect is {method.protect or 'not set'}: which part gives way to which is for "
            "people to say, and is not defined for more than two",
            fix=f"method: {{name: np, protect: {names[0]}, mu: {method.mu}}} in the recipe, with "
            "two parts",
        )
    kept = list(names).index(method.protect or "")
    return [parts[kept], projection.give_way(parts[1 - kept], parts[kept], method.mu)]


_METHODS: Mapping[str, Callable[[Parts, Sequence[str], Method], Parts]] = {
    "sum": _sum,
    "ties": _ties,
    "tsv": _tsv,
    "np": _np,
    "dare": _dare,
}
