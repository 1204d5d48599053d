"""A report as one HTML file that opens from disk and asks for nothing."""

from __future__ import annotations

from collections.abc import Iterator

from ..pages.assets import (
    SHARED_SCRIPTS,
    SHARED_STYLES,
    content_security_policy,
    joined_scripts,
    joined_styles,
    json_in_html,
    page_template,
)
from ..results.records import Verdict
from .histogram import histogram
from .model import Head, Report, Row

TEMPLATE = "report.html.jinja"
STYLES = (*SHARED_STYLES, "report.css")
SCRIPTS = (
    *SHARED_SCRIPTS,
    *("grid.js", "view.js", "controls.js", "printing.js", "address.js", "report.js"),
)
_LOADED = "img-src data: file: 'self'"
_PIECES_AT_ONCE = 256  # a template yields a piece for every value in it


def render_page(report: Report) -> Iterator[str]:
    """Return the page's pieces, one after the other.

    Everything is in the page, except thumbnails and originals whose URLs name files.

    Raises:
        InputError: Jinja2 is not installed.
    """
    style, script = joined_styles(STYLES), joined_scripts(SCRIPTS)
    pieces = page_template(TEMPLATE, "report").stream(
        head=report.head,
        histogram=histogram(report.head.bars, report.head.threshold),
        policy=content_security_policy(style, script, _LOADED),
        style=style,
        script=script,
        head_json=json_in_html(report.head),
        has_others=any(_is_of_other_class(row, report.head) for row in report.rows),
        rows_json=map(json_in_html, report.rows),
    )
    pieces.enable_buffering(_PIECES_AT_ONCE)
    return iter(pieces)


def _is_of_other_class(row: Row, head: Head) -> bool:
    """Whether an image was judged, and called neither fake nor real."""
    record = row.record
    return isinstance(record, Verdict) and record.verdict not in (head.fake_class, head.real_class)
