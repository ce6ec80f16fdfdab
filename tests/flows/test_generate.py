"""generate: a composition at run time, its parts beside it, and its weights swept."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

import lorareg as library
from lorareg.trainers.report.grid import MARGIN, MIN_CELL
from lorareg.weights.adapter import LoraAdapter
from tests.flows.conftest import lorareg
from tests.trainers.pico_families import FAMILIES
from tests.trainers.test_load import layer, planted
from tests.weights.composed import Shelf

SETTINGS = {
    "base": {"model": "base"},
    "train": {"resolution": 32},
    "sample": {"steps": 3, "guidance": 2.0, "max_new_tokens": 8},
}
BOTH = "style/ink:0.6+character/face:0.9"
PROMPT = "a red zdot"


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Shelf:
    """Three planted adapters of the tiny base."""
    root = tmp_path_factory.mktemp("shelf")
    (root / "lorareg.yaml").write_text("schema: lorareg/1\nname: test\n", encoding="utf-8")
    shutil.copytree(tiny_base, root / "base")
    unet = {"unet": StableDiffusionPipeline.from_pretrained(root / "base").unet}
    shelf = Shelf(root)
    for seed, name in enumerate(("style/ink", "character/face", "scene/beach")):
        shelf.add(name, planted(unet, ("to_q", "to_v", "ff.net.2"), 3, 10 * seed), **SETTINGS)
    return shelf


def generate(shelf: Shelf, to: Path, *arguments: str) -> Any:
    said = lorareg(shelf.root, "generate", *arguments, "--out", str(to), "--json")
    assert said.code == 0, said.err
    assert json.loads(to.with_suffix(".json").read_text(encoding="utf-8")) == said.json
    return said.json


def cells(file: Path, rows: int, columns: int) -> list[list[np.ndarray]]:
    """The pictures of a sheet as they were drawn, row by row."""
    with Image.open(file) as sheet:
        pixels = np.asarray(sheet)
    step, factor = MIN_CELL + MARGIN, MIN_CELL // 32
    left, top = pixels.shape[1] - columns * step, pixels.shape[0] - rows * step
    assert left >= MARGIN
    assert top >= MARGIN

    def cell(row: int, column: int) -> np.ndarray:
        y, x = top + row * step, left + column * step
        return pixels[y : y + MIN_CELL : factor, x : x + MIN_CELL : factor]

    return [[cell(row, column) for column in range(columns)] for row in range(rows)]


def drawn(shelf: Shelf, expression: str | None, seed: int, **told: Any) -> np.ndarray:
    """What the library draws with the composition loaded."""
    pipe = StableDiffusionPipeline.from_pretrained(shelf.root / "base")
    pipe.set_progress_bar_config(disable=True)
    loaded = library.load(pipe, expression, shelf.root) if expression else None
    found = pipe(
        PROMPT, height=32, width=32, num_inference_steps=3, guidance_scale=2.0,
        generator=torch.Generator().manual_seed(seed), **told,
    )  # fmt: skip
    if loaded:
        loaded.remove()
    return np.asarray(found.images[0])


def alike(found: np.ndarray, expected: np.ndarray) -> bool:
    """Up to the rounding of the precision that the machine is fastest in."""
    return bool(np.abs(found.astype(int) - expected.astype(int)).mean() < 2)


def test_a_grid_of_three_parts_shows_base_each_alone_all_but_one_and_all(
    shelf: Shelf, tmp_path: Path
) -> None:
    file, expression = tmp_path / "grid.png", f"{BOTH}+scene/beach:0.5"

    told = generate(shelf, file, expression, "--grid", "--prompt", PROMPT, "--seed", "4")

    labels = [sample["of"] for sample in told["samples"]]
    assert labels == [
        "base", "style/ink", "character/face", "scene/beach",
        "without style/ink", "without character/face", "without scene/beach", "all",
    ]  # fmt: skip
    column = [row[0] for row in cells(file, rows=8, columns=1)]
    assert alike(column[0], drawn(shelf, None, 4))
    assert alike(column[1], drawn(shelf, "style/ink:0.6", 4))
    assert alike(column[4], drawn(shelf, "character/face:0.9+scene/beach:0.5", 4))
    assert alike(column[7], drawn(shelf, expression, 4))
    assert not any(alike(column[7], other) for other in column[:7])


def test_the_json_pins_everything_and_names_no_folder(shelf: Shelf, tmp_path: Path) -> None:
    told = generate(shelf, tmp_path / "one.png", BOTH, "--prompt", PROMPT, "--count", "2")

    lock = json.loads((shelf.root / "manifests/style/ink/lock.json").read_text(encoding="utf-8"))
    (output,) = lock["outputs"].values()
    ink = told["members"][0]
    assert (ink["asset"], ink["weight"], ink["tensors"]) == ("style/ink", 0.6, output["tensors"])
    assert told["base"]["digest"] == lock["inputs"]["base"]["digest"]
    assert told["sampling"] == {"steps": 3, "guidance": 2.0}
    assert [sample["seed"] for sample in told["samples"]] == [0, 1]
    assert told["picture"] == "one.png"
    text = json.dumps(told)
    assert str(tmp_path) not in text
    assert str(shelf.root) not in text


def test_a_sweep_draws_one_row_for_each_weight(shelf: Shelf, tmp_path: Path) -> None:
    file = tmp_path / "sweep.png"

    told = generate(shelf, file, "style/ink:0..1.5/4+character/face:0.9", "--prompt", PROMPT)

    assert told["sweep"] == [{"ref": "style/ink", "weights": [0.0, 0.5, 1.0, 1.5]}]
    weights = [sample["weights"] for sample in told["samples"]]
    assert weights == [{"style/ink": w, "character/face": 0.9} for w in (0.0, 0.5, 1.0, 1.5)]
    rows = cells(file, rows=4, columns=1)
    assert alike(rows[0][0], drawn(shelf, "character/face:0.9", 0))
    assert alike(rows[3][0], drawn(shelf, "style/ink:1.5+character/face:0.9", 0))


def test_a_sweep_of_two_weights_is_a_table_of_pictures(shelf: Shelf, tmp_path: Path) -> None:
    file = tmp_path / "table.png"

    generate(shelf, file, "style/ink:0..1/2+character/face:0..1/3", "--prompt", PROMPT)

    found = cells(file, rows=2, columns=3)
    assert alike(found[0][0], drawn(shelf, None, 0))
    assert alike(found[0][2], drawn(shelf, "character/face:1", 0))
    assert alike(found[1][0], drawn(shelf, "style/ink:1", 0))


def test_a_window_and_a_recipes_negative_prompt_are_followed(shelf: Shelf, tmp_path: Path) -> None:
    kept = lorareg(
        shelf.root, "compose", "style/ink:0.6", "--as", "blue", "--negative-prompt", "blue zdot"
    )
    assert kept.code == 0, kept.err
    window, avoid = tmp_path / "window.png", tmp_path / "avoid.png"

    generate(shelf, window, "style/ink:3{steps=0-0.3}", "--prompt", PROMPT)
    told = generate(shelf, avoid, "recipe/blue", "--prompt", PROMPT)

    ((early,),), ((avoided,),) = cells(window, 1, 1), cells(avoid, 1, 1)
    assert alike(early, drawn(shelf, "style/ink:3{steps=0-0.3}", 0))
    assert not alike(early, drawn(shelf, "style/ink:3", 0))
    assert told["negative_prompt"] == "blue zdot"
    assert alike(avoided, drawn(shelf, "style/ink:0.6", 0, negative_prompt="blue zdot"))
    assert not alike(avoided, drawn(shelf, "style/ink:0.6", 0))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("style/ink:0..1/3", "--grid"), "two different sheets"),
        (("style/ink:0..1/3+character/face:0..1/3", "--count", "2"), "one prompt and one seed"),
        (("style/ink:0..1/100",), "is no sweep"),
    ],
)
def test_sheets_that_contradict_themselves_are_refused_before_anything_is_loaded(
    shelf: Shelf, arguments: tuple[str, ...], said: str
) -> None:
    answer = lorareg(shelf.root, "generate", *arguments, "--prompt", PROMPT)

    assert answer.code == 2
    assert said in answer.err


def test_members_that_may_not_be_composed_are_not_drawn(shelf: Shelf, tmp_path: Path) -> None:
    shelf.add(
        "style/over", LoraAdapter({"unet.conv_in": layer(2, (4, 3, 3), 32, 3)}), **SETTINGS,
        scope={"commercial": "none", "expires": "2020-01-01"},
    )  # fmt: skip

    answer = lorareg(shelf.root, "generate", "style/ink+style/over", "--prompt", PROMPT)

    assert answer.code == 2
    assert "may not be composed" in answer.err


def test_replies_stand_in_a_table_of_prompts_and_answers(tmp_path: Path) -> None:
    import transformers

    (tmp_path / "lorareg.yaml").write_text("schema: lorareg/1\nname: test\n", encoding="utf-8")
    FAMILIES["llama"].save(tmp_path / "base")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    shelf, settings = Shelf(tmp_path), {key: SETTINGS[key] for key in ("base", "sample")}
    for seed, name in enumerate(("tone/warm", "role/doctor")):
        adapter = planted({"": model}, ("q_proj", "down_proj"), 3, 10 * seed)
        shelf.add(name, adapter, task="text-generation", **settings)
    asked = ("--prompt", "Who are you?", "--prompt", "Tell me more.", "--grid")

    shown = lorareg(tmp_path, "generate", "tone/warm+role/doctor", *asked)
    told = lorareg(tmp_path, "generate", "tone/warm+role/doctor", *asked, "--json").json

    assert shown.code == 0, shown.err
    assert shown.out.split("\n")[0].split() == ["prompt", "of", "answer"]
    assert shown.out.count("Who are you?") == shown.out.count("Tell me more.") == 4
    replies = {sample["of"]: sample["reply"] for sample in told["samples"]}
    assert list(replies) == ["base", "tone/warm", "role/doctor", "all"]
    assert len(set(replies.values())) == 4
    assert "picture" not in told
