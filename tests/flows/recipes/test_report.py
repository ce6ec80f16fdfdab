"""The report of a composition as a file, and as a browser shows it."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lorareg.cli import compose_evaluate
from lorareg.trainers.evaluation.survival import Interval, Survival
from lorareg.trainers.report.grid import MARGIN
from tests.browser import headless
from tests.flows.conftest import git, lorareg
from tests.flows.recipes.conftest import Run
from tests.flows.recipes.shelved import EXPR, FILE, INK, edit, lock
from tests.weights.composed import Shelf
from tests.weights.planted import sharing

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)> \" ' & {{ 7 * 7 }}"
ADDRESS = ("src", "href", "action", "data", "poster", "srcset")
VOID = {"meta", "link", "br", "img", "line", "circle", "polyline"}


class Page(HTMLParser):
    """Tags, attributes and words of a page; sections by their id."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self.sections: dict[str, str] = {}
        self._section = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        given = dict(attrs)
        self.addresses += [str(given[name]) for name in ADDRESS if name in given]
        self.handlers += [name for name in given if name.startswith("on")]
        if tag == "section":
            self._section = str(given["id"])

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        said = self.sections.get(self._section, "")
        self.sections[self._section] = f"{said} {data.strip()}".strip()


def report(shelf: Shelf, *words: str) -> Page:
    answer = lorareg(shelf.root, "compose", "report", *words, "--out", "out.html")
    assert answer.code == 0, answer.err
    return Page((shelf.root / "out.html").read_text(encoding="utf-8"))


def figures(shelf: Shelf, expression: str) -> dict[str, Any]:
    """A document of ``compose evaluate``, of figures that nobody measured."""
    composition = shelf.compose(expression)
    losses = {"base": 0.5, "solo": 0.3, "composed": 0.35, "without": 0.48}
    found = [
        Survival(part.state.ref, 8, losses, Interval(value, value - 0.1, value + 0.1), None)
        for part, value in zip(composition.components, (0.75, 0.62), strict=True)
    ]
    return compose_evaluate._document(composition, found, 0.62)


def test_every_pin_and_every_section_is_there(shelf: Shelf, run: Run) -> None:
    run("compose", EXPR, "--as", "hero", "--output", "exact", "--negative-prompt", "blurry")

    page = report(shelf, "recipe/hero")

    assert set(page.sections) >= {
        "members", "checks", "terms", "conflicts", "file", "preview", "survival", "exports",
    }  # fmt: skip
    head = git(shelf.root, "rev-parse", "HEAD").strip()
    for member in lock(shelf, "hero")["members"]:
        for pin in (member["ref"], member["tensors"], member["sha256"], f"{member['weight']:g}"):
            assert pin in page.sections["members"]
    assert head in page.sections["members"]
    assert "张三" in page.sections["members"]
    assert lock(shelf, "hero")["fingerprint"] in page.sections[""]
    assert "Its lock pins exactly this." in page.sections[""]
    assert lock(shelf, "hero")["outputs"][FILE]["sha256"] in page.sections["file"]
    assert "style/ink by alice, MIT" in page.sections["terms"]
    assert "<lora:zhangsan:0.9>" in page.sections["exports"]
    assert "Negative prompt: blurry" in page.sections["exports"]
    assert "LoraLoader" in page.sections["exports"]
    assert page.open == []


def test_an_expression_needs_no_recipe_and_nothing_is_written_but_the_page(shelf: Shelf) -> None:
    page = report(shelf, EXPR)

    assert "style/ink:0.7+character/zhangsan:0.9" in page.sections[""]
    assert not (shelf.root / "manifests" / "recipe").exists()
    changed = git(shelf.root, "status", "--porcelain").splitlines()
    assert [line for line in changed if not line.endswith("/weights/")] == ["?? out.html"]


def test_what_was_not_asked_for_is_not_run_and_says_how(shelf: Shelf) -> None:
    page = report(shelf, EXPR)

    assert page.sections["preview"].startswith("Preview Not run.")
    assert "--grid PROMPT" in page.sections["preview"]
    assert page.sections["survival"].startswith("Survival Not run.")
    assert "lorareg compose evaluate" in page.sections["survival"]
    assert "img" not in page.tags


def test_a_preview_that_cannot_be_made_says_why_and_shows_nothing(shelf: Shelf) -> None:
    for name in ("style/ink", "character/zhangsan"):
        edit(shelf, name, "builtin:avatar", "models/none")

    page = report(shelf, EXPR, "--grid", "a portrait")

    assert page.sections["preview"].startswith("Preview Not run:")
    assert "models/none" in page.sections["preview"]
    assert "img" not in page.tags


