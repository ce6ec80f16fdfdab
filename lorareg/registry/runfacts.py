"""How a training run went, and on what: the part of a lock that decides nothing."""

from __future__ import annotations

from typing import Annotated, Literal

from lorareg.registry.schema import Later, Strict


class Rung(Strict):
    """What was done from an optimizer step (from 0) on because memory was short.

    ``micro_batch`` is the most records of a forward pass; None is ``train.batch_size``.
    """

    step: int
    micro_batch: int | None
    gradient_checkpointing: bool


class Environment(Strict):
    """The machine and the libraries: what explains a difference when the inputs are equal."""

    python: str
    packages: dict[str, str]
    platform: str
    device: str
    precision: str
    threads: int
    commit: str | None
    dirty: bool
    kernels: Annotated[Literal["plain", "packed"], Later()] = "plain"
    processes: Annotated[int, Later()] = 1
    rungs: Annotated[tuple[Rung, ...], Later()] = ()


class Reply(Strict):
    """What a language model answers without and with the adapter."""

    prompt: str
    base: str
    adapter: str


class Result(Strict):
    """How the run went. Losses are means over the held-out records, with fixed noise."""

    steps: int
    best_step: int
    train_loss: float
    base_validation_loss: float | None
    validation_loss: float | None
    seconds: float
    rank: int
    alpha: float
    modules: int
    stopped: Literal["finished", "early"]
    held_out: int
    replies: tuple[Reply, ...] = ()
