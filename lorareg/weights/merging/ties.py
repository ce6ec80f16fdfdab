"""KnOTS-TIES: entries vote on signs, in a basis that all parts share.

[delta_1 .. delta_K] = U S [V_1 .. V_K]^T gives every part a block S V_i^T in the same basis U.
There TIES trims each block to its strongest entries, takes the sign that has more weight, and
averages the entries that have it. U has at most sum r_i columns, so the result is a LoRA of that
rank.
Source: arXiv 2410.19735 (KnOTS), 2306.01708 (TIES).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from lorareg.weights import parallel
from lorareg.weights.adapter import LoraAdapter, LoraLayer
from lorareg.weights.algebra import modules
from lorareg.weights.core import basis, diagonal
from lorareg.weights.stack import Matrix, root, stack, to_layer


def merge(parts: Sequence[LoraAdapter], keep: float) -> LoraAdapter:
    """The parts merged in every module.

    Each module is trimmed by itself, as PEFT's ``ties`` does: one threshold for a whole adapter, as
    in the paper, would silence the modules whose delta is small.

    Args:
        parts: each at its strength.
        keep: share of the entries of a part's block that is kept, 0 to 1.
    """
    names = modules(parts)
    layers = parallel.each(partial(_layer, parts, keep), names)
    return LoraAdapter(dict(zip(names, layers, strict=True)))


def resolve(blocks: Sequence[Matrix], keep: float) -> Matrix:
    """TIES on matrices of one shape: trim, elect signs, and average what agrees."""
    trimmed = [_trimmed(block, keep) for block in blocks]
    total = np.sum(trimmed, axis=0)
    signs = np.sign(total)
    signs[signs == 0] = np.sign(signs.sum())
    count = np.zeros(total.shape)
    agreed = np.zeros(total.shape)
    for block in trimmed:
        agrees = block * signs > 0
        agreed += np.where(agrees, block, 0)
        count += agrees
    return np.asarray(agreed / np.maximum(count, 1))


def _layer(parts: Sequence[LoraAdapter], keep: float, name: str) -> LoraLayer:
    stacked = stack(name, parts)
    left = root(stacked.up)
    there = [part for part in stacked.columns if part.start < part.stop]
    blocks = diagonal([root(stacked.down[part].T).T for part in there])
    most = len(stacked.up)
    u, x = basis(left, blocks, most)
    voted = resolve([u.T @ left[:, part] @ stacked.down[part] for part in there], keep)
    return to_layer(stacked.up @ x, voted, stacked.like)


def _trimmed(block: Matrix, keep: float) -> Matrix:
    """The strongest entries by magnitude, zeros elsewhere; all that tie with the last stay."""
    count = max(1, int(keep * block.size))
    smallest = np.partition(np.abs(block), block.size - count, axis=None)[block.size - count]
    return np.where(np.abs(block) >= smallest, block, 0)
