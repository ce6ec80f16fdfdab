"""Sixty different people in one ink style, for a style adapter.

Every attribute that varies is in the caption, so that what is left over, the ink line on paper
white skin, goes into the style's name.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from tools.samples.picture import BACKGROUNDS, Drawing, background_word

TRIGGER = "lorelei style"
COUNT = 60

HAIR: Mapping[str, Sequence[str]] = {
    "short hair": ("01", "02", "03", "04", "06", "07", "08", "09", "12", "39", "43", "47"),
    "long hair": ("13", "15", "16", "21", "23"),
    "bob hair": ("10", "17", "19"),
    "curly hair": ("05", "24"),
    "wavy hair": ("18", "32", "35"),
    "bun hair": ("14", "38", "46"),
    "ponytail": ("31", "33", "36"),
    "shaved hair": ("28",),
    "spiky hair": ("27",),
}
"""Variants by the word for them, read off the drawings. The two buns (26) stay out, so that a
character with two buns can be composed with this style and nothing of her is in it."""

HAIR_ORDER: Sequence[str] = (
    *("short hair", "long hair", "curly hair", "short hair", "bun hair", "wavy hair"),
    *("long hair", "short hair", "ponytail", "bob hair", "short hair", "long hair"),
    *("bun hair", "short hair", "ponytail", "wavy hair", "short hair", "spiky hair"),
    *("bob hair", "shaved hair"),
)
"""How often each kind of hair comes, three times over."""

EXPRESSIONS: Mapping[str, tuple[Sequence[str], Sequence[str], Sequence[str]]] = {
    "smiling": (("happy01", "happy02", "happy06", "happy15"), ("04", "11", "20"), ("05", "09")),
    "grinning": (("happy05", "happy16"), ("02", "21", "24"), ("02", "07")),
    "serious": (("sad09", "happy14"), ("06", "12", "14"), ("10", "12")),
    "smiling, closed eyes": (("happy01", "happy02"), ("01", "19"), ("05", "09")),
    "sad": (("sad04", "sad05"), ("04", "10"), ("01",)),
    "surprised": (("sad01",), ("09", "21", "24"), ("05", "07")),
    "smiling, winking": (("happy02", "happy05"), ("15", "18"), ("09", "12")),
    "angry": (("sad05", "sad06"), ("14", "20"), ("13",)),
    "tongue out": (("happy09",), ("02", "24"), ("05",)),
}
"""Variants of mouth, eyes and eyebrows by the words for them."""

GLASSES: Mapping[str, Sequence[str]] = {
    "glasses": ("variant01", "variant03", "variant04", "variant05"),
    "sunglasses": ("variant02",),
}

EARRINGS: Sequence[str] = ("variant01", "variant03")
"""The stud of variant02 cannot be seen at 128 pixels, so no caption could be true of it."""


def drawings() -> list[Drawing]:
    """The sixty portraits, in an order that a fixed seed decides."""
    expressions = list(EXPRESSIONS)
    backgrounds = [background_word(index) for index in range(COUNT)]
    random.Random("lorelei").shuffle(backgrounds)
    return [
        drawing(
            random.Random(f"lorelei {index}"),
            hair=HAIR_ORDER[index % len(HAIR_ORDER)],
            expression=expressions[index % len(expressions)],
            background=backgrounds[index],
        )
        for index in range(COUNT)
    ]


def drawing(pick: random.Random, *, hair: str, expression: str, background: str) -> Drawing:
    """One portrait with the named traits, and with the unnamed ones drawn by ``pick``."""
    mouths, eyes, eyebrows = EXPRESSIONS[expression]
    glasses = pick.choices(["", "glasses", "sunglasses"], weights=[55, 37, 8])[0]
    if "eyes" in expression or "winking" in expression:
        glasses = glasses.replace("sunglasses", "glasses")
    beard = hair in {"short hair", "shaved hair"} and pick.random() < 0.35
    earrings = hair == "short hair" and not beard and pick.random() < 0.5
    traits = [hair, "beard" * beard, glasses, "earrings" * earrings, expression]
    caption = ["portrait", *filter(None, traits), TRIGGER, f"{background} background"]
    return Drawing(
        "lorelei",
        {
            "hair": ["variant" + pick.choice(HAIR[hair])],
            "hairProbability": 100,
            "head": [f"variant{pick.randint(1, 4):02}"],
            "nose": [f"variant{pick.randint(1, 6):02}"],
            "mouth": [pick.choice(mouths)],
            "eyes": ["variant" + pick.choice(eyes)],
            "eyebrows": ["variant" + pick.choice(eyebrows)],
            "glasses": [pick.choice(GLASSES[glasses or "glasses"])],
            "glassesProbability": 100 if glasses else 0,
            "beard": [f"variant{pick.randint(1, 2):02}"],
            "beardProbability": 100 if beard else 0,
            "earrings": [pick.choice(EARRINGS)],
            "earringsProbability": 100 if earrings else 0,
            "frecklesProbability": 0,
            "hairAccessoriesProbability": 0,
            "backgroundColor": [BACKGROUNDS[background]],
        },
        ", ".join(caption),
    )
