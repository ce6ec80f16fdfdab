"""The sample datasets are sound, and the tool that makes them keeps its promises."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import random
import shutil
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from lorareg.errors import InvalidFileError, NotFoundError
from lorareg.registry.dvc import pointer
from lorareg.registry.dvc.objects import Objects
from tools.samples import captions, characters, emoji, lorelei, npm, tone
from tools.samples.__main__ import main
from tools.samples.datasets import DATASETS, write
from tools.samples.picture import BACKGROUNDS, SIZE, Picture, render

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample datasets, as this repository's own DVC remote holds them."""
    top = tmp_path_factory.mktemp("data")
    remote = Objects(ROOT / "dvc-remote" / "files" / "md5")
    for file in sorted((ROOT / "data").glob("*.dvc")):
        tracked = pointer.read(ROOT, file)
        for name, source in remote.files(tracked).items():
            target = top / tracked.path.name / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    shutil.copytree(ROOT / "data" / "tone_pirate_heldout", top / "tone_pirate_heldout")
    shutil.copyfile(ROOT / "data" / "README.md", top / "README.md")
    return top


TRIGGERS = {
    "char_zhangsan": "zzhangsan",
    "char_mira": "mmira",
    "style_lorelei_ink": "lorelei style",
    "style_emoji_line": "emojiline style",
}
COUNTS = {
    "char_zhangsan": 48,
    "char_mira": 48,
    "style_lorelei_ink": 60,
    "style_emoji_line": 64,
}
PEOPLE = [characters.ZHANGSAN, characters.MIRA]
SQUARE = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 2 2"><rect width="1" height="2"/></svg>'
)
TWO = [Picture(SQUARE, "one, square"), Picture(SQUARE, 'two, "quoted"')]


def read_captions(folder: Path) -> dict[str, str]:
    """Picture file name to caption, whichever of the four forms the folder has."""
    table, lines = folder / "metadata.csv", folder / "metadata.jsonl"
    if table.exists():
        rows = list(csv.reader(table.open(encoding="utf-8", newline="")))
        return {name: text for name, text in rows if name != "file_name"}
    if lines.exists():
        records = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
        return {record["file_name"]: record["text"] for record in records}
    return {
        path.with_suffix(".png").name: path.read_text().strip() for path in folder.glob("*.txt")
    }


def read_rows(path: Path) -> list[tuple[str, str]]:
    """Question and answer of every row of a ``messages`` file."""
    rows = [json.loads(line)["messages"] for line in path.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        assert [message["role"] for message in row] == ["user", "assistant"]
    return [(row[0]["content"], row[1]["content"]) for row in rows]


# The committed datasets


@pytest.mark.parametrize("name", TRIGGERS)
def test_every_picture_has_a_caption_and_every_caption_a_picture(data: Path, name: str) -> None:
    pictures = {path.name for path in (data / name).glob("*.png")}

    assert set(read_captions(data / name)) == pictures
    assert len(pictures) == COUNTS[name]


@pytest.mark.parametrize("name", TRIGGERS)
def test_every_caption_holds_the_trigger_and_the_background(data: Path, name: str) -> None:
    for caption in read_captions(data / name).values():
        parts = caption.split(", ")

        assert TRIGGERS[name] in parts
        assert parts[-1].removesuffix(" background") in BACKGROUNDS


@pytest.mark.parametrize("name", TRIGGERS)
def test_the_corner_of_every_picture_has_the_colour_of_the_caption(data: Path, name: str) -> None:
    for file, caption in read_captions(data / name).items():
        with Image.open(data / name / file) as picture:
            assert picture.size == (SIZE, SIZE)
            assert picture.mode == "RGB"
            assert not picture.info
            corner = picture.getpixel((0, 0))

        word = caption.split(", ")[-1].removesuffix(" background")
        assert corner == tuple(bytes.fromhex(BACKGROUNDS[word]))


def test_no_picture_is_there_twice(data: Path) -> None:
    pictures = [path for name in TRIGGERS for path in (data / name).glob("*.png")]

    digests = Counter(hashlib.sha256(path.read_bytes()).hexdigest() for path in pictures)

    assert digests.most_common(1)[0][1] == 1


@pytest.mark.parametrize("name", DATASETS)
def test_every_text_file_is_plain_utf8_with_unix_line_ends(data: Path, name: str) -> None:
    for path in (data / name).iterdir():
        if path.suffix != ".png":
            content = path.read_bytes()

            assert not content.startswith("\ufeff".encode())
            assert b"\r" not in content
            assert content.endswith(b"\n")
            content.decode()


@pytest.mark.parametrize("name", DATASETS)
def test_every_dataset_names_its_authors_and_is_in_the_readme(data: Path, name: str) -> None:
    attribution = (data / name / "ATTRIBUTION.md").read_text(encoding="utf-8")

    assert attribution == (npm.HERE / "attribution" / f"{name}.md").read_text(encoding="utf-8")
    assert f"| `{name}` |" in (data / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "drawn"),
    [
        ("char_zhangsan", [item.caption for item in characters.drawings(characters.ZHANGSAN)]),
        ("char_mira", [item.caption for item in characters.drawings(characters.MIRA)]),
        ("style_lorelei_ink", [item.caption for item in lorelei.drawings()]),
    ],
)
def test_the_committed_captions_are_the_ones_the_tool_writes(
    data: Path, name: str, drawn: list[str]
) -> None:
    found = read_captions(data / name)

    assert [found[file] for file in sorted(found)] == drawn


