"""Where and how precisely a run computes."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lorareg.trainers.core.task import Kernels, Runtime
from lorareg.trainers.machine import runtime
from lorareg.trainers.machine.probe import Work

SMALL = Work(width=16, rows=4, convolves=False)

on_cpu = pytest.mark.skipif(torch.cuda.is_available(), reason="on CUDA nothing is measured")


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """These tests set what belongs to the whole process."""
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(strict)


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", "float32"), ("bf16", "bfloat16")])
def test_a_precision_that_was_chosen_is_taken(tmp_path: Path, precision: str, dtype: str) -> None:
    found = runtime.choose(precision, tmp_path)

    assert (found.dtype, found.cache) == (dtype, tmp_path)


def test_threads_are_those_asked_for(tmp_path: Path) -> None:
    found = runtime.choose("fp32", tmp_path, threads=2)

    assert found.threads == torch.get_num_threads() == 2


@on_cpu
def test_auto_is_measured_once_and_then_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)

    first = runtime.choose("auto", tmp_path, 1, None, SMALL)
    kept = json.loads((tmp_path / "precision.json").read_text())
    ((measured, choice),) = kept.items()
    other = "bfloat16 plain" if choice == "float32 packed" else "float32 packed"
    (tmp_path / "precision.json").write_text(json.dumps({measured: other}))
    second = runtime.choose("auto", tmp_path, 1, None, SMALL)

    assert choice == f"{first.dtype} {first.kernels}"
    assert other == f"{second.dtype} {second.kernels}"
    assert platform.node() in measured
    assert torch.__version__ in measured
    assert str(SMALL) in measured


@on_cpu
def test_another_kind_of_work_is_measured_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "cache_folder", lambda: tmp_path)

    runtime.choose("fp32", tmp_path, 1, None, SMALL)
    runtime.choose("fp32", tmp_path, 1, None, replace(SMALL, rows=5))
    runtime.choose("fp32", tmp_path, 1, None, SMALL)

    assert len(json.loads((tmp_path / "precision.json").read_text())) == 2


@on_cpu
@pytest.mark.parametrize("kernels", ["plain", "packed"])
def test_what_was_chosen_is_not_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernels: Kernels
) -> None:
    monkeypatch.setattr(runtime, "cache_folder", lambda: tmp_path)

    found = runtime.choose("fp32", tmp_path, 1, kernels, SMALL)

    assert (found.dtype, found.kernels) == ("float32", kernels)
    assert not (tmp_path / "precision.json").exists()


def test_without_onednn_kernels_are_plain_whatever_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)

    assert runtime.choose("fp32", tmp_path, 1, "packed", SMALL).kernels == "plain"


@on_cpu
@pytest.mark.parametrize("damage", ["", "[]", '{"x"', "[1, 2]"])
def test_a_damaged_memory_is_measured_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setattr(runtime, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    (tmp_path / "precision.json").write_text(damage)

    found = runtime.choose("auto", tmp_path, work=SMALL)

    assert found.dtype in ("float32", "bfloat16")
    assert len(json.loads((tmp_path / "precision.json").read_text())) == 1


def test_a_settled_run_refuses_what_cannot_be_repeated(tmp_path: Path) -> None:
    runtime.settle(Runtime("cpu", "float32", 1, tmp_path))

    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.is_deterministic_algorithms_warn_only_enabled()


def test_the_environment_names_what_can_explain_a_difference(tmp_path: Path) -> None:
    place = Runtime("cpu", "bfloat16", 3, tmp_path, "packed")

    found = runtime.environment(place, "abc", dirty=True)

    assert (found.device, found.precision, found.threads) == ("cpu", "bf16", 3)
    assert found.kernels == "packed"
    assert (found.commit, found.dirty) == ("abc", True)
    assert set(found.packages) == set(runtime.PACKAGES)
    assert str(tmp_path) not in found.model_dump_json()
    assert platform.node() not in found.model_dump_json()
