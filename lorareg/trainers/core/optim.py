"""Optimizers from kept libraries behind one face: rates set each step, a state that fits a file."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from lorareg.errors import TrainingError
from lorareg.registry.image_training import ImageTraining
from lorareg.registry.training import Training
from lorareg.trainers.core.schedules import learning_rate

Parameters = Mapping[str, torch.nn.Parameter]


class Optimizer:
    """An optimizer whose steps are pure functions of (step, gradients, state).

    Args:
        library: what does the work; its groups are made by ``build``.
        parameters: every trainable parameter by name.
        factors: of each of its groups, on the learning rate.
        settings: schedule and peak.
        total: optimizer steps of the run.
    """

    def __init__(
        self,
        library: torch.optim.Optimizer,
        parameters: Parameters,
        factors: list[float],
        settings: Training,
        total: int,
    ) -> None:
        self._library = library
        self._parameters = parameters
        self._factors = factors
        self._settings = settings
        self._total = total
        self._averages = settings.optimizer == "schedule-free"
        if self._averages:
            library.train()  # type: ignore[attr-defined]
        self._fresh = [dict(group) for group in library.param_groups]

    def rate(self, step: int) -> float:
        """Learning rate of step ``step`` (from 0), of the group whose factor is 1."""
        return learning_rate(self._settings, step, self._total)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        self._library.zero_grad(set_to_none=True)

    def step(self, step: int) -> None:
        """Move the parameters along their gradients at the rate of ``step``."""
        rate = self.rate(step)
        for group, factor in zip(self._library.param_groups, self._factors, strict=True):
            group["lr"] = rate * factor
        self._library.step()

    def state(self) -> dict[str, torch.Tensor]:
        """What the steps so far left behind, for a safetensors file; not within ``evaluating``.

        ``<parameter>/<field>`` are moments and counts, ``groups/<number>/<field>`` what a library
        keeps a group (Prodigy's distance, the weights of schedule-free's average). Tensors are the
        live ones; numbers become float64, int64 and bool, which no library uses for tensors here.
        """
        found = {
            f"{name}/{field}": _tensor(value)
            for name, parameter in self._parameters.items()
            for field, value in self._library.state.get(parameter, {}).items()
        }
        for number, (group, fresh) in enumerate(
            zip(self._library.param_groups, self._fresh, strict=True)
        ):
            for field, value in group.items():
                if field not in ("params", "lr") and fresh.get(field) != value:
                    found[f"groups/{number}/{field}"] = _tensor(value)
        return found

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Put back what ``state`` took, in an optimizer that was built alike."""
        for entry, value in state.items():
            owner, _, field = entry.rpartition("/")
            if owner.startswith("groups/"):
                group = self._library.param_groups[int(owner.removeprefix("groups/"))]
                group[field] = value.item()
                continue
            parameter = self._parameters[owner]
            # the step count too: the fused kernel reads it on the device of the weights
            self._library.state[parameter][field] = _value(value, parameter.device)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Within the block the parameters are those to judge and to keep.

        Schedule-free puts its average in their place; other optimizers leave them as they are.
        """
        if not self._averages:
            yield
            return
        # The library goes back by arithmetic, which is off by a rounding: then every validation
        # would change the run.
        kept = [parameter.detach().clone() for parameter in self._parameters.values()]
        self._library.eval()  # type: ignore[attr-defined]
        try:
            yield
        finally:
            self._library.train()  # type: ignore[attr-defined]
            with torch.no_grad():
                torch._foreach_copy_(list(self._parameters.values()), kept)


def build(parameters: Parameters, settings: Training, total: int) -> Optimizer:
    """The optimizer that a manifest names, on all trainable parameters of an adapter.

    Args:
        parameters: by name; ``<module>.up`` gets LoRA+'s ratio, ``text_encoder...`` a rate of its
            own, and ``<module>.magnitude`` no weight decay, since zero is not where it starts.
        settings: of the manifest.
        total: optimizer steps of the run.

    Raises:
        TrainingError: the library it comes from is not installed.
    """
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for name, parameter in parameters.items():
        decay = 0.0 if name.endswith(".magnitude") else settings.weight_decay
        groups.setdefault((_factor(name, settings), decay), []).append(parameter)
    given = [{"params": group, "weight_decay": decay} for (_, decay), group in groups.items()]
    library = _LIBRARIES[settings.optimizer](given, settings)
    return Optimizer(library, parameters, [factor for factor, _ in groups], settings, total)


def package(settings: Training) -> dict[str, str]:
    """Name and version of the package whose arithmetic shapes the weights beside torch's own.

    Raises:
        TrainingError: it is not installed.
    """
    name = _PACKAGES.get(settings.optimizer)
    if name is None:
        return {}
    try:
        return {name: version(name)}
    except PackageNotFoundError as error:
        raise TrainingError(
            f"train.optimizer: {settings.optimizer} needs {name}, which is not installed",
            fix=f"pip install {name}",
        ) from error


def _factor(name: str, settings: Training) -> float:
    factor = settings.loraplus_lr_ratio if name.endswith(".up") else 1.0
    peak = settings.text_encoder_learning_rate if isinstance(settings, ImageTraining) else None
    if peak is not None and name.startswith("text_encoder"):
        factor *= peak / settings.learning_rate
    return factor


def _tensor(value: Any) -> torch.Tensor:
    if isinstance(value, torch.Tensor):
        return value
    dtype = {bool: torch.bool, int: torch.int64, float: torch.float64}[type(value)]
    return torch.tensor(value, dtype=dtype)


def _value(tensor: torch.Tensor, device: torch.device) -> Any:
    if tensor.dtype in (torch.bool, torch.int64, torch.float64):
        return tensor.item()
    return tensor.to(device, copy=True)


Groups = list[dict[str, Any]]


def _adamw(groups: Groups, settings: Training) -> torch.optim.Optimizer:
    """AdamW (arXiv 1711.05101), fused: one pass over memory instead of a dozen."""
    return torch.optim.AdamW(
        groups, lr=settings.learning_rate, betas=(0.9, 0.999), eps=1e-8, fused=True
    )


def _adamw_8bit(groups: Groups, settings: Training) -> torch.optim.Optimizer:
    """AdamW with moments of 8 bits (arXiv 2110.02861); matrices below 4096 values keep 32."""
    # it warns about kernels for 4-bit inference, which an optimizer has no use for
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    found: torch.optim.Optimizer = _library(settings).optim.AdamW8bit(
        groups, lr=settings.learning_rate, betas=(0.9, 0.999), eps=1e-8
    )
    return found


def _adafactor(groups: Groups, settings: Training) -> torch.optim.Optimizer:
    """Adafactor (arXiv 1804.04235) at the rate of the manifest.

    torch's own scales a step by the size of the parameter and caps it by 1 / sqrt(step), always: an
    up matrix, which starts at zero, would get a thousandth of the rate. transformers' can be told
    not to.
    """
    from transformers import Adafactor

    found: torch.optim.Optimizer = Adafactor(
        groups, lr=settings.learning_rate, scale_parameter=False, relative_step=False
    )
    return found


def _prodigy(groups: Groups, settings: Training) -> torch.optim.Optimizer:
    """Prodigy (arXiv 2306.06101) as its authors advise for diffusion models."""
    found: torch.optim.Optimizer = _library(settings).Prodigy(
        groups, lr=settings.learning_rate, use_bias_correction=True, safeguard_warmup=True
    )
    return found


def _lion(groups: Groups, settings: Training) -> torch.optim.Optimizer:
    """Lion (arXiv 2302.06675): the sign of the momentum, so one moment instead of two."""
    found: torch.optim.Optimizer = _library(settings).Lion(groups, lr=settings.learning_rate)
    return found


def _schedule_free(groups: Groups, settings: Training) -> torch.optim.Optimizer:
    """Schedule-free AdamW (arXiv 2405.15682): an average of the weights instead of a schedule."""
    found: torch.optim.Optimizer = _library(settings).AdamWScheduleFree(
        groups, lr=settings.learning_rate, betas=(0.9, 0.999)
    )
    return found


def _library(settings: Training) -> Any:
    (name,) = package(settings)
    return importlib.import_module(name.replace("-", "_"))


_PACKAGES = {
    "adamw-8bit": "bitsandbytes",
    "prodigy": "prodigyopt",
    "lion": "lion-pytorch",
    "schedule-free": "schedulefree",
}
_LIBRARIES: dict[str, Callable[[Groups, Training], torch.optim.Optimizer]] = {
    "adamw": _adamw,
    "adamw-8bit": _adamw_8bit,
    "adafactor": _adafactor,
    "prodigy": _prodigy,
    "lion": _lion,
    "schedule-free": _schedule_free,
}
