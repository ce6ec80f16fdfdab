"""A Ray cluster: found or started, and shared out. Ray itself is an extra."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

from lorareg.errors import LoraregError


def import_ray() -> Any:
    """Ray, with Ray Data.

    Raises:
        LoraregError: it is not installed.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise LoraregError(
            "--executor ray needs Ray, which is not installed",
            why=str(error),
            fix="pip install 'lorareg[ray]' on every machine of the cluster",
        ) from error
    return ray


def join(ray: Any) -> bool:
    """Enter the cluster of ``RAY_ADDRESS``, or start one on this machine, quietly.

    Returns:
        Whether the cluster was entered here, so that whoever called ends it.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
    if ray.is_initialized():
        return False
    ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    return True


def machines(ray: Any) -> list[Mapping[str, float]]:
    """What each machine of the cluster has, by Ray's names: CPU, GPU."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def shares(
    machines: Sequence[Mapping[str, float]], jobs: int | None
) -> tuple[int, dict[str, float]]:
    """How many pieces of work at a time, and what of a machine each has to itself.

    >>> shares([{"CPU": 8.0}], 2)
    (2, {'num_cpus': 4})
    >>> shares([{"CPU": 8.0, "GPU": 2.0}], None)
    (2, {'num_gpus': 1.0, 'num_cpus': 1})
    """
    gpus = int(sum(machine.get("GPU", 0) for machine in machines))
    slots = jobs or gpus or len(machines)
    if gpus:
        return slots, {"num_gpus": min(1.0, gpus / slots), "num_cpus": 1}
    cores = int(min(machine.get("CPU", 1) for machine in machines))
    return slots, {"num_cpus": max(1, cores // -(-slots // len(machines)))}


def last_words(error: Exception) -> str:
    """What a task said at its end: the last line of a remote traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:300]
