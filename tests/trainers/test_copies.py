"""Copies of a dataset: what is made, what is left out, what is never touched."""

from __future__ import annotations

import errno
import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from lorareg.errors import InvalidFileError, LoraregError
from lorareg.registry.digest import of_file
from lorareg.trainers.data.caption_files import read_captions
from lorareg.trainers.data.caption_marks import Marks
from lorareg.trainers.data.copies import provenance
from lorareg.trainers.data.copies.destination import copy_names
from lorareg.trainers.data.copies.picture import ENDINGS
from lorareg.trainers.data.copies.prepare import Outcome, Source, prepare
from lorareg.trainers.data.copies.provenance import Settings
from lorareg.trainers.data.images import load_image

SMALL = Settings(size=64)


def picture(path: Path, size: tuple[int, int], seed: int = 0, **saved: object) -> Path:
    """Smooth colours that no two seeds share."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(path, **saved)  # type: ignore[arg-type]
    return path


def digests(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): of_file(p) for p in folder.rglob("*") if p.is_file()}


def run(folder: Path, settings: Settings = SMALL, **how: object) -> Outcome:
    out = folder.with_name("out")
    return prepare(Source(folder), out, settings, lambda *_: None, **how)  # type: ignore[arg-type]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three good photographs with captions, one too small, one broken, one twice."""
    folder = tmp_path / "photos"
    exif = Image.Exif()
    exif.get_ifd(0x8825)[2] = (52.0, 31.0, 12.0)
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture(folder / "a.jpg", (200, 100), 1, exif=exif, icc_profile=icc, comment=b"by Ann")
    picture(folder / "张三" / "第 1 张.png", (90, 130), 2)
    picture(folder / "b.webp", (64, 64), 3, lossless=True)
    picture(folder / "small.png", (70, 40), 4)
    (folder / "torn.png").write_bytes((folder / "small.png").read_bytes()[:300])
    (folder / "twice.jpg").write_bytes((folder / "a.jpg").read_bytes())
    table = 'file_name,text\na.jpg,"a, tree"\n张三/第 1 张.png,张三，微笑\nb.webp,b\n'
    (folder / "metadata.csv").write_text(table, encoding="utf-8")
    return folder


def name_of(outcome: Outcome, source: str) -> str:
    return next(n for n, copy in outcome.provenance.copies.items() if copy.source == source)


def test_every_picture_has_a_copy_or_a_reason(photos: Path, tmp_path: Path) -> None:
    outcome = run(photos)

    reasons = {e.source: (e.reason, e.why) for e in outcome.provenance.left_out}
    assert sorted(copy.source for copy in outcome.provenance.copies.values()) == [
        "a.jpg", "b.webp", "张三/第 1 张.png",
    ]  # fmt: skip
    assert reasons.pop("torn.png")[0] == "broken"
    assert reasons == {
        "small.png": ("too small", "70x40, would have to be enlarged to fill 64x64"),
        "twice.jpg": ("duplicate", "the same file as a.jpg"),
    }
    assert not outcome.ok
    assert {load_image(tmp_path / "out" / n).size for n in outcome.provenance.copies} == {(64, 64)}


def test_the_originals_are_not_touched(photos: Path) -> None:
    before = digests(photos)

    run(photos)

    assert digests(photos) == before


def test_captions_follow_their_pictures_under_the_new_names(photos: Path, tmp_path: Path) -> None:
    outcome = run(photos)

    captions = read_captions(tmp_path / "out", list(outcome.provenance.copies), None)
    assert captions == {
        name_of(outcome, "a.jpg"): "a, tree",
        name_of(outcome, "张三/第 1 张.png"): "张三，微笑",
        name_of(outcome, "b.webp"): "b",
    }
    assert name_of(outcome, "张三/第 1 张.png").startswith("第-1-张-")


