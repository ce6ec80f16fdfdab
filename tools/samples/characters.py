"""Two invented people, each drawn again and again with the same hair, skin and glasses.

A caption names what changes (expression, drawing style, background) and never what stays, so that
training puts the person into the trigger word and nowhere else. Hair colours are ones that the
built-in base has no word for.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from tools.samples.looks import LOOKS, Look
from tools.samples.picture import BACKGROUNDS, Drawing, Options, background_word

STYLE_WORDS: dict[str, str] = {
    "adventurer": "adventurer",
    "avataaars": "avataaars",
    "big-smile": "bigsmile",
    "micah": "micah",
    "pixel-art": "pixelart",
}
"""The word of a caption for each DiceBear style, as the built-in base learnt it."""


@dataclass(frozen=True)
class Character:
    """One invented person.

    Attributes:
        trigger: the word that will stand for the person.
        identity: for each DiceBear style, the parts that never change.
        pictures: for each style, how many of its looks are drawn.
    """

    trigger: str
    identity: Mapping[str, Options]
    pictures: Mapping[str, int]


ZHANGSAN = Character(
    trigger="zzhangsan",
    identity={
        "adventurer": {
            "hair": ["short11"],
            "hairProbability": 100,
            "hairColor": ["12b5a6"],
            "skinColor": ["f2d3b1"],
            "glasses": ["variant04"],
            "glassesProbability": 100,
            "earringsProbability": 0,
            "featuresProbability": 0,
        },
        "avataaars": {
            "top": ["shortWaved"],
            "topProbability": 100,
            "hairColor": ["12b5a6"],
            "skinColor": ["f2d3b1"],
            "accessories": ["round"],
            "accessoriesColor": ["262e33"],
            "accessoriesProbability": 100,
            "facialHairProbability": 0,
            "clothing": ["shirtCrewNeck"],
            "clothesColor": ["262e33"],
            "nose": ["default"],
            "style": ["default"],
        },
        "micah": {
            "hair": ["fonze"],
            "hairProbability": 100,
            "hairColor": ["12b5a6"],
            "baseColor": ["f2d3b1"],
            "glasses": ["round"],
            "glassesColor": ["000000"],
            "glassesProbability": 100,
            "earringsProbability": 0,
            "facialHairProbability": 0,
            "nose": ["curve"],
            "ears": ["attached"],
            "shirt": ["crew"],
            "shirtColor": ["262e33"],
        },
        "big-smile": {
            "hair": ["shortHair"],
            "hairColor": ["12b5a6"],
            "skinColor": ["f2d3b1"],
            "accessories": ["glasses"],
            "accessoriesProbability": 100,
        },
        "pixel-art": {
            "hair": ["short17"],
            "hairColor": ["12b5a6"],
            "skinColor": ["f2d3b1"],
            "glasses": ["light05"],
            "glassesColor": ["262e33"],
            "glassesProbability": 100,
            "eyesColor": ["647b90"],
            "mouthColor": ["c98276"],
            "hatProbability": 0,
            "accessoriesProbability": 0,
            "beardProbability": 0,
            "clothing": ["variant03"],
            "clothingColor": ["262e33"],
        },
    },
    pictures={"adventurer": 24, "avataaars": 8, "micah": 6, "big-smile": 5, "pixel-art": 5},
)

MIRA = Character(
    trigger="mmira",
    identity={
        "adventurer": {
            "hair": ["long23"],
            "hairProbability": 100,
            "hairColor": ["7a1fd0"],
            "skinColor": ["d08b5b"],
            "glasses": ["variant02"],
            "glassesProbability": 100,
            "earringsProbability": 0,
            "featuresProbability": 0,
        },
        "pixel-art": {
            "hair": ["long14"],
            "hairColor": ["7a1fd0"],
            "skinColor": ["d08b5b"],
            "glasses": ["light06"],
            "glassesColor": ["262e33"],
            "glassesProbability": 100,
            "eyesColor": ["647b90"],
            "mouthColor": ["8e2a3c"],
            "hatProbability": 0,
            "accessoriesProbability": 0,
            "beardProbability": 0,
            "clothing": ["variant03"],
            "clothingColor": ["262e33"],
        },
    },
    pictures={"adventurer": 36, "pixel-art": 12},
)


def drawings(character: Character) -> list[Drawing]:
    """Every drawing of ``character``, styles mixed, each background as often as the others."""
    drawn = [
        (style, look)
        for style, count in character.pictures.items()
        for look in LOOKS[style][:count]
    ]
    random.Random(character.trigger).shuffle(drawn)
    return [
        drawing(character, style, look, background_word(index))
        for index, (style, look) in enumerate(drawn)
    ]


def drawing(character: Character, style: str, look: Look, background: str) -> Drawing:
    """One drawing of ``character``; the caption says everything but who it is."""
    words, eyes, mouth, eyebrows = look
    parts = {"eyes": eyes, "mouth": mouth, "eyebrows": eyebrows}
    prefix = "variant" if style == "adventurer" else ""
    options: Options = {
        **character.identity[style],
        **{part: [prefix + value] for part, value in parts.items() if value},
        "backgroundColor": [BACKGROUNDS[background]],
    }
    caption = ", ".join(
        [
            character.trigger,
            "portrait",
            words,
            f"{STYLE_WORDS[style]} style",
            f"{background} background",
        ]
    )
    return Drawing(style, options, caption)
