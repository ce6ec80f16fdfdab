"""Training on several devices: ``accelerate launch`` runs one command in every process.

The processes find each other by what the launcher puts into their environment (``ranks``), so the
command is that of a single process.
"""

from __future__ import annotations

import logging
import os
import signal
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from contextlib import redirect_stderr
from io import StringIO
from subprocess import CalledProcessError

from lorareg.errors import LoraregError

LOGS = (
    "accelerate.commands.launch",
    "torch.distributed.elastic.agent.server.api",
    "torch.distributed.elastic.multiprocessing.api",
)


def launch(command: Sequence[str], options: Sequence[str]) -> int:
    """Run one training in several processes, and wait for it.

    A first Ctrl-C or SIGTERM is passed on to them: they have 30 seconds to end their step and save.

    Args:
        command: what each process gets to do, without this option: ``["train", "style/ink"]``. One
            adapter, and nothing that changes the manifest: every process would do it.
        options: of ``accelerate launch``: ``["--num_processes", "2"]``.

    Returns:
        Exit status of the first process: the others have nothing to say.

    Raises:
        LoraregError: the launcher has no such option; nothing was started.
    """
    import torch.distributed.run  # noqa: F401  (sets the level of its logs, so it comes first)
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    for name in LOGS:
        logging.getLogger(name).setLevel(logging.CRITICAL)  # the processes speak for themselves
    arguments = _parsed(launch_command_parser(), [*options, "-m", "lorareg", *command])
    _allow_processors(arguments)
    try:
        launch_command(arguments)
    except SignalException:
        return 128 + signal.SIGINT
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        return _status(failure.exitcode)
    except CalledProcessError as error:
        return _status(error.returncode)
    return 0


def _parsed(parser: ArgumentParser, words: Sequence[str]) -> Namespace:
    """What the launcher reads; of what it refuses its last line, not the pages before."""
    said = StringIO()
    try:
        with redirect_stderr(said):
            return parser.parse_args(words)
    except SystemExit as error:
        if not error.code:
            raise  # it was asked for --help
        _, _, why = said.getvalue().rstrip().rpartition("\n")
        raise LoraregError(
            "--launch has options that accelerate does not take",
            why=why.partition("error: ")[2] or why,
            fix="--launch '--num_processes 2'; accelerate launch --help lists them all",
        ) from error


def _allow_processors(arguments: Namespace) -> None:
    """Have several processes on CPUs too.

    accelerate starts them through MPI alone, and without it one process, whatever number was asked
    for. The launcher it has for GPUs needs no GPU.
    """
    import torch

    several = (arguments.num_processes or 1) > 1 and not arguments.mpirun_hostfile
    if several and (arguments.cpu or not torch.accelerator.is_available()):
        arguments.cpu, arguments.use_cpu, arguments.multi_gpu = False, True, True
        os.environ["ACCELERATE_USE_CPU"] = "true"


def _status(code: int) -> int:
    """As a shell says it: a process that a signal ended has 128 and its number."""
    return 128 - code if code < 0 else code
