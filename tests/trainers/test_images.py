"""Pictures as people see them, whatever the file holds; and files that hold none."""

from __future__ import annotations

import struct
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lorareg.errors import InvalidFileError
from lorareg.trainers.data.images import load_image


def quarters() -> Image.Image:
    """Red, green above blue, white; 16 pixels wide, 8 high."""
    image = Image.new("RGB", (16, 8), "white")
    image.paste("red", (0, 0, 8, 4))
    image.paste("lime", (8, 0, 16, 4))
    image.paste("blue", (0, 4, 8, 8))
    return image


def corners(image: Image.Image) -> list[tuple[int, ...]]:
    right, bottom = image.width - 1, image.height - 1
    places = [(0, 0), (right, 0), (0, bottom), (right, bottom)]
    return [image.getpixel(place) for place in places]  # type: ignore[misc]


RED, LIME, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


@pytest.mark.parametrize("ending", [".png", ".webp", ".PNG"])
def test_a_lossless_picture_is_read_as_it_is(tmp_path: Path, ending: str) -> None:
    quarters().save(tmp_path / f"a{ending}", lossless=True)

    image = load_image(tmp_path / f"a{ending}")

    assert image.mode == "RGB"
    assert corners(image) == [RED, LIME, BLUE, WHITE]


@pytest.mark.parametrize("kind", ["JPEG", "MPO"])
def test_a_jpeg_is_read_also_when_it_holds_several_views(tmp_path: Path, kind: str) -> None:
    views = {"save_all": True, "append_images": [quarters()]} if kind == "MPO" else {}
    Image.new("RGB", (16, 16), "red").save(tmp_path / "a.jpg", format=kind, **views)

    assert np.allclose(np.asarray(load_image(tmp_path / "a.jpg")), RED, atol=2)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", [".png", ".webp"])
def test_a_picture_is_turned_as_its_exif_says(
    tmp_path: Path, orientation: int, ending: str
) -> None:
    turned = {
        1: [RED, LIME, BLUE, WHITE],
        2: [LIME, RED, WHITE, BLUE],
        3: [WHITE, BLUE, LIME, RED],
        4: [BLUE, WHITE, RED, LIME],
        5: [RED, BLUE, LIME, WHITE],
        6: [BLUE, RED, WHITE, LIME],
        7: [WHITE, LIME, BLUE, RED],
        8: [LIME, WHITE, RED, BLUE],
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    quarters().save(tmp_path / f"a{ending}", exif=exif, lossless=True)

    image = load_image(tmp_path / f"a{ending}")

    assert corners(image) == turned[orientation]
    assert image.size == ((16, 8) if orientation < 5 else (8, 16))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_seen_over_white(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 4, 8))
    image.convert(mode).save(tmp_path / "a.png")

    found = load_image(tmp_path / "a.png")

    assert found.getpixel((0, 0)) == (0, 0, 0)
    assert found.getpixel((7, 0)) == WHITE


def test_half_transparency_is_blended(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (0, 0, 0, 128)).save(tmp_path / "a.png")

    assert load_image(tmp_path / "a.png").getpixel((0, 0)) == (127, 127, 127)


