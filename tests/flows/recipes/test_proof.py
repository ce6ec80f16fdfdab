"""One file of a composition: its size, its guards, its proof, and what it says of itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lorareg.weights import algebra
from lorareg.weights.formats import diffusers, peft
from tests.flows.conftest import lorareg
from tests.flows.recipes.conftest import Run
from tests.flows.recipes.shelved import EXPR, FILE, INK, ZHANGSAN, edit, lock, merged, recipe
from tests.weights.composed import Shelf


def test_a_rank_is_that_of_every_module_and_the_error_is_what_was_said(
    shelf: Shelf, run: Run
) -> None:
    said = run("compose", EXPR, "--as", "small", "--output", "compressed", "--rank", "3",
               "--json").json  # fmt: skip

    made = merged(shelf, "small")
    assert {layer.rank for layer in made.layers.values()} == {3}
    exact = algebra.weighted_sum([(INK, 0.7), (ZHANGSAN, 0.9)])
    assert algebra.relative_difference(made, exact) == pytest.approx(said["error"], rel=1e-4)
    assert lock(shelf, "small")["error"] == said["error"]
    assert set(said["retention"]) == {"style/ink", "character/zhangsan"}
    run("compose", "verify", "small")


def test_an_energy_is_reached(shelf: Shelf, run: Run) -> None:
    said = run("compose", EXPR, "--as", "small", "--output", "compressed", "--energy", "0.9",
               "--json").json  # fmt: skip

    assert 1 - said["error"] ** 2 >= 0.9
    assert said["error"] > 0


@pytest.mark.parametrize("size", ["24K", "30K"])
def test_a_file_is_no_larger_than_it_may_be_header_included(
    shelf: Shelf, run: Run, size: str
) -> None:
    run("compose", EXPR, "--as", "small", "--output", "compressed", "--max-size", size)

    file = recipe(shelf, "small") / "weights" / FILE
    assert 10_000 < file.stat().st_size <= int(size[:-1]) * 1000
    run("compose", "verify", "small")


def test_a_size_without_room_for_anything_says_what_would_do(shelf: Shelf) -> None:
    answer = lorareg(
        shelf.root, "compose", EXPR, "--as", "s", "--output", "compressed", "--max-size", "1K"
    )

    assert answer.code == 2
    assert "no room" in answer.err
    wanted = answer.err.rpartition("--max-size ")[2].split()[0]
    again = lorareg(
        shelf.root, "compose", EXPR, "--as", "s", "--output", "compressed", "--max-size", wanted
    )
    assert again.code == 0, again.err


def test_fair_keeps_more_of_the_weakest(shelf: Shelf, run: Run) -> None:
    kept = []
    for truncate in ("optimal", "fair"):
        said = run("compose", "style/ink:0.2+character/zhangsan:1", "--output", "compressed",
                   "--rank", "4", "--truncate", truncate, "--dry-run", "--json").json  # fmt: skip
        kept.append(min(said["retention"].values()))

    assert kept[1] > kept[0] + 0.05


def test_guards_refuse_a_file_that_misses_them(shelf: Shelf, run: Run) -> None:
    little = lorareg(shelf.root, "compose", EXPR, "--as", "g", "--output", "compressed", "--rank",
                     "1", "--min-retention", "0.9")  # fmt: skip
    loud = lorareg(shelf.root, "compose", EXPR, "--as", "g", "--max-amplification", "0.5")
    unknown = lorareg(shelf.root, "compose", EXPR, "--as", "g", "--method", "ties",
                      "--output", "merged", "--min-retention", "0.5")  # fmt: skip

    assert little.code == loud.code == unknown.code == 2
    assert "would be left" in little.err
    assert "amplify each other 1.0" in loud.err
    assert "cannot be held" in unknown.err
    assert not recipe(shelf, "g").exists()


@pytest.mark.parametrize(
    ("expression", "options"),
    [
        ("style/ink{steps=0-0.5}+character/zhangsan", ()),
        (EXPR, ("--mode", "switch")),
        (EXPR, ("--mode", "composite")),
    ],
)
def test_what_changes_from_step_to_step_is_a_recipe_and_no_file(
    shelf: Shelf, run: Run, expression: str, options: tuple[str, ...]
) -> None:
    answer = lorareg(shelf.root, "compose", expression, "--as", "s", "--output", "exact", *options)
    assert answer.code == 2
    assert "one file cannot be" in answer.err

    run("compose", expression, "--as", "s", *options)

    assert lock(shelf, "s")["outputs"] == {}
    run("compose", "verify", "s")
    file = shelf.root / "manifests" / "style" / "ink" / "weights" / FILE
    compared = lorareg(shelf.root, "compose", "verify", "s", str(file))
    assert compared.code == 2
    assert "cannot be compared with a file" in compared.err


def test_steps_inside_a_nested_recipe_count_too(shelf: Shelf, run: Run) -> None:
    run("compose", "style/ink{steps=0-0.5}+character/zhangsan", "--as", "inner")

    answer = lorareg(
        shelf.root, "compose", "recipe/inner:0.5+style/glow", "--as", "s", "--output", "exact"
    )

    assert answer.code == 2
    assert "one file cannot be" in answer.err


def test_explain_says_what_a_file_was_made_of_wherever_it_lies(
    shelf: Shelf, run: Run, tmp_path: Path
) -> None:
    run("compose", EXPR, "--as", "hero", "--output", "compressed", "--rank", "3")
    file = tmp_path / "elsewhere.safetensors"
    file.write_bytes((recipe(shelf, "hero") / "weights" / FILE).read_bytes())

    here, elsewhere = (
        run("compose", "explain", str(file)),
        lorareg(tmp_path, "compose", "explain", str(file)),
    )

    for answer in (here, elsewhere):
        assert answer.code == 0, answer.err
        assert "recipe/hero" in answer.out
        assert "style/ink" in answer.out
        assert "relative error to the exact sum" in answer.out
    assert "here says the same" in here.out
    assert "no registry here" in elsewhere.out
    run("compose", "style/ink:0.1+style/glow", "--as", "hero", "--overwrite")
    assert "is another composition now" in run("compose", "explain", str(file)).out


def test_a_file_without_a_word_of_its_origin_is_said_to_have_none(shelf: Shelf) -> None:
    file = shelf.root / "manifests" / "style" / "ink" / "weights" / FILE

    answer = lorareg(shelf.root, "compose", "explain", str(file))

    assert answer.code == 2
    assert "does not say what it was merged from" in answer.err


def test_verify_takes_the_same_delta_in_other_factors_and_in_half_precision(
    shelf: Shelf, run: Run, tmp_path: Path
) -> None:
    run("compose", EXPR, "--as", "hero")
    exact = algebra.weighted_sum([(INK, 0.7), (ZHANGSAN, 0.9)])
    other = tmp_path / "other.safetensors"
    diffusers.write(other, algebra.weighted_sum([(exact, 0.5), (exact, 0.5)]), {})
    factors = {name: array.astype(np.float16) for name, array in load_file(other).items()}
    save_file(factors, tmp_path / "half.safetensors", {"format": "pt"})

    for name in ("other.safetensors", "half.safetensors"):
        assert "within rounding" in run("compose", "verify", "hero", str(tmp_path / name)).out

    diffusers.write(other, algebra.weighted_sum([(exact, 0.98)]), {})
    louder = lorareg(shelf.root, "compose", "verify", "hero", str(other))
    assert louder.code == 1
    assert "differs most" in louder.out.replace("\n", " ")


def test_verify_finds_a_changed_member_and_a_changed_file(shelf: Shelf, run: Run) -> None:
    run("compose", EXPR, "--as", "hero", "--output", "exact")
    file = recipe(shelf, "hero") / "weights" / FILE
    before = file.read_bytes()
    file.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))

    changed = lorareg(shelf.root, "compose", "verify", "hero")

    assert changed.code == 1
    assert "FAIL" in changed.out
    file.write_bytes(before)
    run("compose", "verify", "hero")
    edit(shelf, "recipe/hero", "0.9", "0.8")
    assert lorareg(shelf.root, "compose", "verify", "hero").code == 1


def test_a_merge_by_pefts_cat_verifies_and_one_by_its_linear_does_not(
    shelf: Shelf, run: Run, tmp_path: Path
) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2,
    )  # fmt: skip
    wanted = LoraConfig(r=4, lora_alpha=6, target_modules=["q_proj", "v_proj", "down_proj"],
                        init_lora_weights=False)  # fmt: skip
    model = get_peft_model(LlamaForCausalLM(config), wanted, adapter_name="warm")
    model.add_adapter("formal", wanted)
    for method in ("cat", "linear"):
        model.add_weighted_adapter(["warm", "formal"], [0.7, 0.9], method, combination_type=method)
    model.save_pretrained(tmp_path, safe_serialization=True)
    for name in ("warm", "formal"):
        shelf.add(f"tone/{name}", peft.read(tmp_path / name), task="text-generation")
    run("compose", "tone/warm:0.7+tone/formal:0.9", "--as", "both")

    cat = run("compose", "verify", "both", str(tmp_path / "cat"))
    linear = lorareg(shelf.root, "compose", "verify", "both", str(tmp_path / "linear"))

    assert "within rounding" in cat.out
    assert linear.code == 1
    assert "differs from recipe/both by" in linear.out
