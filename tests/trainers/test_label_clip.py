"""CLIP chooses the terms of a vocabulary that fit a picture."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from lorareg.errors import LoraregError
from lorareg.trainers.data.label import clip, models
from lorareg.trainers.data.label.captioner import Asking
from lorareg.trainers.data.vocabulary.schema import Group
from tests.trainers.captioning import captions_of, run_caption, write_captions
from tests.trainers.tiny_captioners import COLOURS, SHAPES, picture
from tests.trainers.tiny_clip import make_clip, make_tokenizer, scene

VOCABULARY = """\
schema: lorareg/vocabulary/1
opening: [coloured shape]
groups:
  colour: {terms: [red, green, blue], exclusive: true}
  shape: {terms: [circle, square, triangle]}
"""
TWO_OF_THREE = Group(terms=("day", "dusk", "night"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("models") / "clip")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "vocabulary.yaml").write_text(VOCABULARY)
    return tmp_path / "set"


def test_it_chooses_what_is_there(model: Path, folder: Path) -> None:
    """120 pictures it has not seen, a sixth of them of nothing."""
    chance = random.Random(99)
    wanted = {}
    for number in range(120):
        image, colour, shape = scene(chance)
        image.save(folder / f"{number:03}.png")
        wanted[f"{number:03}.png"] = ", ".join(filter(None, ("coloured shape", colour, shape)))

    answer = run_caption(folder, "--model", model, "--batch-size", "32", "--json")

    captions = captions_of(folder)
    nothing = answer.json["skipped"]
    right = sum(captions.get(name) == text for name, text in wanted.items())
    right += sum(wanted[name] == "coloured shape" for name in nothing)
    assert right > 0.9 * len(wanted), f"{right} of {len(wanted)}"
    assert set(nothing.values()) == {"the model said nothing"}


def test_chosen_terms_are_appended_to_a_caption(model: Path, folder: Path) -> None:
    picture(COLOURS["blue"], "circle").save(folder / "a.png")
    write_captions(folder, {"a.png": "a circle on paper"})

    run_caption(folder, "--model", model, "--merge", "append")

    assert captions_of(folder) == {"a.png": "a circle on paper, blue"}


def test_without_a_vocabulary_there_is_nothing_to_choose(model: Path, tmp_path: Path) -> None:
    picture(COLOURS["blue"], "circle").save(tmp_path / "a.png")

    answer = run_caption(tmp_path, "--model", model)

    assert answer.code == 2
    assert "needs a vocabulary" in answer.err


def test_the_sentence_needs_a_place_for_the_term(model: Path) -> None:
    groups = {"colour": Group(terms=tuple(COLOURS))}

    with pytest.raises(LoraregError, match="cannot be asked 'which colour'"):
        models.load(models.locate(str(model)), Asking(prompt="which colour", groups=groups))


def test_shares_are_clip_s_own_probabilities(model: Path) -> None:
    groups = {"shape": Group(terms=SHAPES)}
    chooser = models.load(models.locate(str(model)), Asking(groups=groups))
    assert isinstance(chooser, clip.Chooser)
    image = picture(COLOURS["red"], "square")
    pixels = chooser.images(images=[image], return_tensors="pt")["pixel_values"]
    sentences = [*(f"a photo of {shape}" for shape in SHAPES), "a photo"]
    tokens = make_tokenizer()(sentences, padding=True, return_tensors="pt")
    with torch.inference_mode():
        expected = chooser.model(
            input_ids=tokens["input_ids"],
            attention_mask=tokens["attention_mask"],
            pixel_values=pixels,
        ).logits_per_image.softmax(-1)

    (found,) = chooser.shares([image])[0]

    assert found == pytest.approx(expected[0].tolist(), abs=1e-5)


@pytest.mark.parametrize(
    ("rules", "shares", "chosen"),
    [
        ({}, [0.5, 0.3, 0.1, 0.1], ["day", "dusk"]),
        ({}, [0.1, 0.3, 0.5, 0.1], ["night", "dusk"]),
        ({}, [0.2, 0.2, 0.2, 0.4], []),
        ({}, [0.3, 0.0, 0.0, 0.7], []),
        ({"exclusive": True}, [0.5, 0.3, 0.1, 0.1], ["day"]),
        ({"exclusive": True}, [0.2, 0.2, 0.2, 0.4], []),
        ({"at_least": 1}, [0.1, 0.2, 0.1, 0.6], ["dusk"]),
        ({"at_least": 2}, [0.6, 0.1, 0.2, 0.1], ["day", "night"]),
    ],
)
def test_terms_are_chosen_by_share_and_rule(
    rules: dict[str, int], shares: list[float], chosen: list[str]
) -> None:
    group = TWO_OF_THREE.model_copy(update=rules)

    assert clip.choose(group, shares, 0.25) == chosen
