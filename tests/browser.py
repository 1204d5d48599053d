"""A real browser for tests of pages, and what a page did in it.

A test module makes a fixture of it: ``browser = pytest.fixture(chromium, scope="module")``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from glass_edge.benchmarks.reports.browser import BROWSERS, browser, find_browser
from playwright.sync_api import Browser, Page
from waiting import PATIENCE, until


def chromium() -> Iterator[Browser]:
    """Chromium of this machine, without a window."""
    program = find_browser()
    if program is None:
        pytest.fail(f"tests of pages need a browser: install one of {', '.join(BROWSERS)}.")
    with browser(program) as started:
        yield started


def wait_until(page: Page, expression: str) -> None:
    """Wait until JavaScript is true. Playwright's own way evaluates, which policies forbid."""
    wait_for(page, lambda: page.evaluate(expression))


def wait_for(page: Page, true: Callable[[], object]) -> None:
    """Wait until something is true, and hear what the page does meanwhile."""
    until(lambda: true() or page.wait_for_timeout(20))


@dataclass
class Opened:
    """A page, and what it asked for and complained of."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


def open_page(browser: Browser, url: str, **options: Any) -> Opened:
    """Open a URL in a context of its own; ``options`` are the context's."""
    context = browser.new_context(**options)
    context.set_default_timeout(1000 * PATIENCE)
    page = context.new_page()
    opened = Opened(page)
    page.on("request", lambda request: opened.requests.append(request.url))
    page.on("console", lambda message: opened.complaints.append(message.text))
    page.on("pageerror", lambda error: opened.complaints.append(str(error)))
    page.goto(url)
    return opened