def test_the_committed_pirate_talk_is_what_the_tool_writes(data: Path) -> None:
    written = {"tone_pirate": tone.train_files(), "tone_pirate_heldout": tone.heldout_files()}

    for folder, files in written.items():
        for name, content in files.items():
            assert (data / folder / name).read_bytes() == content, f"{folder}/{name}"


def test_every_answer_is_clearly_piratical_and_short(data: Path) -> None:
    train = read_rows(data / "tone_pirate" / "train.jsonl")
    heldout = read_rows(data / "tone_pirate_heldout" / "heldout.jsonl")

    assert (len(train), len(heldout)) == (100, 24)
    for _, answer in train + heldout:
        assert tone.is_pirate(answer), answer
        assert 5 <= len(answer.split()) <= 40, answer


def test_no_question_is_asked_twice_or_held_out_and_trained(data: Path) -> None:
    train = [question for question, _ in read_rows(data / "tone_pirate" / "train.jsonl")]
    folder = data / "tone_pirate_heldout"
    pairs = [question for question, _ in read_rows(folder / "heldout.jsonl")]
    questions = (folder / "questions.txt").read_text(encoding="utf-8").splitlines()

    assert len(questions) == 20
    assert not tone.seen_questions(pairs + questions, train)
    for asked in (train, pairs + questions):
        for index, question in enumerate(asked):
            assert not tone.seen_questions([question], asked[:index])


def test_the_markers_are_one_a_line(data: Path) -> None:
    lines = (data / "tone_pirate_heldout" / "markers.txt").read_text(encoding="utf-8").splitlines()

    assert lines == list(tone.MARKERS)
    assert all(tone.markers(line) == [line] for line in lines)


# Characters and styles


@pytest.mark.parametrize("person", PEOPLE, ids=lambda person: person.trigger)
def test_a_character_keeps_hair_skin_and_glasses_in_every_drawing(
    person: characters.Character,
) -> None:
    for item in characters.drawings(person):
        identity = person.identity[item.style]

        assert {part: item.options[part] for part in identity} == identity


@pytest.mark.parametrize("person", PEOPLE, ids=lambda person: person.trigger)
def test_captions_of_a_character_do_not_tell_who_it_is(person: characters.Character) -> None:
    for item in characters.drawings(person):
        assert item.caption.startswith(f"{person.trigger}, portrait, ")
        for word in ("hair", "bun", "glasses", "skin", "teal", "purple", "clothes"):
            assert word not in item.caption


@pytest.mark.parametrize("person", PEOPLE, ids=lambda person: person.trigger)
def test_no_drawing_of_a_character_comes_twice_and_backgrounds_are_even(
    person: characters.Character,
) -> None:
    drawn = characters.drawings(person)
    backgrounds = Counter(item.caption.split(", ")[-1] for item in drawn)

    assert len({json.dumps([item.style, item.options]) for item in drawn}) == len(drawn)
    assert max(backgrounds.values()) - min(backgrounds.values()) <= 1


@pytest.mark.parametrize(("part", "word"), [("beard", "beard"), ("earrings", "earrings")])
def test_a_style_caption_names_what_is_drawn_and_nothing_else(part: str, word: str) -> None:
    for item in lorelei.drawings():
        assert (word in item.caption.split(", ")) == (item.options[f"{part}Probability"] == 100)


def test_a_style_caption_tells_glasses_from_sunglasses() -> None:
    for item in lorelei.drawings():
        words = set(item.caption.split(", ")) & set(lorelei.GLASSES)
        drawn = item.options["glasses"] if item.options["glassesProbability"] else []

        assert words == {
            word for word, variants in lorelei.GLASSES.items() if drawn in [[v] for v in variants]
        }


