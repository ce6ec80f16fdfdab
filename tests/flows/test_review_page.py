"""The review page as a person uses it: a real browser, the keyboard, and files on disk."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from lorareg.trainers.data import caption_table
from lorareg.trainers.data.caption_files import read_captions
from lorareg.trainers.data.caption_marks import Marks
from tests.browser import headless

if "CI" not in os.environ:
    pytest.importorskip("selenium")
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

MODEL = "Salesforce/blip-image-captioning-base@82a3776"
CAPTIONS = {
    "a.png": "a happy cat",
    "b.png": "a sad cat, red sofa",
    "c.png": "一只猫，红沙发",
    "d.png": "my own words, sad, red sofa",
}
VOCABULARY = """\
schema: lorareg/vocabulary/1
groups:
  mood: {terms: [smiling, sad]}
  place: {terms: [red sofa, blue sofa, 红沙发], at_least: 1}
aliases: {happy: smiling}
"""
DISPLAYS = ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY")


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Four pictures; a machine captioned three of them."""
    folder = tmp_path / "cats"
    folder.mkdir()
    for number, name in enumerate(CAPTIONS):
        Image.new("RGB", (64, 48), (200, 60 * number, 90)).save(folder / name)
    caption_table.update(folder, CAPTIONS, None)
    marks = Marks()
    for name in ("a.png", "b.png", "c.png"):
        marks = marks.mark(name, CAPTIONS[name], MODEL)
    marks.save(folder)
    (folder / "vocabulary.yaml").write_text(VOCABULARY, encoding="utf-8")
    return folder


@dataclass
class Review:
    """The command while it runs."""

    process: subprocess.Popen[str]
    said: str
    url: str

    def stop(self) -> str:
        """Press Ctrl-C; returns all it said."""
        self.process.send_signal(signal.SIGINT)
        _, rest = self.process.communicate(timeout=20)
        return self.said + rest


@pytest.fixture
def start(dataset: Path) -> Iterator[Callable[..., Review]]:
    """Run the command, with other environment variables if wanted."""
    running = []

    def run(**variables: str) -> Review:
        environment = {name: value for name, value in os.environ.items() if name not in DISPLAYS}
        process = subprocess.Popen(
            [sys.executable, "-m", "lorareg", "data", "caption", str(dataset), "--review"],
            stderr=subprocess.PIPE,
            text=True,
            env=environment | variables,
        )
        running.append(process)
        assert process.stderr is not None
        said = ""
        while "Ctrl-C" not in said:
            line = process.stderr.readline()
            assert line, said
            said += line
        return Review(process, said, next(w for w in said.split() if w.startswith("http")))

    yield run
    for process in running:
        process.kill()
        process.communicate(timeout=60)


@pytest.fixture
def review(start: Callable[..., Review]) -> Review:
    return start()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with headless(tmp_path_factory.mktemp("profile"), "browser") as found:
        yield found


class Page:
    """What a person sees and strikes."""

    def __init__(self, browser: Chrome, url: str) -> None:
        self.browser = browser
        browser.get("about:blank")
        browser.get_log("browser")
        browser.get(url)
        self.until(lambda: self.name == "a.png")

    def press(self, *keys: str) -> None:
        self.browser.switch_to.active_element.send_keys(*keys)

    def until(self, true: Callable[[], bool]) -> None:
        WebDriverWait(self.browser, 10, poll_frequency=0.03).until(lambda _: true())

    def text(self, element: str) -> str:
        return str(self.browser.find_element(By.ID, element).text)

    @property
    def name(self) -> str:
        return self.text("name")

    @property
    def caption(self) -> str:
        return str(self.browser.find_element(By.ID, "caption").get_property("value"))

    @property
    def chosen(self) -> list[str]:
        """Terms of the vocabulary that are shown as used."""
        return self.texts(".terms [aria-pressed=true] span")

    @property
    def problems(self) -> list[str]:
        return self.texts("#problems span")

    def texts(self, selector: str) -> list[str]:
        """Of all elements at one moment: the page makes them anew as it goes."""
        script = "return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)"
        return list(self.browser.execute_script(script, selector))


@pytest.fixture
def page(browser: Chrome, review: Review) -> Iterator[Page]:
    found = Page(browser, review.url)
    yield found
    browser.execute_script("drafts.clear()")
    errors = [entry["message"] for entry in browser.get_log("browser")]
    assert [error for error in errors if "409" not in error and "CONNECTION" not in error] == []


def captions(folder: Path) -> dict[str, str]:
    return read_captions(folder, list(CAPTIONS), None)


def test_ctrl_c_ends_the_review_with_a_summary(review: Review) -> None:
    said = review.stop()

    assert said.rstrip().endswith("reviewed 0, edited 0, left 3")
    assert review.process.returncode == 0


