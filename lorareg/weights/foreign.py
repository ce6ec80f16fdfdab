"""LyCORIS modules as LoRAs of the same delta: LoHa, LoKr and Tucker factors, each exactly.

A product of two low-rank matrices taken entry by entry (LoHa), or block by block (LoKr), has low
rank itself, so nothing is fitted and nothing is lost but float32's rounding. What is no sum on top
of the base's weights has no such form: ``INEXACT`` says which keys, and why.
Source: arXiv 2108.06098 (LoHa), 2309.14859 (LyCORIS, section 3).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from lorareg.weights.adapter import Array, LoraLayer

Matrix = NDArray[np.float64]
Kernel = tuple[int, int]
INEXACT: Mapping[str, str] = {
    ".dora_scale": "DoRA sets the length of every row of base + delta",
    ".lora_magnitude_vector": "DoRA sets the length of every row of base + delta",
    ".oft_blocks": "OFT and BOFT multiply the base's weights",
    ".oft_diag": "OFT multiplies the base's weights",
    ".oft_R": "OFT multiplies the base's weights",
    ".oft_r": "OFT multiplies the base's weights",
    ".boft_R": "BOFT multiplies the base's weights",
    ".boft_s": "BOFT multiplies the base's weights",
    ".on_input": "IA3 multiplies what a module is given or gives",
    ".ia3_l": "IA3 multiplies what a module is given or gives",
    ".a1.weight": "GLoRA multiplies the base's weights",
    ".diff": "a full difference of weights has no low rank",
    ".diff_b": "a bias is no matrix",
    ".w_norm": "the weight of a norm is no matrix",
    ".b_norm": "a bias is no matrix",
    ".lambda_layer": "T-LoRA's delta changes from step to step",
}
"""What a key ends in -> why no LoRA stands for it."""


def locon(down: Array, up: Array, mid: Array, alpha: float | None) -> LoraLayer:
    """A convolution with a Tucker core: the core goes into ``down``, the rank stays.

    Args:
        down: (rank, in, 1, 1).
        up: (out, rank, 1, 1).
        mid: (rank, rank, height, width), ``lora_mid``.
        alpha: None means alpha = rank.
    """
    return _layer(_rows(up), _with_core(mid, down), _scale(alpha, mid.shape[0]))


def loha(
    w1_a: Array,
    w1_b: Array,
    w2_a: Array,
    w2_b: Array,
    alpha: float | None,
    *,
    cores: tuple[Array, Array] | None = None,
    kernel: Kernel | None = None,
) -> LoraLayer:
    """(w1_a w1_b) * (w2_a w2_b), entry by entry, as a LoRA of rank r1 r2.

    Row i of ``up`` holds all products of the entries of row i of both ``a``; column j of ``down``
    those of column j of both ``b`` (Khatri-Rao products).

    Args:
        w1_a: (out, r1); with cores (r1, out).
        w1_b: (r1, in), (r1, in * height * width) or (r1, in, height, width).
        w2_a: as ``w1_a``.
        w2_b: as ``w1_b``.
        alpha: the delta is scaled by alpha / r1; None means by 1.
        cores: ``hada_t1`` and ``hada_t2``, (r, r, height, width).
        kernel: (height, width) of the module, if it is a convolution and no array says so.
    """
    core1, core2 = cores or (None, None)
    (up1, down1), (up2, down2) = _half(w1_a, w1_b, core1), _half(w2_a, w2_b, core2)
    _must_match(up1.shape[0] == up2.shape[0] and down1.shape[1:] == down2.shape[1:], "LoHa")
    up = np.einsum("or,os->ors", up1, up2).reshape(len(up1), -1)
    down = np.einsum("r...,s...->rs...", down1, down2).reshape(-1, *down1.shape[1:])
    return _layer(up, _as_kernel(down, kernel), _scale(alpha, w1_b.shape[0]))


def lokr(
    w1: Array | tuple[Array, Array],
    w2: Array | tuple[Array, Array],
    alpha: float | None,
    *,
    core: Array | None = None,
    kernel: Kernel | None = None,
) -> LoraLayer:
    """kron(w1, w2) as a LoRA whose rank is the product of the two matrices' ranks.

    kron(a b, c d) = kron(a, c) kron(b, d), so both factors are split, a whole one by its SVD.

    Args:
        w1: (out1, in1), or the pair ``lokr_w1_a``, ``lokr_w1_b``.
        w2: (out2, in2), (out2, in2, height, width), or the pair ``lokr_w2_a``, ``lokr_w2_b``.
        alpha: the delta is scaled by alpha / r, r of the pair (w2's before w1's); by 1 if neither
            is a pair, or alpha is None.
        core: ``lokr_t2``, (r, r, height, width), for a pair (r, out2), (r, in2).
        kernel: (height, width) of the module, if it is a convolution and no array says so.
    """
    pairs = [w for w in (w2, w1) if isinstance(w, tuple)]
    up1, down1 = _half(*w1, None) if isinstance(w1, tuple) else _split(w1)
    up2, down2 = _half(*w2, core) if isinstance(w2, tuple) else _split(w2)
    # in1 is the slow index, then in2, height, width
    rows: Matrix = np.asarray(np.kron(down1, _rows(down2)), np.float64)
    down = rows.reshape(len(rows), -1, *down2.shape[2:]) if down2.ndim == 4 else rows
    scale = _scale(alpha, pairs[0][1].shape[0]) if pairs else 1.0
    up: Matrix = np.asarray(np.kron(up1, up2), np.float64)
    return _layer(up, _as_kernel(down, kernel), scale)


def _half(a: Array, b: Array, core: Array | None) -> tuple[Matrix, Matrix]:
    """One low-rank matrix as (out, r) and (r, in ...)."""
    if core is not None:
        return _rows(a).T, _with_core(core, b)
    _must_match(_rows(a).shape[1] == len(b), "LyCORIS")
    return _rows(a), b.astype(np.float64)


def _with_core(core: Array, down: Array) -> Matrix:
    """(i, in, height, width): the core (i, j, height, width) applied to (j, in)."""
    return np.asarray(np.einsum("ijhw,jc->ichw", core.astype(np.float64), _rows(down)))


def _split(whole: Array) -> tuple[Matrix, Matrix]:
    """A matrix or a convolution's weight as two factors of its rank, by its SVD."""
    u, values, v = np.linalg.svd(_rows(whole), full_matrices=False)
    smallest = values[0] * np.finfo(np.float32).eps
    kept = max(1, int(np.sum(values > smallest)))
    roots = np.sqrt(values[:kept])
    return u[:, :kept] * roots, (roots[:, None] * v[:kept]).reshape(kept, *whole.shape[1:])


