"""Many pictures measured: in parallel, each content once, and never again while it is the same."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from lorareg.registry.memory import Memory
from lorareg.trainers.data.check import alike
from lorareg.trainers.data.check.probe import PROBE, Facts, tint
from lorareg.trainers.data.check.worker import answer, facts_line
from lorareg.trainers.data.check.workers import Outcome, measuring

WORTH_PROCESSES = 32  # pictures; starting two processes takes as long as measuring about as many
SAVED_EVERY = 500  # pictures, which an interrupted check does not measure again


def probe_all(
    files: Mapping[str, Path],
    digests: Mapping[str, str],
    cache: Path | None,
    advance: Callable[[int], None],
) -> tuple[dict[str, Facts], dict[str, str]]:
    """Measure pictures, or remember what was measured of the same bytes.

    Args:
        files: name -> where the picture is.
        digests: name -> digest of the file; two files of one content are measured once.
        cache: SQLite file that remembers, by content and ``PROBE``; None remembers nothing.
        advance: told of the pictures done.

    Returns:
        Facts by name, and the reason by name of each broken picture.

    Raises:
        LoraregError: processes cannot be started.
    """
    memory = Memory(cache, f"probe_{PROBE}", "digest", "answer")
    named: dict[str, list[str]] = {}
    for name in files:
        named.setdefault(digests[name], []).append(name)
    pictures = {digest: files[names[0]] for digest, names in named.items()}
    found: dict[str, Facts] = {}
    broken: dict[str, str] = {}
    for digest, line in _answers(pictures, memory):
        answered = json.loads(line)
        if "facts" in answered:
            found[digest] = Facts.of(answered["facts"])
        else:
            broken.update(dict.fromkeys(named[digest], answered["broken"]))
        advance(len(named[digest]))
    found.update(_tinted(found, pictures, memory))
    facts = {
        name: found[digest] for digest, names in named.items() for name in names if digest in found
    }
    return facts, broken


def _tinted(
    found: Mapping[str, Facts], pictures: Mapping[str, Path], memory: Memory
) -> dict[str, Facts]:
    """Facts with colours, of the few pictures whose hash is close to another's."""
    wanted = [
        digest for group in alike.suspects(found) for digest in group if found[digest].tint is None
    ]
    with _quiet_threads() as pool:
        tints = pool.map(tint, [pictures[digest] for digest in wanted])
        tinted = {d: replace(found[d], tint=its) for d, its in zip(wanted, tints, strict=True)}
    memory.remember({digest: facts_line(facts) for digest, facts in tinted.items()})
    return tinted


def _answers(pictures: Mapping[str, Path], memory: Memory) -> Iterator[Outcome]:
    """Digest and line of JSON of every picture; new ones are remembered as they come."""
    known = memory.recall(pictures)
    yield from known.items()
    learned: dict[str, str] = {}
    try:
        with _measured({d: path for d, path in pictures.items() if d not in known}) as outcomes:
            for digest, line in outcomes:
                if '"lasting": false' not in line:
                    learned[digest] = line
                yield digest, line
                if len(learned) == SAVED_EVERY:
                    memory.remember(learned)
                    learned.clear()
    finally:
        memory.remember(learned)


@contextmanager
def _measured(pictures: Mapping[str, Path]) -> Iterator[Iterator[Outcome]]:
    if len(pictures) >= WORTH_PROCESSES:
        with measuring(pictures, _cores()) as outcomes:
            yield outcomes
        return
    with _quiet_threads() as pool:
        yield zip(pictures, pool.map(answer, pictures.values()), strict=True)


@contextmanager
def _quiet_threads() -> Iterator[ThreadPoolExecutor]:
    """Threads in which Pillow does not warn; filters are of the process, so set around them."""
    with warnings.catch_warnings(), ThreadPoolExecutor(_cores()) as pool:
        warnings.simplefilter("ignore")
        yield pool


def _cores() -> int:
    """Cores that this process may use, which in a container are not all there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