def test_the_preview_is_what_generate_draws_as_a_grid(shelf: Shelf, tiny_base: Path) -> None:
    shutil.copytree(tiny_base, shelf.root / "base")
    block = "unet.mid_block.attentions.0.transformer_blocks.0.attn1"
    shapes = {f"{block}.to_q": (64, 64), f"{block}.to_v": (64, 64)}
    for name, adapter in zip(("style/one", "style/two"), sharing(shapes, [4, 4], 0.0), strict=True):
        small = {"sample": {"steps": 2}, "train": {"resolution": 32, "precision": "fp32"}}
        shelf.add(name, adapter, base={"model": "base"}, **small)
    expression = "style/one:9+style/two:9"

    report(shelf, expression, "--grid", "a zdot")
    drawn = lorareg(
        shelf.root, "generate", expression, "--grid", "--prompt", "a zdot", "--out", "g.png"
    )

    assert drawn.code == 0, drawn.err
    text = (shelf.root / "out.html").read_text(encoding="utf-8")
    found = [decoded(data) for data in re.findall(r'src="data:image/png;base64,([^"]+)"', text)]
    sheet = Image.open(shelf.root / "g.png")
    side = 128
    corner = sheet.width - side - MARGIN
    rows = [sheet.height - (4 - row) * (side + MARGIN) for row in range(4)]
    cells = [sheet.crop((corner, y, corner + side, y + side)).tobytes() for y in rows]
    large = [each.resize((side, side), Image.Resampling.NEAREST).tobytes() for each in found]
    assert large == cells
    assert len(set(cells)) == 4


def decoded(data: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")


def test_refusals_and_warnings_stand_first_with_the_suggested_change(shelf: Shelf) -> None:
    shelf.add("style/twin", INK, trigger="zzink", license={"id": "house rules"})

    page = report(shelf, "style/ink:0.7+style/twin:0.7")

    assert "May not be composed: 1 refused" in page.sections[""]
    checks = page.sections["checks"]
    assert checks.index("refused triggers") < checks.index("warning licences")
    assert checks.index("warning") < checks.index("ok base")
    assert "zzink" in checks
    assert "house rules" in checks
    assert "Suggested:" in checks
    assert "may not be composed" in page.sections["file"]
    assert "<lora" not in page.sections["exports"]


def test_conflicts_are_a_table_of_pairs_by_blocks(shelf: Shelf) -> None:
    shelf.add("style/twin", INK)

    page = report(shelf, "style/ink:0.7+style/twin:0.7+style/glow")

    said = page.sections["conflicts"]
    for words in (
        "style/ink, style/twin",
        "style/ink, style/glow",
        "mid",
        "100 %",
        "cosine +1.000",
    ):
        assert words in said
    assert "Amplification 1." in said


def test_the_chosen_rank_is_marked_with_the_error_that_the_file_has(shelf: Shelf, run: Run) -> None:
    error = run("compose", EXPR, "--as", "hero", "--output", "compressed", "--rank", "3",
                "--json").json["error"]  # fmt: skip

    said = report(shelf, "recipe/hero").sections["file"]

    assert f"rank 3, relative error {error:.3g}" in said
    assert f"3 (chosen) {error:.3g}" in said
    assert "of its energy" in said
    energy = run("compose", EXPR, "--as", "lean", "--output", "compressed", "--energy", "0.9",
                 "--json").json["error"]  # fmt: skip
    said = report(shelf, "recipe/lean").sections["file"]
    assert f"a rank for each module, relative error {energy:.3g}" in said


@pytest.mark.parametrize("how", [("--method", "ties"), ("--mode", "switch")])
def test_programs_that_only_add_up_get_no_words_for_something_else(
    shelf: Shelf, run: Run, how: tuple[str, ...]
) -> None:
    run("compose", EXPR, "--as", "hero", *how)

    said = report(shelf, "recipe/hero").sections["exports"]

    assert "a1111 cannot say method" in said
    assert "<lora" not in said
    assert "LoraLoader" not in said


def test_what_changes_from_step_to_step_has_no_file_and_says_so(shelf: Shelf) -> None:
    page = report(shelf, "style/ink:0.7{steps=0-0.5}+character/zhangsan")

    assert "no one file can be it" in page.sections["file"]
    assert "steps 0 to 0.5" in page.sections["members"]


def test_words_of_people_are_text_wherever_they_stand(shelf: Shelf) -> None:
    hostile = json.dumps(HOSTILE)
    edit(
        shelf,
        "style/ink",
        '"trigger": "zzink"',
        f'"trigger": "zzink", "title": {{"en": {hostile}}}',
    )

    page = report(shelf, EXPR)

    assert HOSTILE in page.sections["members"].replace("  ", " ")
    assert "script" not in page.tags
    assert page.handlers == []


def test_the_page_names_no_address_but_its_own_sections(shelf: Shelf) -> None:
    page = report(shelf, EXPR)

    assert page.addresses
    assert all(each.startswith(("#", "data:")) for each in page.addresses)
    text = (shelf.root / "out.html").read_text(encoding="utf-8")
    assert "url(" not in text
    assert "@import" not in text
    assert str(shelf.root) not in text


def test_survival_is_shown_as_it_was_measured(shelf: Shelf) -> None:
    file = shelf.root / "survival.json"
    file.write_text(json.dumps(figures(shelf, EXPR)), encoding="utf-8")

    said = report(shelf, EXPR, "--survival", "survival.json").sections["survival"]

    assert "Least of all members: 0.62" in said
    assert "style/ink 8 0.5000 0.3000 0.3500 0.4800 0.75 0.65 to 0.85" in said


@pytest.mark.parametrize("change", ["weights", "tensors", "keys"])
def test_figures_of_another_composition_are_refused(shelf: Shelf, change: str) -> None:
    document = figures(
        shelf, "style/ink:0.1+character/zhangsan:0.9" if change == "weights" else EXPR
    )
    if change == "tensors":
        document["members"][0]["tensors"] = "tensors-sha256-v1:" + "0" * 64
    if change == "keys":
        document["members"][0]["survivial"] = 1
    (shelf.root / "s.json").write_text(json.dumps(document), encoding="utf-8")

    answer = lorareg(shelf.root, "compose", "report", EXPR, "--survival", "s.json")

    assert answer.code == 2
    assert ("unknown key" if change == "keys" else "another composition") in answer.err
    assert "compose evaluate" in answer.err
    assert not list(shelf.root.glob("*.html"))


def test_the_same_registry_gives_the_same_page(shelf: Shelf) -> None:
    pages = []
    for _ in range(2):
        report(shelf, EXPR)
        pages.append((shelf.root / "out.html").read_bytes())

    assert pages[0] == pages[1]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with headless(tmp_path_factory.mktemp("profile"), "browser", "performance") as found:
        yield found


def show(browser: Any, page: Path) -> list[str]:
    """Open a page; returns every address that was asked for."""
    browser.get("about:blank")
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get(page.as_uri())
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    ]


