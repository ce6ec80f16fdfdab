"""Torch tensors as safetensors bytes, for the canonical writer."""

from __future__ import annotations

import torch

from lorareg.registry.tensors import RawTensor

NAMES = {
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float64: "F64",
    torch.int32: "I32",
    torch.int64: "I64",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def raw_tensor(tensor: torch.Tensor) -> RawTensor:
    """Bytes of a tensor, row-major; little-endian, as every platform torch runs on is."""
    values = tensor.detach().to("cpu").contiguous()
    data = values.reshape(-1).view(torch.uint8).numpy().tobytes() if values.numel() else b""
    return RawTensor(NAMES[values.dtype], tuple(values.shape), data)