def test_the_browser_is_given_an_address_that_works_once_and_is_not_the_secret_one(
    start: Callable[..., Review], tmp_path: Path
) -> None:
    given = tmp_path / "given"
    program = tmp_path / "browser"
    program.write_text(f'#!/bin/sh\necho "$1" > {given}.part && mv {given}.part {given}\n')
    program.chmod(0o700)

    review = start(BROWSER=str(program), DISPLAY=":0")
    deadline = time.monotonic() + 10
    while not given.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    host, _, path = given.read_text().strip().removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(host, timeout=10)
    connection.request("GET", f"/{path}")

    assert connection.getresponse().headers["Location"] == review.url
    assert path not in review.url
    connection.close()


def test_a_dataset_is_reviewed_with_the_keyboard_alone(
    page: Page, review: Review, dataset: Path
) -> None:
    assert page.text("count") == "0 of 3 reviewed"
    assert page.problems == ["happy is an alias", "place: 1 more term needed"]

    page.press("r")
    page.until(lambda: page.caption == "a smiling cat")
    page.press("2")
    page.until(lambda: page.caption == "a smiling cat, blue sofa")
    page.until(lambda: page.problems == [])
    assert page.chosen == ["smiling", "blue sofa"]
    page.press(Keys.ENTER)
    page.until(lambda: page.name == "b.png")
    assert captions(dataset)["a.png"] == "a smiling cat, blue sofa"

    page.press(Keys.ENTER)
    page.until(lambda: page.name == "c.png")
    page.press("e")
    page.press("，柔光", Keys.CONTROL, Keys.ENTER)
    page.until(lambda: page.text("end-title") == "Every caption is reviewed")

    assert page.text("count") == "3 of 3 reviewed"
    found, marks = captions(dataset), Marks.load(dataset)
    assert found == CAPTIONS | {
        "a.png": "a smiling cat, blue sofa",
        "c.png": "一只猫，红沙发，柔光",
    }
    assert [marks.is_machine(name, found[name]) for name in found] == [False, True, False, False]
    assert [marks.is_reviewed(name, found[name]) for name in found] == [True, True, True, False]
    assert review.stop().rstrip().endswith("reviewed 3, edited 2, left 0")
    assert review.process.returncode == 0


def test_undo_takes_back_what_is_on_disk_and_keeps_what_was_typed(
    page: Page, dataset: Path
) -> None:
    page.press("e")
    page.press(" on a bed", Keys.ENTER)
    page.until(lambda: page.name == "b.png")
    page.press(Keys.ESCAPE, "u")
    page.until(lambda: page.name == "a.png")

    assert captions(dataset) == CAPTIONS
    assert Marks.load(dataset).is_machine("a.png", CAPTIONS["a.png"])
    assert not Marks.load(dataset).is_reviewed("a.png", CAPTIONS["a.png"])
    assert page.caption == "a happy cat on a bed"
    assert page.text("status") == "edited, not saved"
    page.press("x")
    page.until(lambda: page.caption == CAPTIONS["a.png"])


def test_enter_that_ends_a_chinese_composition_does_not_accept(page: Page, dataset: Path) -> None:
    compose = {"text": "mao", "selectionStart": 3, "selectionEnd": 3}
    enter = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13}
    page.press("e")

    page.browser.execute_cdp_cmd("Input.imeSetComposition", compose)
    page.browser.execute_cdp_cmd("Input.dispatchKeyEvent", {"type": "rawKeyDown", **enter})
    page.browser.execute_cdp_cmd("Input.insertText", {"text": "猫"})
    page.until(lambda: page.caption == "a happy cat猫")

    assert page.name == "a.png"
    assert captions(dataset) == CAPTIONS
    page.browser.execute_cdp_cmd("Input.dispatchKeyEvent", {"type": "rawKeyDown", **enter})
    page.until(lambda: page.name == "b.png")
    assert captions(dataset)["a.png"] == "a happy cat猫"


def test_keys_typed_into_the_caption_are_text_and_nothing_else(page: Page) -> None:
    page.press("e")
    page.press("jku?1", Keys.SHIFT, Keys.ENTER, Keys.NULL, "2")

    assert page.caption == "a happy catjku?1\n2"
    assert page.name == "a.png"


def test_the_arrows_turn_pages_and_keep_what_is_not_saved(page: Page) -> None:
    page.press("e")
    page.press(" asleep", Keys.ESCAPE, Keys.ARROW_RIGHT)
    page.until(lambda: page.name == "b.png")
    page.press("j")
    page.until(lambda: page.name == "c.png")
    page.press("j")
    page.until(lambda: "last picture" in page.text("note"))
    page.press("k", Keys.ARROW_UP)
    page.until(lambda: page.name == "a.png")

    assert page.caption == "a happy cat asleep"
    assert page.text("status") == "edited, not saved"


