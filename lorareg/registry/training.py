"""The ``train`` block of a manifest, as far as both tasks share it: bounds, units and defaults."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from lorareg.registry.fields import Share
from lorareg.registry.schema import Later, Strict


class Validation(Strict):
    """The held-out share, and when to give up.

    Attributes:
        share: part of the records held out, at least one record if above 0; 0 switches it off.
        every_steps: steps between two validations; None is once an epoch.
        patience: validations without an improvement before the run stops; None never stops.
        min_delta: a loss counts as better only when it is lower by this much.
    """

    share: Share = 0.1
    every_steps: Annotated[int, Field(ge=1)] | None = None
    patience: Annotated[int, Field(ge=1, le=1000)] | None = None
    min_delta: Annotated[float, Field(ge=0)] = 0.0


class Training(Strict):
    """How to train; what both tasks share.

    Attributes:
        batch_size: records a forward pass.
        gradient_accumulation_steps: forward passes an optimizer step.
        learning_rate: peak, after warm-up; Prodigy finds its own and takes this as a factor.
        loraplus_lr_ratio: learning rate of the up matrices over that of the down matrices, as in
            LoRA+ (arXiv 2402.12354); 1 is plain LoRA.
        warmup_steps: optimizer steps of linear warm-up.
        scheduler_cycles: restarts of the cosine, for ``cosine-restarts``.
        scheduler_power: exponent of the fall, for ``polynomial``.
        max_grad_norm: gradients are scaled down to this norm; 0 switches it off.
        ema: decay a step of an exponential moving average of the adapter, which is then what is
            validated and kept; None keeps the adapter as it is.
        precision: of the frozen base; adapters are always float32. "auto" measures the machine.
        gradient_checkpointing: compute activations twice instead of keeping them; the weights
            come out the same.
        save_steps: optimizer steps between two checkpoints to resume from.
        keep_checkpoints: how many of them stay, beside the best adapter.
    """

    batch_size: Annotated[int, Field(ge=1, le=4096)] = 4
    gradient_accumulation_steps: Annotated[int, Field(ge=1, le=4096)] = 1
    epochs: Annotated[int, Field(ge=1, le=100_000)] = 10
    learning_rate: Annotated[float, Field(gt=0, le=10)] = 1e-4
    loraplus_lr_ratio: Annotated[float, Field(ge=1, le=1000), Later()] = 1.0
    optimizer: Literal["adamw", "adamw-8bit", "adafactor", "prodigy", "lion", "schedule-free"] = (
        "adamw"
    )
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.01
    scheduler: Literal["constant", "linear", "cosine", "cosine-restarts", "polynomial", "rex"] = (
        "cosine"
    )
    scheduler_cycles: Annotated[int, Field(ge=1, le=1000), Later()] = 1
    scheduler_power: Annotated[float, Field(gt=0, le=10), Later()] = 1.0
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    max_grad_norm: Annotated[float, Field(ge=0)] = 1.0
    ema: Annotated[float | None, Field(gt=0, lt=1), Later()] = None
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 42
    gradient_checkpointing: bool = False
    save_steps: Annotated[int, Field(ge=1)] = 100
    keep_checkpoints: Annotated[int, Field(ge=1, le=1000)] = 2
    validation: Validation = Validation()

    @model_validator(mode="after")
    def _keys_go_together(self) -> Training:
        if problems := [*_optimizer_problems(self), *_schedule_problems(self)]:
            raise ValueError("; ".join(problems))
        return self


def _optimizer_problems(train: Training) -> list[str]:
    """What an optimizer cannot take."""
    problems = []
    if train.optimizer == "prodigy":
        if train.learning_rate < 0.1:
            problems.append(
                "prodigy finds the learning rate itself and takes learning_rate as a factor on it: "
                "set learning_rate: 1.0"
            )
        if train.loraplus_lr_ratio != 1:
            problems.append(
                "prodigy finds one learning rate for all matrices: leave loraplus_lr_ratio out"
            )
    if train.optimizer == "schedule-free":
        if train.scheduler != "constant":
            problems.append(
                "schedule-free averages the weights instead of lowering the rate: "
                "set scheduler: constant"
            )
        if train.ema is not None:
            problems.append("schedule-free averages the weights itself: leave ema out")
    return problems


def _schedule_problems(train: Training) -> list[str]:
    """Keys of another schedule, which would do nothing."""
    problems = []
    if train.scheduler_cycles != 1 and train.scheduler != "cosine-restarts":
        problems.append("scheduler_cycles is for scheduler: cosine-restarts")
    if train.scheduler_power != 1 and train.scheduler != "polynomial":
        problems.append("scheduler_power is for scheduler: polynomial")
    return problems


WITHOUT_INFLUENCE = {"gradient_checkpointing", "save_steps", "keep_checkpoints"}
"""Keys of ``Training`` that change when files are written or memory is used, and no weight."""
