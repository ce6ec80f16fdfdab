"""lorareg: a versioned registry of LoRA adapters.

import lorareg

adapter = lorareg.open(".")["character/zhangsan@v1.2.0"]
adapter.manifest, adapter.lock, adapter.weights
with lorareg.load(pipeline, "style/ink:0.7+character/zhangsan"):
picture = pipeline("zzhangsan, smiling").images[0]
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lorareg.registry.shelf import Registry
    from lorareg.trainers.attach import Attached

__version__ = "0.1.0"


def open(path: str | Path = ".") -> Registry:
    """The registry that a folder lies in.

    Raises:
        NotFoundError: it lies in none.
    """
    from lorareg.registry.shelf import Registry

    return Registry.at(Path(path))


def load(target: Any, expression: str, registry: str | Path = ".") -> Attached:
    """Put a composition on a diffusers pipeline or a transformers model, which is not merged.

    Returns:
        A handle to swap or remove it; as a context manager it removes it at the end.

    Raises:
        LoraregError: it does not exist, may not be composed, or does not fit the model.
    """
    from lorareg.registry.workspace import Workspace
    from lorareg.trainers.attach import Attached

    return Attached(target, Workspace.find(Path(registry)), expression)
