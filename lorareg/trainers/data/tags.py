"""Captions that are lists of tags, in other orders and with tags left out.

A few variants of each caption are drawn before training, so that the cache of embeddings holds all
that a run can ask for; a step then chooses among them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from lorareg.registry.image_training import Tags
from lorareg.trainers.core.randomness import Draws


def variants(caption: str, tags: Tags, seed: int) -> tuple[str, ...]:
    """The texts that a caption may stand as while training, ``tags.variants`` of them.

    They depend on the seed, the settings and the caption alone, so equal captions share them. The
    first ``keep_first`` tags stay; of the others each is left out by chance, but one tag always
    stays; what is left is shuffled. A caption without the separator stays as it is.

    >>> variants("ink, a man, standing", Tags(variants=3), seed=1)
    ('ink, standing, a man', 'ink, a man, standing', 'ink, standing, a man')
    """
    named = [tag for part in caption.split(tags.separator) if (tag := part.strip())]
    if len(named) < 2:
        return (caption,)
    draws = Draws(seed).at("tags", caption)
    drawn = (_variant(named, tags, draws.generator(k)) for k in range(tags.variants))
    as_written = list(range(len(named)))
    joint = _joint(caption, tags.separator)
    return tuple(
        caption if chosen == as_written else joint.join(named[i] for i in chosen)
        for chosen in drawn
    )


def _variant(named: Sequence[str], tags: Tags, generator: np.random.Generator) -> list[int]:
    """Which tags, in which order."""
    kept, others = np.split(np.arange(len(named)), [tags.keep_first])
    left = others[generator.random(len(others)) >= tags.dropout]
    if not len(left) and not len(kept):
        left = generator.choice(others, 1)
    if tags.shuffle:
        left = generator.permutation(left)
    return [int(i) for i in (*kept, *left)]


def _joint(caption: str, separator: str) -> str:
    """The separator as the caption first writes it: with spaces around it or without."""
    found = re.search(rf"\s*{re.escape(separator)}\s*", caption)
    return found.group() if found else separator
