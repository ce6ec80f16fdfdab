"""What known licences say: a small table by SPDX or Hub id, not legal advice.

Ids: https://spdx.org/licenses and https://huggingface.co/docs/hub/repositories-licenses. Which
share-alike licences may follow each other: https://creativecommons.org/share-your-work/licensing-
considerations/compatible-licenses, and section 13 of the GPL and AGPL, version 3.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

CC_VERSIONS = ("2.0", "2.5", "3.0", "4.0")
CC = re.compile(r"cc-by(-nc)?(-nd|-sa)?-(\d\.\d)(?:-[a-z]{2,4})?")
NOISE = re.compile(r"\b(the|licen[cs]e|version|public|creative commons)\b|[,()]")


@dataclass(frozen=True)
class Facts:
    """What a licence allows and asks for.

    Attributes:
        commercial: whether the work may be used for money.
        derivatives: whether something changed may be passed on.
        credit: whether the author must be named.
        onward: share-alike: ids that something made from it may be under; None is any.
        has_conditions: whether it has rules of use that must be passed on (OpenRAIL and its like).
    """

    commercial: bool = True
    derivatives: bool = True
    credit: bool = True
    onward: frozenset[str] | None = None
    has_conditions: bool = False


FREE, PLAIN = Facts(credit=False), Facts()
RULES, RESEARCH = Facts(has_conditions=True), Facts(commercial=False, has_conditions=True)
TABLE = {
    **dict.fromkeys(("cc0-1.0", "unlicense", "wtfpl", "pddl", "0bsd", "mit-0"), FREE),
    **dict.fromkeys(
        (
            "mit", "apache-2.0", "bsd", "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear",
            "isc", "zlib", "bsl-1.0", "ofl-1.1", "ncsa", "postgresql", "afl-3.0", "artistic-2.0",
            "ecl-2.0", "etalab-2.0", "odc-by", "cdla-permissive-1.0", "cdla-permissive-2.0",
            "openmdw-1.0",
        ),
        PLAIN,
    ),
    **dict.fromkeys(
        (
            "openrail", "openrail++", "creativeml-openrail-m", "bigscience-openrail-m",
            "bigcode-openrail-m", "bigscience-bloom-rail-1.0", "llama2", "llama3", "llama3.1",
            "llama3.2", "llama3.3", "llama4", "gemma",
        ),
        RULES,
    ),
    **dict.fromkeys(
        (
            "flux-1-dev-non-commercial-license", "deepfloyd-if-license", "apple-amlr",
            "fair-noncommercial-research-license", "h-research", "intel-research",
        ),
        RESEARCH,
    ),
}  # fmt: skip
ONWARD = {
    "gpl-2.0": ("gpl-2.0",),
    "gpl-2.0-or-later": ("gpl-2.0", "gpl-3.0", "agpl-3.0"),
    "gpl-3.0": ("gpl-3.0", "agpl-3.0"),
    "lgpl-2.1": ("lgpl-2.1", "gpl-2.0", "gpl-3.0"),
    "lgpl-3.0": ("lgpl-3.0", "gpl-3.0", "agpl-3.0"),
    "agpl-3.0": ("agpl-3.0",),
    "mpl-2.0": ("mpl-2.0", "lgpl-2.1", "lgpl-3.0", "gpl-2.0", "gpl-3.0", "agpl-3.0"),
    "osl-3.0": ("osl-3.0",),
    "odbl": ("odbl",),
    "cdla-sharing-1.0": ("cdla-sharing-1.0",),
}
ALIASES = {
    "apache": "apache-2.0", "apache-2": "apache-2.0", "cc0": "cc0-1.0", "odbl-1.0": "odbl",
    "pddl-1.0": "pddl", "odc-by-1.0": "odc-by", "bsd-3": "bsd-3-clause", "bsd-2": "bsd-2-clause",
    "gpl-2.0-only": "gpl-2.0", "gpl-2.0+": "gpl-2.0-or-later",
    "agpl-3.0-only": "agpl-3.0", "agpl-3.0-or-later": "agpl-3.0",
    "lgpl-3.0-only": "lgpl-3.0", "lgpl-3.0-or-later": "lgpl-3.0",
    "lgpl-2.1-only": "lgpl-2.1", "lgpl-2.1-or-later": "lgpl-2.1",
    "gpl-3.0-only": "gpl-3.0", "gpl-3.0-or-later": "gpl-3.0", "gplv3": "gpl-3.0",
}  # fmt: skip


def canonical(text: str) -> str:
    """The id that a licence is known by, however it is written.

    >>> canonical("CC BY-SA 4.0"), canonical("MIT License"), canonical("GPL-3.0-only")
    ('cc-by-sa-4.0', 'mit', 'gpl-3.0')
    """
    if (exact := text.strip().casefold()) in TABLE:
        return exact  # some ids have a word such as license within
    plain = re.sub(r"[\s_-]+", "-", NOISE.sub(" ", text.casefold()).strip()).strip("-")
    return ALIASES.get(plain, plain)


@cache
def facts(text: str) -> Facts | None:
    """What a licence says; None if it is not known here.

    >>> facts("CC BY-NC 4.0").commercial
    False
    """
    name = canonical(text)
    if name in ONWARD:
        return Facts(onward=frozenset(ONWARD[name]))
    found = CC.fullmatch(name)
    if not found or found[3] not in CC_VERSIONS:
        return TABLE.get(name)
    is_free, kind, version = found[1] is None, found[2], found[3]
    return Facts(
        commercial=is_free,
        derivatives=kind != "-nd",
        onward=_creative_commons(is_free, version) if kind == "-sa" else None,
    )


def _creative_commons(is_free: bool, version: str) -> frozenset[str]:
    """The same licence in this version or a later one; from BY-SA 4.0 on also the GPL."""
    later = CC_VERSIONS[CC_VERSIONS.index(version) :]
    names = {f"cc-by-{'' if is_free else 'nc-'}sa-{each}" for each in later}
    return frozenset(names | ({"gpl-3.0"} if is_free and version == "4.0" else set()))
