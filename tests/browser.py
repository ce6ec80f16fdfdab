"""Headless Chromium, for the pages that people open."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def headless(profile: Path, *logs: str) -> Iterator[Any]:
    """A browser that keeps these logs; without one the tests are skipped, but never in CI."""
    if "CI" not in os.environ:
        pytest.importorskip("selenium")
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    binary = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if not (binary and driver):
        missing = "chromium and chromedriver are not installed (Debian: chromium-driver)"
        (pytest.fail if "CI" in os.environ else pytest.skip)(missing)
    options = ChromeOptions()
    options.binary_location = binary
    for argument in (
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
        "--no-first-run", "--window-size=1280,800", f"--user-data-dir={profile}",
    ):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", dict.fromkeys(logs, "ALL"))
    chrome = Chrome(options=options, service=Service(driver))
    yield chrome
    chrome.quit()
