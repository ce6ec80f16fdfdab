"""Questions with answers in pirate talk, and what is held out to measure the tone with.

The pairs come from ``chatterbot-corpus``: picked, mended and shortened by hand in
``tone_train.jsonl`` and ``tone_heldout.jsonl``, which keep the corpus' own words beside the edited
ones. ``arrr`` turns the edited answers into pirate talk.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cache
from importlib.resources import files
from pathlib import Path

from lorareg.errors import InvalidFileError, listed
from tools.samples.captions import jsonl

HERE = Path(__file__).parent

PHRASES: Sequence[str] = (
    *("batten down the hatches!", "splice the mainbrace!", "thar she blows!", "arrr!"),
    *("weigh anchor and hoist the mizzen!", "savvy?", "blimey!", "blow me down!", "avast ye!"),
    *("yo ho ho.", "shiver me timbers!", "blisterin' barnacles!", "thundering typhoons!"),
)
"""Exclamations of arrr that may stand after a sentence."""

UNWELCOME: Sequence[str] = (
    *("dead men", "dead man's", "cleave him", "of rum", "nincompoop", "sling yer hook"),
    *("foul blaggart", "fleabag", "scallywag", "scurvy", "grog", "pillage", "proud beauty"),
)
"""Words of arrr that do not belong into a family-friendly sample."""

MARKERS: Sequence[str] = (
    *("ye", "yer", "yers", "th'", "thar", "whar", "aye", "nay", "arr", "arrr", "ahoy", "avast"),
    *("matey", "mateys", "me hearty", "me hearties", "m'hearty", "laddy", "lassie", "landlubber"),
    *("cap'n", "parley", "doubloons", "shanty", "barnacle", "barnacles", "briney", "smartly"),
    *("blimey", "savvy", "yo ho ho", "yo-ho-ho", "shiver me timbers", "blow me down"),
    *("splice the mainbrace", "batten down the hatches", "weigh anchor", "typhoons"),
    *("it be", "that be", "this be", "he be", "she be", "what be", "who be", "how be"),
)
"""What counts as pirate talk, lower case. A bare ``be`` is not among them: ordinary English is full
of it ("can be", "to be"), so it counts only after a word it does not follow there."""

MARKER = re.compile(
    r"(?<![\w'])(?:"
    + "|".join(sorted(map(re.escape, MARKERS), key=len, reverse=True))
    + r")(?!\w)",
    re.IGNORECASE,
)
"""Finds every marker that stands as a word of its own; the count over the number of words is the
marker rate that tells a pirate from anyone else."""

LEAST_MARKERS = 2
"""Every answer has at least so many, so that no row teaches ordinary English."""

ALIKE = 0.8
"""Two questions whose letters agree to this share count as the same question."""


@dataclass(frozen=True)
class Pair:
    """A question and its answer in plain English, and the corpus entry they were edited from."""

    topic: str
    asked: str
    replied: str
    question: str
    answer: str


def read_pairs(name: str) -> list[Pair]:
    """The edited pairs of ``tone_NAME.jsonl``, in the file's order."""
    lines = (HERE / f"tone_{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [Pair(**json.loads(line)) for line in lines]


def read_questions() -> list[str]:
    """Everyday questions without an answer, one a line."""
    return (HERE / "tone_questions.txt").read_text(encoding="utf-8").splitlines()


def check_pairs(pairs: Iterable[Pair]) -> None:
    """Refuse a pair that the installed ``chatterbot-corpus`` does not hold.

    Raises:
        InvalidFileError: naming every such pair.
    """
    problems = [
        f"{pair.topic}: {pair.asked} / {pair.replied}"
        for pair in pairs
        if (pair.asked, pair.replied) not in corpus_entries(pair.topic)
    ]
    if problems:
        raise InvalidFileError("not in chatterbot-corpus", why=listed(problems))


@cache
def corpus_entries(topic: str) -> set[tuple[str, str]]:
    """Every (question, reply) of one English topic, line breaks in replies folded."""
    import yaml

    document = files("chatterbot_corpus").joinpath("data", "english", f"{topic}.yml")
    talks = yaml.safe_load(document.read_text(encoding="utf-8"))["conversations"]
    return {
        (str(first), " ".join(str(reply).split()))
        for first, *replies in (talk for talk in talks if isinstance(talk, list))
        for reply in replies
    }


def markers(text: str) -> list[str]:
    """The pirate markers of ``text``, in order.

    >>> markers("Aye, th' sea be deep, and it be cold. To be or not to be?")
    ['Aye', "th'", 'it be']
    >>> markers("The captain may be there.")
    []
    """
    return MARKER.findall(text)


def pirate(answer: str) -> str:
    """``answer`` in pirate talk: the same for the same answer, with ``LEAST_MARKERS`` or more.

    arrr throws dice for its exclamations and knows only bare words, so the dice are loaded with
    the answer itself and punctuation is set apart meanwhile.

    >>> pirate("You are my friend, and the sea is there.")
    "Ye be me m'hearty, and th' briney deep be thar."

    Raises:
        InvalidFileError: when the answer gives arrr nothing to work on.
    """
    import arrr  # type: ignore[import-untyped]

    words = re.sub(r"([.,!?;:])(?=\s|$)", r" \1", answer)
    with dice_kept():
        for attempt in range(1000):
            random.seed(f"{answer} {attempt}")
            text = re.sub(r" ([.,!?;:])", r"\1", arrr.translate(words))
            if is_pirate(text):
                return text
    raise InvalidFileError(f"no pirate would say: {answer}", fix="use you, the, is, are, my, there")


def is_pirate(text: str) -> bool:
    """Whether ``text`` is clearly piratical, fit for a family, and not all exclamations."""
    lower = text.lower()
    exclamations = sum(lower.count(phrase) for phrase in PHRASES)
    return (
        len(markers(text)) >= LEAST_MARKERS
        and exclamations <= 1
        and not any(word in lower for word in UNWELCOME)
    )


@contextmanager
def dice_kept() -> Iterator[None]:
    """Leave Python's shared random generator as it was found."""
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)


