"""What the checks of pictures say about pictures that are good, and about planted defects."""

from __future__ import annotations

import io
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from lorareg.registry import dataset
from lorareg.registry.digest import DigestCache
from lorareg.trainers.data.check import alike, pictures
from lorareg.trainers.data.check.probe import Facts, probe
from lorareg.trainers.data.check.probes import probe_all
from lorareg.trainers.data.images import load_image

SIDE = 512  # pixels of the shorter side at which defects are planted
AT_MOST = 150  # pictures of a folder that defects are planted in, evenly chosen
CLEAN = ("broken", "blurry", "near-black", "near-white", "no-content", "near-duplicate")

Change = Callable[[Image.Image], Image.Image]


def calibrate(folder: Path) -> None:
    """False alarms on a folder of good pictures, then planted defects that are found."""
    listing = dataset.scan(folder, DigestCache(None))
    files = {name: folder / name for name in listing.images}
    facts, broken = probe_all(files, listing.files, None, lambda count: None)
    found = pictures.findings(
        facts, broken, listing.files, resolution=1, kind=None, held_out=()
    )  # fmt: skip
    print(f"{folder.name}: {len(facts)} pictures; findings on them as they are")
    counts = Counter(finding.code for finding in found)
    for code in dict.fromkeys([*CLEAN, *sorted(counts)]):
        print(f"  {code:16} {counts[code]:4}  {counts[code] / len(facts):6.1%}")
    levels = sorted(each.sharpness for each in facts.values() if each.sharpness is not None)
    print("  sharpness: " + _quantiles(levels))
    some = list(files.values())[:: max(1, len(files) // AT_MOST)]
    _blur(some)
    _duplicates(some)


def _blur(files: Sequence[Path]) -> None:
    print(f"planted blur at {SIDE} pixels, {len(files)} pictures: share called blurry")
    for radius in (0, 1, 2, 3, 4, 8):
        change = _blurred(radius)
        levels = sorted(_facts(change(_sized(path))).sharpness or 0.0 for path in files)
        share = sum(level < pictures.BLURRY for level in levels) / len(levels)
        print(f"  Gaussian {radius}       {share:6.1%}   {_quantiles(levels)}")


def _duplicates(files: Sequence[Path]) -> None:
    print(f"planted near duplicates at {SIDE} pixels: share found")
    originals = [_sized(path) for path in files]
    before = [_facts(image) for image in originals]
    for name, change in CHANGES.items():
        pairs = [(one, _facts(change(image))) for one, image in zip(before, originals, strict=True)]
        found = sum(bool(alike.groups({"one": one, "other": other})) for one, other in pairs)
        bits = sorted((one.phash ^ other.phash).bit_count() for one, other in pairs)
        print(f"  {name:28} {found / len(pairs):6.1%}   hash distance {_quantiles(bits)}")


def _quantiles(ranked: Sequence[float]) -> str:
    parts = {"least": 0.0, "1 %": 0.01, "half": 0.5, "99 %": 0.99, "most": 1.0}
    at = {name: ranked[round(part * (len(ranked) - 1))] for name, part in parts.items()}
    return ", ".join(f"{name} {value:.3g}" for name, value in at.items())


def _sized(path: Path) -> Image.Image:
    image = load_image(path)
    scale = SIDE / min(image.size)
    if scale >= 1:
        return image
    size = (round(image.width * scale), round(image.height * scale))
    return image.resize(size, Image.Resampling.LANCZOS)


def _facts(image: Image.Image) -> Facts:
    """As of a file, with colours."""
    with tempfile.NamedTemporaryFile(suffix=".png") as file:
        image.save(file.name, compress_level=1)
        return probe(Path(file.name))


def _blurred(radius: float) -> Change:
    return lambda image: image.filter(ImageFilter.GaussianBlur(radius))


def _encoded(quality: int) -> Change:
    def change(image: Image.Image) -> Image.Image:
        data = io.BytesIO()
        image.save(data, "JPEG", quality=quality)
        return Image.open(data).convert("RGB")

    return change


def _resized(share: float) -> Change:
    def change(image: Image.Image) -> Image.Image:
        size = (round(image.width * share), round(image.height * share))
        return image.resize(size, Image.Resampling.LANCZOS)

    return change


def _cropped(left: float, top: float, right: float, bottom: float) -> Change:
    def change(image: Image.Image) -> Image.Image:
        across, down = image.width, image.height
        box = (left * across, top * down, across - right * across, down - bottom * down)
        return image.crop(tuple(round(edge) for edge in box))

    return change


def _shifted(share: float) -> Change:
    """To the right; the edge is repeated on the left."""

    def change(image: Image.Image) -> Image.Image:
        pixels, by = np.asarray(image), round(image.width * share)
        wide = np.pad(pixels, ((0, 0), (by, 0), (0, 0)), mode="edge")
        return Image.fromarray(wide[:, : image.width])

    return change


def _recoloured(image: Image.Image) -> Image.Image:
    """The same lightness in other colours, which is another picture."""
    light, blue, red = image.convert("YCbCr").split()
    return Image.merge("YCbCr", (light, red, blue)).convert("RGB")


CHANGES: dict[str, Change] = {
    "JPEG quality 30": _encoded(30),
    "JPEG quality 10": _encoded(10),
    "half the size": _resized(0.5),
    "cropped by 2.5 % each side": _cropped(0.025, 0.025, 0.025, 0.025),
    "cropped by 5 % at the left": _cropped(0.05, 0, 0, 0),
    "cropped by 5 % each side": _cropped(0.05, 0.05, 0.05, 0.05),
    "shifted by 2 %": _shifted(0.02),
    "shifted by 5 %": _shifted(0.05),
    "brightness 1.1": lambda image: ImageEnhance.Brightness(image).enhance(1.1),
    "contrast 0.8": lambda image: ImageEnhance.Contrast(image).enhance(0.8),
    "Gaussian 2": _blurred(2),
    "mirrored (another picture)": lambda i: i.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "other colours (another one)": _recoloured,
}