def test_a_browser_shows_it_without_an_error_and_asks_for_nothing_else(
    shelf: Shelf, browser: Any
) -> None:
    shelf.add("style/twin", INK, trigger="zztwin", title={"zh": "水墨", "en": HOSTILE})
    (shelf.root / "s.json").write_text(json.dumps(figures(shelf, EXPR)), encoding="utf-8")
    report(shelf, "style/ink:0.7+style/twin:0.9")
    page = shelf.root / "out.html"

    asked = show(browser, page)

    assert [url for url in asked if not url.startswith("data:")] == [page.as_uri()]
    assert browser.get_log("browser") == []
    said = browser.find_element("tag name", "body").text
    for part in shelf.compose("style/ink+style/twin").components:
        assert part.lock.outputs[part.file.name].tensors in said
    assert HOSTILE in said
    assert "水墨" in said
    assert "WARNING amplification" in said
    assert "Suggested:" in said


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_every_word_stands_out_from_its_ground_and_nothing_sticks_out(
    shelf: Shelf, browser: Any, scheme: str, width: int
) -> None:
    shelf.add("style/twin", INK, trigger="zzink")
    report(shelf, "style/ink:0.7+style/twin:0.9")
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    show(browser, shelf.root / "out.html")
    worst = browser.execute_script(CONTRAST)
    outside = browser.execute_script("return document.documentElement.scrollWidth - innerWidth")

    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert worst["ratio"] >= 4.5, worst
    assert outside <= 0


CONTRAST = """
const parse = (text) => text.match(/[\\d.]+/g).map(Number);
const over = (top, below) => top.slice(0, 3).map(
  (c, i) => c * (top[3] ?? 1) + below[i] * (1 - (top[3] ?? 1)));
const light = (c) => c.map((v) => v / 255).map(
  (v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
const luminance = (c) => { const [r, g, b] = light(c); return .2126 * r + .7152 * g + .0722 * b; };
let worst = {ratio: 99};
for (const element of document.querySelectorAll("body *:not(svg *)")) {
  if (![...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim())) continue;
  const chain = [];
  for (let at = element; at; at = at.parentElement) chain.unshift(at);
  let ground = [255, 255, 255];
  let opacity = 1;
  for (const at of chain) {
    const style = getComputedStyle(at);
    ground = over(parse(style.backgroundColor), ground);
    opacity *= Number(style.opacity);
  }
  const color = parse(getComputedStyle(element).color);
  const ink = over([...color.slice(0, 3), (color[3] ?? 1) * opacity], ground);
  const [high, low] = [luminance(ink), luminance(ground)].sort((a, b) => b - a);
  const ratio = (high + .05) / (low + .05);
  if (ratio < worst.ratio) worst = {ratio, text: element.textContent.slice(0, 60), ink, ground};
}
return worst;
"""
