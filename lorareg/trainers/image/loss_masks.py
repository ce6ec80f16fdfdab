"""From a mask at latent resolution to the weights of a loss."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from lorareg.errors import InvalidFileError, listed
from lorareg.trainers.image.latents import View


def weights(mask: torch.Tensor, outside: float) -> torch.Tensor:
    """Weight of the loss at each latent pixel, of mean 1, so that a picture counts as any other.

    kohya's scripts multiply by the mask and leave it at that: a mask of a tenth of the picture is
    then a tenth of its gradient. OneTrainer offers both (``normalize_masked_area_loss``).

    Args:
        mask: (1, h, w), from 0 to 1, not all 0.
        outside: weight where it is 0.
    """
    weight = outside + (1 - outside) * mask
    return weight / weight.mean()


def refuse_black(masks: Mapping[View, Mapping[str, torch.Tensor]]) -> None:
    """Refuse pictures of which nothing would be learned.

    Raises:
        InvalidFileError: their masks are black all over the part that is trained on; all are named.
    """
    black = {view.picture.id for view, value in masks.items() if not value["mask"].any()}
    if black:
        raise InvalidFileError(
            f"{len(black)} mask{'s are' if len(black) > 1 else ' is'} all black",
            why="nothing would be learned of\n" + listed(sorted(black), limit=100),
            fix="paint white what is to be learned, or leave the pictures out: dataset.skip",
        )
