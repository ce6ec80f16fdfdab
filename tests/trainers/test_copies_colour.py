"""Colours of copies: from any profile to sRGB, from any depth to 8 bits, and nothing else kept."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from lorareg.errors import InvalidFileError
from lorareg.trainers.data.copies.colour import read
from lorareg.trainers.data.images import load_image

# Linear RGB -> XYZ under D50, columns red, green, blue: Display P3 and sRGB (ICC, chad-adapted).
P3 = np.array(
    [[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]]
)
SRGB = np.array(
    [[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]]
)


def fixed(number: float) -> bytes:
    return struct.pack(">i", round(number * 65536))


def profile(space: bytes, kind: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    """An ICC profile of version 2 (ICC.1:2001-04, 6)."""
    start = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        padded = data + bytes(-len(data) % 4)
        table += name + struct.pack(">II", start + len(body), len(data))
        body += padded
    head = struct.pack(">I", start + len(body)) + bytes(4) + bytes([2, 0x40, 0, 0])
    head += kind + space + connection + bytes(12) + b"acsp" + bytes(28)
    head += fixed(0.9642) + fixed(1) + fixed(0.8249)
    return head.ljust(128, b"\0") + table + body


def rgb_profile(primaries: np.ndarray, gamma: float) -> bytes:
    tags = {b"wtpt": b"XYZ " + bytes(4) + fixed(0.9642) + fixed(1) + fixed(0.8249)}
    for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries.T, strict=True):
        tags[name] = b"XYZ " + bytes(4) + b"".join(fixed(number) for number in column)
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))
    return profile(
        b"RGB ", b"mntr", b"XYZ ", tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    )


def cmyk_profile() -> bytes:
    """Inks whose full tone has a Lab colour of its own, black ink whatever lies under it."""
    inks = {(0, 0, 0): (100, 0, 0), (1, 0, 0): (60, -40, -40), (0, 1, 0): (50, 70, 0)}
    inks |= {(0, 0, 1): (90, 0, 90), (1, 1, 0): (25, 20, -45), (1, 0, 1): (50, -65, 25)}
    inks |= {(0, 1, 1): (48, 65, 45), (1, 1, 1): (22, 0, 0)}
    grid = b""
    for cyan, magenta, yellow, black in np.ndindex(2, 2, 2, 2):
        light, a, b = (10, 0, 0) if black else inks[cyan, magenta, yellow]
        grid += bytes([round(light * 2.55), a + 128, b + 128])
    straight = bytes(range(256))
    unit = b"".join(map(fixed, (1, 0, 0, 0, 1, 0, 0, 0, 1)))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + unit + straight * 4 + grid + straight * 3
    return profile(b"CMYK", b"prtr", b"Lab ", {b"A2B0": table, b"A2B1": table, b"B2A0": table})


def srgb_of_p3(colour: tuple[int, int, int], gamma: float) -> np.ndarray:
    """By the matrices of the two spaces, without littleCMS."""
    linear = np.linalg.inv(SRGB) @ P3 @ (np.array(colour) / 255) ** gamma
    linear = linear.clip(0, 1)
    return 255 * np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)


def pixel(image: Image.Image) -> tuple[int, int, int]:
    return image.getpixel((0, 0))  # type: ignore[return-value]


@pytest.mark.parametrize("colour", [(200, 100, 50), (30, 160, 90), (128, 128, 128), (10, 10, 10)])
def test_a_wide_gamut_picture_looks_the_same_in_srgb(
    tmp_path: Path, colour: tuple[int, int, int]
) -> None:
    wide = rgb_profile(P3, 2.2)
    Image.new("RGB", (8, 8), colour).save(tmp_path / "a.png", icc_profile=wide)

    picture = read(tmp_path / "a.png")

    assert picture.changes == ("RGB profile to sRGB",)
    assert np.abs(np.array(pixel(picture.image)) - srgb_of_p3(colour, 2.2)).max() <= 1


def test_a_picture_tagged_srgb_keeps_every_pixel(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(noise).save(tmp_path / "a.png", icc_profile=srgb)

    picture = read(tmp_path / "a.png")

    assert np.array_equal(np.asarray(picture.image), noise)
    assert (picture.changes, picture.stripped) == ((), ("ICC",))


def test_inks_become_the_colours_that_their_profile_gives_them(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (255, 0, 0, 0)).save(
        tmp_path / "a.jpg", icc_profile=cmyk_profile(), quality=100
    )

    picture = read(tmp_path / "a.jpg")

    red, green, blue = pixel(picture.image)  # Lab 60, -40, -40 is beyond sRGB's blue green
    assert picture.changes == ("CMYK profile to sRGB",)
    assert red < 30
    assert 140 < green < 190
    assert 190 < blue < 240


def test_inks_without_a_profile_are_said_to_be_a_guess(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (255, 0, 0, 0)).save(tmp_path / "a.jpg", quality=100)

    picture = read(tmp_path / "a.jpg")

    assert picture.changes == ("CMYK to sRGB by formula, without a profile",)
    assert np.allclose(pixel(picture.image), (0, 255, 255), atol=3)


@pytest.mark.parametrize(
    ("mode", "icc", "said"),
    [
        ("RGB", b"no profile at all", "unreadable colour profile ignored"),
        ("RGB", cmyk_profile(), "CMYK profile ignored: the picture is RGB"),
        ("CMYK", rgb_profile(P3, 2.2), "RGB profile ignored: the picture is CMYK"),
    ],
)
def test_a_profile_that_cannot_be_meant_is_ignored_and_named(
    tmp_path: Path, mode: str, icc: bytes, said: str
) -> None:
    white = "white" if mode == "RGB" else (0, 0, 0, 0)
    Image.new(mode, (16, 16), white).save(tmp_path / "a.jpg", icc_profile=icc)

    picture = read(tmp_path / "a.jpg")

    assert picture.changes == (said,)
    assert np.allclose(pixel(picture.image), 255, atol=2)


def test_sixteen_bits_are_scaled_to_eight(tmp_path: Path) -> None:
    values = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")

    picture = read(tmp_path / "a.png")

    assert np.asarray(picture.image)[0, :, 0].tolist() == [0, 1, 128, 255]
    assert picture.changes == ("16 bits to 8",)


def test_transparency_lies_over_white(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 8), (255, 0, 0, 128)).save(tmp_path / "half.png")
    Image.new("RGBA", (8, 8), (255, 0, 0, 255)).save(tmp_path / "none.png")

    half, none = read(tmp_path / "half.png"), read(tmp_path / "none.png")

    assert (pixel(half.image), half.changes) == ((255, 127, 127), ("transparency over white",))
    assert (pixel(none.image), none.changes) == ((255, 0, 0), ())


def test_everything_a_file_says_beside_its_pixels_is_named_and_gone(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8825)[2] = (52.0, 31.0, 12.0)
    Image.new("RGB", (16, 8), "red").save(
        tmp_path / "a.jpg", exif=exif, comment=b"by Ann", xmp=b"<x:xmpmeta/>"
    )
    notes = PngImagePlugin.PngInfo()
    notes.add_text("parameters", "a prompt", zip=True)
    Image.new("RGB", (16, 8), "red").save(tmp_path / "b.png", pnginfo=notes)

    photo, render = read(tmp_path / "a.jpg"), read(tmp_path / "b.png")

    assert photo.stripped == ("EXIF", "GPS", "XMP", "comment")
    assert photo.changes == ("turned upright (EXIF orientation 6)",)
    assert photo.image.size == (8, 16)
    assert render.stripped == ("text",)
    assert photo.image.info == render.image.info == {}


def test_a_moving_picture_gives_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], lossless=True)

    picture = read(tmp_path / "a.webp")

    assert (pixel(picture.image), picture.changes) == ((255, 0, 0), ("first of 2 frames",))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1"])
def test_a_picture_without_a_profile_is_what_training_sees(tmp_path: Path, mode: str) -> None:
    noise = np.random.default_rng(2).integers(0, 256, (32, 24, 4), dtype=np.uint8)
    Image.fromarray(noise).convert(mode).save(tmp_path / "a.png")

    ours, theirs = read(tmp_path / "a.png").image, load_image(tmp_path / "a.png")

    assert np.abs(np.asarray(ours).astype(int) - np.asarray(theirs)).max() <= 1


def test_a_broken_picture_is_named_without_the_path_it_lies_at(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.effect_noise((64, 64), 90).save(stream, format="PNG")
    (tmp_path / "cut.png").write_bytes(stream.getvalue()[:1000])
    (tmp_path / "text.jpg").write_text("not a picture", encoding="utf-8")

    for name in ("cut.png", "text.jpg"):
        with pytest.raises(InvalidFileError, match=name) as caught:
            read(tmp_path / name)
        assert caught.value.why
        assert str(tmp_path) not in caught.value.why


def test_a_decompression_bomb_is_refused_without_decoding_it(tmp_path: Path) -> None:
    head = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    chunk = zlib.crc32(b"IHDR" + head)
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + head + struct.pack(">I", chunk)
    (tmp_path / "bomb.png").write_bytes(png + bytes(4) + b"IDAT" + bytes(4))

    with pytest.raises(InvalidFileError) as caught:
        read(tmp_path / "bomb.png")

    assert "more than 178 million pixels" in caught.value.why