def test_one_colour_declared_transparent_is_white(tmp_path: Path) -> None:
    quarters().save(tmp_path / "a.png", transparency=RED)

    assert corners(load_image(tmp_path / "a.png")) == [WHITE, LIME, BLUE, WHITE]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_black_and_white_stay_so_in_every_mode(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGB", (8, 8), "white")
    image.paste("black", (0, 0, 4, 8))
    image.convert(mode).save(tmp_path / "a.png")

    found = load_image(tmp_path / "a.png")

    assert [found.getpixel((0, 0)), found.getpixel((7, 0))] == [(0, 0, 0), WHITE]


def test_a_cmyk_jpeg_keeps_its_colours(tmp_path: Path) -> None:
    Image.new("RGB", (16, 16), "red").convert("CMYK").save(tmp_path / "a.jpg", quality=95)

    assert np.allclose(np.asarray(load_image(tmp_path / "a.jpg")), RED, atol=3)


def test_sixteen_bits_of_grey_become_eight_by_scaling(tmp_path: Path) -> None:
    values = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")

    found = np.asarray(load_image(tmp_path / "a.png"))

    assert found[0, :, 0].tolist() == [0, 1, 128, 255]
    assert found.shape == (1, 4, 3)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("text.jpg", b"<html>not found</html>"),
        ("script.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
    ],
)
def test_what_is_no_picture_is_refused_whatever_its_name(
    tmp_path: Path, name: str, data: bytes
) -> None:
    (tmp_path / name).write_bytes(data)

    with pytest.raises(InvalidFileError) as caught:
        load_image(tmp_path / name)

    assert name in caught.value.what
    assert "no JPEG, PNG or WebP" in caught.value.why


FTYP = b"\0\0\0\x18ftyp"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "it is empty"),
        (b"GIF89a\x40\0", "it is a GIF picture, whatever its name says"),
        (b"BM60\0\0", "it is a BMP picture, whatever its name says"),
        (b"II*\0\x08", "it is a TIFF picture, whatever its name says"),
        (b"MM\0*\0\0", "it is a TIFF picture, whatever its name says"),
        (b"%PDF-1.7\n", "it is a PDF document, whatever its name says"),
        (FTYP + b"heic\0\0\0\0mif1heic", "it is a HEIC picture, whatever its name says"),
        (FTYP + b"avif\0\0\0\0mif1miaf", "it is an AVIF picture, whatever its name says"),
        (FTYP + b"mif1\0\0\0\0avifmiaf", "it is an AVIF picture, whatever its name says"),
        (FTYP + b"isom\0\0\0\0mp41avc1", "it is no JPEG, PNG or WebP picture, whatever its "
                                           "name says"),
    ],
)  # fmt: skip
def test_the_reason_says_what_a_file_is_instead(tmp_path: Path, data: bytes, why: str) -> None:
    (tmp_path / "a.png").write_bytes(data)

    with pytest.raises(InvalidFileError) as caught:
        load_image(tmp_path / "a.png")

    assert caught.value.why == why


def test_the_disks_own_words_are_not_called_damage(tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()

    with pytest.raises(InvalidFileError) as caught:
        load_image(tmp_path / "a.png")

    assert caught.value.why == "Is a directory"


@pytest.mark.parametrize("ending", [".png", ".jpg", ".webp"])
def test_a_picture_that_was_cut_short_is_refused(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:-500])

    with pytest.raises(InvalidFileError, match="cannot be decoded") as caught:
        load_image(path)

    assert caught.value.why.startswith("its data are damaged or cut off (")


def test_a_decompression_bomb_is_refused_before_it_goes_off(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    data = struct.pack(">I", len(header)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    pixels = bytes(4) + b"IDAT" + bytes(4)  # the header is believed once pixels seem to follow
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + data + pixels)

    with pytest.raises(InvalidFileError, match="cannot be decoded") as caught:
        load_image(tmp_path / "bomb.png")

    assert caught.value.why == (
        "it has more than 178 million pixels, which no training needs: shrink it first"
    )


@pytest.mark.filterwarnings("ignore:.*:UserWarning")  # Pillow's, about the damaged EXIF
def test_random_damage_is_refused_or_survived_but_never_a_crash(tmp_path: Path) -> None:
    random = np.random.default_rng(7)
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a description"
    for ending in (".png", ".jpg", ".webp"):
        path = tmp_path / f"a{ending}"
        quarters().save(path, exif=exif)
        whole = np.frombuffer(path.read_bytes(), dtype=np.uint8)
        for _ in range(150):
            data = whole.copy()
            places = random.integers(0, min(len(data), 250), random.integers(1, 20))
            data[places] = random.integers(0, 256, len(places))
            path.write_bytes(data.tobytes())
            with suppress(InvalidFileError):
                assert load_image(path).mode == "RGB"
