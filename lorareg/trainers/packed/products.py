"""Matrix products with frozen weights, by oneDNN in either direction.

PyTorch computes float32 products on a CPU with MKL, which on AMD is half as fast as oneDNN (on a
Zen 5 core 80 against 215 GFLOP/s). oneDNN reads row-major weights as they are, for x W^T and for
its gradient g W alike, so one copy of a weight serves both. Weights packed for each direction would
gain another 5 % of a training step of Stable Diffusion 1.5, and be held three times.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812

SMALL = 1 << 21  # multiply-adds below which MKL is done before a oneDNN kernel has been looked up


def product(
    rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """Rows (N, in) times a weight (out, in), transposed, plus a bias (out,): (N, out).

    All have one dtype; rows and weight may be transposed views.
    """
    if rows.shape[0] * weight.numel() < SMALL:
        return F.linear(rows, weight, bias)
    result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
    return result
