r"""Take the pictures of the pages that the documentation shows, in Chromium.

make demo
python tools/screenshots.py build-demo/report.html build-demo/demo.glass docs
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from glass_edge.benchmarks.reports.browser import browser, find_browser
from playwright.sync_api import Page

ROOT = Path(__file__).parent.parent
WIDTH, HEIGHT = 1200, 1130
DETAIL_HEIGHT = 1230
SHOWN = "examples/images/real/retina.jpg"  # a verdict that is wrong, and whose crops disagree
SENT = (
    *("real/rocket.jpg", "fake/astronaut.jpg", "real/cat.jpg", "fake/dandelions.jpg"),
    "real/dandelions.jpg",
)
_QUALITY = 85
_LOADED = 1000  # milliseconds that the original photograph has to appear
_ADDRESS = re.compile(r"http://\S+:\d+")


def take_report(page: Page, report: Path, folder: Path) -> None:
    """Write a picture of a report's grid, and one of an image in detail."""
    page.goto(report.resolve().as_uri())
    page.wait_for_selector(".card")
    page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
    page.locator("details[open] > summary").first.click()  # the limits are in the text
    page.screenshot(path=folder / "report.jpg", type="jpeg", quality=_QUALITY)
    page.set_viewport_size({"width": WIDTH, "height": DETAIL_HEIGHT})
    page.locator(".card", has_text=Path(SHOWN).name).last.click()
    page.wait_for_timeout(_LOADED)
    page.screenshot(path=folder / "report-detail.jpg", type="jpeg", quality=_QUALITY)


def take_server(page: Page, address: str, folder: Path) -> None:
    """Write a picture of a server's page after it has judged some photographs."""
    page.set_viewport_size({"width": WIDTH, "height": 900})
    page.goto(address)
    images = ROOT / "examples" / "images"
    page.locator("input[type=file]").set_input_files([images / name for name in SENT])
    page.wait_for_function("count => document.body.innerText.includes(count)", arg=counted(SENT))
    page.wait_for_timeout(_LOADED)
    page.screenshot(path=folder / "serving.jpg", type="jpeg", quality=_QUALITY)


def counted(sent: tuple[str, ...]) -> str:
    """Return what the page says when all were judged."""
    return f"{len(sent)} pictures: "


@contextmanager
def served(bundle: str) -> Iterator[str]:
    """Serve a bundle at a free port while the block lasts; yield its address."""
    program = Path(sys.executable).with_name("glass-serve")
    command = [str(program), bundle, "--port", "0", "--drain-delay", "0"]
    with subprocess.Popen(  # noqa: S603
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            found = _ADDRESS.search(server.stderr.readline() if server.stderr else "")
            if found is None:
                sys.exit("glass-serve did not begin")
            yield found[0]
        finally:
            server.terminate()


def main(report: str, bundle: str, folder: str) -> None:
    """Take all pictures."""
    executable = find_browser()
    if executable is None:
        sys.exit("no Chromium and no Chrome is installed")
    with browser(executable) as started, served(bundle) as address:
        take_report(started.new_page(), Path(report), Path(folder))
        take_server(started.new_page(), address, Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
