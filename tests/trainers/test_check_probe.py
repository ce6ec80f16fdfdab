"""What is known of one picture, and which ones are broken."""

from __future__ import annotations

import json
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageEnhance, ImageFilter

from lorareg.errors import InvalidFileError
from lorareg.trainers.data.check.probe import THUMB, Facts, phash, probe, sharpness, tint
from lorareg.trainers.data.images import load_image
from tests.trainers.check_photos import photo


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    whole = b"\x89PNG\r\n\x1a\n"
    for kind, data in chunks:
        check = struct.pack(">I", zlib.crc32(kind + data))
        whole += struct.pack(">I", len(data)) + kind + data + check
    return whole


def header(width: int, height: int, bits: int = 8, colour: int = 2) -> tuple[bytes, bytes]:
    return b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)


def bomb() -> bytes:
    """30,000 x 30,000 pixels of one bit in 110 KB, all of them there."""
    row = zlib.compress(bytes(1 + 30_000 // 8) * 30_000, 9)
    return png(header(30_000, 30_000, 1, 0), (b"IDAT", row), (b"IEND", b""))


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)  # type: ignore[arg-type]
    return path


@pytest.fixture(autouse=True)
def _quiet() -> object:
    """As ``probe_all`` does it: Pillow warns of damaged metadata."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def broken_chunk(path: Path) -> None:
    data = bytearray(saved(path, photo(1)).read_bytes())
    data[data.index(b"IDAT") + 40] ^= 0xFF
    path.write_bytes(data)


BROKEN = {
    "empty.png": lambda path: path.write_bytes(b""),
    "text.jpg": lambda path: path.write_text("<html>not found</html>"),
    "chunk.png": broken_chunk,
    "short.jpg": lambda path: path.write_bytes(saved(path, photo(1)).read_bytes()[:-900]),
    "short.webp": lambda path: path.write_bytes(saved(path, photo(1)).read_bytes()[:-900]),
    "gif.png": lambda path: saved(path, photo(1), format="GIF", save_all=True,
                                  append_images=[photo(2)]),
    "bomb.png": lambda path: path.write_bytes(bomb()),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_trained_on_is_refused_with_a_reason(tmp_path: Path, name: str) -> None:
    BROKEN[name](tmp_path / name)

    with pytest.raises(InvalidFileError, match=f"{name} cannot be decoded") as caught:
        probe(tmp_path / name)

    assert caught.value.why
    with pytest.raises(InvalidFileError):
        load_image(tmp_path / name)


def test_a_bomb_is_named_as_one(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(bomb())

    with pytest.raises(InvalidFileError) as caught:
        probe(tmp_path / "a.png")

    assert "more than 178 million pixels" in caught.value.why


@pytest.mark.parametrize("ending", [".png", ".jpg", ".webp"])
def test_what_is_damaged_at_random_is_broken_only_if_it_cannot_be_loaded(
    tmp_path: Path, ending: str
) -> None:
    random = np.random.default_rng(3)
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 8.0, 0.0), 3: "E", 4: (11.0, 34.0, 0.0)})
    path = saved(tmp_path / f"a{ending}", photo(1, (48, 40)), exif=exif)
    whole = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    seen = {True: 0, False: 0}
    for _ in range(200):
        data = whole.copy()
        places = random.integers(0, len(data), random.integers(1, 6))
        data[places] = random.integers(0, 256, len(places))
        path.write_bytes(data.tobytes())

        outcomes = [_refused(probe, path), _refused(load_image, path)]

        assert outcomes[0] == outcomes[1]
        seen[outcomes[0]] += 1
    assert all(seen.values())


def _refused(decode: object, path: Path) -> bool:
    try:
        decode(path)  # type: ignore[operator]
    except InvalidFileError:
        return True
    return False


def test_facts_are_json_and_come_back_the_same(tmp_path: Path) -> None:
    facts = probe(saved(tmp_path / "🐼 张三.png", photo(1)))

    assert Facts.of(json.loads(json.dumps(facts.document()))) == facts


def test_a_picture_of_one_pixel_is_measured(tmp_path: Path) -> None:
    facts = probe(saved(tmp_path / "a.png", Image.new("RGB", (1, 1), "red")))

    assert (facts.width, facts.height, facts.sharpness) == (1, 1, None)


@pytest.mark.parametrize("ending", [".jpg", ".png", ".webp"])
def test_the_size_is_the_one_people_see(tmp_path: Path, ending: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6

    facts = probe(saved(tmp_path / f"a{ending}", photo(1, (160, 128)), exif=exif))

    assert (facts.width, facts.height, facts.orientation) == (128, 160, 6)


@pytest.mark.parametrize(
    ("mode", "ending", "found", "transparent"),
    [
        ("RGB", ".png", "RGB", False),
        ("L", ".jpg", "L", False),
        ("CMYK", ".jpg", "CMYK", False),
        ("P", ".png", "P", False),
        ("1", ".png", "1", False),
        ("RGBA", ".png", "RGBA", False),
    ],
)
def test_the_mode_is_that_of_the_file(
    tmp_path: Path, mode: str, ending: str, found: str, transparent: bool
) -> None:
    facts = probe(saved(tmp_path / f"a{ending}", photo(1).convert(mode)))

    assert (facts.mode, facts.transparent, facts.bits) == (found, transparent, 8)


def test_one_transparent_pixel_is_transparency(tmp_path: Path) -> None:
    image = photo(1).convert("RGBA")
    image.putpixel((3, 3), (0, 0, 0, 254))

    assert probe(saved(tmp_path / "a.png", image)).transparent


def test_sixteen_bits_are_seen_in_grey_and_in_colour(tmp_path: Path) -> None:
    grey = np.arange(4096, dtype=np.uint16).reshape(64, 64) * 16
    saved(tmp_path / "grey.png", Image.fromarray(grey))
    rows = b"".join(b"\0" + bytes(range(12)) for _ in range(2))
    colour = png(header(2, 2, 16), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    (tmp_path / "colour.png").write_bytes(colour)

    assert [probe(tmp_path / name).bits for name in ("grey.png", "colour.png")] == [16, 16]


@pytest.mark.parametrize(("ending", "frames"), [(".webp", 3), (".png", 3)])
def test_frames_of_an_animation_are_counted(tmp_path: Path, ending: str, frames: int) -> None:
    more = [photo(seed) for seed in range(2, frames + 1)]

    facts = probe(saved(tmp_path / f"a{ending}", photo(1), save_all=True, append_images=more))

    assert facts.frames == frames


def test_a_jpeg_of_several_views_is_no_animation(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", photo(1), format="MPO", save_all=True,
                 append_images=[photo(2)])  # fmt: skip

    assert (probe(path).format, probe(path).frames) == ("MPO", 1)


def test_an_orientation_that_is_no_number_is_upright(tmp_path: Path) -> None:
    text = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x02\0\0\x006\0\0\0\0\0\0\0"

    facts = probe(saved(tmp_path / "a.jpg", photo(1, (160, 128)), exif=text))

    assert Image.open(tmp_path / "a.jpg").getexif()[0x0112] == "6"
    assert (facts.width, facts.orientation) == (160, 1)


def test_a_place_is_found_in_exif_and_in_xmp(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 8.0, 0.0), 3: "E", 4: (11.0, 34.0, 0.0)})
    nowhere = Image.Exif()
    nowhere.get_ifd(0x8825)[29] = "2026:01:01"

    found = [
        probe(saved(tmp_path / "exif.jpg", photo(1), exif=exif)).gps,
        probe(saved(tmp_path / "xmp.jpg", photo(1), xmp=b'<a exif:GPSLatitude="48,8N"/>')).gps,
        probe(saved(tmp_path / "date.jpg", photo(1), exif=nowhere)).gps,
        probe(saved(tmp_path / "none.jpg", photo(1))).gps,
    ]

    assert found == [True, True, False, False]


def test_a_profile_is_srgb_when_it_means_the_same_colours(tmp_path: Path) -> None:
    same = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()

    found = [
        probe(saved(tmp_path / f"{n}.png", photo(1), icc_profile=profile)).profile
        for n, profile in enumerate((same, lab, b"no profile at all"))
    ]

    assert found[0] == "sRGB"
    assert "Lab" in str(found[1])
    assert found[2] == "unreadable"
    assert probe(saved(tmp_path / "none.png", photo(1))).profile is None


@pytest.mark.parametrize("seed", range(12))
def test_the_perceptual_hash_is_that_of_imagehash(seed: int) -> None:
    imagehash = pytest.importorskip("imagehash")
    thumb = photo(seed).convert("L").resize((THUMB, THUMB), Image.Resampling.LANCZOS)

    assert f"{phash(thumb):016x}" == str(imagehash.phash(thumb))


@pytest.mark.parametrize("light", [1, 77, 200])
def test_the_hash_of_a_flat_picture_is_not_made_of_rounding(light: int) -> None:
    assert phash(Image.new("L", (THUMB, THUMB), light)) == 1 << 63


def measured(image: Image.Image) -> float:
    grey = image.convert("L")
    found = sharpness(grey, grey.reduce(2))
    assert found is not None
    return found


def test_sharpness_falls_with_blur() -> None:
    found = [measured(photo(5).filter(ImageFilter.GaussianBlur(r))) for r in (0, 0.5, 1, 2, 3)]

    assert found == sorted(found, reverse=True)
    assert found[0] > 4 * found[-1]


def test_sharpness_does_not_depend_on_contrast() -> None:
    pale = ImageEnhance.Contrast(photo(5)).enhance(0.4)

    assert measured(pale) == pytest.approx(measured(photo(5)), rel=0.1)


def test_sharpness_is_that_of_the_sharp_part() -> None:
    soft = photo(5, (256, 256)).filter(ImageFilter.GaussianBlur(4))
    portrait = soft.copy()
    portrait.paste(photo(6, (128, 128)), (64, 64))

    assert measured(soft) < 0.1 < 0.2 < measured(portrait)


def test_a_large_picture_is_measured_as_its_small_copy(tmp_path: Path) -> None:
    small = photo(5, (256, 256))
    large = small.resize((1024, 1024), Image.Resampling.NEAREST)

    one = probe(saved(tmp_path / "small.png", small))
    other = probe(saved(tmp_path / "large.png", large))

    assert (one.phash, one.sharpness, one.thumb) == (other.phash, other.sharpness, other.thumb)


@pytest.mark.parametrize("side", [260, 300, 384, 511, 700, 1000])
@pytest.mark.parametrize("ending", [".jpg", ".png"])
def test_sharpness_does_not_depend_on_size_or_format(
    tmp_path: Path, side: int, ending: str
) -> None:
    whole = photo(5, (1024, 1024)).filter(ImageFilter.GaussianBlur(2))
    reference = probe(saved(tmp_path / "whole.png", whole)).sharpness
    small = whole.resize((side, side), Image.Resampling.LANCZOS)

    found = probe(saved(tmp_path / f"small{ending}", small)).sharpness

    assert found == pytest.approx(reference, rel=0.25)


def test_the_colours_of_a_jpeg_are_those_of_the_same_picture_as_png(tmp_path: Path) -> None:
    jpeg = saved(tmp_path / "a.jpg", photo(5, (512, 384)), quality=95)
    same = probe(saved(tmp_path / "a.png", load_image(jpeg)))

    assert probe(jpeg).tint is None
    assert same.tint == tint(tmp_path / "a.png")
    assert _colours(tint(jpeg)) == pytest.approx(_colours(same.tint), abs=4)


def _colours(text: str | None) -> list[float]:
    import base64

    return [float(value) for value in base64.b64decode(text or "")]


@pytest.mark.parametrize("squares", [4, 8, 16])
def test_pixel_art_is_sharp_also_where_its_squares_are_the_tiles(
    tmp_path: Path, squares: int
) -> None:
    colours = np.random.default_rng(0).integers(0, 255, (squares, squares, 3), dtype=np.uint8)
    art = Image.fromarray(colours).resize((512, 512), Image.Resampling.NEAREST)
    art.save(tmp_path / "art.png")

    found = probe(tmp_path / "art.png").sharpness

    assert found is not None
    assert found > 0.15
