r"""Take the pictures of a report that the documentation shows, in Chromium.

make demo
python tools/screenshots.py build-demo/report.html docs
"""

from __future__ import annotations

import sys
from pathlib import Path

from glass_edge.benchmarks.reports.browser import browser, find_browser
from playwright.sync_api import Page

WIDTH, HEIGHT = 1200, 1130
DETAIL_HEIGHT = 1230
SHOWN = "examples/images/real/retina.jpg"  # a verdict that is wrong, and whose crops disagree
_QUALITY = 85
_LOADED = 1000  # milliseconds that the original photograph has to appear


def take(page: Page, folder: Path) -> None:
    """Write a picture of the grid, and one of an image in detail."""
    page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
    page.locator("details[open] > summary").first.click()  # the limits are in the text
    page.screenshot(path=folder / "report.jpg", type="jpeg", quality=_QUALITY)
    page.set_viewport_size({"width": WIDTH, "height": DETAIL_HEIGHT})
    page.locator(".card", has_text=Path(SHOWN).name).last.click()
    page.wait_for_timeout(_LOADED)
    page.screenshot(path=folder / "report-detail.jpg", type="jpeg", quality=_QUALITY)


def main(report: str, folder: str) -> None:
    """Take the pictures of a report."""
    executable = find_browser()
    if executable is None:
        sys.exit("no Chromium and no Chrome is installed")
    with browser(executable) as started:
        page = started.new_page()
        page.goto(Path(report).resolve().as_uri())
        page.wait_for_selector(".card")
        take(page, Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
