"""How much memory this process holds, for people to watch."""

from __future__ import annotations

import sys


def resident() -> int:
    """Bytes of main memory."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def on_device() -> tuple[int, int] | None:
    """Bytes that tensors hold on the GPU, and bytes that it has; None where there is none."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return None
    return int(torch.cuda.memory_allocated()), int(torch.cuda.mem_get_info()[1])
