"""Planted defects are found, all of them and at their files, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFilter

from lorareg.registry import dataset
from lorareg.registry.digest import DigestCache
from lorareg.registry.image_training import Buckets
from lorareg.trainers.data.check.findings import Finding
from lorareg.trainers.data.check.pictures import findings
from lorareg.trainers.data.check.probes import probe_all
from tests.trainers.check_photos import photo

SAMPLES = Path(__file__).parents[2] / "data"
SIZE = (288, 256)


def found(
    folder: Path,
    *,
    resolution: int = 256,
    kind: str | None = None,
    held_out: Collection[str] = (),
    buckets: Buckets | None = None,
    alpha_is_mask: bool = False,
) -> list[Finding]:
    listing = dataset.scan(folder, DigestCache(None))
    files = {name: folder / name for name in listing.images}
    facts, broken = probe_all(files, listing.files, None, lambda done: None)
    return findings(
        facts, broken, listing.files, resolution=resolution, kind=kind, held_out=held_out,
        buckets=buckets, alpha_is_mask=alpha_is_mask,
    )  # fmt: skip


def said(found: Collection[Finding]) -> set[tuple[str, str, tuple[str, ...]]]:
    return {(finding.code, finding.severity, finding.files) for finding in found}


def good(folder: Path, count: int = 6) -> Path:
    folder.mkdir()
    for number in range(count):
        photo(number, SIZE).save(folder / f"good{number}.jpg", quality=92)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return good(tmp_path / "faces")


def test_good_pictures_have_no_finding(folder: Path) -> None:
    assert found(folder) == []


PLANTED: dict[str, tuple[str, str, Callable[[Path], object]]] = {
    "cut short.jpg": ("broken", "error", lambda path: path.write_bytes(
        (path.parent / "good0.jpg").read_bytes()[:4000])),
    "none.png": ("broken", "error", lambda path: path.write_bytes(b"")),
    "小.png": ("too-small", "error", lambda path: photo(20, (300, 200)).save(path)),
    "soft.png": ("blurry", "warning", lambda path: photo(21, SIZE).filter(
        ImageFilter.GaussianBlur(3)).save(path)),
    "night.png": ("near-black", "warning", lambda path: noise(4, 10).save(path)),
    "snow.png": ("near-white", "warning", lambda path: noise(250, 3).save(path)),
    "fog.png": ("no-content", "warning", lambda path: noise(128, 3).save(path)),
    "print.jpg": ("colour-mode", "warning", lambda path: photo(22, SIZE).convert(
        "CMYK").save(path)),
    "web.png": ("colour-mode", "note", lambda path: photo(23, SIZE).quantize(64).save(path)),
    "scan.png": ("colour-mode", "note", lambda path: Image.fromarray(
        np.asarray(photo(24, SIZE).convert("L")).astype(np.uint16) * 257).save(path)),
    "cut out.png": ("transparency", "warning", lambda path: cut_out().save(path)),
    "wide gamut.jpg": ("colour-profile", "warning", lambda path: photo(26, SIZE).save(
        path, icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes())),
    "sideways.jpg": ("orientation", "note", lambda path: photo(27, SIZE).save(path, exif=turned())),
    "home.jpg": ("gps", "warning", lambda path: photo(28, SIZE).save(path, exif=located())),
    "dance 🐼.webp": ("animation", "warning", lambda path: photo(29, SIZE).save(
        path, save_all=True, append_images=[photo(30, SIZE)])),
    "jpeg.png": ("ending", "note", lambda path: photo(31, SIZE).save(path, format="JPEG")),
    "banner.png": ("odd-aspect", "warning", lambda path: photo(32, (1000, 260)).save(path)),
}  # fmt: skip


def noise(light: int, spread: int) -> Image.Image:
    values = np.random.default_rng(1).normal(light, spread / 3, (SIZE[1], SIZE[0], 3))
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def cut_out() -> Image.Image:
    image = photo(25, SIZE).convert("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, 40, 40))
    return image


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def located() -> Image.Exif:
    exif = Image.Exif()
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 8.0, 0.0), 3: "E", 4: (11.0, 34.0, 0.0)})
    return exif


def test_every_planted_defect_is_found_at_its_file_and_nothing_else(folder: Path) -> None:
    for name, (_, _, plant) in PLANTED.items():
        plant(folder / name)
    (folder / "twin.jpg").write_bytes((folder / "good1.jpg").read_bytes())
    Image.open(folder / "good2.jpg").resize((576, 512)).save(folder / "again.jpg", quality=40)

    planted = {(code, severity, (name,)) for name, (code, severity, _) in PLANTED.items()}
    planted.add(("duplicate", "warning", ("good1.jpg", "twin.jpg")))
    planted.add(("near-duplicate", "warning", ("again.jpg", "good2.jpg")))
    assert said(found(folder)) == planted


def test_every_finding_says_why_and_what_to_do(folder: Path) -> None:
    for name, (_, _, plant) in PLANTED.items():
        plant(folder / name)

    assert all(finding.why and finding.fix for finding in found(folder, kind="scene"))


def test_the_least_side_is_the_resolution_that_is_trained_at(folder: Path) -> None:
    small = found(folder, resolution=257)

    assert {finding.code for finding in small} == {"too-small"}
    assert small[0].why == "288x256, the shorter side is below 257 pixels"
    assert len(small) == 6


def test_a_picture_that_fills_its_bucket_is_not_too_small_though_its_shorter_side_is(
    folder: Path,
) -> None:
    photo(40, (192, 320)).save(folder / "upright.png")
    photo(41, (96, 160)).save(folder / "small.png")
    photo(42, (48, 400)).save(folder / "tiny.png")
    photo(43, (64, 1000)).save(folder / "strip.png")

    squares = {finding.files for finding in found(folder) if finding.code == "too-small"}
    shapes = found(folder, buckets=Buckets())
    enlarged = found(folder, buckets=Buckets(upscale=True))

    assert squares == {("small.png",), ("strip.png",), ("tiny.png",), ("upright.png",)}
    assert said(shapes) == {
        ("too-small", "error", ("tiny.png",)),
        ("odd-aspect", "warning", ("strip.png",)),
    }
    assert {finding.why for finding in shapes} == {
        "48x400, a side is below train.buckets.step, 64 pixels",
        "64x1000: its bucket 64x256 is 26% of it",
    }
    assert {finding.code for finding in enlarged} == {"odd-aspect"}


def test_transparency_that_is_a_mask_is_nothing_to_mend(folder: Path) -> None:
    cut_out().save(folder / "cut out.png")

    assert found(folder, alpha_is_mask=True) == []


def test_a_picture_on_both_sides_of_the_split_is_leakage(folder: Path) -> None:
    (folder / "twin.jpg").write_bytes((folder / "good1.jpg").read_bytes())
    Image.open(folder / "good2.jpg").resize((576, 512)).save(folder / "again.jpg", quality=40)

    across = found(folder, held_out={"twin.jpg", "good2.jpg"})
    beside = found(folder, held_out={"good0.jpg"})
    within = found(folder, held_out={"good1.jpg", "twin.jpg", "good2.jpg", "again.jpg"})

    assert said(across) == {
        ("leakage", "warning", ("good1.jpg", "twin.jpg")),
        ("leakage", "warning", ("again.jpg", "good2.jpg")),
    }
    assert "twin.jpg held out to validate, good1.jpg trained on" in across[0].why
    assert said(beside) == said(within) == {
        ("duplicate", "warning", ("good1.jpg", "twin.jpg")),
        ("near-duplicate", "warning", ("again.jpg", "good2.jpg")),
    }  # fmt: skip


def test_a_near_duplicate_names_the_exact_copies_too(folder: Path) -> None:
    (folder / "twin.jpg").write_bytes((folder / "good1.jpg").read_bytes())
    Image.open(folder / "good1.jpg").save(folder / "again.jpg", quality=40)

    assert ("near-duplicate", "warning", ("again.jpg", "good1.jpg", "twin.jpg")) in said(
        found(folder)
    )


def test_black_frames_are_not_duplicates_of_one_another(folder: Path) -> None:
    for level in (1, 2, 3):
        Image.new("RGB", SIZE, (level, level, level)).save(folder / f"black{level}.png")

    assert {finding.code for finding in found(folder)} == {"near-black"}


@pytest.mark.parametrize(
    ("kind", "fewest"), [("character", 50), ("scene", 100), ("style", 10), (None, None)]
)
def test_too_few_is_a_matter_of_the_kind(
    folder: Path, kind: str | None, fewest: int | None
) -> None:
    few = found(folder, kind=kind)

    assert [finding.code for finding in few] == ["too-few"] * (fewest is not None)
    assert all(f"6 pictures; a LoRA of kind {kind} needs about {fewest}" in f.why for f in few)


@pytest.mark.parametrize(
    "name", ["char_zhangsan", "char_mira", "style_lorelei_ink", "style_emoji_line"]
)
def test_drawings_of_one_character_on_flat_backgrounds_raise_no_false_alarm(name: str) -> None:
    if not (SAMPLES / name).is_dir():
        pytest.skip("the sample pictures are not pulled")

    assert found(SAMPLES / name, resolution=64) == []


def test_a_directory_loop_and_a_link_out_are_refused_before_any_decoding(
    folder: Path, tmp_path: Path
) -> None:
    from lorareg.errors import InvalidFileError

    (folder / "again").symlink_to(folder)
    (folder / "round").symlink_to("round")
    photo(1).save(tmp_path / "outside.png")
    (folder / "out.png").symlink_to(tmp_path / "outside.png")

    with pytest.raises(InvalidFileError) as caught:
        found(folder)

    assert "'again': it is a link to a folder" in caught.value.why
    assert "'out.png': it links out of the dataset" in caught.value.why
