"""Pictures side by side with their labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

MARGIN = 8  # pixels
MIN_CELL = 128  # smaller pictures are enlarged for people to see, without smoothing


def save_grid(
    path: Path, rows: Sequence[tuple[str, Sequence[Image.Image]]], heads: Sequence[str]
) -> None:
    """Write a PNG with one labelled row of pictures after another.

    Args:
        path: of the PNG.
        rows: label and pictures of each row, all pictures of one size.
        heads: label above each column; longer ones are wrapped.
    """
    font = ImageFont.load_default(13)
    cell = rows[0][1][0].width
    factor = max(1, -(-MIN_CELL // cell))
    side = cell * factor
    left = 2 * MARGIN + max(int(font.getlength(label)) for label, _ in rows)
    wrapped = [_wrap(head, font, side) for head in heads]
    top = MARGIN + 17 * max(len(lines) for lines in wrapped)
    width = left + len(heads) * (side + MARGIN)
    sheet = Image.new("RGB", (width, top + len(rows) * (side + MARGIN)), "white")
    pen = ImageDraw.Draw(sheet)
    for column, lines in enumerate(wrapped):
        text = "\n".join(lines)
        pen.multiline_text((left + column * (side + MARGIN), 4), text, fill="#444", font=font)
    for number, (label, pictures) in enumerate(rows):
        y = top + number * (side + MARGIN)
        pen.text((MARGIN, y + side // 2 - 8), label, fill="black", font=font)
        for column, picture in enumerate(pictures):
            shown = picture.resize((side, side), Image.Resampling.NEAREST)
            sheet.paste(shown, (left + column * (side + MARGIN), y))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, optimize=True)


def _wrap(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
