"""The card's section on the dataset: its statistics as a few tables with bars."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

BAR = 24  # characters of the longest bar
MARKUP = frozenset("\\`*_{}[]<>()#|~&!$@:")


def markdown(statistics: Mapping[str, Any]) -> list[str]:
    """Lines of Markdown for the statistics that ``dataset.json`` holds."""
    if "pictures" in statistics:
        return _picture_lines(statistics)
    return _dialogue_lines(statistics)


def _picture_lines(found: Mapping[str, Any]) -> list[str]:
    length = found["caption_length"]
    facts = [f"{found['pictures']} pictures", f"{found['captions']} captions"]
    lines = [", ".join(facts + _removed(found)) + ".", ""]
    lines += _bars("shorter side, pixels", "pictures", found["shorter_side"])
    lines += _bars("aspect", "pictures", found["aspect"])
    if "median" in length:
        lines += [f"Caption length in {length['unit']}: {_spread_words(length)}.", ""]
    if found["top_terms"]:
        lines += _bars("term", "captions", found["top_terms"])
    return lines


def _dialogue_lines(found: Mapping[str, Any]) -> list[str]:
    answers, tokens = found["answers"], found.get("tokens")
    facts = [f"{found['dialogues']} dialogues"]
    facts += [f"{tokens['total']:,} tokens"] if tokens else []
    lines = [", ".join(facts + _removed(found)) + ".", ""]
    if tokens:
        lines += [f"Tokens a dialogue: {_spread_words(tokens)}.", ""]
        lines += _bars("tokens", "dialogues", tokens["histogram"])
    if answers["histogram"]:
        lines += _bars("answers", "dialogues", answers["histogram"])
    return lines


def _removed(found: Mapping[str, Any]) -> list[str]:
    count = found.get("duplicates_removed")
    return [] if count is None else [f"{count} duplicates removed"]


def _spread_words(spread: Mapping[str, int]) -> str:
    return (
        f"{spread['min']:,} to {spread['max']:,}, half up to {spread['median']:,}, "
        f"95 of 100 up to {spread['p95']:,}"
    )


def _bars(head: str, unit: str, counts: Sequence[Sequence[Any]]) -> list[str]:
    """A table with a bar a row; nothing if there is nothing."""
    if not counts:
        return []
    most = max(count for _, count in counts)
    rows = [
        f"| {_cell(name)} | {count:,} | {'█' * math.ceil(BAR * count / most)} |"
        for name, count in counts
    ]
    return [f"| {head} | {unit} | |", "| --- | ---: | :--- |", *rows, ""]


def _cell(text: str) -> str:
    """A caption's own words as plain text of a table, whatever Markdown or HTML is in them."""
    return "".join(f"&#{ord(c)};" if c in MARKUP else c for c in text)