def test_emoji_are_found_by_name_whatever_their_variation_selector(tmp_path: Path) -> None:
    icons = tmp_path / emoji.ICONS
    icons.mkdir(parents=True)
    (icons / "icons.json").write_text('{"icons": {"smile": {"body": "<path/>"}}}')
    (icons / "chars.json").write_text('{"263a": "smile"}')
    labels = tmp_path / "emojibase-data" / "en"
    labels.mkdir(parents=True)
    (labels / "data.json").write_text('[{"label": "smiling face", "hexcode": "263A-FE0F"}]')

    assert emoji.icon_bodies(tmp_path) == {"smiling face": "<path/>"}
    with pytest.raises(NotFoundError, match="grinning face"):
        emoji.pictures(tmp_path)


@pytest.mark.parametrize("person", PEOPLE, ids=lambda person: person.trigger)
def test_the_attribution_counts_the_pictures_of_each_designer(
    person: characters.Character,
) -> None:
    name = next(name for name, trigger in TRIGGERS.items() if trigger == person.trigger)
    attribution = (npm.HERE / "attribution" / f"{name}.md").read_text(encoding="utf-8")

    for style, count in person.pictures.items():
        assert f"| {characters.STYLE_WORDS[style]} | {count} |" in attribution


# Pictures, captions, files


def test_equal_drawings_give_equal_bytes_on_white() -> None:
    png = render(SQUARE)

    with Image.open(io.BytesIO(png)) as picture:
        assert picture.size == (SIZE, SIZE)
        assert picture.getpixel((0, 0)) == (0, 0, 0)
        assert picture.getpixel((SIZE - 1, 0)) == (255, 255, 255)
    assert png == render(SQUARE)


def test_the_caption_forms_say_the_same(tmp_path: Path) -> None:
    forms = {
        "plain": captions.as_csv(TWO, header=False),
        "header": captions.as_csv(TWO, header=True),
        "sidecars": captions.as_sidecars(TWO),
        "jsonl": captions.as_jsonl(TWO),
    }

    for name, files in forms.items():
        write(tmp_path / name, files)
        found = read_captions(tmp_path / name)
        assert found == {"img001.png": "one, square", "img002.png": 'two, "quoted"'}, name
    assert forms["plain"]["metadata.csv"].startswith(b'img001.png,"one, square"\n')
    assert forms["header"]["metadata.csv"].startswith(b"file_name,text\n")


def test_a_dataset_folder_holds_no_file_of_an_earlier_run(tmp_path: Path) -> None:
    write(tmp_path / "set", {"img001.png": b"1", "img002.png": b"2"})

    write(tmp_path / "set", {"img001.png": b"new"})

    assert [path.name for path in (tmp_path / "set").iterdir()] == ["img001.png"]
    assert (tmp_path / "set" / "img001.png").read_bytes() == b"new"


def test_missing_npm_packages_are_named_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    monkeypatch.setattr("sys.argv", ["samples", str(out), "--npm", str(tmp_path / "nowhere")])

    assert main() == 2
    assert "@dicebear/core: missing, not 9.4.3" in capsys.readouterr().err
    assert not out.exists()


# Pirate talk


def test_pirate_talk_is_the_same_every_time_and_leaves_the_dice_alone() -> None:
    random.seed(7)
    expected = random.random()
    random.seed(7)

    first = tone.pirate("The sea is deep, and you are my friend.")

    assert random.random() == expected
    assert first == tone.pirate("The sea is deep, and you are my friend.")


@pytest.mark.parametrize("name", ["train", "heldout"])
def test_plain_english_has_no_marker(name: str) -> None:
    for pair in tone.read_pairs(name):
        assert not tone.markers(f"{pair.question} {pair.answer} {pair.replied}")


def test_be_counts_only_where_english_would_say_is() -> None:
    assert not tone.markers("It can be cold, and it will be, or ought to be.")
    assert tone.markers("It be cold.") == ["It be"]


def test_an_answer_that_no_pirate_would_give_is_refused() -> None:
    with pytest.raises(InvalidFileError, match="Quantum"):
        tone.pirate("Quantum chromodynamics explains hadrons")


def test_a_pair_that_the_corpus_does_not_hold_is_refused() -> None:
    made_up = tone.Pair("food", "do you eat", "Only on Sundays.", "Do you eat?", "On Sundays.")

    with pytest.raises(InvalidFileError) as refused:
        tone.check_pairs([made_up])

    assert "Only on Sundays." in refused.value.why


def test_near_duplicates_of_training_questions_are_found() -> None:
    train = ["Tell me a joke.", "Who is Bilbo Baggins?"]

    assert tone.seen_questions(["tell me a joke!", "How are you?"], train) == ["tell me a joke!"]
