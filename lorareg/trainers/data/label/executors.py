"""Where pictures are labelled: in this process, or by workers of a Ray cluster.

Both do the same to the same batches, and hand the outcomes back in the same order.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lorareg.errors import InvalidFileError, LoraregError
from lorareg.trainers.data.label import models
from lorareg.trainers.data.label.batches import Picture, Said, label
from lorareg.trainers.data.label.captioner import Asking, Model
from lorareg.trainers.runs import ray_cluster

Batches = Sequence[Sequence[Picture]]
Executor = Callable[[Model, Asking, Batches, int | None], Iterator[list[Said]]]

# Pictures travel as bytes, since other machines have other disks. So many of them are handed to the
# cluster at a time: its memory stays bounded, and the model is loaded anew for each such load.
LOAD_BYTES = 1 << 30


def local(
    model: Model, asking: Asking, batches: Batches, workers: int | None
) -> Iterator[list[Said]]:
    """One batch after another, in this process."""
    if workers not in (None, 1):
        raise LoraregError(
            f"--workers {workers} needs a cluster",
            why="one process labels alone; the model uses all cores or the GPU by itself",
            fix="add --executor ray, or leave --workers out",
        )
    captioner = models.load(model, asking)
    for batch in batches:
        yield label(captioner, batch)


def over_ray(
    model: Model, asking: Asking, batches: Batches, workers: int | None
) -> Iterator[list[Said]]:
    """Map the batches over a Ray Data dataset, with a pool of workers that load the model once.

    A cluster is found through ``RAY_ADDRESS``; without it Ray is started on this machine for as
    long as it takes. Every worker needs lorareg, and the model: from the Hub, or at the same path.

    Args:
        model: to label with.
        asking: how it is asked.
        batches: of pictures on this machine.
        workers: how many; None takes one a GPU, or one a machine where there is none.

    Raises:
        LoraregError: Ray is not installed, or a worker failed; its own words are given.
    """
    ray = ray_cluster.import_ray()
    with _cluster(ray), _explained(ray):
        pool = _pool(ray, workers)
        for load in loads(batches):
            rows = [
                {"names": [p.name for p in batch], "data": [p.path.read_bytes() for p in batch]}
                for batch in load
            ]
            dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
                Worker, fn_constructor_args=(model.source, model.name, asking), **pool
            )
            for row in dataset.iter_rows():
                yield [Said(**said) for said in json.loads(row["said"])]


EXECUTORS: Mapping[str, Executor] = {"local": local, "ray": over_ray}


class Worker:
    """One process of the cluster: it finds and loads the model, then labels batch after batch."""

    def __init__(self, source: str, name: str, asking: Asking) -> None:
        model = models.locate(source)
        if model.name != name:
            raise InvalidFileError(
                f"a worker has another model at {source}",
                why=f"it is {model.name} there, and {name} where the command was given",
                fix="copy the model to every machine, or name it by its Hub id",
            )
        self._captioner = models.load(model, asking)

    def __call__(self, row: dict[str, Any]) -> dict[str, str]:
        """Label a row: ``names`` and ``data``, the bytes of as many picture files."""
        with tempfile.TemporaryDirectory() as folder:
            pictures = []
            for number, (name, data) in enumerate(zip(row["names"], row["data"], strict=True)):
                path = Path(folder, str(number))
                path.write_bytes(data)
                pictures.append(Picture(str(name), path))
            return {"said": json.dumps([asdict(said) for said in label(self._captioner, pictures)])}


def loads(batches: Batches) -> Iterator[list[Sequence[Picture]]]:
    """Batches, so many at a time that their files have at most ``LOAD_BYTES`` together."""
    load: list[Sequence[Picture]] = []
    size = 0
    for batch in batches:
        more = sum(picture.path.stat().st_size for picture in batch)
        if load and size + more > LOAD_BYTES:
            yield load
            load, size = [], 0
        load.append(batch)
        size += more
    if load:
        yield load


def _pool(ray: Any, workers: int | None) -> dict[str, Any]:
    """Size of the pool, and what of a machine each worker has to itself."""
    count, share = ray_cluster.shares(ray_cluster.machines(ray), workers)
    return {"compute": ray.data.ActorPoolStrategy(size=count), **share}


@contextmanager
def _cluster(ray: Any) -> Iterator[None]:
    """Ray, quiet and in order; what is started here is stopped here."""
    is_ours = ray_cluster.join(ray)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    try:
        yield
    finally:
        if is_ours:
            ray.shutdown()


@contextmanager
def _explained(ray: Any) -> Iterator[None]:
    try:
        yield
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, LoraregError):
            raise cause from error
        raise LoraregError(
            "a Ray worker failed",
            why=ray_cluster.last_words(error),
            fix="mend it on the worker's machine, then run the command again: what is labelled "
            "stays; --executor local labels here",
        ) from error
