"""The sample datasets by name, and how each is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from tools.samples import captions, characters, emoji, lorelei, npm, tone
from tools.samples.captions import Files

HERE = Path(__file__).parent


def char_zhangsan(modules: Path) -> Files:
    """张三: teal hair, five drawing styles; captions in a CSV file without header."""
    pictures = npm.draw(characters.drawings(characters.ZHANGSAN), modules)
    return captions.images(pictures) | captions.as_csv(pictures, header=False)


def char_mira(modules: Path) -> Files:
    """Mira: purple hair in two buns; captions in a CSV file with a header row."""
    pictures = npm.draw(characters.drawings(characters.MIRA), modules)
    return captions.images(pictures) | captions.as_csv(pictures, header=True)


def style_lorelei_ink(modules: Path) -> Files:
    """Sixty people in ink; a caption file beside every picture."""
    pictures = npm.draw(lorelei.drawings(), modules)
    return captions.images(pictures) | captions.as_sidecars(pictures)


def style_emoji_line(modules: Path) -> Files:
    """Sixty-four emoji faces in black line; captions as JSON lines."""
    pictures = emoji.pictures(modules)
    return captions.images(pictures) | captions.as_jsonl(pictures)


def tone_pirate(modules: Path) -> Files:
    """A hundred answers in pirate talk; draws nothing, so ``modules`` is not used."""
    return tone.train_files()


def tone_pirate_heldout(modules: Path) -> Files:
    """What measures the pirate tone; draws nothing, so ``modules`` is not used."""
    return tone.heldout_files()


DATASETS: Mapping[str, Callable[[Path], Files]] = {
    "char_zhangsan": char_zhangsan,
    "char_mira": char_mira,
    "style_lorelei_ink": style_lorelei_ink,
    "style_emoji_line": style_emoji_line,
    "tone_pirate": tone_pirate,
    "tone_pirate_heldout": tone_pirate_heldout,
}


def build(name: str, modules: Path) -> Files:
    """Every file of one dataset, its attribution included."""
    attribution = HERE / "attribution" / f"{name}.md"
    return {**DATASETS[name](modules), "ATTRIBUTION.md": attribution.read_bytes()}


def write(folder: Path, files: Files) -> None:
    """Make ``files`` the files of ``folder``; any other file that lay in it is deleted."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.is_file() and path.name not in files:
            path.unlink()
    for name, content in files.items():
        (folder / name).write_bytes(content)