@pytest.mark.parametrize("form", ["txt", "metadata.jsonl"])
def test_captions_come_over_from_any_form(tmp_path: Path, form: str) -> None:
    picture(tmp_path / "in" / "a.png", (64, 64))
    if form == "txt":
        (tmp_path / "in" / "a.txt").write_text("a tree\n", encoding="utf-8")
    else:
        row = {"file_name": "a.png", "text": "a tree"}
        (tmp_path / "in" / form).write_text(json.dumps(row), encoding="utf-8")

    (name,) = run(tmp_path / "in").provenance.copies

    assert read_captions(tmp_path / "out", [name], None) == {name: "a tree"}


def test_a_copy_can_be_made_again_from_what_its_provenance_says(
    photos: Path, tmp_path: Path
) -> None:
    outcome = run(photos, Settings(size=64, shape="square"))

    for name, copy in provenance.load(tmp_path / "out").copies.items():  # type: ignore[union-attr]
        original = load_image(photos / copy.source)
        again = original.resize(copy.size, Image.Resampling.LANCZOS, box=copy.box)
        assert np.array_equal(np.asarray(again), np.asarray(load_image(tmp_path / "out" / name)))
        assert of_file(photos / copy.source) == copy.source_sha256
        assert of_file(tmp_path / "out" / name) == copy.sha256
    assert outcome.provenance == provenance.load(tmp_path / "out")


def test_a_cut_without_shrinking_copies_pixels(tmp_path: Path) -> None:
    picture(tmp_path / "in" / "a.png", (64, 97))

    (name,) = run(tmp_path / "in").provenance.copies

    original = np.asarray(load_image(tmp_path / "in" / "a.png"))
    assert np.array_equal(np.asarray(load_image(tmp_path / "out" / name)), original[16:80])


def chunks(png: bytes) -> list[bytes]:
    found, place = [], 8
    while place < len(png):
        (length,) = struct.unpack(">I", png[place : place + 4])
        found.append(png[place + 4 : place + 8])
        place += length + 12
    return found


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_copy_holds_pixels_and_nothing_else(photos: Path, tmp_path: Path, ending: str) -> None:
    outcome = run(photos, Settings(size=64, format=ending))  # type: ignore[arg-type]

    name = name_of(outcome, "a.jpg")
    data = (tmp_path / "out" / name).read_bytes()
    assert outcome.provenance.copies[name].stripped == ("EXIF", "GPS", "ICC", "comment")
    assert name.endswith(ENDINGS[ending])
    assert not any(word in data.lower() for word in (b"exif", b"icc", b"xmp", b"ann", b"gps"))
    if ending == "png":
        assert set(chunks(data)) == {b"IHDR", b"IDAT", b"IEND"}


def test_two_runs_give_equal_bytes_whatever_the_number_of_processes(
    photos: Path, tmp_path: Path
) -> None:
    for number in range(6):
        picture(photos / f"more{number}.png", (80 + number, 90), 10 + number)

    run(photos, Settings(size=64, shape="buckets"), workers=1)
    (tmp_path / "out").rename(tmp_path / "first")
    run(photos, Settings(size=64, shape="buckets"), workers=2)

    assert digests(tmp_path / "out") == digests(tmp_path / "first")


def test_small_pictures_are_enlarged_only_when_that_is_asked_for(photos: Path) -> None:
    outcome = run(photos, Settings(size=64, upscale=True))

    enlarged = [c.source for c in outcome.provenance.copies.values() if c.enlarged]
    assert enlarged == ["small.png"]
    assert outcome.provenance.copies[name_of(outcome, "small.png")].scale == 1.6


def test_pictures_go_to_the_bucket_of_their_aspect(tmp_path: Path) -> None:
    picture(tmp_path / "in" / "wide.png", (800, 300), 1)
    picture(tmp_path / "in" / "tall.png", (200, 390), 2)
    picture(tmp_path / "in" / "square.png", (200, 210), 3)

    copies = run(tmp_path / "in", Settings(size=128, shape="buckets")).provenance.copies

    assert {copy.source: copy.size for copy in copies.values()} == {
        "wide.png": (192, 64), "tall.png": (64, 192), "square.png": (128, 128),
    }  # fmt: skip


