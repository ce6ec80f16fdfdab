"""Every check of a composition, on planted cases: all problems at once, hard before soft."""

from __future__ import annotations

import datetime
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from lorareg.errors import LoraregError
from lorareg.registry import tensors
from lorareg.registry.bases import base, builtin
from lorareg.registry.digest import DigestCache
from lorareg.registry.manifest import Base
from lorareg.weights.adapter import LoraAdapter, to_raw
from lorareg.weights.checks import run
from lorareg.weights.checks.run import Report
from lorareg.weights.formats import diffusers
from tests.weights.composed import Shelf
from tests.weights.planted import SMALL, sharing

LAYERS = {f"model.layers.{n}.self_attn.q_proj": (32, 24) for n in range(4)}
TODAY = datetime.date(2027, 6, 1)


@pytest.fixture
def shelf(registry: Path) -> Shelf:
    return Shelf(registry)


@pytest.fixture
def two() -> list[LoraAdapter]:
    return sharing(SMALL, [4, 4], 0.0)


def check(shelf: Shelf, expression: str = "style/a+style/b", **how: Any) -> Report:
    return run.check(shelf.workspace, shelf.compose(expression), today=TODAY, **how)


def problems(report: Report) -> list[str]:
    return [f"{'hard' if f.is_hard else 'soft'} {f.what}" for f in report.findings if not f.ok]


def test_two_that_fit_have_no_problem(shelf: Shelf, two: list[LoraAdapter]) -> None:
    shelf.add("style/a", two[0], trigger="zzhangsan")
    shelf.add("style/b", two[1], trigger="mmira")

    report = check(shelf)

    assert problems(report) == []
    report.refuse()
    assert report.terms.commercial == "resale"
    assert "base builtin:avatar, cc-by-4.0" in report.terms.credits
    assert report.conflicts
    assert report.conflicts.names == ("style/a", "style/b")


def test_all_problems_are_named_at_once_the_hard_ones_first(
    shelf: Shelf, two: list[LoraAdapter]
) -> None:
    over = {"commercial": "resale", "expires": "2027-05-31"}
    asked = {"subject": "张三", "record": "x", "covers": ["text"]}
    shelf.add("style/a", two[0], trigger="zz", scope=over, license={"id": "house rules"})
    shelf.add("style/b", two[0], trigger="zz", consent=asked)

    report = check(shelf)

    hard = {"triggers", "scope of style/a", "consent in style/b"}
    assert {finding.what for finding in report.hard} == hard
    assert {finding.what for finding in report.soft} == {"licences", "amplification", "overlap"}
    shown = [finding.is_hard for finding in report.findings if not finding.ok]
    assert shown == sorted(shown, reverse=True)
    with pytest.raises(LoraregError) as caught:
        report.refuse()
    assert all(name in caught.value.why for name in hard)


def test_strict_takes_warnings_for_refusals(shelf: Shelf, two: list[LoraAdapter]) -> None:
    shelf.add("style/a", two[0], license=None)
    shelf.add("style/b", two[1])

    check(shelf).refuse()

    with pytest.raises(LoraregError, match="may not be composed") as caught:
        check(shelf, strict=True).refuse()
    assert "style/a (none given)" in caught.value.why


def test_no_derivatives_stops_a_merged_file_only(shelf: Shelf, two: list[LoraAdapter]) -> None:
    shelf.add("style/a", two[0], license={"id": "CC-BY-ND-4.0"})
    shelf.add("style/b", two[1])

    assert problems(check(shelf)) == []
    assert problems(check(shelf, strict=True)) == []
    assert problems(check(shelf, merged=True)) == ["hard merging"]


def test_modules_of_different_shapes_are_refused_and_not_measured(
    shelf: Shelf, two: list[LoraAdapter]
) -> None:
    shelf.add("style/a", two[0])
    shelf.add("style/b", sharing(dict.fromkeys(SMALL, (96, 32)), [4], 0.0)[0])

    report = check(shelf)

    assert problems(report) == ["hard modules"]
    assert "down_blocks.1.attentions.0.to_k" in report.hard[0].detail
    assert "and 4 more" in report.hard[0].detail
    assert report.conflicts is None


def test_an_unknown_key_is_listed_and_never_skipped(shelf: Shelf, two: list[LoraAdapter]) -> None:
    shelf.add("style/a", two[0])
    shelf.add("style/b", two[1])
    composition = shelf.compose("style/a+style/b")
    file = composition.components[1].file
    raw, metadata = tensors.read(file)
    strange = {"unet.strange.lora_shift": to_raw(next(iter(two[0].layers.values())).down)}
    tensors.write(file, raw | strange, metadata)

    report = run.check(shelf.workspace, composition, today=TODAY)

    assert problems(report) == ["hard weights of style/b"]
    assert "unet.strange.lora_shift" in report.hard[0].detail