def _layer(up: Matrix, down: Matrix, scale: float) -> LoraLayer:
    """A layer with alpha = scale * rank; its rank is never above the module's width."""
    shape = down.shape[1:]
    up, down = _no_wider(up, down.reshape(len(down), -1))
    rank = len(down)
    return LoraLayer(
        down.reshape(rank, *shape).astype(np.float32),
        up.reshape(*up.shape, *(1 for _ in shape[1:])).astype(np.float32),
        scale * rank,
    )


def _rows(matrix: Array | Matrix) -> Matrix:
    """In float64, everything after the first axis in one."""
    return matrix.reshape(len(matrix), -1).astype(np.float64)


def _no_wider(up: Matrix, down: Matrix) -> tuple[Matrix, Matrix]:
    if len(down) <= min(len(up), down.shape[1]):
        return up, down
    delta = up @ down  # smaller than its factors
    if len(up) <= down.shape[1]:
        return np.eye(len(up)), delta
    return delta, np.eye(down.shape[1])


def _as_kernel(down: Matrix, kernel: Kernel | None) -> Matrix:
    """Give a flat ``down`` the kernel of its module."""
    if kernel is None or down.ndim == 4:
        return down
    height, width = kernel
    _must_match(down.shape[1] % (height * width) == 0, "convolution")
    return down.reshape(len(down), -1, height, width)


def _scale(alpha: float | None, rank: int) -> float:
    """Alpha / rank; LyCORIS writes alpha = rank for none and for 0, files without it mean 1."""
    return 1.0 if alpha is None else alpha / rank


def _must_match(fits: bool, kind: str) -> None:
    if not fits:
        raise ValueError(f"the factors of a {kind} module do not fit each other")
