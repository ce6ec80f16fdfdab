"""An exponential moving average of the adapter: less noise than the last step's weights.

The average of A and of B is not the average of B A; it is what every trainer keeps, and close to it
while both move little within the average's memory of 1 / (1 - decay) steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

STEPS = "steps"  # the entry of a state that counts updates; parameters have a dot in their names


class Average:
    """A moving average beside the parameters, float32 as they are.

    The decay of update s (from 1) is min(decay, s / (s + 9)), and 0 for the first, as in
    diffusers' ``EMAModel``: so the start, which was not learned, is forgotten quickly.

    Args:
        parameters: trainable, by name; they are read at every update.
        decay: share of the average that stays at an update, once there were enough of them.
    """

    def __init__(self, parameters: Mapping[str, torch.nn.Parameter], decay: float) -> None:
        self._names = list(parameters)
        self._parameters: list[torch.Tensor] = list(parameters.values())
        self._decay = decay
        self._steps = 0
        self._values = self._copies()

    def update(self) -> None:
        """Take the parameters in, after an optimizer step."""
        self._steps += 1
        kept = min(self._decay, self._steps / (self._steps + 9)) if self._steps > 1 else 0.0
        torch._foreach_lerp_(self._values, [p.detach() for p in self._parameters], 1 - kept)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within the block the parameters hold the average."""
        kept = self._copies()
        self._put(self._values)
        try:
            yield
        finally:
            self._put(kept)

    def state(self) -> dict[str, torch.Tensor]:
        """The average by parameter name, as live tensors, and the number of updates."""
        values = dict(zip(self._names, self._values, strict=True))
        return {**values, STEPS: torch.tensor(self._steps, dtype=torch.int64)}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Put back what ``state`` took."""
        self._steps = int(state[STEPS])
        torch._foreach_copy_(self._values, [state[name] for name in self._names])

    def _copies(self) -> list[torch.Tensor]:
        return [parameter.detach().clone() for parameter in self._parameters]

    def _put(self, values: list[torch.Tensor]) -> None:
        with torch.no_grad():
            torch._foreach_copy_(self._parameters, values)