def is_near_duplicate(one: str, other: str) -> bool:
    """Whether two questions are the same but for case, punctuation or a word.

    >>> is_near_duplicate("Tell me a joke.", "tell me a joke")
    True
    >>> is_near_duplicate("What grows from an acorn?", "What is an acorn?")
    False
    """
    first, second = (re.sub(r"[^a-z0-9 ]", "", text.lower()) for text in (one, other))
    return SequenceMatcher(None, first, second, autojunk=False).ratio() >= ALIKE


def seen_questions(unseen: Iterable[str], train: Iterable[str]) -> list[str]:
    """Those of ``unseen`` that ``train`` asks too, near duplicates included."""
    asked = list(train)
    return [one for one in unseen if any(is_near_duplicate(one, other) for other in asked)]


def conversation(pair: Pair) -> dict[str, list[dict[str, str]]]:
    """One training row in the ``messages`` form."""
    return {
        "messages": [
            {"role": "user", "content": pair.question},
            {"role": "assistant", "content": pirate(pair.answer)},
        ]
    }


def train_files() -> dict[str, bytes]:
    """The training set, topics mixed by a fixed seed."""
    pairs = read_pairs("train")
    check_pairs(pairs)
    random.Random("tone_pirate").shuffle(pairs)
    return {"train.jsonl": jsonl([conversation(pair) for pair in pairs])}


def heldout_files() -> dict[str, bytes]:
    """What measures the tone: pairs for perplexity, questions and markers for the marker rate.

    Raises:
        InvalidFileError: when a held-out question is asked in training too.
    """
    pairs, questions = read_pairs("heldout"), read_questions()
    check_pairs(pairs)
    unseen = [pair.question for pair in pairs] + questions
    seen = seen_questions(unseen, [pair.question for pair in read_pairs("train")])
    if seen:
        raise InvalidFileError("held-out questions are asked in training", why=listed(seen))
    return {
        "heldout.jsonl": jsonl([conversation(pair) for pair in pairs]),
        "questions.txt": "".join(f"{question}\n" for question in questions).encode(),
        "markers.txt": "".join(f"{marker}\n" for marker in MARKERS).encode(),
    }
