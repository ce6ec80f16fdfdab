"""The expressions a character is drawn with, and the words that are true of them.

Words and variants were matched by looking at the drawings: DiceBear numbers most of its parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Look = tuple[str, str, str, str]
"""Words of the caption, then the variants of eyes, mouth and eyebrows."""

ADVENTURER_LOOKS: Sequence[Look] = (
    ("smiling", "24", "02", "10"),
    ("laughing", "26", "28", "13"),
    ("sad", "15", "04", "07"),
    ("surprised", "24", "03", "12"),
    ("serious", "24", "09", "10"),
    ("angry", "26", "09", "02"),
    ("smiling, winking", "21", "02", "10"),
    ("tongue out", "24", "16", "12"),
    ("grinning", "24", "22", "10"),
    ("laughing, closed eyes", "19", "26", "12"),
    ("screaming, wide eyes", "08", "15", "12"),
    ("sleepy", "16", "09", "10"),
    ("puckered lips", "24", "17", "12"),
    ("smiling", "26", "01", "12"),
    ("worried", "24", "14", "07"),
    ("surprised, wide eyes", "08", "18", "12"),
    ("serious, closed eyes", "20", "09", "10"),
    ("angry, gritted teeth", "12", "11", "02"),
    ("grinning, winking", "22", "23", "10"),
    ("tongue out, winking", "21", "12", "10"),
    ("laughing", "24", "27", "12"),
    ("smiling, closed eyes", "19", "01", "10"),
    ("smirking, looking aside", "06", "02", "08"),
    ("smiling, shining eyes", "23", "25", "12"),
    ("smiling", "25", "25", "13"),
    ("grinning", "25", "23", "12"),
    ("sad, closed eyes", "20", "04", "07"),
    ("angry", "24", "14", "02"),
    ("screaming, closed eyes", "20", "15", "07"),
    ("puckered lips, winking", "22", "17", "10"),
    ("laughing, shining eyes", "23", "26", "13"),
    ("smiling, winking", "22", "25", "12"),
    ("serious", "26", "10", "13"),
    ("tongue out, closed eyes", "19", "16", "12"),
    ("sleepy, smiling", "17", "02", "10"),
    ("surprised, looking aside", "06", "03", "12"),
)

AVATAAARS_LOOKS: Sequence[Look] = (
    ("smiling", "default", "smile", "default"),
    ("sad", "default", "sad", "sadConcerned"),
    ("screaming, wide eyes", "surprised", "screamOpen", "raisedExcited"),
    ("serious", "default", "serious", "flatNatural"),
    ("tongue out, winking", "wink", "tongue", "default"),
    ("grimacing", "squint", "grimace", "default"),
    ("smiling, closed eyes", "happy", "twinkle", "default"),
    ("surprised, wide eyes", "surprised", "disbelief", "raisedExcited"),
)

MICAH_LOOKS: Sequence[Look] = (
    ("smiling", "eyes", "smile", "up"),
    ("laughing", "smiling", "laughing", "up"),
    ("sad", "eyes", "sad", "down"),
    ("surprised", "round", "surprised", "up"),
    ("puckered lips", "eyes", "pucker", "up"),
    ("nervous", "round", "nervous", "down"),
)

BIG_SMILE_LOOKS: Sequence[Look] = (
    ("grinning", "normal", "teethSmile", ""),
    ("laughing", "cheery", "openedSmile", ""),
    ("sad", "sad", "openSad", ""),
    ("serious", "normal", "unimpressed", ""),
    ("smiling, winking", "winking", "kawaii", ""),
)

PIXEL_LOOKS: Sequence[Look] = (
    ("smiling", "variant09", "happy09", ""),
    ("sad", "variant09", "sad01", ""),
    ("surprised", "variant09", "happy01", ""),
    ("serious", "variant09", "sad05", ""),
    ("laughing", "variant09", "happy06", ""),
    ("smiling", "variant08", "happy08", ""),
    ("smiling", "variant01", "happy07", ""),
    ("serious", "variant01", "sad06", ""),
    ("surprised", "variant08", "happy12", ""),
    ("sad", "variant01", "sad01", ""),
    ("laughing", "variant01", "happy06", ""),
    ("smiling", "variant11", "happy10", ""),
)

LOOKS: Mapping[str, Sequence[Look]] = {
    "adventurer": ADVENTURER_LOOKS,
    "avataaars": AVATAAARS_LOOKS,
    "micah": MICAH_LOOKS,
    "big-smile": BIG_SMILE_LOOKS,
    "pixel-art": PIXEL_LOOKS,
}
"""The looks of each DiceBear style, in the order in which a character uses them up."""
