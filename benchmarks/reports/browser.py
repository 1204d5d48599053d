"""Opens a page in a real browser and measures what that takes."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from playwright.sync_api import Browser

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
_FIRST_CARD = ".card"


class Opened(NamedTuple):
    """Seconds until the first pictures stand, the page's JavaScript heap in bytes, and how many
    elements it has."""

    seconds: float
    heap: int
    elements: int


def find_browser() -> str | None:
    """Return the browser that is installed, if one is."""
    return next((found for name in BROWSERS if (found := shutil.which(name))), None)


@contextmanager
def browser(executable: str) -> Iterator[Browser]:
    """Start a browser without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=executable, args=[*_ARGUMENTS])
        try:
            yield started
        finally:
            started.close()


def opened(browser: Browser, path: Path) -> Opened:
    """Open a page from disk in a window of its own."""
    context = browser.new_context()
    try:
        page = context.new_page()
        client = context.new_cdp_session(page)
        client.send("Performance.enable")
        started = time.perf_counter()
        page.goto(path.resolve().as_uri())
        page.wait_for_selector(_FIRST_CARD)
        seconds = time.perf_counter() - started
        client.send("HeapProfiler.collectGarbage")
        metrics = {
            each["name"]: each["value"] for each in client.send("Performance.getMetrics")["metrics"]
        }
        return Opened(seconds, int(metrics["JSHeapUsedSize"]), int(metrics["Nodes"]))
    finally:
        context.close()
