"""What a training step costs: ours, diffusers' and PEFT's, TRL's, taking turns in one process."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import training_image, training_start, training_turns
from benchmarks.training_image import CACHED, EXAMPLE, OURS, Race

STEPS_ALONE = 5


def main() -> None:
    """Print the tables, or run one contestant by itself."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as scratch:
        work = arguments.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        _MODES[arguments.mode](arguments, work)


def image(arguments: argparse.Namespace, work: Path) -> None:
    """Steps of a UNet of Stable Diffusion 1.5's shapes."""
    for px in arguments.px:
        for dtype in arguments.dtype:
            race = Race(work, px, dtype, arguments.threads)
            if arguments.alone:
                make = partial(training_image.by_itself, race, arguments.alone)
                training_turns.alone(make, STEPS_ALONE)
                continue
            training_turns.machine(race.threads)
            print(f"{px} px, batch 2, rank 16, {dtype}; median of {arguments.rounds}\n")
            mine, them = training_image.contestants(race)
            found = training_turns.take_turns(them, arguments.rounds)
            training_turns.table(found, OURS)
            unlearned, exact = mine.unlearned(), None
            if dtype == "bf16":
                exact = training_image.in_float32(race, len(unlearned))
            print(f"\n{training_image.agreement(found, unlearned, exact)}")


def text(arguments: argparse.Namespace, work: Path) -> None:
    """Steps of SmolLM2-135M."""
    from benchmarks import training_text

    for rows in arguments.rows:
        for dtype in arguments.dtype:
            race = training_text.TextRace(work, rows, dtype, arguments.threads)
            if arguments.alone:
                name = arguments.alone
                make = partial(training_text.by_itself, race, name, STEPS_ALONE)
                training_turns.alone(make, STEPS_ALONE)
                continue
            training_turns.machine(race.threads)
            length, batch = training_text.LENGTH[rows], training_text.BATCH[rows]
            print(
                f"{rows} rows of up to {length} tokens, batch {batch}, rank 16, {dtype}; ", end=""
            )
            print(f"median of {arguments.rounds}\n")
            them, tokens = training_text.contestants(race, arguments.rounds)
            found = training_turns.take_turns(them, arguments.rounds)
            training_turns.table(found, training_text.OURS, tokens)
            print(f"\n{training_text.agreement(found, dtype)}")


def start(arguments: argparse.Namespace, work: Path) -> None:
    """The way to the first step with everything cached."""
    for px in arguments.px:
        for dtype in arguments.dtype:
            training_turns.machine(arguments.threads)
            print(f"{px} px, {dtype}; median of {arguments.rounds}")
            found = training_start.warm_starts(work, px, dtype, arguments.threads, arguments.rounds)
            training_start.table(found)


def memory(arguments: argparse.Namespace, work: Path) -> None:
    """Memory of each contestant in a process of its own, with warm caches."""
    for px in arguments.px:
        for dtype in arguments.dtype:
            training_image.ours(Race(work, px, dtype, arguments.threads))
            training_turns.machine(arguments.threads)
            print(f"{px} px, {dtype}")
            given = f"--px {px} --dtype {dtype} --threads {arguments.threads} --work {work}".split()
            commands = {
                name: ["image", *given, "--alone", name] for name in (EXAMPLE, CACHED, OURS)
            }
            training_turns.memory_table(training_turns.in_processes(commands))


_MODES: dict[str, Callable[[argparse.Namespace, Path], None]] = {
    "image": image,
    "text": text,
    "start": start,
    "memory": memory,
}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mode", choices=[*_MODES])
    parser.add_argument("--px", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--dtype", nargs="+", choices=["fp32", "bf16"], default=["fp32", "bf16"])
    parser.add_argument("--rows", nargs="+", choices=["full", "ragged"], default=["full", "ragged"])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, help="keep base and caches here: 4.4 GB")
    parser.add_argument("--alone", help="one contestant, in this process")
    return parser.parse_args()


if __name__ == "__main__":
    main()
