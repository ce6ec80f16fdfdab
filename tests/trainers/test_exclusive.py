"""One run of an adapter at a time, and how it is asked to stop."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest
import torch

from lorareg.errors import InterruptedTrainingError, LoraregError
from lorareg.registry.ids import AssetId
from lorareg.trainers.cache import TensorCache
from lorareg.trainers.exclusive import exclusive, stop_on_signals, stoppable

ASSET = AssetId("style", "ink")


def test_a_second_run_of_the_same_adapter_is_refused(tmp_path: Path) -> None:
    with (
        exclusive(tmp_path / "runs" / "one", ASSET),
        pytest.raises(LoraregError, match="style/ink is being trained by another process"),
        exclusive(tmp_path / "runs" / "two", ASSET),
    ):
        pytest.fail("two runs at a time")


def test_what_a_killed_run_left_half_written_is_removed(tmp_path: Path) -> None:
    half = tmp_path / "run" / "checkpoints" / ".step-00000010.safetensors.0123456789abcdef.tmp"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"half a checkpoint")
    whole = half.with_name("step-00000005.safetensors")
    whole.write_bytes(b"a checkpoint")

    with exclusive(tmp_path / "run", ASSET):
        assert [path.name for path in half.parent.iterdir()] == [whole.name]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_a_request(number: signal.Signals) -> None:
    with stop_on_signals() as stop:
        before = stop()
        os.kill(os.getpid(), number)
        after = stop()

    assert (before, after) == (False, True)


def test_a_second_ctrl_c_stops_at_once() -> None:
    with stop_on_signals():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_encoding_stops_on_request_and_keeps_what_it_has(tmp_path: Path) -> None:
    asked, seen = threading.Event(), []
    tell = stoppable(lambda what, done, total: seen.append(done), asked)

    def encode(name: str) -> dict[str, torch.Tensor]:
        if name == "c":
            asked.set()
        return {"mean": torch.zeros(2)}

    keys = ["a", "b", "c", "d", "e"]
    cache = TensorCache(tmp_path, ("mean",))
    with pytest.raises(InterruptedTrainingError, match="stopped encoding pictures, 3 of 5 done"):
        cache.fill(keys, encode, lambda done, total: tell("encoding pictures", done, total))

    assert seen == [1, 2, 3]
    assert TensorCache(tmp_path, ("mean",)).missing(keys) == ["d", "e"]


def test_a_stop_when_all_is_encoded_waits_for_the_first_step() -> None:
    asked = threading.Event()
    asked.set()

    stoppable(lambda what, done, total: None, asked)("encoding pictures", 5, 5)
