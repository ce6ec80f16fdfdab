"""Bases from disk: folders of safetensors, GGUF dequantized once, and what is never loaded."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from lorareg.errors import InvalidFileError, TrainingError
from lorareg.registry.bases.base import ResolvedBase
from lorareg.registry.text_training import TextTraining
from lorareg.trainers.core.randomness import Draws
from lorareg.trainers.core.task import Runtime
from lorareg.trainers.data.dialogues import DialogueRecord
from lorareg.trainers.text import response_loss
from lorareg.trainers.text.language_model import dequantized_home, load_tokenizer
from lorareg.trainers.text.task import TextTask

DRAWS = Draws(42).at("train", 0)
Dialogues = Sequence[DialogueRecord]


def test_a_gguf_loads_as_the_model_its_blocks_stand_for(
    pico_gguf: tuple[ResolvedBase, LlamaForCausalLM], dialogues: Dialogues, runtime: Runtime
) -> None:
    base, expected = pico_gguf
    task = TextTask(base, dialogues, TextTraining(max_length=128))
    model = task.load(runtime)[""]

    ids = torch.arange(20)[None]
    for name, tensor in expected.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name
    torch.testing.assert_close(model(ids).logits, expected(ids).logits)


def test_a_gguf_is_dequantized_once_and_its_tokenizer_is_kept_as_it_is(
    pico_gguf: tuple[ResolvedBase, LlamaForCausalLM], dialogues: Dialogues, runtime: Runtime
) -> None:
    base, _ = pico_gguf
    first = TextTask(base, dialogues, TextTraining(max_length=128))
    first.load(runtime)
    home = dequantized_home(base, runtime)
    made = (home / "model.safetensors").stat().st_mtime_ns

    second = TextTask(
        replace(base, path=Path("/nowhere.gguf")), dialogues, TextTraining(max_length=128)
    )
    second.load(runtime)

    assert (home / "model.safetensors").stat().st_mtime_ns == made
    assert [path.name for path in home.parent.iterdir()] == [home.name]
    assert first._tokens == second._tokens
    assert first.template_digest == second.template_digest


def test_a_dequantization_that_was_killed_is_done_again_and_its_remains_are_swept_away(
    pico_gguf: tuple[ResolvedBase, LlamaForCausalLM], dialogues: Dialogues, runtime: Runtime
) -> None:
    base, _ = pico_gguf
    remains = runtime.cache / "gguf" / ".partial-killed"
    remains.mkdir(parents=True)
    (remains / "model.safetensors").write_bytes(b"half a file")
    os.utime(remains, (0, 0))

    TextTask(base, dialogues, TextTraining(max_length=128)).load(runtime)

    assert list(remains.parent.iterdir()) == [dequantized_home(base, runtime)]


def test_a_dequantized_gguf_is_kept_apart_by_precision(
    pico_gguf: tuple[ResolvedBase, LlamaForCausalLM], dialogues: Dialogues, runtime: Runtime
) -> None:
    base, expected = pico_gguf
    half = TextTask(base, dialogues, TextTraining(max_length=128)).load(
        replace(runtime, dtype="bfloat16")
    )[""]
    full = TextTask(base, dialogues, TextTraining(max_length=128)).load(runtime)[""]

    assert torch.equal(half.lm_head.weight, expected.lm_head.weight.bfloat16())
    assert torch.equal(full.lm_head.weight, expected.lm_head.weight)


def test_short_dialogues_in_bfloat16_take_plain_attention_and_have_nearly_the_same_loss(
    pico_llama: ResolvedBase, dialogues: Dialogues, runtime: Runtime
) -> None:
    full = TextTask(pico_llama, dialogues, TextTraining(max_length=128))
    full.load(runtime)
    half = TextTask(pico_llama, dialogues, TextTraining(max_length=128))
    model = half.load(replace(runtime, dtype="bfloat16"))[""]

    losses = half.losses(half.ids, DRAWS)

    assert model.config._attn_implementation == "eager"
    assert losses.dtype == torch.float32
    torch.testing.assert_close(losses, full.losses(full.ids, DRAWS), rtol=3e-2, atol=0.5)


def test_a_pickled_base_is_refused(
    pico_llama: ResolvedBase, dialogues: Dialogues, runtime: Runtime, tmp_path: Path
) -> None:
    for file in pico_llama.path.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    torch.save({}, tmp_path / "pytorch_model.bin")

    with pytest.raises(InvalidFileError, match="its model cannot be loaded"):
        TextTask(replace(pico_llama, path=tmp_path), dialogues, TextTraining(max_length=128)).load(
            runtime
        )


def test_code_of_a_base_is_never_run(
    pico_llama: ResolvedBase, dialogues: Dialogues, runtime: Runtime, tmp_path: Path
) -> None:
    for file in pico_llama.path.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "modeling_new.py").write_text("raise SystemExit('code of the base was run')")
    (tmp_path / "config.json").write_text(
        '{"model_type": "brand_new", "auto_map": {"AutoConfig": "modeling_new.C", '
        '"AutoModelForCausalLM": "modeling_new.M"}}'
    )

    with pytest.raises(InvalidFileError) as caught:
        TextTask(replace(pico_llama, path=tmp_path), dialogues, TextTraining(max_length=128)).load(
            runtime
        )

    assert "never run" in caught.value.fix


def test_a_folder_without_a_tokenizer_is_an_error_that_says_so(
    dialogues: Dialogues, tmp_path: Path
) -> None:
    base = ResolvedBase("mine", None, "transformers", tmp_path, "base-sha256-v1:00")

    with pytest.raises(InvalidFileError, match="base mine: its tokenizer cannot be loaded"):
        load_tokenizer(base)


@pytest.mark.parametrize(
    ("device", "layout", "why"),
    [("cpu", "transformers", "CUDA only"), ("mps", "transformers", "CUDA only"),
     ("cuda", "gguf", "quantized already")],
)  # fmt: skip
def test_a_base_that_cannot_be_quantized_is_refused_before_anything_of_it_is_read(
    dialogues: Dialogues, runtime: Runtime, device: str, layout: str, why: str
) -> None:
    nowhere = ResolvedBase("mine", None, layout, Path("/nowhere"), "base-sha256-v1:00")
    task = TextTask(nowhere, dialogues, TextTraining(quantization="nf4"))

    with pytest.raises(TrainingError) as caught:
        task.load(replace(runtime, device=device))

    assert "train.quantization: nf4 cannot be used" in caught.value.what
    assert why in caught.value.why
    assert "delete train.quantization" in caught.value.fix


@pytest.mark.slow
def test_smollm2_loads_from_its_gguf_and_answers(dialogues: Dialogues, tmp_path: Path) -> None:
    from lorareg.registry.bases import builtin

    path = builtin.fetch(builtin.cache_folder())
    digest = f"base-sha256-v1:{builtin.SMOLLM2.sha256}"
    base = ResolvedBase("builtin:smollm2", None, "gguf", path, digest)
    task = TextTask(base, dialogues, TextTraining(max_length=256))
    model = task.load(Runtime("cpu", "bfloat16", threads=1, cache=tmp_path))[""]

    assert sum(parameter.numel() for parameter in model.parameters()) == 134_515_008
    assert task._logits is response_loss.from_hidden_states
    assert "Paris" in task.sample(["What is the capital of France?"], seed=0)[0].output
    rows = [row for record in task.ids for row in task._tokens.rows[record]]
    batch = response_loss.collate(rows, 0, "cpu")
    torch.testing.assert_close(
        task.losses(task.ids, DRAWS),
        response_loss.sequence_losses(model, response_loss.from_all_positions, batch),
        rtol=2e-2,
        atol=0.1,
    )