def test_the_filters_choose_what_is_shown(page: Page) -> None:
    def shown() -> list[str]:
        return page.texts("#filters [aria-pressed=true]")

    assert (shown(), page.text("place")) == (["To review 3"], "1 of 3")
    page.press("f")
    page.until(lambda: page.text("place") == "1 of 4")
    assert shown() == ["All 4"]
    page.press("f")
    page.until(lambda: page.text("place") == "1 of 1")
    assert shown() == ["With problems 1"]


def test_digits_insert_terms_of_the_marked_group_each_once(page: Page) -> None:
    page.press("g", "2", "2", "g", "1")

    page.until(lambda: page.caption == "a happy cat, sad, red sofa")
    page.press("9")
    page.until(lambda: page.text("note") == "place has no term 9.")


def test_a_term_is_set_apart_by_the_comma_of_the_caption(page: Page) -> None:
    page.press("j", "j")
    page.until(lambda: page.name == "c.png")
    page.press("2")

    page.until(lambda: page.caption == "一只猫，红沙发，blue sofa")


def test_the_mouse_does_what_the_keys_do_and_leaves_the_cursor_in_the_text(
    page: Page, dataset: Path
) -> None:
    def click(selector: str) -> None:
        page.browser.find_element(By.CSS_SELECTOR, selector).click()

    page.press("e", Keys.HOME)
    click(".group:last-child .terms button")
    page.until(lambda: page.caption == "red sofa, a happy cat")
    click("#accept")
    page.until(lambda: page.name == "b.png")
    click("#undo")
    page.until(lambda: page.name == "a.png")
    click("#discard")
    page.until(lambda: page.caption == CAPTIONS["a.png"])

    assert captions(dataset) == CAPTIONS


def test_a_caption_changed_on_disk_meanwhile_is_shown_not_overwritten(
    page: Page, dataset: Path
) -> None:
    caption_table.update(dataset, {"a.png": "by an editor"}, None)
    page.press("e")
    page.press(" asleep", Keys.ENTER)
    page.until(lambda: "by an editor" in page.text("alert"))

    assert captions(dataset)["a.png"] == "by an editor"
    assert page.caption == "a happy cat asleep"
    page.press(Keys.ESCAPE, "x")
    page.until(lambda: page.caption == "by an editor")


def test_a_killed_server_loses_nothing_accepted_and_nothing_typed(
    page: Page, review: Review, dataset: Path
) -> None:
    page.press("e")
    page.press(" asleep", Keys.ENTER)
    page.until(lambda: page.name == "b.png")
    review.process.kill()
    review.process.wait(timeout=10)
    page.press(" on a bed", Keys.ENTER)
    page.until(lambda: "does not answer" in page.text("alert"))

    assert page.caption == "a sad cat, red sofa on a bed"
    assert captions(dataset) == CAPTIONS | {"a.png": "a happy cat asleep"}
    assert Marks.load(dataset).is_reviewed("a.png", "a happy cat asleep")


def test_leaving_the_page_with_unsaved_text_asks_first(page: Page) -> None:
    leave = "return !dispatchEvent(new Event('beforeunload', {cancelable: true}))"

    before = page.browser.execute_script(leave)
    page.press("e")
    page.press(" asleep")

    assert not before
    assert page.browser.execute_script(leave)


def test_help_opens_with_a_question_mark_and_closes_with_escape(page: Page) -> None:
    page.press("?")
    page.until(lambda: "accept the caption" in page.text("keys"))
    page.press(Keys.ESCAPE)
    page.until(lambda: page.text("keys") == "")

    assert page.name == "a.png"


def test_the_picture_is_shown_and_named(page: Page) -> None:
    image = page.browser.find_element(By.CSS_SELECTOR, "#frame img")
    page.until(lambda: image.get_property("naturalWidth") == 64)

    assert image.accessible_name == "a.png"
    assert page.browser.find_element(By.ID, "caption").accessible_name == "Caption"


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_sticks_out_sideways(page: Page, width: int) -> None:
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    scrolls = "return document.documentElement.scrollWidth - innerWidth"
    found = page.browser.execute_script(scrolls)

    page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert found <= 0


def test_a_tab_with_a_wrong_token_sees_nothing(page: Page, review: Review) -> None:
    wrong = review.url[:-5] + "xxxx/"
    first = page.browser.current_window_handle

    page.browser.switch_to.new_window("tab")
    page.browser.get(wrong)
    seen = page.browser.find_element(By.TAG_NAME, "body").text
    status = page.browser.execute_script(
        "return performance.getEntriesByType('navigation')[0].responseStatus"
    )
    page.browser.close()
    page.browser.switch_to.window(first)
    page.browser.get_log("browser")

    assert status == 403
    assert "open the address the terminal shows" in seen
    assert "cat" not in seen