def finetune(shelf: Shelf, name: str, **scheduler: Any) -> tuple[dict[str, str], dict[str, Any]]:
    """A base in the registry that differs from the built-in one; its manifest and lock entries."""
    folder = shelf.root / name
    shutil.copytree(builtin.avatar(), folder)
    path = folder / "scheduler" / "scheduler_config.json"
    changed = json.loads(path.read_text()) | {"steps_offset": 7} | scheduler
    path.write_text(json.dumps(changed))
    return _entries(shelf, name)


def _entries(shelf: Shelf, model: str) -> tuple[dict[str, str], dict[str, Any]]:
    found = base.resolve(Base(model=model), "text-to-image", shelf.root, DigestCache(None))
    lock = {"base": {"model": model, "revision": None, "digest": found.digest}}
    return {"model": model}, lock


@pytest.mark.parametrize(
    ("scheduler", "expected", "said"),
    [
        ({}, "soft base", "different finetunes of one family"),
        ({"prediction_type": "epsilon"}, "hard base", "prediction type v_prediction and epsilon"),
    ],
)
def test_another_finetune_warns_and_another_family_is_refused(
    scheduler: dict[str, Any], expected: str, said: str, shelf: Shelf, two: list[LoraAdapter]
) -> None:
    own, own_lock = _entries(shelf, "builtin:avatar")
    other, other_lock = finetune(shelf, "finetune", **scheduler)
    shelf.add("style/a", two[0], base=own, inputs=own_lock)
    shelf.add("style/b", two[1], base=other, inputs=other_lock)

    report = check(shelf)

    assert expected in problems(report)
    (finding,) = (each for each in report.findings if each.what == "base")
    assert said in finding.detail


def test_a_base_that_is_no_longer_what_the_lock_says_cannot_be_compared(
    shelf: Shelf, two: list[LoraAdapter]
) -> None:
    shelf.add("style/a", two[0])
    _, lock = _entries(shelf, "builtin:avatar")
    shelf.add("style/b", two[1], inputs=lock)

    report = check(shelf)

    assert problems(report) == ["hard base"]
    assert "different bases" in report.hard[0].detail


def speak(shelf: Shelf, name: str, adapter: LoraAdapter, template: str, **told: list[Any]) -> None:
    inputs = {"chat_template": {"digest": f"sha256:{template * 64}", "source": "tokenizer"}}
    task = "text-generation"
    shelf.add(name, adapter, task=task, inputs=inputs, statistics=told)


def test_chat_templates_must_agree(shelf: Shelf) -> None:
    one, other = sharing(LAYERS, [4, 4], 0.0)
    speak(shelf, "style/a", one, "a")
    speak(shelf, "style/b", other, "b")

    assert problems(check(shelf)) == ["hard chat template"]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ({}, {"system_prompts": [["Be kind.", 3]]}, []),
        ({"system_prompts": [["Be kind.", 3]]}, {"system_prompts": [["Be kind.", 9]]}, []),
        (
            {"system_prompts": [["You are a doctor.", 3]]},
            {"system_prompts": [["You are a pirate.", 3]]},
            ["soft system prompts"],
        ),
        ({"scripts": [["Han", 3]]}, {"scripts": [["Latin", 3]]}, ["soft languages"]),
        ({"scripts": [["Han", 3], ["Latin", 1]]}, {"scripts": [["Latin", 3]]}, []),
    ],
)
def test_system_prompts_and_scripts_had_better_agree(
    first: dict[str, Any], second: dict[str, Any], expected: list[str], shelf: Shelf
) -> None:
    one, other = sharing(LAYERS, [4, 4], 0.0)
    speak(shelf, "style/a", one, "a", **first)
    speak(shelf, "style/b", other, "a", **second)

    assert problems(check(shelf)) == expected


def test_what_is_on_one_after_the_other_is_not_flagged(
    shelf: Shelf, two: list[LoraAdapter]
) -> None:
    shelf.add("style/a", two[0])
    shelf.add("style/b", two[0])

    assert "soft overlap" in problems(check(shelf))
    assert problems(check(shelf, "style/a{steps=0-0.5}+style/b{steps=0.5-1}")) == []


def test_weights_that_are_not_the_locks_never_get_here(
    shelf: Shelf, two: list[LoraAdapter]
) -> None:
    shelf.add("style/a", two[0])
    diffusers.write(shelf.root / "manifests/style/a/weights" / diffusers.FILE, two[1], {})

    with pytest.raises(LoraregError, match="style/a"):
        shelf.compose("style/a")


def test_blocks_without_a_module_are_named(shelf: Shelf, two: list[LoraAdapter]) -> None:
    shelf.add("style/a", two[0], trigger="zzhangsan")
    shelf.add("style/b", two[1], trigger="mmira")

    (found,) = check(shelf, "style/a{up.9=0.5,te=0.1}+style/b").soft

    assert found.what == "blocks"
    assert "style/a changes no module in up.9, te" in found.detail


def test_steps_of_a_language_model_are_refused(shelf: Shelf) -> None:
    one, _ = sharing(LAYERS, [4, 4], 0.0)
    shelf.add("tone/a", one, task="text-generation")

    assert "steps" in {each.what for each in check(shelf, "tone/a:1{steps=0-0.5}").hard}
