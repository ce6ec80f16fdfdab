"""What a model said, made into a caption: tidied, in the vocabulary's words, put beside others."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lorareg.trainers.data.vocabulary.matching import contains

COMMAS = re.compile(r"[,，、;；]")
SENTENCE_END = re.compile(r"[.!?](?=\s|$)|[。！？]")


def tidy(text: str) -> str:
    r"""On one line, single spaces, nothing that cannot be printed or was cut inside a character.

    >>> tidy(" a  red\nball\x00. ")
    'a red ball .'
    """
    printable = "".join(c if c.isprintable() and c != "\ufffd" else " " for c in text)
    return " ".join(printable.split())


def whole(text: str) -> str:
    """The part of a cut text that says something whole: sentences, else phrases, else all of it.

    >>> whole("A red ball. It lies on a gr")
    'A red ball.'
    >>> whole("red ball, green gr")
    'red ball'
    """
    for ends in (SENTENCE_END, COMMAS):
        if found := list(ends.finditer(text)):
            last = found[-1]
            return text[: last.end() if ends is SENTENCE_END else last.start()].strip()
    return text


def joined(*parts: str) -> str:
    """Parts of a caption one after another, none twice.

    >>> joined("zhangsan", "a man, smiling", "smiling, red coat")
    'zhangsan, a man, smiling, red coat'
    >>> joined("A man smiles.", "A red coat, on a hook.")
    'A man smiles. A red coat, on a hook.'
    """
    caption = ""
    for part in parts:
        caption = _with(caption, part)
    return caption


def _with(caption: str, more: str) -> str:
    """A caption with more behind it; what stands there already stays to the letter."""
    head, addition = caption.strip(), more.strip()
    if not head or not addition or contains(head, addition):
        return head or addition
    if not SENTENCE_END.search(addition):  # tags: each is said once; a sentence keeps its commas
        new = [phrase for phrase in phrases(addition) if not contains(head, phrase)]
        addition = addition if len(new) == len(phrases(addition)) else ", ".join(new)
    if not addition:
        return head
    if SENTENCE_END.search(head[-1]):
        return f"{head} {addition}"
    return f"{head}{' ' if COMMAS.search(head[-1]) else ', '}{addition}"


def phrases(caption: str) -> Sequence[str]:
    """What stands between commas, Chinese ones too.

    >>> phrases("张三，红色外套, 微笑")
    ['张三', '红色外套', '微笑']
    """
    return [phrase.strip() for phrase in COMMAS.split(caption) if phrase.strip()]
