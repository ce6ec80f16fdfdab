"""The ``train`` block of a text-generation manifest."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from lorareg.registry.schema import Later, Strict
from lorareg.registry.training import Training


class Preferences(Strict):
    """Learning from pairs of a chosen and a rejected answer by DPO (arXiv 2305.18290).

    Attributes:
        beta: how far the adapter may move away from the base; smaller is further.
        sft_weight: weight of the chosen answer's own negative log-likelihood beside the
            preference, which keeps it likely (arXiv 2404.19733); 0 is plain DPO.
    """

    beta: Annotated[float, Field(gt=0, le=10)] = 0.1
    sft_weight: Annotated[float, Field(ge=0, le=10)] = 0.0


class TextTraining(Training):
    """Training on dialogues.

    Attributes:
        max_length: tokens of a row.
        overlong: what becomes of longer rows: "cut" at the end, "drop", or "error".
        packing: put several rows into one sequence, attention blocked between them: no padding is
            computed, and the loss is the same.
        dpo: learn from pairs ``chosen`` / ``rejected`` in the dataset; None learns from answers.
        quantization: of the frozen base through bitsandbytes, on CUDA only (QLoRA, arXiv
            2305.14314).
    """

    max_length: Annotated[int, Field(ge=8, le=1_000_000)] = 1024
    overlong: Annotated[Literal["cut", "drop", "error"], Later()] = "cut"
    packing: Annotated[bool, Later()] = False
    dpo: Annotated[Preferences | None, Later()] = None
    quantization: Annotated[Literal["nf4", "int8"] | None, Later()] = None
