"""A report as one HTML file that opens from disk and asks for nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..machine.errors import InputError
from .assets import (
    asset,
    content_security_policy,
    joined_scripts,
    joined_styles,
    json_in_html,
    printable,
)
from .histogram import histogram
from .model import Report, Row

if TYPE_CHECKING:
    import jinja2

TEMPLATE = "page.html.jinja"
STYLES = ("shared.css", "report.css")
SHARED_SCRIPTS = (
    *("text.js", "elements.js", "geometry.js", "urls.js", "drawing.js", "data.js"),
    *("claims.js", "card.js", "picture.js", "crops.js", "detail.js"),
)
"""What draws one image and its details, in any page."""
SCRIPTS = (
    *SHARED_SCRIPTS,
    *("grid.js", "view.js", "controls.js", "downloads.js", "printing.js", "main.js"),
)
_PIECES_AT_ONCE = 256  # a template yields a piece for every value in it


def render_page(report: Report) -> Iterator[str]:
    """Yield the page, piece by piece.

    Everything in it but thumbnails and originals, which stay where their URLs say, is in the page.

    Raises:
        InputError: Jinja2 is not installed.
    """
    template = _environment().get_template(TEMPLATE)
    style, script = joined_styles(STYLES), joined_scripts(SCRIPTS)
    pieces = template.stream(
        head=report.head,
        histogram=histogram(report.head.bars, report.head.threshold),
        policy=content_security_policy(style, script),
        style=_markup(style),
        script=_markup(script),
        head_json=_markup(json_in_html(report.head)),
        rows_json=(_row_json(row) for row in report.rows),
    )
    pieces.enable_buffering(_PIECES_AT_ONCE)
    return iter(pieces)


def _row_json(row: Row) -> Any:
    return _markup(json_in_html(row))


def _markup(text: str) -> Any:
    """Mark text as HTML that needs no escaping."""
    from markupsafe import Markup

    return Markup(text)  # noqa: S704 - files of the package, or JSON made safe


def _environment() -> jinja2.Environment:
    try:
        import jinja2
    except ImportError:
        raise InputError(
            "a report needs Jinja2, which is not installed: pip install 'glass-edge[report]'."
        ) from None
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(asset),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["printable"] = printable
    environment.filters["thousands"] = lambda number: f"{number:,}"
    environment.filters["moment"] = lambda moment: f"{moment[:10]} {moment[11:16]} UTC"
    return environment