def test_files_that_differ_but_show_the_same_are_one_copy(tmp_path: Path) -> None:
    picture(tmp_path / "in" / "a.png", (64, 64), 1)
    Image.open(tmp_path / "in" / "a.png").save(tmp_path / "in" / "b.webp", lossless=True)
    (tmp_path / "in" / "b.txt").write_text("only b has a caption", encoding="utf-8")

    first = run(tmp_path / "in")
    again = run(tmp_path / "in")

    (copy,) = first.provenance.copies.values()
    (left,) = first.provenance.left_out
    assert copy.source == "b.webp"
    assert (left.source, left.reason, left.why) == (
        "a.png",
        "duplicate",
        "the same pixels as b.webp",
    )
    assert first.provenance.duplicates_removed == 1
    assert len(list((tmp_path / "out").glob("*.png"))) == 1
    assert (again.made, again.provenance) == (0, first.provenance)


def test_a_second_run_does_nothing_twice(photos: Path, tmp_path: Path) -> None:
    first = run(photos)
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*.png")}

    second = run(photos)

    assert (first.made, second.made) == (3, 0)
    assert second.provenance == first.provenance
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*.png")} == times


def test_after_a_kill_only_what_is_missing_is_made(photos: Path, tmp_path: Path) -> None:
    done: list[int] = []

    def killed(what: str, finished: int, total: int) -> None:
        done.append(finished)
        if finished == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(Source(photos), tmp_path / "out", SMALL, killed)
    outcome = run(photos)

    assert done == [0, 1, 2]
    assert outcome.made == 1
    assert len(outcome.provenance.copies) == 3
    assert len(read_captions(tmp_path / "out", [], None)) == 3


def test_names_stay_when_a_picture_is_added_and_go_with_a_picture(
    photos: Path, tmp_path: Path
) -> None:
    first = run(photos)
    picture(photos / "0.png", (64, 70), 9)
    (photos / "b.webp").unlink()
    table = (photos / "metadata.csv").read_text(encoding="utf-8").replace("b.webp,b\n", "")
    (photos / "metadata.csv").write_text(table, encoding="utf-8")

    second = run(photos)

    gone = name_of(first, "b.webp")
    assert second.removed == (gone,)
    assert not (tmp_path / "out" / gone).exists()
    assert gone not in read_captions(tmp_path / "out", [], None)
    assert second.provenance.copies.keys() - first.provenance.copies.keys() == {
        name_of(second, "0.png")
    }


def test_a_caption_edited_among_the_copies_stays_and_others_follow_the_dataset(
    photos: Path, tmp_path: Path
) -> None:
    first = run(photos)
    edited, followed = name_of(first, "a.jpg"), name_of(first, "b.webp")
    table = tmp_path / "out" / "metadata.csv"
    table.write_text(table.read_text(encoding="utf-8").replace("a, tree", "an old oak"))
    source = (photos / "metadata.csv").read_text(encoding="utf-8")
    source = source.replace("a, tree", "a birch").replace("webp,b", "webp,a bee")
    (photos / "metadata.csv").write_text(source, encoding="utf-8")

    run(photos)

    captions = read_captions(tmp_path / "out", [], None)
    assert (captions[edited], captions[followed]) == ("an old oak", "a bee")


def test_a_caption_that_equals_the_datasets_is_the_datasets(photos: Path, tmp_path: Path) -> None:
    before = run(photos).provenance
    uncarried = {n: c.model_copy(update={"caption": None}) for n, c in before.copies.items()}
    before.model_copy(update={"copies": uncarried}).save(tmp_path / "out")

    assert run(photos).provenance == before


