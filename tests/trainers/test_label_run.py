"""What becomes of captions: kept, appended to, replaced, marked, and never lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorareg.registry.dataset import scan
from lorareg.registry.digest import DigestCache
from lorareg.trainers.data.caption_marks import Marks
from lorareg.trainers.data.label import run
from lorareg.trainers.data.target import Target
from tests.trainers.captioning import (
    BLUE,
    GREEN,
    GREY,
    RED,
    captions_of,
    make_pictures,
    run_caption,
    write_captions,
)
from tests.trainers.tiny_tagger import make_tagger

SAYS = {RED: "red coat, bright (light)", BLUE: "hatsune miku, blue sky, bright (light)"}
VOCABULARY = """\
schema: lorareg/vocabulary/1
opening: [sci-fi laboratory]
groups:
  clothes: {terms: [crimson overcoat, lab coat]}
aliases: {red coat: crimson overcoat}
"""


@pytest.fixture(scope="module")
def tagger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tagger(tmp_path_factory.mktemp("models") / "tagger")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return make_pictures(tmp_path / "pictures", [RED, BLUE, RED])


def test_pictures_without_captions_get_them_and_each_is_marked(
    pictures: Path, tagger: Path
) -> None:
    answer = run_caption(pictures, "--model", tagger, "--json")

    captions = captions_of(pictures)
    marks = Marks.load(pictures)
    assert captions == {"00.png": SAYS[RED], "01.png": SAYS[BLUE], "02.png": SAYS[RED]}
    assert all(marks.is_machine(name, text) for name, text in captions.items())
    assert not any(marks.is_reviewed(name, text) for name, text in captions.items())
    assert {marks.by(name) for name in captions} == {answer.json["by"]}
    assert answer.json["by"].startswith("tagger@sha256:")
    assert answer.code == 0
    counts = ("labelled", "appended", "replaced", "kept")
    assert [answer.json[word] for word in counts] == [3, 0, 0, 0]


def test_captions_that_are_there_are_kept_unless_told(pictures: Path, tagger: Path) -> None:
    write_captions(pictures, {"00.png": "by hand", "01.png": " "})

    answer = run_caption(pictures, "--model", tagger)

    assert captions_of(pictures) == {"00.png": "by hand", "01.png": SAYS[BLUE],
                                     "02.png": SAYS[RED]}  # fmt: skip
    assert "2 labelled, 0 appended, 0 replaced, 1 kept, 0 skipped" in answer.out


def test_a_caption_is_kept_whoever_wrote_it(pictures: Path, tagger: Path) -> None:
    run_caption(pictures, "--model", tagger)
    before = (pictures / "metadata.csv").read_bytes()

    answer = run_caption(pictures, "--model", tagger, "--trigger", "other", "--json")

    assert answer.json["kept"] == 3
    assert answer.json["by"] is None
    assert (pictures / "metadata.csv").read_bytes() == before


def test_nothing_is_loaded_when_nothing_is_missing(pictures: Path) -> None:
    write_captions(pictures, dict.fromkeys(("00.png", "01.png", "02.png"), "by hand"))

    assert run_caption(pictures, "--model", "no/such-model").code == 0


def test_replace_overwrites_what_was_written_by_hand(pictures: Path, tagger: Path) -> None:
    write_captions(pictures, {"00.png": "by hand"})

    answer = run_caption(pictures, "--model", tagger, "--merge", "replace", "--json")

    assert captions_of(pictures)["00.png"] == SAYS[RED]
    assert (answer.json["replaced"], answer.json["labelled"]) == (1, 2)


def test_replace_does_not_ask_twice_for_what_would_be_the_same(
    pictures: Path, tagger: Path
) -> None:
    arguments = (pictures, "--model", tagger, "--merge", "replace", "--json")
    run_caption(*arguments)

    assert run_caption(*arguments).json["kept"] == 3
    assert run_caption(*arguments, "--threshold", "0.6").json["replaced"] == 3


def test_append_puts_what_is_new_behind_what_stands_there(pictures: Path, tagger: Path) -> None:
    write_captions(pictures, {"00.png": "zhangsan, red coat", "01.png": "张三站着。"})

    answer = run_caption(pictures, "--model", tagger, "--merge", "append", "--json")

    assert captions_of(pictures) == {
        "00.png": "zhangsan, red coat, bright (light)",
        "01.png": f"张三站着。 {SAYS[BLUE]}",
        "02.png": SAYS[RED],
    }
    assert (answer.json["appended"], answer.json["labelled"]) == (2, 1)


def test_append_a_second_time_changes_no_byte(pictures: Path, tagger: Path) -> None:
    write_captions(pictures, {"00.png": "zhangsan", "01.png": "blue sky, bright light"})
    run_caption(pictures, "--model", tagger, "--merge", "append")
    before = (pictures / "metadata.csv").read_bytes(), (pictures / "captions.json").read_bytes()

    answer = run_caption(pictures, "--model", tagger, "--merge", "append", "--json")

    after = (pictures / "metadata.csv").read_bytes(), (pictures / "captions.json").read_bytes()
    assert after == before
    assert answer.json["kept"] == 3


def test_a_hand_written_caption_that_says_it_all_stays_hand_written(
    pictures: Path, tagger: Path
) -> None:
    write_captions(pictures, {"00.png": "bright (light) on a red coat"})

    run_caption(pictures, "--model", tagger, "--merge", "append")

    assert captions_of(pictures)["00.png"] == "bright (light) on a red coat"
    assert not Marks.load(pictures).is_machine("00.png", "bright (light) on a red coat")


def test_a_machine_s_caption_edited_by_hand_is_a_person_s(pictures: Path, tagger: Path) -> None:
    run_caption(pictures, "--model", tagger)
    text = (pictures / "metadata.csv").read_text().replace("red coat", "scarlet coat")
    (pictures / "metadata.csv").write_text(text)

    run_caption(pictures, "--model", tagger, "--merge", "append")

    assert captions_of(pictures)["00.png"] == "scarlet coat, bright (light), red coat"


def test_other_columns_and_rows_of_the_table_stay(pictures: Path, tagger: Path) -> None:
    table = 'license,file_name,text\nCC0,00.png,"mine, all mine"\nMIT,01.png,\n'
    (pictures / "metadata.csv").write_text(table)

    run_caption(pictures, "--model", tagger)

    assert (pictures / "metadata.csv").read_text() == (
        'license,file_name,text\nCC0,00.png,"mine, all mine"\n'
        f'MIT,01.png,"{SAYS[BLUE]}"\n,02.png,"{SAYS[RED]}"\n'
    )


def test_captions_beside_the_pictures_are_taken_over(pictures: Path, tagger: Path) -> None:
    (pictures / "00.txt").write_text("by hand\n")

    run_caption(pictures, "--model", tagger)

    assert captions_of(pictures)["00.png"] == "by hand"


def test_new_captions_start_with_the_trigger(pictures: Path, tagger: Path) -> None:
    run_caption(pictures, "--model", tagger, "--trigger", "张三")

    assert captions_of(pictures)["00.png"] == f"张三, {SAYS[RED]}"


def test_an_adapter_s_own_trigger_and_skipped_pictures_count(
    registry: Path, tagger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_pictures(registry / "data" / "set", [RED, BLUE])
    manifest = registry / "manifests" / "character" / "zhangsan" / "manifest.yaml"
    manifest.parent.mkdir(parents=True)
    manifest.write_text(
        "schema: lorareg/1\nkind: character\nname: zhangsan\ntask: text-to-image\n"
        "base: {model: 'builtin:avatar'}\ntrigger: zzhangsan\n"
        "dataset: {path: data/set, skip: [01.png]}\n"
    )
    monkeypatch.chdir(registry)

    run_caption("character/zhangsan", "--model", tagger)

    assert captions_of(registry / "data" / "set") == {"00.png": f"zzhangsan, {SAYS[RED]}"}


def test_the_vocabulary_s_opening_and_terms_are_used(pictures: Path, tagger: Path) -> None:
    (pictures / "vocabulary.yaml").write_text(VOCABULARY)

    run_caption(pictures, "--model", tagger, "--trigger", "zhangsan")

    expected = "sci-fi laboratory, zhangsan, crimson overcoat, bright (light)"
    assert captions_of(pictures)["00.png"] == expected


def test_broken_pictures_are_named_and_the_others_labelled(pictures: Path, tagger: Path) -> None:
    whole = (pictures / "00.png").read_bytes()
    (pictures / "张三.png").write_bytes(whole[:60])
    (pictures / "no picture.jpg").write_bytes(b"hello")

    answer = run_caption(pictures, "--model", tagger, "--json")

    assert answer.code == 1
    assert answer.json["labelled"] == 3
    assert answer.json["skipped"].keys() == {"张三.png", "no picture.jpg"}
    assert "no JPEG, PNG or WebP" in answer.json["skipped"]["no picture.jpg"]
    assert "张三.png" in answer.err
    assert captions_of(pictures).keys() == {"00.png", "01.png", "02.png"}


def test_a_picture_of_which_the_model_says_nothing_is_named(pictures: Path, tagger: Path) -> None:
    make_pictures(pictures, [GREEN, RED, GREY])

    answer = run_caption(pictures, "--model", tagger, "--threshold", "0.9", "--json")

    assert answer.json["skipped"] == {"02.png": "the model said nothing"}
    assert captions_of(pictures).keys() == {"00.png", "01.png"}


def test_what_a_person_writes_during_the_run_is_kept(pictures: Path, tagger: Path) -> None:
    def write_by_hand(what: str, done: int, total: int) -> None:
        if done == 1:
            write_captions(pictures, {**captions_of(pictures), "02.png": "by hand, just now"})

    order = run.Order(str(tagger), batch_size=1)
    report = run.caption(Target(pictures, "pictures"), order, write_by_hand)

    assert captions_of(pictures)["02.png"] == "by hand, just now"
    assert (report.labelled, report.kept) == (2, 1)


def test_marks_do_not_change_the_dataset_s_digest(pictures: Path, tagger: Path) -> None:
    run_caption(pictures, "--model", tagger)
    before = scan(pictures, DigestCache(None)).digest

    (pictures / "captions.json").unlink()

    assert scan(pictures, DigestCache(None)).digest == before


def test_a_manifest_that_keeps_captions_elsewhere_is_told_so(
    registry: Path, tagger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_pictures(registry / "data" / "set", [RED])
    manifest = registry / "manifests" / "style" / "ink" / "manifest.yaml"
    manifest.parent.mkdir(parents=True)
    manifest.write_text(
        "schema: lorareg/1\nkind: style\nname: ink\ntask: text-to-image\n"
        "base: {model: 'builtin:avatar'}\ndataset: {path: data/set, captions: txt}\n"
    )
    monkeypatch.chdir(registry)

    answer = run_caption("style/ink", "--model", tagger)

    assert answer.code == 2
    assert "remove dataset.captions" in answer.err


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("{}\n")

    answer = run_caption(tmp_path)

    assert answer.code == 2
    assert "there are no pictures" in answer.err
