"""What is wrong with the pictures of a dataset, from their facts: no file is opened here."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from lorareg.registry.image_training import Buckets
from lorareg.trainers.data.check import alike
from lorareg.trainers.data.check.findings import Finding, Severity
from lorareg.trainers.data.check.probe import Facts
from lorareg.trainers.data.copies.buckets import buckets as shapes
from lorareg.trainers.data.copies.buckets import filled, fit, nearest

BLURRY = 0.15  # sharpness below it; see ``findings``
BLACK, WHITE = 32, 235  # lightness: 99 % of a black picture is below, of a white one above
CONTRAST = 10  # difference of lightness between the darkest and the brightest 1 %
ODD = 3.0  # longer side by shorter side; the centre square is then a third of the picture
FEWEST = {"character": 50, "scene": 100}  # pictures that a LoRA of this kind needs
FEWEST_OF_OTHERS = 10
FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP"}

COPY = "make clean copies: lorareg data prepare DATASET --out NEW_FOLDER"
REPLACE = "replace it, or take it out of the dataset"
KEEP_ONE = "keep the best one and take the others out"
ONE_SIDE = "take out all but one: what was trained on cannot validate"
MODES = {
    "1": "black and white without grey",
    "P": "a palette of at most 256 colours",
    "CMYK": "the inks of a printer (CMYK), which become RGB by formula: colours shift",
    "YCCK": "the inks of a printer (YCCK), which become RGB by formula: colours shift",
}


def findings(
    facts: Mapping[str, Facts],
    broken: Mapping[str, str],
    digests: Mapping[str, str],
    *,
    resolution: int,
    kind: str | None,
    held_out: Collection[str],
    buckets: Buckets | None = None,
    alpha_is_mask: bool = False,
) -> list[Finding]:
    """Every problem of a dataset's pictures.

    The thresholds were set on 52 photographs, 416 crops of them and 220 drawings of the sample
    datasets (``python -m benchmarks.data calibrate`` prints the tables again). Blur: the least
    sharp photograph has 0.22, the least sharp drawing 0.37; blurred by a Gaussian of 2 pixels at
    512 pixels, 98 % of the photographs are below 0.15, by one of 3 pixels all are. Of the crops
    6 % are below it: they were cut from backgrounds that are out of focus.

    Args:
        facts: by name, of the pictures that can be decoded.
        broken: reason by name, of the others.
        digests: of the files, by name.
        resolution: pixels; a shorter side below it would have to be enlarged.
        kind: of the adapter; None where the dataset is not known to be for one.
        held_out: names of the pictures that validate.
        buckets: shapes that pictures are trained in; None is the square in their middle.
        alpha_is_mask: whether what is transparent says what not to learn.
    """
    found = [Finding("broken", "error", (name,), why, REPLACE) for name, why in broken.items()]
    for name, each in facts.items():
        found += _of_file(name, each, alpha_is_mask)
        if buckets:
            found += _of_shape(name, each, resolution, buckets)
        else:
            found += _of_frame(name, each, resolution)
        found += _of_light(name, each)
    found += _duplicates(facts, digests, held_out)
    return found + _too_few(len(facts), kind)


def _of_file(name: str, facts: Facts, alpha_is_mask: bool) -> Iterator[Finding]:
    """What the file says of itself."""
    if facts.mode in MODES:
        severity: Severity = "warning" if facts.mode in ("CMYK", "YCCK") else "note"
        yield Finding("colour-mode", severity, (name,), f"it has {MODES[facts.mode]}", COPY)
    if facts.bits > 8:
        why = f"it has {facts.bits} bits a channel, of which 8 are trained on"
        yield Finding("colour-mode", "note", (name,), why, COPY)
    if facts.transparent and not alpha_is_mask:
        why = "its transparent places are trained on as white"
        yield Finding("transparency", "warning", (name,), why, "lay it over a background you want")
    if facts.profile not in (None, "sRGB"):
        why = f"its colour profile ({facts.profile}) is not sRGB: people see other colours"
        yield Finding("colour-profile", "warning", (name,), why, COPY)
    if facts.orientation in range(2, 9):
        why = f"EXIF orientation {facts.orientation}: other programs may not turn it upright"
        yield Finding("orientation", "note", (name,), why, COPY)
    if facts.gps:
        yield Finding("gps", "warning", (name,), "its metadata says where it was taken", COPY)
    if facts.frames > 1:
        why = f"it is an animation of {facts.frames} frames, of which the first is trained on"
        yield Finding("animation", "warning", (name,), why, "save the frame you want as a picture")
    promised, kept = FORMATS.get(Path(name).suffix.lower()), facts.format.replace("MPO", "JPEG")
    if promised != kept:
        why = f"its ending promises {promised}, it is {kept}"
        yield Finding("ending", "note", (name,), why, "rename it, and in the captions too")


def _of_frame(name: str, facts: Facts, resolution: int) -> Iterator[Finding]:
    """What is wrong with its size."""
    short, long = sorted((facts.width, facts.height))
    if short < resolution:
        why = f"{facts.width}x{facts.height}, the shorter side is below {resolution} pixels"
        fix = f"replace it by a larger one, or lower train.resolution ({resolution})"
        yield Finding("too-small", "error", (name,), why, fix)
    if long > ODD * short:
        why = f"{facts.width}x{facts.height}: the centre square is {short / long:.0%} of it"
        yield Finding("odd-aspect", "warning", (name,), why, "cut out the part that matters")


def _of_shape(name: str, facts: Facts, resolution: int, buckets: Buckets) -> Iterator[Finding]:
    """What is wrong with its size where it is trained in a bucket (as ``data.cuts.sizes`` does)."""
    picture, step = (facts.width, facts.height), buckets.step
    bucket = nearest(picture, shapes(resolution, step))
    if not buckets.upscale and fit(picture, bucket).scale > 1:
        own = filled(picture, step)
        if own is None:
            why = f"{facts.width}x{facts.height}, a side is below train.buckets.step, {step} pixels"
            fix = "replace it by a larger one, or set train.buckets.upscale: true"
            yield Finding("too-small", "error", (name,), why, fix)
            return
        bucket = own
    kept = fit(picture, bucket).box
    share = (kept[2] - kept[0]) * (kept[3] - kept[1]) / (facts.width * facts.height)
    if share * ODD < 1:
        why = (
            f"{facts.width}x{facts.height}: its bucket {bucket[0]}x{bucket[1]} is {share:.0%} of it"
        )
        yield Finding("odd-aspect", "warning", (name,), why, "cut out the part that matters")


def _of_light(name: str, facts: Facts) -> Iterator[Finding]:
    """What its pixels show, or do not: one finding at most."""
    if facts.brightest < BLACK:
        why = f"99 % of it is darker than {facts.brightest} of 255"
        yield Finding("near-black", "warning", (name,), why, REPLACE)
    elif facts.darkest > WHITE:
        why = f"99 % of it is lighter than {facts.darkest} of 255"
        yield Finding("near-white", "warning", (name,), why, REPLACE)
    elif not _has_content(facts):
        why = f"98 % of it lies between {facts.darkest} and {facts.brightest} of 255"
        yield Finding("no-content", "warning", (name,), why, REPLACE)
    elif facts.sharpness is not None and facts.sharpness < BLURRY:
        why = f"sharpness {facts.sharpness:.2f}, below {BLURRY}"
        yield Finding("blurry", "warning", (name,), why, REPLACE)


def _has_content(facts: Facts) -> bool:
    return facts.brightest - facts.darkest >= CONTRAST


def _duplicates(
    facts: Mapping[str, Facts], digests: Mapping[str, str], held_out: Collection[str]
) -> Iterator[Finding]:
    """Exact and near duplicates; those that are held out as well as trained on are leakage."""
    named: dict[str, list[str]] = {}
    for name in sorted(facts):
        named.setdefault(digests[name], []).append(name)
    for names in named.values():
        if len(names) > 1:
            why = "the same file, to the byte"
            yield _duplicate("duplicate", tuple(names), why, held_out)
    shown = {d: facts[names[0]] for d, names in named.items() if _has_content(facts[names[0]])}
    for group in alike.groups(shown):
        names = sorted(name for digest in group for name in named[digest])
        why = "the same picture in other bytes: re-encoded, resized, slightly cropped or relit"
        yield _duplicate("near-duplicate", tuple(names), why, held_out)


def _duplicate(code: str, names: tuple[str, ...], why: str, held_out: Collection[str]) -> Finding:
    out = [name for name in names if name in held_out]
    if not out or len(out) == len(names):
        return Finding(code, "warning", names, why, KEEP_ONE)
    trained = [name for name in names if name not in held_out]
    split = f"{', '.join(out)} held out to validate, {', '.join(trained)} trained on"
    return Finding("leakage", "warning", names, f"{why}; {split}", ONE_SIDE)


def _too_few(count: int, kind: str | None) -> list[Finding]:
    if kind is None or count >= (fewest := FEWEST.get(kind, FEWEST_OF_OTHERS)):
        return []
    why = f"{count} pictures; a LoRA of kind {kind} needs about {fewest}"
    return [Finding("too-few", "warning", (), why, "add pictures, as different as possible")]
