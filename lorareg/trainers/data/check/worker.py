"""A process that measures pictures: lists of paths come in, what was found goes out, in lines.

It is no multiprocessing worker: those load the program's main module again (the whole command
line, in every process), hand over pickles, and do not say on which picture one of them died.
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

from lorareg.errors import InvalidFileError
from lorareg.trainers.data.check.probe import Facts, probe

READY = b"ready\n"


def answer(path: Path) -> str:
    """Facts or the reason why there are none, as one line of JSON."""
    try:
        return facts_line(probe(path))
    except InvalidFileError as error:
        unread = isinstance(error.__cause__, OSError) and error.__cause__.errno is not None
        return broken(error.why, lasting=not unread)


def facts_line(facts: Facts) -> str:
    """The answer on a picture that can be decoded."""
    return json.dumps({"facts": facts.document()})


def broken(why: str, *, lasting: bool) -> str:
    """The answer on a broken picture.

    Args:
        why: the reason.
        lasting: whether it lies in the bytes: not if the disk failed, or permission is missing.
    """
    return json.dumps({"broken": why, "lasting": lasting})


def main() -> None:
    """Answer until the input ends, which it also does when the parent is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent ends this one
    sys.stdout.buffer.write(READY)
    sys.stdout.buffer.flush()
    for line in sys.stdin.buffer:
        for path in json.loads(line):
            sys.stdout.buffer.write(answer(Path(path)).encode() + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
