"""The report as one HTML file: no script, no address, nothing that is fetched."""

from __future__ import annotations

import re
from importlib import resources
from typing import Any

from lorareg.trainers.report.composition import curve
from lorareg.trainers.report.composition.absent import Absent
from lorareg.trainers.report.composition.curve import size_words
from lorareg.trainers.report.composition.sheet import Sheet
from lorareg.weights.conflict import Conflicts, Meeting, Overlap

HOTTEST = 0.5  # share of a change; above it the colour stays the same
STRONGEST = 0.65  # opacity of that colour: text stays readable on it in light and dark
HAN = re.compile("[\u3400-\u9fff\uf900-\ufaff]")


def render(sheet: Sheet) -> str:
    """The page; every text of people, files and models is escaped."""
    import jinja2

    source = resources.files("lorareg.trainers.report.composition").joinpath("page.html")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.tests["absent"] = lambda value: isinstance(value, Absent)
    environment.filters |= {
        "size": size_words,
        "heat": _heat,
        "lang": _language,
        "plain": _plain,
        "zip": zip,
    }
    template = environment.from_string(source.read_text(encoding="utf-8"))
    return template.render(sheet=sheet, panels=_panels(sheet.report.conflicts), drawing=curve)


def _panels(conflicts: Conflicts | None) -> list[dict[str, Any]]:
    """Pairs by blocks, for what is written alike and what is read alike."""
    if conflicts is None or not conflicts.pairs:
        return []
    return [
        {
            "title": title,
            "blocks": conflicts.blocks,
            "rows": [
                {
                    "names": (conflicts.names[pair.one], conflicts.names[pair.other]),
                    "pair": pair,
                    "unjudged": side == "input" and pair.has_common_start,
                    "whole": getattr(pair.whole, side),
                    "cells": [_side(pair.blocks.get(block), side) for block in conflicts.blocks],
                }
                for pair in conflicts.pairs
            ],
        }
        for side, title in (("output", "Written alike"), ("input", "Read alike"))
    ]


def _side(met: Meeting | None, side: str) -> Overlap | None:
    return None if met is None else getattr(met, side)


def _heat(share: float) -> str:
    """Opacity of a cell's colour."""
    return f"{STRONGEST * min(share / HOTTEST, 1):.2f}"


def _language(text: str) -> str:
    """What fonts are to be chosen for: Chinese has its own forms of shared characters."""
    return "zh" if HAN.search(text) else "en"


def _plain(value: Any, key: str) -> str:
    """A term in words; what is None depends on the term."""
    if value is None:
        return "never" if key == "expires" else "any"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(value) or "none" if isinstance(value, list) else str(value)
