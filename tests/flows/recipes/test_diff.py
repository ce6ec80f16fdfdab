"""``lorareg diff`` on releases and recipes: from the manifest down to the weights."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lorareg.trainers.report.difference import draw, place
from lorareg.weights.adapter import LoraAdapter
from lorareg.weights.difference import compare
from tests.flows.conftest import git, lorareg
from tests.flows.recipes.conftest import Run
from tests.flows.recipes.shelved import INK, ZHANGSAN, commit
from tests.weights.composed import Shelf
from tests.weights.planted import SMALL, attention, sharing

NAME = "unet.mid_block.attentions.0.to_q"
LOUDER = LoraAdapter(
    {**INK.layers, NAME: replace(INK.layers[NAME], alpha=2 * INK.layers[NAME].alpha)}
)
(WIDER,) = sharing(SMALL, [8], 0.0, seed=5)


@pytest.fixture
def released(shelf: Shelf) -> Shelf:
    """style/ink@v1.0.0, whose bytes only DVC has now, and v1.1.0, one layer of it twice as loud."""
    keep(shelf, "v1.0.0", INK)
    keep(shelf, "v1.1.0", LOUDER)
    return shelf


def keep(shelf: Shelf, version: str, adapter: LoraAdapter) -> None:
    folder = shelf.root / "manifests/style/ink"
    shutil.rmtree(folder)
    shelf.add("style/ink", adapter, title={"zh": "墨"}, trigger=f"ink {version}")
    shelf.workspace.store.track(folder / "weights")
    commit(shelf.root, version)
    git(shelf.root, "tag", f"style/ink@{version}")


def test_a_louder_layer_is_the_one_that_changed(released: Shelf, run: Run) -> None:
    told = run("diff", "style/ink@v1.0.0", "--json").json

    assert [c["key"] for c in told["manifest"]] == ["trigger"]
    weights = told["weights"]
    changed = {x["module"]: x for x in weights["layers"] if x["change"]}
    assert changed.keys() == {NAME}
    assert changed[NAME]["change"] == pytest.approx(1.0)
    assert changed[NAME]["cosine"] == pytest.approx(1.0)
    assert [b["block"] for b in weights["blocks"] if b["change"]] == ["mid"]


def test_people_read_the_layers_that_moved_farthest(released: Shelf, run: Run) -> None:
    shown = run("diff", "style/ink@v1.0.0", "style/ink@v1.1.0")

    lines = [line for line in shown.out.splitlines() if "to_" in line]
    assert len(lines) == 1
    assert NAME in lines[0]
    assert "100.0%" in lines[0]
    assert "trigger: ink v1.0.0 -> ink v1.1.0" in shown.out


def test_the_same_state_has_no_difference(released: Shelf, run: Run) -> None:
    told = run("diff", "style/ink@v1.1.0", "style/ink", "--json").json

    assert (told["weights"]["change"], told["weights"]["cosine"]) == (0.0, 1.0)
    assert not any(told[key] for key in ("manifest", "inputs", "metrics", "terms", "members"))
    assert "the delta is the same" in run("diff", "style/ink@v1.1.0", "style/ink").out


def test_weights_that_are_nowhere_leave_the_rest_to_be_read(released: Shelf) -> None:
    shutil.rmtree(released.root / "manifests/style/ink/weights")
    file = released.root / "manifests/style/ink/weights.dvc"
    file.unlink()

    answer = lorareg(released.root, "diff", "style/ink@v1.0.0", "--json")

    assert answer.code == 0, answer.err
    assert "not here" in answer.json["weights"]["absent"]
    assert answer.json["manifest"]


def test_members_of_recipes_and_their_merged_files_are_compared(released: Shelf, run: Run) -> None:
    run("compose", "style/ink@v1.0.0:0.5+style/glow", "--as", "old", "--output", "exact")
    run("compose", "style/ink@v1.1.0:0.5+character/zhangsan", "--as", "new", "--output", "exact")

    told = run("diff", "recipe/old", "recipe/new", "--json").json

    members = {change["key"]: change for change in told["members"]}
    assert members.keys() == {"style/ink", "style/glow", "character/zhangsan"}
    assert members["style/ink"]["before"].startswith("style/ink@v1.0.0:0.5 ")
    assert members["style/glow"]["after"] is None
    assert told["weights"]["change"] > 0.5


def test_recipes_without_a_file_say_so(released: Shelf, run: Run) -> None:
    run("compose", "style/ink@v1.0.0:0.5+style/glow", "--as", "old", "--output", "recipe")

    answer = run("diff", "recipe/old", "recipe/old")

    assert "composed when it is used" in answer.err


def test_an_adapter_and_a_recipe_are_not_compared(released: Shelf, run: Run) -> None:
    run("compose", "style/ink@v1.0.0:0.5+style/glow", "--as", "old", "--output", "recipe")

    answer = lorareg(released.root, "diff", "recipe/old", "style/ink")

    assert answer.code == 2
    assert "an adapter and a recipe" in answer.err


def test_the_picture_is_written(released: Shelf, run: Run) -> None:
    file = released.root / "change.png"

    run("diff", "style/ink@v1.0.0", "--png", str(file))

    with Image.open(file) as picture:
        assert picture.format == "PNG"


def redness(path: Path) -> float:
    """How little green there is, from pale yellow to dark red."""
    with Image.open(path) as picture:
        return -float(np.mean(np.asarray(picture.convert("RGB"), dtype=float)[..., 1]))


def test_the_picture_is_redder_where_more_changed(tmp_path: Path) -> None:
    alike = {n: replace(x, alpha=x.alpha * 1.5) for n, x in INK.layers.items()}
    one, all_ = compare(INK, LOUDER), compare(INK, LoraAdapter(alike))

    pictures = [draw(tmp_path / f"{n}.png", d, "ink") for n, d in enumerate((one, all_))]

    assert redness(pictures[0]) < redness(pictures[1])


@pytest.mark.parametrize(
    ("before", "after"),
    [(INK, WIDER), (LoraAdapter({}), INK), (INK, LoraAdapter({})), (INK, INK), (INK, ZHANGSAN)],
)
def test_any_two_states_can_be_drawn(
    tmp_path: Path, before: LoraAdapter, after: LoraAdapter, recwarn: pytest.WarningsRecorder
) -> None:
    draw(tmp_path / "x.png", compare(before, after), "a -> b", ["张三", "Zhang San"])

    assert [str(w.message) for w in recwarn if "Glyph" in str(w.message)] == []


def test_a_layer_and_its_component_are_named_in_few_letters() -> None:
    found = {place(name) for name in attention(with_ff=True)}

    assert ("down.1.attn.0.block.0", "attn2.to_k") in found
    assert ("mid.attn.0", "proj_in") in found
    assert place("text_encoder.text_model.encoder.layers.3.self_attn.q_proj") == (
        "te.layers.3",
        "self_attn.q_proj",
    )


def test_the_document_is_json_for_every_program(released: Shelf, run: Run) -> None:
    assert "NaN" not in json.dumps(run("diff", "style/ink@v1.0.0", "--json").json)
