"""NP-LoRA: one adapter gives way to another where both read the same inputs.

delta_injected (I - mu / (1 + mu) Q Q^T), where Q spans the inputs that the protected delta reads;
mu = 0 is the plain sum, a large mu projects onto the null space. The rank stays r_1 + r_2.
Source: arXiv 2511.11051.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from lorareg.weights import parallel
from lorareg.weights.adapter import LoraAdapter, LoraLayer, flat
from lorareg.weights.algebra import check_shapes
from lorareg.weights.stack import thin, to_layer


def give_way(injected: LoraAdapter, protected: LoraAdapter, mu: float) -> LoraAdapter:
    """The injected adapter, softened in the inputs that the protected one reads.

    Modules that the protected adapter leaves alone stay as they are.
    """
    names = sorted(injected.layers)
    layers = parallel.each(partial(_layer, injected, protected, mu), names)
    return LoraAdapter(dict(zip(names, layers, strict=True)))


def _layer(injected: LoraAdapter, protected: LoraAdapter, mu: float, name: str) -> LoraLayer:
    layer, other = injected.layers[name], protected.layers.get(name)
    if other is None:
        return layer
    check_shapes(name, [other, layer])
    found = thin(other)
    inputs = found.v[found.values > 0]
    down = flat(layer.down).astype(np.float64)
    softened = down - mu / (1 + mu) * (down @ inputs.T) @ inputs
    return to_layer(layer.scale * flat(layer.up).astype(np.float64), softened, layer)
