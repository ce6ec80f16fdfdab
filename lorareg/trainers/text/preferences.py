"""Learning which of two answers is better: direct preference optimization (arXiv 2305.18290).

The reference is the base alone, also where training starts from a parent adapter: what an adapter
may drift from is then the same for all its versions, and is recorded in the lock with the base.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812

from lorareg.registry.text_training import Preferences
from lorareg.trainers.cache import TensorCache, key
from lorareg.trainers.text.chat import TokenRow

FIELD = "loss"
Advance = Callable[[str, int, int], None]


def margins(losses: torch.Tensor, reference: torch.Tensor, beta: float) -> torch.Tensor:
    """How much more than the base the model prefers the chosen answer, in rewards, (pairs,).

    Args:
        losses: (2 * pairs,) summed negative log-likelihoods (nats), chosen and rejected in turn.
        reference: the same of the base.
        beta: reward of a nat.
    """
    gained = reference - losses
    return beta * (gained[0::2] - gained[1::2])


def pair_losses(
    losses: torch.Tensor, reference: torch.Tensor, tokens: torch.Tensor, settings: Preferences
) -> torch.Tensor:
    """Loss of each pair, (pairs,): -log sigmoid of its margin, and the chosen answer's own loss.

    Args:
        losses: as in ``margins``.
        reference: as in ``margins``.
        tokens: (pairs,) learned tokens of the chosen answers, over which their own loss is a mean.
        settings: beta and the weight of the chosen answer's own loss (arXiv 2404.19733).
    """
    found = -F.logsigmoid(margins(losses, reference, settings.beta))
    if settings.sft_weight:
        found = found + settings.sft_weight * losses[0::2] / tokens
    return found


class Pairs:
    """Pairs beside what the base alone thinks of them, asked once for each answer and kept.

    Args:
        folder: of the cache.
        identity: everything besides a row's tokens that the base's loss depends on.
        settings: of the manifest.
    """

    def __init__(self, folder: Path, identity: str, settings: Preferences) -> None:
        self._cache = TensorCache(folder, (FIELD,))
        self._identity = identity
        self._settings = settings
        self._reference: dict[str, torch.Tensor] = {}
        self._judged: dict[str, float] = {}

    def ask_the_base(
        self,
        rows: Iterable[TokenRow],
        loss: Callable[[TokenRow], torch.Tensor],
        advance: Advance,
    ) -> None:
        """Compute what is missing, one row at a time: in a batch its last bits could differ.

        Args:
            rows: every answer.
            loss: summed negative log-likelihood (nats) of a row by the base, (1,).
            advance: told what is done, how much of it, and of how much.
        """
        by_key = {self._key(row): row for row in rows}

        def compute(name: str) -> Mapping[str, torch.Tensor]:
            with torch.no_grad():
                return {FIELD: loss(by_key[name]).float().cpu()}

        names = list(by_key)
        self._cache.fill(
            names, compute, lambda done, total: advance("asking the base alone", done, total)
        )
        found = self._cache.get(names)
        self._reference = {name: value[FIELD] for name, value in zip(names, found, strict=True)}

    def losses(self, losses: torch.Tensor, rows: Sequence[TokenRow]) -> torch.Tensor:
        """Loss of each pair; see ``pair_losses``. Without gradients it is a pair to be judged."""
        names = [self._key(row) for row in rows]
        reference = torch.cat([self._reference[name] for name in names]).to(losses)
        tokens = torch.tensor([len(row.learned) for row in rows[0::2]]).to(losses)
        if not torch.is_grad_enabled():
            found = margins(losses, reference, self._settings.beta).tolist()
            self._judged |= dict(zip(names[0::2], found, strict=True))
        return pair_losses(losses, reference, tokens, self._settings)

    def measured(self) -> dict[str, float]:
        """Share of the judged pairs that the adapter gets right, and their mean margin."""
        found = list(self._judged.values())
        self._judged = {}
        if not found:
            return {}
        right = sum(margin > 0 for margin in found)
        return {"reward_accuracy": right / len(found), "reward_margin": sum(found) / len(found)}

    def _key(self, row: TokenRow) -> str:
        return key("reference loss 1", self._identity, row.ids, row.learned)