def test_machine_written_captions_are_still_marked_among_the_copies(
    photos: Path, tmp_path: Path
) -> None:
    Marks().mark("a.jpg", "a, tree", "blip").save(photos)

    outcome = run(photos)

    marks = Marks.load(tmp_path / "out")
    assert marks.is_machine(name_of(outcome, "a.jpg"), "a, tree")
    assert not marks.is_machine(name_of(outcome, "b.webp"), "b")


def test_vocabulary_and_licence_come_along_until_they_are_edited(
    photos: Path, tmp_path: Path
) -> None:
    (photos / "vocabulary.yaml").write_text("old", encoding="utf-8")
    (photos / "ATTRIBUTION.md").write_text("by Ann", encoding="utf-8")
    run(photos)
    (tmp_path / "out" / "ATTRIBUTION.md").write_text("by Ann, cut", encoding="utf-8")
    (photos / "vocabulary.yaml").write_text("new", encoding="utf-8")
    (photos / "ATTRIBUTION.md").write_text("by Ann Lee", encoding="utf-8")

    run(photos)

    assert (tmp_path / "out" / "vocabulary.yaml").read_text(encoding="utf-8") == "new"
    assert (tmp_path / "out" / "ATTRIBUTION.md").read_text(encoding="utf-8") == "by Ann, cut"


def test_a_dry_run_finds_the_same_and_writes_nothing(photos: Path, tmp_path: Path) -> None:
    planned = run(photos, dry_run=True)

    assert not (tmp_path / "out").exists()
    made = run(photos)
    assert planned.provenance.left_out == made.provenance.left_out
    assert {n: c.sha256 for n, c in planned.provenance.copies.items()} == {
        n: c.sha256 for n, c in made.provenance.copies.items()
    }


def test_a_dry_run_counts_captions_and_licences_as_the_run_does(
    photos: Path, tmp_path: Path
) -> None:
    (photos / "ATTRIBUTION.md").write_text("by Ann", encoding="utf-8")

    planned = run(photos, dry_run=True)
    made = run(photos)
    table = (photos / "metadata.csv").read_text(encoding="utf-8")
    (photos / "metadata.csv").write_text(table.replace("a, tree", "an oak"), encoding="utf-8")
    before = digests(tmp_path / "out")
    planned_again = run(photos, dry_run=True)
    written = digests(tmp_path / "out")
    made_again = run(photos)

    assert sum(copy.caption is not None for copy in made.provenance.copies.values()) == 3
    assert planned == made
    assert written == before
    assert planned_again == made_again
    assert made_again.provenance != made.provenance


def test_pictures_of_other_formats_are_left_out_by_name(photos: Path, tmp_path: Path) -> None:
    for name in ("torn.png", "small.png"):
        (photos / name).unlink()
    assert run(photos).ok
    for name in ("张三/第 2 张.HEIC", "old.gif", ".hidden.gif", "skipped.bmp"):
        (photos / name).write_bytes(b"anything")

    source = Source(photos, skip=("skipped.bmp",))
    outcome = prepare(source, tmp_path / "out", SMALL, lambda *_: None)

    assert [(e.source, e.why) for e in outcome.provenance.without("unread")] == [
        ("old.gif", ".gif pictures are not read; convert them to .png or .jpg"),
        ("张三/第 2 张.HEIC", ".heic pictures are not read; convert them to .png or .jpg"),
    ]
    assert not outcome.ok
    assert provenance.load(tmp_path / "out") == outcome.provenance
    assert run(photos).provenance.without("unread")[0].source == "old.gif"


def test_an_unread_picture_whose_name_is_not_utf8_is_named_as_far_as_it_can_be(
    photos: Path,
) -> None:
    try:
        (photos / os.fsdecode(b"\xff.gif")).write_bytes(b"anything")
    except OSError:
        pytest.skip("this file system has no such names")

    outcome = run(photos)

    assert [entry.source for entry in outcome.provenance.without("unread")] == ["\ufffd.gif"]


