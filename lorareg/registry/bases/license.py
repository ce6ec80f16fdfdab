"""The licence of a base model, where it is known without a network."""

from __future__ import annotations

from pathlib import Path

from lorareg.errors import LoraregError
from lorareg.registry import yamlfile
from lorareg.registry.files import read_utf8

KNOWN = {
    "builtin:smollm2": "Apache-2.0",
    "stable-diffusion-v1-5/stable-diffusion-v1-5": "creativeml-openrail-m",
    "stabilityai/stable-diffusion-xl-base-1.0": "openrail++",
    "black-forest-labs/FLUX.1-schnell": "apache-2.0",
    "black-forest-labs/FLUX.1-dev": "flux-1-dev-non-commercial-license",
    "HuggingFaceTB/SmolLM2-135M-Instruct": "apache-2.0",
}
MAX_CARD = 2_000_000  # bytes


def of(model: str, path: Path | None) -> str | None:
    """The licence id of a base, or None.

    Args:
        model: as the manifest says it.
        path: its folder or file, if it is on this disk; a folder's card (README.md) comes first.
    """
    card = path / "README.md" if path and path.is_dir() else None
    return (_from_card(card) if card and card.is_file() else None) or KNOWN.get(model)


def _from_card(card: Path) -> str | None:
    """``license`` of the front matter; for "other" it is ``license_name``."""
    try:
        head = read_utf8(card, max_bytes=MAX_CARD).removeprefix("---\n").partition("\n---")[0]
        front = yamlfile.parse(head, card)
    except LoraregError:
        return None  # a card without front matter, or one that is damaged, tells nothing
    found = front.get("license")
    if found == "other":
        found = front.get("license_name")
    return found if isinstance(found, str) and found != "unknown" else None
