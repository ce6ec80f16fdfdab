"""Where a face is, for cuts that keep it: OpenCV's Haar cascade, an optional extra.

The cascade finds upright frontal faces; a head tilted by 15 degrees or in profile it misses, and
then the cut is centred. It comes with the wheels of OpenCV 4. OpenCV 5 has neither cascades nor any
face model of its own, nor has mediapipe's wheel; both want one downloaded.

Source: Viola and Jones, CVPR 2001; ``haarcascade_frontalface_alt2.xml`` of OpenCV 4.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from lorareg.errors import LoraregError

if TYPE_CHECKING:
    import cv2

CASCADE = "haarcascade_frontalface_alt2.xml"
LOOKED_AT = 1024  # pixels; a longer side is shrunk to it, since only the place counts
SMALLEST = 16  # a face is at least this part of the shorter side, else it is not the subject
NEIGHBOURS = 5  # hits that have to agree: fewer find faces in wallpaper

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels."""


def require() -> str:
    """Return the version of OpenCV.

    Raises:
        LoraregError: it is not installed, or too new to have cascades.
    """
    try:
        import cv2
    except ImportError as error:
        raise LoraregError(
            "no face detector is installed",
            why="--crop face uses OpenCV 4, which lorareg does not need otherwise",
            fix="pip install 'lorareg[faces]', or leave --crop face out",
        ) from error
    if not hasattr(cv2, "CascadeClassifier"):
        raise LoraregError(
            "no face detector is installed",
            why=f"OpenCV {cv2.__version__} has no Haar cascades any more; OpenCV 4 has",
            fix="pip install 'opencv-python-headless<5', or leave --crop face out",
        )
    return str(cv2.__version__)


def find(image: Image.Image) -> list[Box]:
    """Faces of an RGB picture, the largest first."""
    factor = min(1.0, LOOKED_AT / max(image.size))
    small = image if factor == 1 else image.resize([round(s * factor) or 1 for s in image.size])
    least = max(24, min(small.size) // SMALLEST)
    grey = np.asarray(small.convert("L"))
    found = _cascade().detectMultiScale(
        grey, scaleFactor=1.1, minNeighbors=NEIGHBOURS, minSize=(least, least)
    )
    boxes = sorted((-int(w * h), int(x), int(y), int(w), int(h)) for x, y, w, h in found)
    return [
        (x / factor, y / factor, (x + width) / factor, (y + height) / factor)
        for _, x, y, width, height in boxes
    ]


def centre(box: Box) -> tuple[float, float]:
    """Its middle."""
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


@cache
def _cascade() -> cv2.CascadeClassifier:
    import cv2
    import cv2.data

    cv2.setNumThreads(1)  # there is one process a core already
    return cv2.CascadeClassifier(f"{cv2.data.haarcascades}{CASCADE}")