@pytest.mark.parametrize("where", [".", "inside", "..", "link"])
def test_copies_never_go_into_or_around_the_dataset(photos: Path, where: str) -> None:
    (photos.parent / "link").symlink_to(photos)
    out = photos.parent / "link" / "new" if where == "link" else photos / where
    before = digests(photos.parent)

    with pytest.raises(LoraregError, match="overlaps the dataset"):
        prepare(Source(photos), out, SMALL, lambda *_: None)

    assert digests(photos.parent) == before


def test_a_folder_with_other_files_is_refused(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine", encoding="utf-8")

    with pytest.raises(LoraregError, match="is not empty"):
        run(photos)

    assert os.listdir(tmp_path / "out") == ["mine.txt"]


def test_copies_made_in_another_way_are_refused_with_the_difference(photos: Path) -> None:
    run(photos)

    with pytest.raises(LoraregError, match="made in another way") as caught:
        run(photos, Settings(size=128))

    assert "size: 64 there, 128 now" in caught.value.why


def test_a_copy_that_somebody_retouched_is_not_overwritten(photos: Path, tmp_path: Path) -> None:
    name = name_of(run(photos), "a.jpg")
    picture(tmp_path / "out" / name, (64, 64), 99)
    before = digests(tmp_path / "out")

    with pytest.raises(InvalidFileError) as caught:
        run(photos)

    assert name in caught.value.why
    assert digests(tmp_path / "out") == before


def test_other_libraries_make_all_copies_anew(photos: Path, tmp_path: Path) -> None:
    run(photos)
    path = tmp_path / "out" / "provenance.json"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('"pillow": "', '"pillow": "0.'), encoding="utf-8")

    outcome = run(photos)

    assert outcome.made == 3
    assert path.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("name", ["../photos/a.jpg", "/etc/passwd", ".hidden", "a\\b", ""])
def test_a_provenance_that_names_files_elsewhere_is_refused(
    photos: Path, tmp_path: Path, name: str
) -> None:
    run(photos)
    path = tmp_path / "out" / "provenance.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    document["copies"][name] = next(iter(document["copies"].values()))
    path.write_text(json.dumps(document), encoding="utf-8")

    with pytest.raises(InvalidFileError, match=r"provenance\.json"):
        run(photos)


def test_a_full_disk_is_said_in_three_lines_and_the_run_goes_on_later(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, written = os.fsync, []

    def full(descriptor: int) -> None:
        written.append(descriptor)
        if len(written) > 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LoraregError) as caught:
        run(photos)
    monkeypatch.undo()
    outcome = run(photos)

    assert "No space left" in caught.value.why
    assert "make room" in caught.value.fix
    assert len(outcome.provenance.copies) == 3
    assert not list((tmp_path / "out").glob("*.tmp"))


def test_an_error_of_another_process_keeps_its_three_lines(photos: Path, tmp_path: Path) -> None:
    outcome = run(photos, dry_run=True)
    for name in outcome.provenance.copies:
        (tmp_path / "out" / name / "in the way").mkdir(parents=True)
    (tmp_path / "out" / "provenance.json").write_text(
        json.dumps({**outcome.provenance.document(), "copies": {}}), encoding="utf-8"
    )

    with pytest.raises(LoraregError, match="cannot write") as caught:
        run(photos, workers=2)

    assert "move away what is in the way" in caught.value.fix


NAMES = st.text(min_size=1, max_size=300).filter(lambda text: "/" not in text and "\0" not in text)


@given(st.dictionaries(NAMES, st.integers(0, 3), min_size=1, max_size=6))
def test_names_of_copies_work_everywhere_and_none_is_given_twice(given: dict[str, int]) -> None:
    pictures = {
        name: f"sha256:{number:08x}{i:056x}" for i, (name, number) in enumerate(given.items())
    }

    names = copy_names(pictures, ".png")

    assert names.keys() == pictures.keys()
    assert len({name.casefold() for name in names.values()}) == len(names)
    for name in names.values():
        assert len(name.encode()) <= 200
        assert not set(name) & set('/\\:*?"<>| \t\n\0')
        assert not name.startswith((".", "-"))
